//! `hashkv`: the hash over the history of a file, as members compare it.

use std::path::Path;

use super::{
    Command,
    database::{Access, Database, FileFailure, load_store},
    printer::{Format, Hash, Reply},
    session::{Session, must_exist},
};
use crate::{
    backend::Backend,
    ctl::{
        exit::{ERROR, Exit},
        tree::Flag,
    },
    mvcc::{self, HashReader},
};

pub static COMMAND: Command = Command {
    name: "hashkv",
    arguments: "<filename>",
    short: "Prints the KV history hash of a given file",
    flags: &[Flag::int("rev", "maximum revision to hash (default: latest revision)")],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let path = session.one_argument()?;
    let format = Format::of(session)?;
    must_exist(Path::new(&path))?;
    let (_database, pages) = Database::open(Path::new(&path), Access::Read, session.patience())?;
    let mut backend = Backend::new(pages).map_err(FileFailure::from)?;
    let (store, _) = load_store(&mut backend)?;
    let view = store.view(&backend);
    let refused = |refusal: mvcc::Refusal| Exit::new(ERROR, format!("mvcc: {refusal}"));
    let reader = HashReader::new(view, session.flags.int("rev")).map_err(refused)?;
    let hash = reader.finish().map_err(|error| Exit::new(ERROR, error))?.hash;
    let hash = Hash { hash: hash.hash, hash_revision: hash.revision, compact_revision: hash.compact_revision };
    format.print(&Reply::Hash(hash), session.io.output)
}
