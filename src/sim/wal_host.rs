//! A `Wal` alone on a simulated disk. [`HeldBatches`] orders its writes, as in the replica; the caller decides which write completes
//! and when background work is done.
//!
//! Beside `world`, because here a test reaches states that a replica does not: appends that replace entries far back, markers at any
//! index, segments of a few blocks, and other sizes of segments after a restart. A model checks every batch of every run.

use std::collections::{BTreeMap, VecDeque};

use super::{
    disk::{Disk, FileId, Ticket},
    log_files::{HostError, LogFiles},
};
use crate::{
    base::log_entry::{HardState, LogEntry},
    wal::{
        Action, Append, AppendError, Config, Contents, HeldBatches, IssuedBatch, Metadata, SegmentId, SnapshotMarker,
        Wal,
    },
};

/// A log and its files.
#[derive(Debug)]
pub struct WalHost {
    wal: Wal,
    files: LogFiles,
    /// Issued, and not given to `write` yet.
    issued: Vec<IssuedBatch>,
    held: HeldBatches,
    in_flight: BTreeMap<Ticket, u64>,
    actions: VecDeque<Action>,
}

/// An append: its last batch, and each batch with the log's last index after it.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub sequence: u64,
    pub batches: Vec<(u64, u64)>,
}

impl WalHost {
    /// A new log.
    ///
    /// # Errors
    /// Of the disk.
    pub fn create(disk: &mut Disk, config: Config, metadata: Metadata) -> Result<Self, HostError> {
        let files = LogFiles::create(disk)?;
        let (wal, actions) = Wal::create(config, metadata);
        Ok(Self {
            wal,
            files,
            issued: Vec::new(),
            held: HeldBatches::default(),
            in_flight: BTreeMap::new(),
            actions: actions.into(),
        })
    }

    /// Replays and repairs a log; `ReplayError::Empty` if there is none.
    ///
    /// # Errors
    /// Of the disk and of the replay.
    pub fn open(disk: &mut Disk, config: Config, keep_after: u64) -> Result<(Self, Contents), HostError> {
        let (files, wal, actions, contents) = LogFiles::open(disk, config, keep_after)?;
        let host = Self {
            wal,
            files,
            issued: Vec::new(),
            held: HeldBatches::default(),
            in_flight: BTreeMap::new(),
            actions: actions.into(),
        };
        Ok((host, contents))
    }

    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The file of a segment of the log.
    #[must_use]
    pub fn file(&self, segment: SegmentId) -> Option<FileId> {
        self.files.file(segment)
    }

    /// Appends; `write` brings it to the disk.
    ///
    /// # Errors
    /// Of the log.
    pub fn append(&mut self, hard_state: Option<HardState>, entries: &[LogEntry]) -> Result<Accepted, AppendError> {
        let append = self.wal.append(hard_state, entries)?;
        Ok(self.accept(append))
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
        Ok(self.accept(append))
    }

    /// Appends, if there is something to confirm; `write` brings it to the disk.
    pub fn confirm(&mut self) -> Option<Accepted> {
        let append = self.wal.confirm()?;
        Some(self.accept(append))
    }

    /// Submits what was appended to segments that are ready.
    ///
    /// # Errors
    /// Of the disk.
    pub fn write(&mut self, disk: &mut Disk) -> Result<(), HostError> {
        let mut ready = Vec::new();
        self.held.release(&self.wal, |batch| ready.push(batch));
        self.held.admit(&self.wal, std::mem::take(&mut self.issued), |batch| ready.push(batch));
        for batch in ready {
            let ticket = self.files.submit(disk, &batch)?;
            self.in_flight.insert(ticket, batch.sequence);
        }
        Ok(())
    }

    /// Releases segments; their files are retired in the background.
    pub fn release(&mut self, index: u64) {
        self.actions.extend(self.wal.release(index));
    }

    /// Does one action of the background work; false if there is none. A preparation that failed is tried again next time.
    ///
    /// # Errors
    /// Of the disk.
    pub fn work(&mut self, disk: &mut Disk) -> Result<bool, HostError> {
        let Some(action) = self.actions.pop_front() else {
            return Ok(false);
        };
        match self.files.carry_out(disk, &action) {
            Ok(Some(segment)) => {
                self.wal.on_prepared(segment);
                self.write(disk)?;
            }
            Ok(None) => {}
            Err(error) => {
                if matches!(action, Action::Prepare(_)) {
                    self.actions.push_front(action);
                }
                return Err(error.into());
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

    fn accept(&mut self, append: Append) -> Accepted {
        self.actions.extend(append.actions);
        let batches = append.writes.iter();
        let batches = batches.map(|batch| (batch.sequence, batch.last_index)).collect();
        self.issued.extend(append.writes);
        Accepted { sequence: append.sequence, batches }
    }
}
