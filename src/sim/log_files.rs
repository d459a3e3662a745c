//! The log's files on a simulated disk: replay, batches, and the background work on segments, in place of the shell.

use std::collections::BTreeMap;

use thiserror::Error;

use super::disk::{Disk, DiskError, FileId, Ticket};
use crate::wal::{
    Action, AppendError, Config, Contents, Fate, FileName, IssuedBatch, Prepare, Replay, ReplayError, SegmentFile,
    SegmentId, Wal,
};

/// Where the log's files are on the disk.
pub const DIRECTORY: &str = "member/wal/";

/// Why the log cannot continue.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum HostError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// The open segments of a log.
#[derive(Debug, Default)]
pub struct LogFiles {
    files: BTreeMap<SegmentId, FileId>,
}

/// The files of a log, by their role.
#[derive(Debug, Default)]
struct Listing {
    segments: Vec<SegmentFile>,
    spares: Vec<SegmentFile>,
    temporary: Vec<SegmentId>,
}

impl LogFiles {
    /// The files of a new log.
    ///
    /// # Errors
    /// Of the disk.
    pub fn create(disk: &mut Disk) -> Result<Self, HostError> {
        remove_temporary(disk, &list(disk)?)?;
        Ok(Self::default())
    }

    /// Replays and repairs a log; `ReplayError::Empty` if there is none.
    ///
    /// # Errors
    /// Of the disk and of the replay.
    pub fn open(
        disk: &mut Disk,
        config: Config,
        keep_after: u64,
    ) -> Result<(Self, Wal, Vec<Action>, Contents), HostError> {
        let listing = list(disk)?;
        remove_temporary(disk, &listing)?;
        let mut files = BTreeMap::new();
        for segment in &listing.segments {
            files.insert(segment.id, disk.open(&path(&segment.id.file_name()))?);
        }
        let mut replay = Replay::new(listing.segments, keep_after)?;
        while let Some(read) = replay.next_read() {
            replay.feed(disk.read(files[&read.segment], read.offset, read.length)?)?;
        }
        let recovered = replay.finish(config, &listing.spares)?;
        for segment in &recovered.repair.sync {
            disk.sync(files[segment])?;
        }
        for write in &recovered.repair.writes {
            disk.submit(files[&write.segment], write.offset, &write.bytes)?;
        }
        while let Some(completion) = disk.complete()? {
            completion.result?;
        }
        let (wal, actions) = recovered.repair.done();
        Ok((Self { files }, wal, actions, recovered.contents))
    }

    /// Removes the log: a first start ended before it had anything.
    ///
    /// # Errors
    /// Of the disk.
    pub fn clear(disk: &mut Disk) -> Result<(), DiskError> {
        for (name, _) in disk.list()? {
            if name.starts_with(DIRECTORY) {
                disk.remove(&name)?;
            }
        }
        disk.sync_directory()
    }

    /// The file of a segment of the log.
    #[must_use]
    pub fn file(&self, segment: SegmentId) -> Option<FileId> {
        self.files.get(&segment).copied()
    }

    /// Starts to write a batch to its segment, which is prepared.
    ///
    /// # Errors
    /// Of the disk.
    pub fn submit(&self, disk: &mut Disk, batch: &IssuedBatch) -> Result<Ticket, DiskError> {
        let write = &batch.write;
        disk.submit(self.files[&write.segment], write.offset, &write.bytes)
    }

    /// Carries out one action. Returns the segment that is now ready, if it was a preparation.
    ///
    /// # Errors
    /// Of the disk; a preparation may be tried again.
    pub fn carry_out(&mut self, disk: &mut Disk, action: &Action) -> Result<Option<SegmentId>, DiskError> {
        match action {
            Action::Prepare(prepare) => {
                self.make_file(disk, prepare)?;
                Ok(Some(prepare.segment))
            }
            Action::Retire { segment, fate } => {
                let name = path(&segment.file_name());
                match fate {
                    Fate::Spare => disk.rename(&name, &path(&segment.spare_name()))?,
                    Fate::Delete => disk.remove(&name)?,
                }
                disk.sync_directory()?;
                self.files.remove(segment);
                Ok(None)
            }
            Action::Discard { spare } => {
                disk.remove(&path(&spare.spare_name()))?;
                disk.sync_directory()?;
                Ok(None)
            }
        }
    }

    fn make_file(&mut self, disk: &mut Disk, prepare: &Prepare) -> Result<(), DiskError> {
        let (file, name) = match prepare.spare {
            Some(spare) => {
                let name = path(&spare.spare_name());
                let file = disk.open(&name)?;
                disk.write(file, 0, &prepare.header)?;
                (file, name)
            }
            None => {
                let name = path(&prepare.segment.temporary_name());
                let file = disk.create(&name)?;
                let mut content = prepare.header.to_vec();
                content.resize(prepare.size_bytes as usize, 0);
                disk.write(file, 0, &content)?;
                (file, name)
            }
        };
        disk.sync(file)?;
        disk.rename(&name, &path(&prepare.segment.file_name()))?;
        disk.sync_directory()?;
        self.files.insert(prepare.segment, file);
        Ok(())
    }
}

/// Whether a file of the disk is a segment of the log.
#[must_use]
pub fn is_segment(name: &str) -> bool {
    matches!(name.strip_prefix(DIRECTORY).and_then(FileName::parse), Some(FileName::Segment(_)))
}

fn path(name: &str) -> String {
    format!("{DIRECTORY}{name}")
}

fn list(disk: &Disk) -> Result<Listing, DiskError> {
    let mut listing = Listing::default();
    for (name, size_bytes) in disk.list()? {
        match name.strip_prefix(DIRECTORY).and_then(FileName::parse) {
            Some(FileName::Segment(id)) => listing.segments.push(SegmentFile { id, size_bytes }),
            Some(FileName::Spare(id)) => listing.spares.push(SegmentFile { id, size_bytes }),
            Some(FileName::Temporary(id)) => listing.temporary.push(id),
            None => {}
        }
    }
    Ok(listing)
}

fn remove_temporary(disk: &mut Disk, listing: &Listing) -> Result<(), DiskError> {
    for id in &listing.temporary {
        disk.remove(&path(&id.temporary_name()))?;
    }
    disk.sync_directory()
}
