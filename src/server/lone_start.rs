//! `--force-new-cluster`: a member continues alone with its data, after the majority of its cluster was lost for good.
//!
//! All entries of its log count as committed, and changes of the membership follow that remove everybody else. The ids of member
//! and cluster stay. (etcd: "Disaster recovery".)
//!
//! The log does not say of its last entries whether they are committed: a commit index alone is never written. Dropping them, as
//! etcd does, which writes every commit index, would lose acknowledged ones. One that was never committed has an unknown outcome for
//! its client, and may take effect. Only the member's own removal, and what follows it, is dropped if it is not known to be committed.

use std::collections::BTreeSet;

use prost::Message as _;

use crate::{
    base::log_entry::{ConfState, EntryKind, HardState, LogEntry},
    cluster::membership::Member,
    consensus,
    proto::raftpb::{ConfChange, ConfChangeType},
};

/// What has to be appended to the log so that `initial` continues alone.
pub struct Forced {
    pub hard_state: HardState,
    pub entries: Vec<LogEntry>,
}

/// Takes the log of `initial` for committed and appends the removal of everybody but `local`.
pub fn force(initial: &mut consensus::Initial, local: &Member) -> Forced {
    let known = initial.hard_state.commit.max(initial.applied);
    let removal = initial.entries.iter().position(|entry| entry.index > known && removes(entry, local.id));
    initial.entries.truncate(removal.unwrap_or(initial.entries.len()));
    let commit = initial.entries.last().map_or(known, |entry| entry.index.max(known));
    let (voters, learners) = members(&initial.conf_state, initial.applied, &initial.entries);
    let mut changes: Vec<ConfChange> = Vec::new();
    if !voters.contains(&local.id) {
        let kind = ConfChangeType::ConfChangeAddNode;
        let votes = Member { is_learner: false, ..local.clone() };
        changes.push(ConfChange { context: Some(votes.to_json().into()), ..change(kind, local.id) });
    }
    let others = voters.iter().chain(&learners).filter(|id| **id != local.id);
    changes.extend(others.map(|id| change(ConfChangeType::ConfChangeRemoveNode, *id)));
    let term = initial.hard_state.term;
    let entries: Vec<LogEntry> = (commit + 1..)
        .zip(changes)
        .map(|(index, change)| LogEntry {
            index,
            term,
            kind: EntryKind::ConfChange,
            data: change.encode_to_vec().into(),
        })
        .collect();
    initial.hard_state.commit = commit + entries.len() as u64;
    initial.entries.extend(entries.iter().cloned());
    Forced { hard_state: initial.hard_state, entries }
}

fn removes(entry: &LogEntry, id: u64) -> bool {
    let change = (entry.kind == EntryKind::ConfChange).then(|| ConfChange::decode(entry.data.clone()).ok()).flatten();
    change.is_some_and(|change| change.r#type() == ConfChangeType::ConfChangeRemoveNode && change.node_id() == id)
}

fn change(kind: ConfChangeType, id: u64) -> ConfChange {
    ConfChange { id: Some(0), r#type: Some(kind as i32), node_id: Some(id), context: None }
}

/// Voters and learners after all of these entries.
fn members(conf_state: &ConfState, applied: u64, entries: &[LogEntry]) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let mut voters: BTreeSet<u64> = conf_state.voters.iter().copied().collect();
    let mut learners: BTreeSet<u64> = conf_state.learners.iter().copied().collect();
    let pending = entries.iter().filter(|entry| entry.index > applied && entry.kind == EntryKind::ConfChange);
    for change in pending.filter_map(|entry| ConfChange::decode(entry.data.clone()).ok()) {
        let id = change.node_id();
        match change.r#type() {
            ConfChangeType::ConfChangeAddNode => {
                learners.remove(&id);
                voters.insert(id);
            }
            ConfChangeType::ConfChangeAddLearnerNode => {
                learners.insert(id);
            }
            ConfChangeType::ConfChangeRemoveNode => {
                voters.remove(&id);
                learners.remove(&id);
            }
            ConfChangeType::ConfChangeUpdateNode => {}
        }
    }
    (voters, learners)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initial(voters: &[u64], learners: &[u64]) -> consensus::Initial {
        let entry = |index| LogEntry { index, term: 4, kind: EntryKind::Normal, data: bytes::Bytes::from_static(b"x") };
        consensus::Initial {
            hard_state: HardState { term: 4, vote: 2, commit: 8 },
            conf_state: ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() },
            snapshot_index: 5,
            snapshot_term: 3,
            entries: (6..=10).map(entry).collect(),
            applied: 7,
        }
    }

    fn changes(forced: &Forced) -> Vec<(u64, ConfChangeType, u64)> {
        let one = |entry: &LogEntry| {
            let change = ConfChange::decode(entry.data.clone()).expect("a change");
            (entry.index, change.r#type(), change.node_id())
        };
        forced.entries.iter().map(one).collect()
    }

    #[test]
    fn everybody_else_is_removed_after_the_last_entry() {
        let mut initial = initial(&[1, 2, 3], &[4]);
        let forced = force(&mut initial, &Member { id: 2, ..Member::default() });
        let remove = ConfChangeType::ConfChangeRemoveNode;
        assert_eq!(changes(&forced), [(11, remove, 1), (12, remove, 3), (13, remove, 4)]);
        assert_eq!((initial.hard_state.commit, initial.entries.len()), (13, 8));
    }

    #[test]
    fn a_learner_becomes_a_voter_first() {
        let mut initial = initial(&[1], &[4]);
        let forced = force(&mut initial, &Member { id: 4, is_learner: true, ..Member::default() });
        let (add, remove) = (ConfChangeType::ConfChangeAddNode, ConfChangeType::ConfChangeRemoveNode);
        assert_eq!(changes(&forced), [(11, add, 4), (12, remove, 1)]);
    }

    #[test]
    fn its_own_removal_is_dropped_unless_it_is_committed() {
        let mut initial = initial(&[1, 2], &[]);
        let remove = ConfChangeType::ConfChangeRemoveNode;
        initial.entries[3].kind = EntryKind::ConfChange;
        initial.entries[3].data = change(remove, 2).encode_to_vec().into();
        assert_eq!(initial.entries[3].index, 9);
        let forced = force(&mut initial, &Member { id: 2, ..Member::default() });
        assert_eq!(changes(&forced), [(9, remove, 1)]);
    }
}
