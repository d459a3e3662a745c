//! An advisory lock on a path, held as long as the value lives: one process per data directory.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Holds an flock on a file or directory.
#[derive(Debug)]
pub struct PathLock {
    _file: File,
}

/// Why a path could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{path} is locked by another process (is a second server running on this data directory?)")]
    Held { path: PathBuf },
    #[error("cannot lock {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl PathLock {
    /// Locks `path`, which must exist, without waiting.
    ///
    /// # Errors
    /// Another process holds it, or the path cannot be opened.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        Self::lock(path, File::try_lock)
    }

    /// Locks `path` beside others that only read, without waiting.
    ///
    /// # Errors
    /// Another process holds it for itself, or the path cannot be opened.
    pub fn acquire_shared(path: &Path) -> Result<Self, LockError> {
        Self::lock(path, File::try_lock_shared)
    }

    fn lock(path: &Path, try_lock: fn(&File) -> Result<(), TryLockError>) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        match try_lock(&file) {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
