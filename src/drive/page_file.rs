//! The page file as this process has it open: for writing, mapped for readers, and locked.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    base::limits,
    os::{
        file::{FileError, PagedFile},
        lock::{LockError, PathLock},
        mapping::Mapping,
    },
    pagefile::{OpenError, PageFile},
};

/// Why a page file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PageFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("cannot map {path}: {source}")]
    Map { path: PathBuf, source: io::Error },
    #[error("database file ({path}) of the backend: {source}")]
    Open { path: PathBuf, source: OpenError },
}

/// An open page file. The lock ends with it.
#[derive(Debug)]
pub struct OpenPageFile {
    pub(super) file: PagedFile,
    _lock: PathLock,
    is_synced: bool,
}

impl OpenPageFile {
    /// Locks, opens and maps `path`; without `sync` nothing is made durable.
    ///
    /// # Errors
    /// Another process has it, or it is damaged.
    pub async fn open(path: &Path, sync: bool) -> Result<(Self, PageFile), PageFileError> {
        let lock = PathLock::acquire(path)?;
        let file = PagedFile::open(path, sync).await?;
        // A process that was killed may have left a commit that only the cache holds. The next one uses pages that this commit has freed,
        // so a power failure in the middle of the next one must not bring back the one before.
        file.sync().await?;
        let failed = |source| PageFileError::Map { path: path.to_owned(), source };
        let length = fs::metadata(path).map_err(failed)?.len();
        let mapping = Mapping::reserve(path, limits::PAGE_FILE_RESERVE_BYTES).map_err(failed)?;
        mapping.will_need(usize::try_from(length).unwrap_or(usize::MAX));
        let opened = PageFile::open(mapping.page_map(), length);
        let pages = opened.map_err(|source| PageFileError::Open { path: path.to_owned(), source })?;
        Ok((Self { file, _lock: lock, is_synced: sync }, pages))
    }

    /// Opens what stands at the path now.
    pub(super) async fn reopen(&self) -> Result<(Self, PageFile), PageFileError> {
        Self::open(self.file.path(), self.is_synced).await
    }
}
