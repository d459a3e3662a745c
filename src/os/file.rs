//! Files: direct durable writes for the WAL, buffered writes and syncs for the page file.
//!
//! A WAL write is durable when its future ends: O_DIRECT with O_DSYNC on segments that were written through before, so no
//! file-system journal commit is needed. With `--wal-buffered` the same call is a page-cache write and an fdatasync.
//! The page file is written through the page cache, because its readers look at a mapping of the same pages.

use std::{
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use glommio::io::{BufferedFile, DmaFile, OpenOptions};

/// A failed file operation: what, where and why.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}: {source}")]
pub struct FileError {
    pub operation: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl FileError {
    /// Whether there was no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::WriteZero | io::ErrorKind::QuotaExceeded
        )
    }
}

/// How a log segment reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalMode {
    /// O_DIRECT and O_DSYNC.
    Direct,
    /// Page cache and fdatasync, for file systems without O_DIRECT.
    Buffered,
    /// No sync at all (`--unsafe-no-fsync`).
    Unsafe,
}

/// A segment of the log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Direct(DmaFile),
    Buffered { file: BufferedFile, sync: bool },
}

impl LogFile {
    /// Opens `path` for writing, creating it when absent.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn open(path: &Path, mode: WalMode) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let inner = match mode {
            WalMode::Direct => {
                options.custom_flags(libc::O_DSYNC);
                options.dma_open(path).await.map(Inner::Direct)
            }
            WalMode::Buffered | WalMode::Unsafe => {
                let opened = options.buffered_open(path).await;
                opened.map(|file| Inner::Buffered { file, sync: mode == WalMode::Buffered })
            }
        };
        let inner = inner.map_err(|error| failure("open", path, error))?;
        Ok(Self { path: path.to_owned(), inner })
    }

    /// Creates `path` with its blocks allocated and without durable writes, to be filled from end to end and then synced.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn create_for_filling(path: &Path, mode: WalMode, size_bytes: u64) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let inner = match mode {
            WalMode::Direct => options.dma_open(path).await.map(Inner::Direct),
            WalMode::Buffered | WalMode::Unsafe => {
                options.buffered_open(path).await.map(|file| Inner::Buffered { file, sync: false })
            }
        };
        let file = Self { path: path.to_owned(), inner: inner.map_err(|error| failure("create", path, error))? };
        let allocated = match &file.inner {
            Inner::Direct(file) => file.pre_allocate(size_bytes, false).await,
            Inner::Buffered { file, .. } => file.pre_allocate(size_bytes, false).await,
        };
        allocated.map_err(|error| failure("allocate", path, error))?;
        Ok(file)
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn sync(&self) -> Result<(), FileError> {
        let synced = match &self.inner {
            Inner::Direct(file) => file.fdatasync().await,
            Inner::Buffered { file, .. } => file.fdatasync().await,
        };
        synced.map_err(|error| failure("fdatasync", &self.path, error))
    }

    /// Writes whole blocks; durable when this returns.
    ///
    /// # Errors
    /// The kernel's, or `WriteZero` when the disk takes less than all.
    pub async fn write(&self, bytes: &[u8], offset: u64) -> Result<(), FileError> {
        match &self.inner {
            Inner::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(bytes.len());
                buffer.as_bytes_mut().copy_from_slice(bytes);
                let written =
                    file.write_at(buffer, offset).await.map_err(|error| failure("write", &self.path, error))?;
                self.expect_all(written, bytes.len())
            }
            Inner::Buffered { file, sync } => {
                let written =
                    file.write_at(bytes.to_vec(), offset).await.map_err(|error| failure("write", &self.path, error))?;
                self.expect_all(written, bytes.len())?;
                if *sync {
                    file.fdatasync().await.map_err(|error| failure("fdatasync", &self.path, error))?;
                }
                Ok(())
            }
        }
    }

    /// Closes the file. Writes under way are not waited for.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn close(self) -> Result<(), FileError> {
        let path = self.path;
        let closed = match self.inner {
            Inner::Direct(file) => file.close().await,
            Inner::Buffered { file, .. } => file.close().await,
        };
        closed.map_err(|error| failure("close", &path, error))
    }

    fn expect_all(&self, written: usize, wanted: usize) -> Result<(), FileError> {
        if written == wanted {
            return Ok(());
        }
        let source =
            io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {wanted} bytes: is the disk full?"));
        Err(FileError { operation: "write", path: self.path.clone(), source })
    }
}

/// The page file, written through the page cache.
#[derive(Debug)]
pub struct PagedFile {
    path: PathBuf,
    file: BufferedFile,
    sync: bool,
}

