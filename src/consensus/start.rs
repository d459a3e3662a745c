//! The start of the machine: its settings, and the state on disk.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;

use super::election_timer::OUT_OF_REACH_TICKS;
use super::input::SnapshotMark;
use super::logger::LogSink;
use super::memory_log::MemoryLog;
use super::{convert, validate};
use crate::base::limits;
use crate::base::log_entry::{ConfState, EntryKind, HardState, LogEntry};
use crate::base::planted::{self, Bug};
use crate::proto::raftpb;

/// Settings that stay the same while the member runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Not 0.
    pub member_id: u64,
    /// Ticks without a leader before an election; the timeout is drawn from `[T, 2T - 1]`.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats; etcd's tick is one heartbeat, so 1.
    pub heartbeat_ticks: usize,
    /// Check whether an election can be won before raising the term.
    pub pre_vote: bool,
    /// For election timeouts and read contexts. Must differ from start to start.
    pub seed: u64,
    /// Where the crate's log lines go.
    pub log: LogSink,
}

/// The state on disk, of WAL and page file.
#[derive(Clone, Debug, Default)]
pub struct Initial {
    /// The newest hard state of the WAL.
    pub hard_state: HardState,
    /// Membership as of `applied`.
    pub conf_state: ConfState,
    /// The entry before the first of `entries`; 0 for a whole log.
    pub snapshot_index: u64,
    pub snapshot_term: u64,
    /// The log after it, without gaps.
    pub entries: Vec<LogEntry>,
    /// Applied index of the page file.
    pub applied: u64,
}

/// Why the machine cannot start. Each of these is damage or a wrong setting; a crash leaves none of them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error("raft settings: {0}")]
    Settings(String),
    #[error("membership {0:?} is joint, without voters, or names a member twice")]
    ConfState(ConfState),
    #[error("log entry {found} follows entry {previous}")]
    Gap { previous: u64, found: u64 },
    #[error("log entry {index} has term {term}, the one before it {previous}")]
    TermFalls { index: u64, term: u64, previous: u64 },
    #[error("the log ends at {last}, but {commit} is committed: entries are lost")]
    CommitBeyondLog { commit: u64, last: u64 },
    #[error("applied index {applied} is outside the log [{first}, {last}]")]
    AppliedOutsideLog { applied: u64, first: u64, last: u64 },
}

impl Initial {
    /// The state every founding member of a cluster starts from, as etcd's: one committed conf change per member,
    /// term 1, in order of id. The caller writes it to the WAL before the machine starts; the changes are then
    /// in the first `Commit` (applying them adds members that exist already).
    ///
    /// `members` are ids and contexts (the JSON of the member).
    #[must_use]
    pub fn of_new_cluster(mut members: Vec<(u64, Bytes)>) -> Initial {
        members.sort_unstable_by_key(|(id, _)| *id);
        let voters = members.iter().map(|(id, _)| *id).collect();
        let entries: Vec<_> = (1..)
            .zip(members)
            .map(|(index, (id, context))| {
                let change = raftpb::ConfChange {
                    id: Some(0),
                    r#type: Some(raftpb::ConfChangeType::ConfChangeAddNode as i32),
                    node_id: Some(id),
                    context: Some(context),
                };
                LogEntry { index, term: 1, kind: EntryKind::ConfChange, data: change.encode_to_vec().into() }
            })
            .collect();
        Initial {
            hard_state: HardState { term: 1, vote: 0, commit: entries.len() as u64 },
            conf_state: ConfState { voters, ..ConfState::default() },
            entries,
            ..Initial::default()
        }
    }

    /// The state of a member that continues: everything up to `applied`, an index and its term, is in its page file, and `entries`
    /// is what its log holds, which may begin before that. The applied ones are kept for followers that lag, the newest of them up
    /// to `retained_bytes_max`.
    #[must_use]
    pub fn continuing(
        hard_state: HardState,
        conf_state: ConfState,
        applied: (u64, u64),
        mut entries: Vec<LogEntry>,
        retained_bytes_max: usize,
    ) -> Initial {
        let (index, term) = applied;
        let applied_count = entries.iter().take_while(|entry| entry.index <= index).count();
        let mut bytes = 0;
        let kept = entries[..applied_count].iter().rev().take_while(|entry| {
            bytes += entry.data.len();
            bytes <= retained_bytes_max
        });
        let dropped = applied_count - kept.count();
        entries.drain(..dropped);
        let (mut snapshot_index, mut snapshot_term) = (index, term);
        // The term of the entry before the first is not known, so the first entry is dropped, and only its term is kept.
        if let Some(first) = entries.first().filter(|first| first.index <= index) {
            (snapshot_index, snapshot_term) = (first.index, first.term);
            entries.remove(0);
        }
        Initial { hard_state, conf_state, snapshot_index, snapshot_term, entries, applied: index }
    }

    /// Checks the conditions on which the crate would panic, and builds the log it starts with.
    pub(super) fn into_log(self) -> Result<MemoryLog, StartError> {
        if !validate::is_plain(&self.conf_state) {
            return Err(StartError::ConfState(self.conf_state));
        }
        let (last, last_term) = self.check_entries()?;
        let mut hard_state = self.hard_state;
        if hard_state.commit > last {
            let commit = hard_state.commit;
            return Err(StartError::CommitBeyondLog { commit, last });
        }
        let applied = self.applied;
        if applied < self.snapshot_index || applied > last {
            let first = self.snapshot_index + 1;
            return Err(StartError::AppliedOutsideLog { applied, first, last });
        }
        // A commit index is not written on its own, so the page file may be ahead of the WAL's.
        hard_state.commit = hard_state.commit.max(applied);
        if planted::has(Bug::VoteTwice) {
            hard_state.vote = 0;
        }
        // A write was torn between the entries of a new term and its hard state: the entries have the term.
        if last_term > hard_state.term {
            hard_state.term = last_term;
            hard_state.vote = 0;
        }
        let start = SnapshotMark { index: self.snapshot_index, term: self.snapshot_term, conf_state: self.conf_state };
        let entries = self.entries.into_iter().map(convert::log_entry_to_crate);
        let entries: VecDeque<_> = entries.collect();
        Ok(MemoryLog::new(start, entries, hard_state, applied))
    }

