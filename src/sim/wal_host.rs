//! Carries out what a `Wal` asks for on a simulated disk, in place of the shell. The order of things is the shell's
//! duty as the `wal` module states it; the pace (which write completes, when background work is done) is the caller's.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use super::disk::{Disk, DiskError, FileId, Ticket};
use crate::{
    base::log_entry::{HardState, LogEntry},
    wal::{
        Action, Append, AppendError, Config, Contents, Fate, FileName, IssuedBatch, Metadata, Prepare, Replay,
        ReplayError, SegmentFile, SegmentId, SnapshotMarker, Wal,
    },
};

/// Where the log's files are on the disk.
pub const DIRECTORY: &str = "member/wal/";

/// A log and its files.
#[derive(Debug)]
pub struct WalHost {
    wal: Wal,
    files: BTreeMap<SegmentId, FileId>,
    /// Batches not yet submitted.
    held: Vec<IssuedBatch>,
    in_flight: BTreeMap<Ticket, u64>,
    actions: VecDeque<Action>,
}

/// Why the log cannot go on.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum HostError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// An append that is on its way: its last batch, and each batch with the log's last index after it.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub sequence: u64,
    pub batches: Vec<(u64, u64)>,
}

/// The files of a log, by what they are.
#[derive(Debug, Default)]
struct Listing {
    segments: Vec<SegmentFile>,
    spares: Vec<SegmentFile>,
    temporary: Vec<SegmentId>,
}

impl WalHost {
    /// A new log.
    ///
    /// # Errors
    /// Of the disk.
    pub fn create(disk: &mut Disk, config: Config, metadata: Metadata) -> Result<Self, HostError> {
        remove_temporary(disk, &list(disk)?)?;
        let (wal, actions) = Wal::create(config, metadata);
        Ok(Self { wal, files: BTreeMap::new(), held: Vec::new(), in_flight: BTreeMap::new(), actions: actions.into() })
    }

    /// Replays and repairs a log; `ReplayError::Empty` if there is none.
    ///
    /// # Errors
    /// Of the disk and of the replay.
    pub fn open(disk: &mut Disk, config: Config, keep_after: u64) -> Result<(Self, Contents), HostError> {
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
        let host = Self { wal, files, held: Vec::new(), in_flight: BTreeMap::new(), actions: actions.into() };
        Ok((host, recovered.contents))
    }

    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The file of a segment of the log.
    #[must_use]
    pub fn file(&self, segment: SegmentId) -> Option<FileId> {
        self.files.get(&segment).copied()
    }

    /// Appends; `write` brings it to the disk.
    ///
    /// # Errors
    /// Of the log.
    pub fn append(&mut self, hard_state: Option<HardState>, entries: &[LogEntry]) -> Result<Accepted, AppendError> {
        let append = self.wal.append(hard_state, entries)?;
        Ok(self.hold(append))
    }

    /// Appends; `write` brings it to the disk.
    ///
    /// # Errors
    /// Of the log.
    pub fn save_snapshot_marker(
        &mut self,
        marker: SnapshotMarker,
        hard_state: Option<HardState>,
    ) -> Result<Accepted, AppendError> {
        let append = self.wal.save_snapshot_marker(marker, hard_state)?;
        Ok(self.hold(append))
    }

    /// Appends, if there is something to confirm; `write` brings it to the disk.
    pub fn confirm(&mut self) -> Option<Accepted> {
        let append = self.wal.confirm()?;
        Some(self.hold(append))
    }

    /// Submits what was appended to segments that are ready.
    ///
    /// # Errors
    /// Of the disk.
    pub fn write(&mut self, disk: &mut Disk) -> Result<(), HostError> {
        for batch in std::mem::take(&mut self.held) {
            let write = &batch.write;
            if self.wal.is_ready(write.segment) {
                let ticket = disk.submit(self.files[&write.segment], write.offset, &write.bytes)?;
                self.in_flight.insert(ticket, batch.sequence);
            } else {
                self.held.push(batch);
            }
        }
        Ok(())
    }

    /// Lets go of segments; their files follow in the background.
    pub fn release(&mut self, index: u64) {
        self.actions.extend(self.wal.release(index));
    }

    /// Does one piece of background work; false if there is none. A file that could not be made is tried again next time.
    ///
    /// # Errors
    /// Of the disk.
    pub fn work(&mut self, disk: &mut Disk) -> Result<bool, HostError> {
        let Some(action) = self.actions.pop_front() else {
            return Ok(false);
        };
        match action {
            Action::Prepare(prepare) => {
                if let Err(error) = self.make_file(disk, &prepare) {
                    self.actions.push_front(Action::Prepare(prepare));
                    return Err(error.into());
                }
                self.wal.on_prepared(prepare.segment);
                self.write(disk)?;
            }
            Action::Retire { segment, fate } => {
                let name = path(&segment.file_name());
                match fate {
                    Fate::Spare => disk.rename(&name, &path(&segment.spare_name()))?,
                    Fate::Delete => disk.remove(&name)?,
                }
                disk.sync_directory()?;
                self.files.remove(&segment);
            }
            Action::Discard { spare } => {
                disk.remove(&path(&spare.spare_name()))?;
                disk.sync_directory()?;
            }
        }
        Ok(true)
    }

    /// Lets one write complete; false if none is in flight.
    ///
    /// # Errors
    /// Of the disk.
    pub fn complete(&mut self, disk: &mut Disk) -> Result<bool, HostError> {
        let Some(completion) = disk.complete()? else {
            return Ok(false);
        };
        completion.result?;
        let sequence = self.in_flight.remove(&completion.ticket);
        self.wal.on_written(sequence.expect("only batches are in flight"));
        Ok(true)
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

    fn hold(&mut self, append: Append) -> Accepted {
        self.actions.extend(append.actions);
        let batches = append.writes.iter();
        let batches = batches.map(|batch| (batch.sequence, batch.last_index)).collect();
        self.held.extend(append.writes);
        Accepted { sequence: append.sequence, batches }
    }
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
