//! The log in memory, as the crate reads it. It holds the entries given to the WAL, durable or not, from the
//! last compaction on. Their data is shared with all other holders of the entries.
//!
//! ```text
//!    dropped  | compacted | first ........ last |
//!             (term known)  entries
//! ```

use std::collections::VecDeque;

use raft::eraftpb::{self, Entry};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::convert;
use super::input::SnapshotMark;
use crate::base::log_entry::{ConfState, HardState};

/// Size of an entry in a message beside its data: tags, lengths, term and index.
const ENTRY_OVERHEAD_BYTES: u64 = 24;

pub(super) struct MemoryLog {
    compacted_index: u64,
    compacted_term: u64,
    entries: VecDeque<Entry>,
    /// Read once, when the crate starts.
    initial: HardState,
    applied: u64,
    conf_state: ConfState,
    /// Index of the conf change (or snapshot) that made `conf_state`.
    conf_index: u64,
}

impl MemoryLog {
    /// A log after `start`, whose conf state is the one as of `applied`.
    pub fn new(start: SnapshotMark, entries: VecDeque<Entry>, initial: HardState, applied: u64) -> Self {
        MemoryLog {
            compacted_index: start.index,
            compacted_term: start.term,
            entries,
            initial,
            applied,
            conf_state: start.conf_state,
            conf_index: applied,
        }
    }

    pub fn last(&self) -> u64 {
        self.compacted_index + self.entries.len() as u64
    }

    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Appends entries, which replace those from the first one's index on.
    pub fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.compacted_index && first.index <= self.last() + 1,
            "entry {} does not continue the log [{}, {}]",
            first.index,
            self.compacted_index + 1,
            self.last()
        );
        let kept = first.index - self.compacted_index - 1;
        self.entries.truncate(kept as usize);
        self.entries.extend(entries);
    }

    /// Restarts the log after a snapshot.
    pub fn restart_after(&mut self, snapshot: &SnapshotMark) {
        self.entries.clear();
        self.compacted_index = snapshot.index;
        self.compacted_term = snapshot.term;
        self.set_conf_state(snapshot.conf_state.clone(), snapshot.index);
    }

    /// Drops entries up to `index`, but keeps the term of that one.
    pub fn compact(&mut self, index: u64) {
        let index = index.min(self.applied);
        if index <= self.compacted_index {
            return;
        }
        let count = (index - self.compacted_index) as usize;
        let last = self.entries.drain(..count).next_back();
        self.compacted_term = last.expect("at least one entry is drained").term;
        self.compacted_index = index;
    }

    pub fn set_applied(&mut self, index: u64) {
        self.applied = index;
    }

    /// The conf state as of the entry (or snapshot) at `index`.
    pub fn set_conf_state(&mut self, conf_state: ConfState, index: u64) {
        self.conf_state = conf_state;
        self.conf_index = index;
    }

    /// Term of an entry held, or of the last one compacted.
    fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.compacted_index {
            return Some(self.compacted_term);
        }
        let offset = index.checked_sub(self.compacted_index + 1)?;
        let entry = self.entries.get(usize::try_from(offset).ok()?)?;
        Some(entry.term)
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> Result<RaftState> {
        let hard_state = convert::hard_state_to_crate(self.initial);
        let conf_state = convert::conf_state_to_crate(&self.conf_state);
        Ok(RaftState::new(hard_state, conf_state))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.compacted_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} are not here");
        let size_max = max_size.into().unwrap_or(u64::MAX);
        let from = (low - self.compacted_index - 1) as usize;
        let to = (high - self.compacted_index - 1) as usize;
        let mut entries = Vec::with_capacity(to - from);
        let mut size = 0;
        for entry in self.entries.range(from..to) {
            size += (entry.data.len() + entry.context.len()) as u64 + ENTRY_OVERHEAD_BYTES;
            if size > size_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.compacted_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let unavailable = Error::Store(StorageError::Unavailable);
        self.term_of(index).ok_or(unavailable)
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.compacted_index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    /// The lowest index and term of a snapshot sent now: those of the last applied entry. There is none while a conf change is applied
    /// to the configuration and not yet to the rest of the state.
    fn snapshot(&self, request_index: u64, _to: u64) -> Result<eraftpb::Snapshot> {
        let consistent = self.conf_index <= self.applied && self.applied >= request_index;
        let Some(term) = self.term_of(self.applied).filter(|_| consistent) else {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        if self.applied == 0 {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(convert::snapshot_to_crate(&SnapshotMark { index: self.applied, term, conf_state: self.conf_state.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(index: u64, term: u64, size: usize) -> Entry {
        let mut entry = Entry::new();
        entry.index = index;
        entry.term = term;
        entry.data = Bytes::from(vec![0; size]);
        entry
    }

    fn log_of_ten() -> MemoryLog {
        let mark = SnapshotMark { index: 100, term: 3, conf_state: ConfState::default() };
        let entries = (101..=110).map(|index| entry(index, 4, 100)).collect();
        MemoryLog::new(mark, entries, HardState::default(), 105)
    }

    fn indexes(log: &MemoryLog, low: u64, high: u64, size_max: u64) -> Vec<u64> {
        let entries = log.entries(low, high, size_max, GetEntriesContext::empty(false));
        entries.unwrap().iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn reads_are_bounded_by_size_but_never_empty() {
        let log = log_of_ten();
        assert_eq!(indexes(&log, 101, 111, u64::MAX).len(), 10);
        assert_eq!(indexes(&log, 103, 111, 250), [103, 104]);
        assert_eq!(indexes(&log, 110, 111, 0), [110]);
        let gone = log.entries(100, 105, None, GetEntriesContext::empty(false));
        assert_eq!(gone, Err(Error::Store(StorageError::Compacted)));
    }

    #[test]
    fn appending_replaces_the_tail() {
        let mut log = log_of_ten();
        log.append(vec![entry(108, 5, 1), entry(109, 5, 1)]);
        assert_eq!(log.last(), 109);
        assert_eq!(log.term(107), Ok(4));
        assert_eq!(log.term(108), Ok(5));
        assert_eq!(log.term(110), Err(Error::Store(StorageError::Unavailable)));
    }

    #[test]
    fn compaction_stops_at_the_applied_entry() {
        let mut log = log_of_ten();
        log.compact(200);
        assert_eq!(log.first_index(), Ok(106));
        assert_eq!(log.term(105), Ok(4));
        assert_eq!(log.term(104), Err(Error::Store(StorageError::Compacted)));
        log.compact(50);
        assert_eq!(log.first_index(), Ok(106));
    }

    #[test]
    fn a_snapshot_waits_until_its_conf_state_is_applied() {
        let mut log = log_of_ten();
        assert_eq!(log.snapshot(0, 1).unwrap().get_metadata().index, 105);
        log.set_conf_state(ConfState::default(), 106);
        assert!(log.snapshot(0, 1).is_err());
        log.set_applied(106);
        assert_eq!(log.snapshot(0, 1).unwrap().get_metadata().index, 106);
    }
}