impl PagedFile {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn open(path: &Path, sync: bool) -> Result<Self, FileError> {
        let opened = OpenOptions::new().read(true).write(true).buffered_open(path).await;
        let file = opened.map_err(|error| failure("open", path, error))?;
        Ok(Self { path: path.to_owned(), file, sync })
    }

    /// Creates a file, or empties the one that is there.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn create(path: &Path) -> Result<Self, FileError> {
        let created = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).buffered_open(path).await;
        let file = created.map_err(|error| failure("create", path, error))?;
        Ok(Self { path: path.to_owned(), file, sync: true })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `bytes`; visible to the mapping at once, durable after [`Self::sync`].
    ///
    /// # Errors
    /// The kernel's.
    pub async fn write(&self, bytes: Vec<u8>, offset: u64) -> Result<(), FileError> {
        let wanted = bytes.len();
        let written = self.file.write_at(bytes, offset).await.map_err(|error| failure("write", &self.path, error))?;
        if written == wanted {
            return Ok(());
        }
        let source =
            io::Error::new(io::ErrorKind::WriteZero, format!("{written} of {wanted} bytes: is the disk full?"));
        Err(FileError { operation: "write", path: self.path.clone(), source })
    }

    /// Makes the data written so far durable.
    ///
    /// # Errors
    /// The kernel's. After one the state on disk is unknown: the member stops.
    pub async fn sync(&self) -> Result<(), FileError> {
        if !self.sync {
            return Ok(());
        }
        self.file.fdatasync().await.map_err(|error| failure("fdatasync", &self.path, error))
    }

    /// Makes the file at least `length` long, with its blocks allocated: a full disk shows here and not at a later sync.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn grow(&self, length: u64) -> Result<(), FileError> {
        self.file.pre_allocate(length, false).await.map_err(|error| failure("allocate", &self.path, error))
    }

    /// Cuts the file to `length`, `step` bytes at a time: the kernel blocks all other access to the file meanwhile.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn cut(&self, length: u64, step: u64) -> Result<(), FileError> {
        let failed = |error| failure("truncate", &self.path, error);
        let mut size = self.file.file_size().await.map_err(failed)?;
        while size > length {
            size = size.saturating_sub(step).max(length);
            self.file.truncate(size).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// Lets glommio find out whether the disk under `directory` can be polled, on a file that has a written block: `written` if
/// there is one already, else a file made for it.
///
/// glommio asks once per device, by a polled read of the first file it opens directly. On a file without content that read
/// succeeds without reaching the device, and every later write would be busy-polled on a disk that has no poll queues.
///
/// # Errors
/// The kernel's.
pub async fn probe_polling(directory: &Path, written: Option<&Path>) -> Result<(), FileError> {
    if let Some(path) = written {
        return probe_polling_of(path).await;
    }
    let path = directory.join(".polling-probe");
    let failed = |source| FileError { operation: "probe", path: path.clone(), source };
    std::fs::write(&path, [1u8; 4096]).and_then(|()| std::fs::File::open(&path)?.sync_all()).map_err(failed)?;
    let probed = probe_polling_of(&path).await;
    std::fs::remove_file(&path).map_err(failed)?;
    probed
}

async fn probe_polling_of(path: &Path) -> Result<(), FileError> {
    let closed = match OpenOptions::new().read(true).dma_open(path).await {
        Ok(file) => file.close().await,
        Err(error) => Err(error),
    };
    closed.map_err(|error| failure("probe", path, error))
}

/// Makes a file that plain reads and writes are done on `length` bytes long, with its blocks allocated where the file system can do
/// that. Without room it stays as long as it was.
///
/// # Errors
/// The kernel's.
pub fn grow(file: &std::fs::File, length: u64) -> io::Result<()> {
    let before = file.metadata()?.len();
    let wanted = libc::off_t::try_from(length).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the call.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, wanted) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
        return file.set_len(length);
    }
    // Gives back the blocks that were allocated before the room ended. The failure to report is that of the allocation.
    let _cut = file.set_len(before);
    Err(error)
}

/// Makes names created, renamed or removed in `directory` durable.
///
/// # Errors
/// The kernel's.
pub fn sync_directory(directory: &Path) -> Result<(), FileError> {
    let synced = std::fs::File::open(directory).and_then(|handle| handle.sync_all());
    synced.map_err(|source| FileError { operation: "fsync", path: directory.to_owned(), source })
}

fn failure(operation: &'static str, path: &Path, error: impl Into<io::Error>) -> FileError {
    FileError { operation, path: path.to_owned(), source: error.into() }
}
