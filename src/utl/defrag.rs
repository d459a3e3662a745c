//! `defrag`: a database without its free pages, for a data directory that no server uses; ringd's or etcd's.
//!
//! ```text
//!   member/snap/db  ─ records, bucket by bucket ─▶  member/snap/db.tmp.defrag  ─ sync, rename, sync ─▶  member/snap/db
//! ```
//!
//! The rename is the commit point: before it the old file is in place, after it the new one.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use super::{
    Command,
    database::{Access, Database, FileFailure},
    session::Session,
};
use crate::{
    base::{human_size::human_size, limits},
    ctl::{
        exit::{ERROR, Exit},
        go_format::{duration, io_error},
        tree::Flag,
    },
    os::{clock, file::FileError, file::sync_directory},
    pagefile::PageFile,
    snapshot::{CopyError, StateCopy},
};

pub static COMMAND: Command = Command {
    name: "defrag",
    short: "Defragments the storage of the etcd",
    flags: &[Flag::text("data-dir", "", "Required. Defragments a data directory not in use by etcd.")],
    run: Some(run),
    ..Command::EMPTY
};

const TEMPORARY: &str = "db.tmp.defrag";

#[derive(Debug, thiserror::Error)]
enum DefragError {
    #[error("stat {path}: {}", io_error(.source))]
    Missing { path: String, source: io::Error },
    #[error(transparent)]
    File(#[from] FileFailure),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Sync(#[from] FileError),
}

fn run(session: &mut Session) -> Result<(), Exit> {
    session.require(&["data-dir"])?;
    let directory = session.flags.text("data-dir").to_owned();
    let outcome = defragment(session, Path::new(&directory));
    let (before, after, took) =
        outcome.map_err(|error| Exit::new(ERROR, format!("Failed to defragment etcd data[{directory}] ({error})")))?;
    let fields = [
        ("path", &*directory),
        ("size-before", &human_size(before)),
        ("size-after", &human_size(after)),
        ("took", &took),
    ];
    session.log("info", "finished defragmenting directory", &fields)
}

/// Sizes before and after, and how long it took.
fn defragment(session: &Session, directory: &Path) -> Result<(u64, u64, String), DefragError> {
    let started = clock::now();
    let snap = directory.join("member").join("snap");
    let path = snap.join("db");
    let metadata =
        fs::metadata(&path).map_err(|source| DefragError::Missing { path: path.display().to_string(), source })?;
    let (_source, pages) = Database::open(&path, Access::Write, session.patience())?;
    let temporary = snap.join(TEMPORARY);
    let outcome = rewrite(&pages, &temporary, &metadata).and_then(|after| {
        fs::rename(&temporary, &path).map_err(FileFailure::io("rename", &temporary))?;
        sync_directory(&snap)?;
        Ok(after)
    });
    if outcome.is_err() {
        // The first failure is reported. The file may not exist.
        let _removed = fs::remove_file(&temporary);
    }
    let after = outcome?;
    Ok((pages.size_bytes(), after, duration(started.elapsed())))
}

/// A file of the same content, owner and mode, durable when this returns; its size.
fn rewrite(source: &PageFile, path: &Path, like: &fs::Metadata) -> Result<u64, DefragError> {
    let page_bytes = u32::try_from(source.read().page_size()).unwrap_or(limits::PAGE_BYTES);
    fs::write(path, PageFile::image_of_new_file(page_bytes)).map_err(FileFailure::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(like.mode() & 0o777))
        .map_err(FileFailure::io("chmod", path))?;
    let own = fs::metadata(path).map_err(FileFailure::io("stat", path))?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        chown(path, Some(like.uid()), Some(like.gid())).map_err(FileFailure::io("chown", path))?;
    }
    let (database, mut pages) = Database::open(path, Access::Write, None)?;
    let mut copy = StateCopy::new(source.read())?;
    while let Some(chunk) = copy.next_chunk()? {
        pages.begin(chunk);
        let commit = loop {
            if let Some(commit) = pages.step(usize::MAX).map_err(FileFailure::from)? {
                break commit;
            }
        };
        database.write(commit)?;
        pages.on_committed();
    }
    // A file grows in steps; the unused part of the last step is cut.
    database.cut(pages.size_bytes())?;
    Ok(pages.size_bytes())
}
