//! The replica's log: the batches of each append of Raft, and the messages that wait for them.
//!
//! | held | until |
//! |---|---|
//! | a batch | its segment is prepared |
//! | a message | the append that it claims, and all before it, are durable |
//! | the acknowledgement of an append | it and all before it are durable, and its snapshot, if any, is installed |
//!
//! Invariant: appends are acknowledged to consensus in the order of their numbers.

use std::collections::VecDeque;

use super::{Effect, Effects};
use crate::{
    base::{
        limits,
        planted::{self, Bug},
    },
    consensus,
    proto::raftpb,
    wal::{self, AppendError, HeldBatches, Prepare, SegmentId, SnapshotMarker, Wal},
};

#[derive(Debug)]
pub(super) struct Log {
    wal: Wal,
    appends: VecDeque<InFlight>,
    /// Number of the last append acknowledged.
    acknowledged: u64,
    held: HeldBatches,
    messages: VecDeque<(u64, raftpb::Message)>,
    /// Heartbeat intervals since the start.
    ticks: u64,
}

/// An append that is not acknowledged yet.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    number: u64,
    /// The batch that makes it durable.
    sequence: u64,
    /// The index of its snapshot, while that is not installed.
    installs: Option<u64>,
    /// The tick in which it was issued.
    issued_tick: u64,
}

impl Log {
    pub fn new(wal: Wal) -> Self {
        Self {
            wal,
            appends: VecDeque::new(),
            acknowledged: 0,
            held: HeldBatches::default(),
            messages: VecDeque::new(),
            ticks: 0,
        }
    }

    /// Whether another batch may go to the log. Beyond the limit proposals wait and the next batch grows.
    pub fn has_room(&self) -> bool {
        self.appends.len() < limits::APPENDS_IN_FLIGHT_MAX
    }

    /// Appends that are not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        self.appends.len()
    }

    /// One heartbeat interval went by.
    pub fn tick(&mut self) {
        self.ticks += 1;
    }

    /// For how many ticks the oldest append has waited until it is durable. Ticks, because a process that stood still
    /// finds much time gone by and learns of durable writes only afterwards.
    pub fn waits_ticks(&self) -> u64 {
        self.appends.front().map_or(0, |oldest| self.ticks - oldest.issued_tick)
    }

    /// Whether batches wait for their segment.
    pub fn holds_batches(&self) -> bool {
        !self.held.is_empty()
    }

    /// Brings an append to the log: first the snapshot's marker, then entries and hard state.
    ///
    /// # Errors
    /// An entry does not fit into a segment.
    pub fn append(&mut self, append: consensus::Append, effects: &mut Effects) -> Result<(), AppendError> {
        let installs = append.snapshot.as_ref().map(|mark| mark.index);
        let mut hard_state = append.hard_state;
        let mut sequence = self.wal.sequence();
        if let Some(mark) = append.snapshot {
            let marker =
                SnapshotMarker { index: mark.index, term: mark.term, conf_state: mark.conf_state, restarts_log: true };
            let issued = self.wal.save_snapshot_marker(marker, hard_state.take())?;
            sequence = issued.sequence;
            self.issue(issued, effects);
        }
        if hard_state.is_some() || !append.entries.is_empty() {
            let issued = self.wal.append(hard_state, &append.entries)?;
            sequence = issued.sequence;
            self.issue(issued, effects);
        }
        self.appends.push_back(InFlight { number: append.number, sequence, installs, issued_tick: self.ticks });
        Ok(())
    }

    fn issue(&mut self, issued: wal::Append, effects: &mut Effects) {
        self.held.admit(&self.wal, issued.writes, |batch| effects.push(Effect::WriteLog(batch)));
        effects.extend(issued.actions.into_iter().map(Effect::LogTask));
    }

    /// Sends a message once append `after` is acknowledged.
    pub fn send(&mut self, after: Option<u64>, message: raftpb::Message, effects: &mut Effects) {
        match after {
            Some(after) if after > self.acknowledged && !planted::has(Bug::SendBeforeDurable) => {
                self.messages.push_back((after, message))
            }
            _ => effects.push(Effect::Send(message)),
        }
    }

    /// A batch is durable. The last append that can be acknowledged now, if there is one.
    pub fn on_written(&mut self, sequence: u64) -> Option<u64> {
        self.wal.on_written(sequence);
        self.acknowledge()
    }

    /// The snapshot of this index is installed, and with it what older ones held. The last append that can be acknowledged now.
    pub fn on_installed(&mut self, index: u64) -> Option<u64> {
        for append in &mut self.appends {
            append.installs = append.installs.filter(|installs| *installs > index);
        }
        self.acknowledge()
    }

    /// Whether the append with the snapshot of this index is durable and only waits for the installation.
    pub fn awaits_installation(&self, index: u64) -> bool {
        let append = self.appends.iter().find(|append| append.installs == Some(index));
        append.is_some_and(|append| append.sequence <= self.wal.durable())
    }

    fn acknowledge(&mut self) -> Option<u64> {
        let durable = match planted::has(Bug::AcknowledgeBeforeDurable) {
            false => self.wal.durable(),
            true => self.wal.sequence(),
        };
        let mut last = None;
        while let Some(oldest) =
            self.appends.pop_front_if(|oldest| oldest.sequence <= durable && oldest.installs.is_none())
        {
            self.acknowledged = oldest.number;
            last = Some(oldest.number);
        }
        last
    }

    /// Sends the messages whose append has been acknowledged.
    pub fn release_messages(&mut self, effects: &mut Effects) {
        let acknowledged = self.acknowledged;
        while let Some((_, message)) = self.messages.pop_front_if(|(after, _)| *after <= acknowledged) {
            effects.push(Effect::Send(message));
        }
    }

    /// A segment can be written.
    pub fn on_prepared(&mut self, segment: SegmentId, effects: &mut Effects) {
        self.wal.on_prepared(segment);
        self.held.release(&self.wal, |batch| effects.push(Effect::WriteLog(batch)));
    }

    /// Lets a preparation take a released segment instead of a new file. False: there is none.
    pub fn reuse(&mut self, prepare: &mut Prepare) -> bool {
        self.wal.reuse(prepare)
    }

    /// Records in the log that all of it is durable, if no batch is in flight and the log has no such record at its end.
    pub fn confirm(&mut self, effects: &mut Effects) {
        if let Some(append) = self.wal.confirm() {
            self.issue(append, effects);
        }
    }

    /// Releases the segments that hold nothing after `index`.
    pub fn release(&mut self, index: u64, effects: &mut Effects) {
        effects.extend(self.wal.release(index).into_iter().map(Effect::LogTask));
    }
}
