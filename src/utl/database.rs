//! A database file for a tool: locked, mapped, opened, and changed with plain writes.
//!
//! A commit is written in the same order as by a server: room and pages, sync, meta page, sync. So a tool that ends early leaves the
//! state before or after the commit.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    apply::state::StateError,
    backend::Backend,
    base::limits::{LOCK_POLL_MS, PAGE_FILE_RESERVE_BYTES},
    ctl::{
        exit::{ERROR, Exit},
        go_format::{duration, io_error},
    },
    mvcc::{self, Attachment, Restore, Store},
    os::{
        file,
        lock::{LockError, PathLock},
        mapping::Mapping,
    },
    pagefile::{Commit, CommitError, Corrupt, OpenError, PageFile, check},
};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFailure {
    #[error("{operation} {path}: {}", io_error(.source))]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process (waited {}): stop the server on it first", duration(*.waited))]
    InUse { path: PathBuf, waited: Duration },
    #[error("cannot open database {path}: {source}")]
    Open { path: PathBuf, source: OpenError },
    #[error("database {path}: integrity check failed. {count} errors found.\n{list}")]
    Integrity { path: PathBuf, count: usize, list: String },
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Records(#[from] mvcc::Failure),
    #[error(transparent)]
    State(#[from] StateError),
}

impl FileFailure {
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

impl From<FileFailure> for Exit {
    fn from(failure: FileFailure) -> Self {
        Exit::new(ERROR, failure)
    }
}

/// Whether a file is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// A database file that no other process changes while this value lives.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    file: fs::File,
    _lock: PathLock,
}

impl Database {
    /// Locks and opens `path`, waiting up to `patience` for other processes (`None`: without limit).
    ///
    /// # Errors
    /// It is in use or no sound database.
    pub fn open(path: &Path, access: Access, patience: Option<Duration>) -> Result<(Self, PageFile), FileFailure> {
        let lock = wait_for_lock(path, access, patience)?;
        let opened = fs::OpenOptions::new().read(true).write(access == Access::Write).open(path);
        let file = opened.map_err(FileFailure::io("open", path))?;
        let length = file.metadata().map_err(FileFailure::io("stat", path))?.len();
        // A file that is only read is mapped up to its end, because a small machine may refuse the whole reservation.
        let reserve = match access {
            Access::Read => usize::try_from(length).unwrap_or(usize::MAX).max(1),
            Access::Write => PAGE_FILE_RESERVE_BYTES,
        };
        let mapping = Mapping::reserve(path, reserve).map_err(FileFailure::io("map", path))?;
        let pages = PageFile::open(mapping.page_map(), length)
            .map_err(|source| FileFailure::Open { path: path.to_owned(), source })?;
        Ok((Self { path: path.to_owned(), file, _lock: lock }, pages))
    }

    /// Carries a commit out; durable when this returns.
    pub fn write(&self, commit: Commit) -> Result<(), FileFailure> {
        let failed = |operation| FileFailure::io(operation, &self.path);
        if let Some(length) = commit.grow_to {
            file::grow(&self.file, length).map_err(failed("allocate"))?;
        }
        for page in &commit.pages {
            self.file.write_all_at(page.bytes(), page.offset()).map_err(failed("write"))?;
        }
        self.file.sync_all().map_err(failed("fdatasync"))?;
        self.file.write_all_at(commit.meta.bytes(), commit.meta.offset()).map_err(failed("write"))?;
        self.file.sync_all().map_err(failed("fdatasync"))
    }

    /// Cuts the file to `length`, durably.
    pub fn cut(&self, length: u64) -> Result<(), FileFailure> {
        let cut = self.file.set_len(length).and_then(|()| self.file.sync_all());
        cut.map_err(FileFailure::io("truncate", &self.path))
    }

    /// Commits all pending changes of `backend`.
    pub fn commit(&self, backend: &mut Backend) -> Result<(), FileFailure> {
        while backend.begin_commit() {
            self.finish_commit(backend)?;
        }
        Ok(())
    }

    /// Builds and writes the commit that `backend` has begun.
    pub fn finish_commit(&self, backend: &mut Backend) -> Result<(), FileFailure> {
        let commit = loop {
            if let Some(commit) = backend.step_commit(usize::MAX)? {
                break commit;
            }
        };
        self.write(commit)?;
        Ok(backend.on_committed()?)
    }
}

/// Checks every rule of the file format.
pub fn must_be_sound(path: &Path, pages: &PageFile) -> Result<(), FileFailure> {
    let violations = check(&pages.read());
    if violations.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Err(FileFailure::Integrity { path: path.to_owned(), count: list.len(), list: list.join("\n") })
}

/// The key space of a database, in memory as in a server, and the keys with leases.
pub fn load_store(backend: &mut Backend) -> Result<(Store, Vec<Attachment>), FileFailure> {
    let mut restore = Restore::new(backend.view())?;
    while !restore.step(usize::MAX)? {}
    Ok(restore.finish(backend)?)
}

/// Locks a file or directory, waiting up to `patience` for other processes (`None`: without limit).
pub fn wait_for_lock(path: &Path, access: Access, patience: Option<Duration>) -> Result<PathLock, FileFailure> {
    let started = Instant::now();
    loop {
        let locked = match access {
            Access::Read => PathLock::acquire_shared(path),
            Access::Write => PathLock::acquire(path),
        };
        match locked {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held { path }) => {
                if patience.is_some_and(|patience| started.elapsed() >= patience) {
                    return Err(FileFailure::InUse { path, waited: patience.unwrap_or_default() });
                }
                thread::sleep(Duration::from_millis(LOCK_POLL_MS));
            }
            Err(LockError::Io { path, source }) => return Err(FileFailure::Io { operation: "open", path, source }),
        }
    }
}
