//! An advisory lock on a path, held as long as the value lives: one process per data directory.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
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
        Self::lock(path, libc::LOCK_EX)
    }

    /// Locks `path` beside others that only read, without waiting.
    ///
    /// # Errors
    /// Another process holds it for itself, or the path cannot be opened.
    pub fn acquire_shared(path: &Path) -> Result<Self, LockError> {
        Self::lock(path, libc::LOCK_SH)
    }

    fn lock(path: &Path, kind: i32) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the descriptor is open for the length of the call.
        if unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
            return Ok(Self { _file: file });
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => Err(LockError::Held { path: path.to_owned() }),
            _ => Err(failed(error)),
        }
    }
}
