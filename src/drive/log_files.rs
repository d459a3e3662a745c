//! The log's files: carries out what the WAL machine says, with io_uring.
//!
//! Appends are written as they come, several at once. Preparing the next segment and retiring old ones is background work, one
//! action after the other in the order given.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use crate::{
    base::limits,
    os::file::{FileError, LogFile, WalMode, sync_directory},
    wal::{Action, Fate, Prepare, SegmentFile, SegmentId, Write},
};

/// The open segments of one log directory.
#[derive(Debug)]
pub struct LogFiles {
    directory: PathBuf,
    mode: WalMode,
    open: RefCell<BTreeMap<SegmentId, Rc<LogFile>>>,
}

impl LogFiles {
    #[must_use]
    pub fn new(directory: &Path, mode: WalMode) -> Self {
        Self { directory: directory.to_owned(), mode, open: RefCell::default() }
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes what a segment holds durable.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn sync(&self, segment: SegmentId) -> Result<(), FileError> {
        let file = self.open.borrow().get(&segment).cloned();
        match file {
            Some(file) => file.sync().await,
            None => Ok(()),
        }
    }

    /// Opens segments that exist already.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn open(&self, segment: SegmentId) -> Result<(), FileError> {
        let file = LogFile::open(&self.directory.join(segment.file_name()), self.mode).await?;
        self.open.borrow_mut().insert(segment, Rc::new(file));
        Ok(())
    }

    /// Writes the blocks of one batch; durable when this returns.
    ///
    /// # Errors
    /// The kernel's. The state on disk is then unknown and the member stops.
    pub async fn write(&self, write: Write) -> Result<(), FileError> {
        let file = self.open.borrow().get(&write.segment).cloned();
        let Some(file) = file else {
            let path = self.directory.join(write.segment.file_name());
            return Err(FileError { operation: "write", path, source: io::ErrorKind::NotFound.into() });
        };
        file.write(&write.bytes, write.offset).await
    }

    /// Carries out one background action. Returns the segment that is now ready, if it was a preparation.
    ///
    /// # Errors
    /// The kernel's; a preparation may be tried again.
    pub async fn carry_out(&self, action: &Action) -> Result<Option<SegmentId>, FileError> {
        match action {
            Action::Prepare(prepare) => {
                self.prepare(prepare).await?;
                Ok(Some(prepare.segment))
            }
            Action::Retire { segment, fate } => {
                self.retire(*segment, *fate)?;
                Ok(None)
            }
            Action::Discard { spare } => {
                let path = self.directory.join(spare.spare_name());
                fs::remove_file(&path).map_err(|source| FileError { operation: "remove", path, source })?;
                Ok(None)
            }
        }
    }

    async fn prepare(&self, prepare: &Prepare) -> Result<(), FileError> {
        let name = self.directory.join(prepare.segment.file_name());
        let source = match prepare.spare {
            Some(spare) => {
                let path = self.directory.join(spare.spare_name());
                let file = LogFile::open(&path, self.mode).await?;
                file.write(&prepare.header, 0).await?;
                file.close().await?;
                path
            }
            None => {
                let path = self.directory.join(prepare.segment.temporary_name());
                if let Err(error) = self.write_through(prepare, &path).await {
                    // What a full disk has taken of it is room that the page file may need meanwhile.
                    let _absent = fs::remove_file(&path);
                    return Err(error);
                }
                path
            }
        };
        let renamed = fs::rename(&source, &name);
        renamed.map_err(|error| FileError { operation: "rename", path: source, source: error })?;
        sync_directory(&self.directory)?;
        self.open(prepare.segment).await
    }

    /// Writes a new segment from end to end, so that later writes never change its extents.
    async fn write_through(&self, prepare: &Prepare, path: &Path) -> Result<(), FileError> {
        let file = LogFile::create_for_filling(path, self.mode, prepare.size_bytes).await?;
        file.write(&prepare.header, 0).await?;
        let zeros = vec![0u8; limits::WAL_FILL_BYTES];
        let mut offset = prepare.header.len() as u64;
        while offset < prepare.size_bytes {
            let length = (prepare.size_bytes - offset).min(zeros.len() as u64);
            file.write(&zeros[..usize::try_from(length).expect("at most the piece")], offset).await?;
            offset += length;
        }
        file.sync().await?;
        file.close().await
    }

    fn retire(&self, segment: SegmentId, fate: Fate) -> Result<(), FileError> {
        self.open.borrow_mut().remove(&segment);
        let name = self.directory.join(segment.file_name());
        let (operation, outcome) = match fate {
            Fate::Spare => ("rename", fs::rename(&name, self.directory.join(segment.spare_name()))),
            Fate::Delete => ("remove", fs::remove_file(&name)),
        };
        outcome.map_err(|source| FileError { operation, path: name, source })?;
        sync_directory(&self.directory)
    }
}

/// The files of a log, by age.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub segments: Vec<SegmentFile>,
    pub spares: Vec<SegmentFile>,
}

/// The files found in `directory`, for replay; leftovers of an interrupted preparation are removed.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn found(directory: &Path) -> Result<Found, FileError> {
    let failed = |source| FileError { operation: "read", path: directory.to_owned(), source };
    let mut found = Found::default();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_name().to_str().and_then(crate::wal::FileName::parse) {
            Some(crate::wal::FileName::Segment(id)) => {
                let size_bytes = entry.metadata().map_err(failed)?.len();
                found.segments.push(SegmentFile { id, size_bytes });
            }
            Some(crate::wal::FileName::Spare(id)) => {
                let size_bytes = entry.metadata().map_err(failed)?.len();
                found.spares.push(SegmentFile { id, size_bytes });
            }
            Some(crate::wal::FileName::Temporary(_)) => fs::remove_file(entry.path()).map_err(failed)?,
            None => {}
        }
    }
    found.segments.sort_by_key(|segment| segment.id.sequence);
    found.spares.sort_by_key(|segment| segment.id.sequence);
    Ok(found)
}

/// Whether a file of this name belongs to a log.
#[must_use]
pub fn is_of_log(name: &str) -> bool {
    crate::wal::FileName::parse(name).is_some()
}

/// Removes every file of a log that never had content.
///
/// # Errors
/// The directory cannot be read or changed.
pub fn clear(directory: &Path) -> Result<(), FileError> {
    let failed = |source| FileError { operation: "remove in", path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(is_of_log) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    sync_directory(directory)
}