    /// Index and term of the last entry, if the log has neither gaps nor falling terms.
    fn check_entries(&self) -> Result<(u64, u64), StartError> {
        let (mut previous, mut previous_term) = (self.snapshot_index, self.snapshot_term);
        for entry in &self.entries {
            if entry.index != previous + 1 {
                let found = entry.index;
                return Err(StartError::Gap { previous, found });
            }
            if entry.term < previous_term {
                return Err(StartError::TermFalls { index: entry.index, term: entry.term, previous: previous_term });
            }
            (previous, previous_term) = (entry.index, entry.term);
        }
        Ok((previous, previous_term))
    }
}

/// The crate's settings: etcd's, with an election timer that never expires.
pub(super) fn crate_config(config: &Config, applied: u64) -> raft::Config {
    raft::Config {
        id: config.member_id,
        election_tick: config.election_ticks,
        heartbeat_tick: config.heartbeat_ticks,
        min_election_tick: OUT_OF_REACH_TICKS,
        max_election_tick: OUT_OF_REACH_TICKS + 1,
        applied,
        max_size_per_msg: limits::RAFT_MESSAGE_BYTES_MAX,
        max_inflight_msgs: limits::RAFT_MESSAGES_IN_FLIGHT_MAX,
        check_quorum: true,
        pre_vote: config.pre_vote,
        read_only_option: raft::ReadOnlyOption::Safe,
        ..raft::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initial() -> Initial {
        let entry = |index, term| LogEntry { index, term, kind: EntryKind::Normal, data: Bytes::new() };
        Initial {
            hard_state: HardState { term: 3, vote: 1, commit: 6 },
            conf_state: ConfState { voters: vec![1], ..ConfState::default() },
            snapshot_index: 5,
            snapshot_term: 2,
            entries: vec![entry(6, 2), entry(7, 3)],
            applied: 6,
        }
    }

    fn error_of(change: impl FnOnce(&mut Initial)) -> Option<StartError> {
        let mut initial = initial();
        change(&mut initial);
        initial.into_log().err()
    }

    #[test]
    fn damage_is_named() {
        assert_eq!(error_of(|_| {}), None);
        let gap = error_of(|initial| initial.entries[1].index = 8);
        assert_eq!(gap, Some(StartError::Gap { previous: 6, found: 8 }));
        let falls = error_of(|initial| initial.entries[0].term = 1);
        assert!(matches!(falls, Some(StartError::TermFalls { index: 6, .. })));
        let lost = error_of(|initial| initial.hard_state.commit = 8);
        assert_eq!(lost, Some(StartError::CommitBeyondLog { commit: 8, last: 7 }));
        for applied in [4, 8] {
            let outside = error_of(|initial| initial.applied = applied);
            assert!(matches!(outside, Some(StartError::AppliedOutsideLog { .. })));
        }
        let twice = error_of(|initial| initial.conf_state.learners = vec![1]);
        assert!(matches!(twice, Some(StartError::ConfState(_))));
    }

    #[test]
    fn a_torn_write_leaves_the_term_of_its_entries() {
        use raft::Storage as _;
        let mut initial = initial();
        initial.hard_state.term = 2;
        initial.hard_state.commit = 5;
        let log = initial.into_log().unwrap();
        let state = log.initial_state().unwrap().hard_state;
        assert_eq!((state.term, state.vote, state.commit), (3, 0, 6));
    }

    #[test]
    fn a_log_that_begins_before_the_page_file_keeps_applied_entries() {
        let entry =
            |index| LogEntry { index, term: 2, kind: EntryKind::Normal, data: Bytes::from_static(b"0123456789") };
        let conf_state = ConfState { voters: vec![1], ..ConfState::default() };
        let hard_state = HardState { term: 2, vote: 1, commit: 6 };
        let of = |entries: Vec<LogEntry>, bytes| {
            let initial = Initial::continuing(hard_state, conf_state.clone(), (6, 2), entries, bytes);
            let first = initial.entries.first().map(|entry| entry.index);
            let start = (initial.snapshot_index, initial.snapshot_term, first);
            initial.into_log().expect("sound");
            start
        };
        assert_eq!(of((3..=8).map(entry).collect(), 1000), (3, 2, Some(4)));
        assert_eq!(of((3..=8).map(entry).collect(), 20), (5, 2, Some(6)));
        assert_eq!(of((3..=6).map(entry).collect(), 0), (6, 2, None));
        assert_eq!(of((7..=8).map(entry).collect(), 1000), (6, 2, Some(7)));
    }

    #[test]
    fn founding_members_are_conf_changes_in_order_of_id() {
        let members = vec![(9, Bytes::from("nine")), (3, Bytes::from("three"))];
        let initial = Initial::of_new_cluster(members);
        assert_eq!(initial.hard_state.commit, 2);
        assert_eq!(initial.conf_state.voters, [3, 9]);
        let change = raftpb::ConfChange::decode(initial.entries[1].data.clone()).unwrap();
        assert_eq!((change.node_id(), change.context()), (9, &b"nine"[..]));
    }
}
