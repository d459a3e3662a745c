//! `snapshot status`: checks a snapshot file, and prints its hash, revision, keys and size.

use std::collections::HashSet;
use std::path::Path;

use super::{
    Command,
    database::{Access, Database, FileFailure},
    printer::{Format, Reply, Status},
    session::{Session, must_exist},
};
use crate::{
    backend::Bucket,
    base::checksum::crc32c,
    ctl::{
        exit::{ERROR, Exit},
        go_format::quote,
    },
    mvcc::{BadRecord, BadRevisionKey, RecordFields, RecordKey},
    pagefile::{Corrupt, ReadTxn, Violation, check},
};

const STORAGE_VERSION: &[u8] = b"storageVersion";

pub static COMMAND: Command = Command {
    name: "status",
    arguments: "<filename>",
    short: "Gets backend snapshot status of a given file",
    run: Some(run),
    ..Command::EMPTY
};

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error("snapshot file integrity check failed. {} errors found.\n{}", .0.len(), lines(.0))]
    Integrity(Vec<Violation>),
    #[error("nil bucket: {0}")]
    Stray(String),
    #[error("error during bucket key iteration, name: \"key\" err: cannot parse revision key: {} err: {source}", quote(.key))]
    RevisionKey { key: Vec<u8>, source: BadRevisionKey },
    #[error("error during bucket key iteration, name: \"key\" err: cannot unmarshal value, key: {} err: {source}", quote(.key))]
    Record { key: Vec<u8>, source: BadRecord },
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

fn lines(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn run(session: &mut Session) -> Result<(), Exit> {
    if session.flags.arguments.len() != 1 {
        return Err(Exit::arguments("snapshot status requires exactly one argument"));
    }
    let path = session.argument(0).into_owned();
    must_exist(Path::new(&path))?;
    let format = Format::of(session)?;
    let (_database, pages) =
        Database::open(Path::new(&path), Access::Read, session.patience()).map_err(|failure| plain(&failure))?;
    let status = status(&pages.read()).map_err(|error| Exit::new(ERROR, error))?;
    format.print(&Reply::Status(status), session.io.output)
}

/// The error of a file that is no database, in bbolt's words.
fn plain(failure: &FileFailure) -> Exit {
    match failure {
        FileFailure::Open { source, .. } => Exit::new(ERROR, source),
        other => Exit::new(ERROR, other),
    }
}

/// The hash covers names, keys and values of all buckets.
fn status(txn: &ReadTxn) -> Result<Status, StatusError> {
    let violations = check(txn);
    if !violations.is_empty() {
        return Err(StatusError::Integrity(violations));
    }
    let mut status = Status {
        total_size: txn.size_bytes(),
        version: storage_version(txn)?.unwrap_or_default(),
        ..Status::default()
    };
    let mut names = txn.cursor(txn.root_bucket());
    let mut name = names.first()?;
    while let Some(found) = name {
        if !found.is_bucket {
            return Err(StatusError::Stray(quote(found.key)));
        }
        status.hash = crc32c(status.hash, found.key);
        add_bucket(txn, found.key, &mut status)?;
        name = names.next_item()?;
    }
    Ok(status)
}

fn add_bucket(txn: &ReadTxn, name: &[u8], status: &mut Status) -> Result<(), StatusError> {
    let root = txn.bucket(name)?.ok_or_else(|| StatusError::Stray(quote(name)))?;
    let is_key = name == Bucket::Key.name();
    let mut live: HashSet<&[u8]> = HashSet::new();
    let mut records = txn.cursor(root);
    let mut record = records.first()?;
    while let Some(found) = record {
        status.hash = crc32c(crc32c(status.hash, found.key), found.value);
        if is_key {
            let stored = || found.key.to_vec();
            let key =
                RecordKey::parse(found.key).map_err(|source| StatusError::RevisionKey { key: stored(), source })?;
            status.revision = key.revision.main;
            let fields =
                RecordFields::parse(found.value).map_err(|source| StatusError::Record { key: stored(), source })?;
            if key.tombstone {
                live.remove(fields.key);
            } else {
                live.insert(fields.key);
            }
        }
        record = records.next_item()?;
    }
    if is_key {
        status.total_keys = live.len() as u64;
    }
    Ok(())
}

/// The schema version, if it is one.
fn storage_version(txn: &ReadTxn) -> Result<Option<String>, Corrupt> {
    let Some(meta) = txn.bucket(Bucket::Meta.name())? else { return Ok(None) };
    let value = txn.get(&meta, STORAGE_VERSION)?;
    Ok(value.and_then(|value| String::from_utf8(value.to_vec()).ok()).filter(|text| text.split('.').count() == 3))
}
