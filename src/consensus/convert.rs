//! Between etcd's messages (`proto::raftpb`), the crate's (`eraftpb`) and ours (`base::log_entry`).
//!
//! | | raftpb (wire) | eraftpb (crate) |
//! |---|---|---|
//! | message types | 0 to 18 | the same numbers |
//! | entry data | `Data` | `data`; of a conf change `context`, so that the crate's parser never meets it |
//! | conf change kinds | Add 0, Remove 1, Update 2, AddLearner 3 | Add 0, Remove 1, AddLearner 2 |
//! | only here | `vote`, `responses` (unused between members) | `priority`, `request_snapshot` (left zero) |
//!
//! Votes and their answers carry a commit index and its term, so that a member which has an entry learns in an election that the
//! entry is committed (etcd issue 12359). etcd's message has no field for the term: the links drop both on the way to an etcd, and the
//! crate takes neither without the other.

use bytes::Bytes;
use protobuf::ProtobufEnum as _;
use raft::eraftpb;

use super::input::SnapshotMark;
use crate::base::log_entry::{ConfState, EntryKind, HardState, LogEntry};
use crate::proto::raftpb;

/// A validated message for the crate.
pub(super) fn message_to_crate(message: raftpb::Message) -> eraftpb::Message {
    let kind = eraftpb::MessageType::from_i32(message.r#type.unwrap_or_default());
    let mut result = eraftpb::Message::new();
    result.msg_type = kind.expect("validated: the type is known to the crate");
    result.to = message.to.unwrap_or_default();
    result.from = message.from.unwrap_or_default();
    result.term = message.term.unwrap_or_default();
    result.log_term = message.log_term.unwrap_or_default();
    result.index = message.index.unwrap_or_default();
    result.commit = message.commit.unwrap_or_default();
    result.commit_term = message.commit_term.unwrap_or_default();
    result.reject = message.reject.unwrap_or_default();
    result.reject_hint = message.reject_hint.unwrap_or_default();
    result.context = message.context.unwrap_or_default();
    let entries: Vec<_> = message.entries.into_iter().map(wire_entry).collect();
    result.entries = entries.into();
    if let Some(mark) = message.snapshot.and_then(snapshot_mark) {
        result.set_snapshot(snapshot_to_crate(&mark));
    }
    result
}

/// A message of the crate's for the wire. Scalars are written even when zero, as etcd does.
pub(super) fn message_from_crate(mut message: eraftpb::Message) -> raftpb::Message {
    use eraftpb::MessageType::{MsgRequestPreVote, MsgRequestPreVoteResponse};
    use eraftpb::MessageType::{MsgRequestVote, MsgRequestVoteResponse};

    let is_vote = matches!(
        message.msg_type,
        MsgRequestVote | MsgRequestVoteResponse | MsgRequestPreVote | MsgRequestPreVoteResponse
    );
    let entries = message.take_entries().into_vec();
    let snapshot = message.snapshot.take().map(|snapshot| {
        let mark = snapshot_from_crate(&snapshot);
        raftpb::Snapshot {
            data: None,
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(conf_state_to_wire(&mark.conf_state)),
                index: Some(mark.index),
                term: Some(mark.term),
            }),
        }
    });
    raftpb::Message {
        r#type: Some(message.msg_type.value()),
        to: Some(message.to),
        from: Some(message.from),
        term: Some(message.term),
        log_term: Some(message.log_term),
        index: Some(message.index),
        entries: entries.into_iter().map(entry_to_wire).collect(),
        commit: Some(if is_vote && message.commit_term == 0 { 0 } else { message.commit }),
        snapshot,
        reject: Some(message.reject),
        reject_hint: Some(message.reject_hint),
        context: Some(message.context).filter(|context| !context.is_empty()),
        vote: None,
        responses: Vec::new(),
        commit_term: Some(message.commit_term).filter(|term| is_vote && *term > 0),
    }
}

fn wire_entry(entry: raftpb::Entry) -> eraftpb::Entry {
    let kind = eraftpb::EntryType::from_i32(entry.r#type.unwrap_or_default());
    let kind = kind.expect("validated: the entry type is known to the crate");
    let mut result = entry_of(kind, entry.data.unwrap_or_default());
    result.term = entry.term.unwrap_or_default();
    result.index = entry.index.unwrap_or_default();
    result
}

fn entry_to_wire(entry: eraftpb::Entry) -> raftpb::Entry {
    raftpb::Entry {
        r#type: Some(entry.entry_type.value()),
        term: Some(entry.term),
        index: Some(entry.index),
        data: Some(data_of(entry)).filter(|data| !data.is_empty()),
    }
}

/// A new entry for the crate, without term and index.
pub(super) fn entry_of(kind: eraftpb::EntryType, data: Bytes) -> eraftpb::Entry {
    let mut entry = eraftpb::Entry::new();
    entry.entry_type = kind;
    match kind {
        eraftpb::EntryType::EntryNormal => entry.data = data,
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => {
            entry.context = data;
        }
    }
    entry
}

fn data_of(entry: eraftpb::Entry) -> Bytes {
    match entry.entry_type {
        eraftpb::EntryType::EntryNormal => entry.data,
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => entry.context,
    }
}

pub(super) fn log_entry_to_crate(entry: LogEntry) -> eraftpb::Entry {
    let kind = match entry.kind {
        EntryKind::Normal => eraftpb::EntryType::EntryNormal,
        EntryKind::ConfChange => eraftpb::EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => eraftpb::EntryType::EntryConfChangeV2,
    };
    let mut result = entry_of(kind, entry.data);
    result.term = entry.term;
    result.index = entry.index;
    result
}

pub(super) fn log_entry_from_crate(entry: eraftpb::Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: match entry.entry_type {
            eraftpb::EntryType::EntryNormal => EntryKind::Normal,
            eraftpb::EntryType::EntryConfChange => EntryKind::ConfChange,
            eraftpb::EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
        },
        data: data_of(entry),
    }
}

pub(super) fn hard_state_to_crate(state: HardState) -> eraftpb::HardState {
    let mut result = eraftpb::HardState::new();
    result.term = state.term;
    result.vote = state.vote;
    result.commit = state.commit;
    result
}

pub(super) fn hard_state_from_crate(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

pub(super) fn conf_state_to_crate(state: &ConfState) -> eraftpb::ConfState {
    let mut result = eraftpb::ConfState::new();
    result.voters = state.voters.clone();
    result.learners = state.learners.clone();
    result.voters_outgoing = state.voters_outgoing.clone();
    result.learners_next = state.learners_next.clone();
    result.auto_leave = state.auto_leave;
    result
}

/// Sorted: the crate keeps its members in hash order.
pub(super) fn conf_state_from_crate(state: &eraftpb::ConfState) -> ConfState {
    ConfState {
        voters: sorted(state.get_voters()),
        learners: sorted(state.get_learners()),
        voters_outgoing: sorted(state.get_voters_outgoing()),
        learners_next: sorted(state.get_learners_next()),
        auto_leave: state.auto_leave,
    }
}

fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

fn conf_state_to_wire(state: &ConfState) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: Some(state.auto_leave),
    }
}

pub(super) fn snapshot_to_crate(mark: &SnapshotMark) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::new();
    let metadata = snapshot.mut_metadata();
    metadata.index = mark.index;
    metadata.term = mark.term;
    metadata.set_conf_state(conf_state_to_crate(&mark.conf_state));
    snapshot
}

pub(super) fn snapshot_from_crate(snapshot: &eraftpb::Snapshot) -> SnapshotMark {
    let metadata = snapshot.get_metadata();
    SnapshotMark {
        index: metadata.index,
        term: metadata.term,
        conf_state: conf_state_from_crate(metadata.get_conf_state()),
    }
}

fn snapshot_mark(snapshot: raftpb::Snapshot) -> Option<SnapshotMark> {
    let metadata = snapshot.metadata?;
    let conf_state = metadata.conf_state.unwrap_or_default();
    Some(SnapshotMark {
        index: metadata.index.unwrap_or_default(),
        term: metadata.term.unwrap_or_default(),
        conf_state: ConfState {
            voters: conf_state.voters,
            learners: conf_state.learners,
            voters_outgoing: conf_state.voters_outgoing,
            learners_next: conf_state.learners_next,
            auto_leave: conf_state.auto_leave.unwrap_or_default(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_types_have_the_same_numbers() {
        let names = [
            (raftpb::MessageType::MsgProp, "MsgPropose"),
            (raftpb::MessageType::MsgApp, "MsgAppend"),
            (raftpb::MessageType::MsgAppResp, "MsgAppendResponse"),
            (raftpb::MessageType::MsgVote, "MsgRequestVote"),
            (raftpb::MessageType::MsgVoteResp, "MsgRequestVoteResponse"),
            (raftpb::MessageType::MsgSnap, "MsgSnapshot"),
            (raftpb::MessageType::MsgHeartbeat, "MsgHeartbeat"),
            (raftpb::MessageType::MsgHeartbeatResp, "MsgHeartbeatResponse"),
            (raftpb::MessageType::MsgTransferLeader, "MsgTransferLeader"),
            (raftpb::MessageType::MsgTimeoutNow, "MsgTimeoutNow"),
            (raftpb::MessageType::MsgReadIndex, "MsgReadIndex"),
            (raftpb::MessageType::MsgReadIndexResp, "MsgReadIndexResp"),
            (raftpb::MessageType::MsgPreVote, "MsgRequestPreVote"),
            (raftpb::MessageType::MsgPreVoteResp, "MsgRequestPreVoteResponse"),
        ];
        for (wire, name) in names {
            let kind = eraftpb::MessageType::from_i32(wire as i32).unwrap();
            assert_eq!(format!("{kind:?}"), name);
        }
    }

    #[test]
    fn a_message_survives_both_ways() {
        let message = raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgApp as i32),
            to: Some(1),
            from: Some(2),
            term: Some(3),
            log_term: Some(2),
            index: Some(9),
            entries: vec![
                raftpb::Entry {
                    r#type: Some(0),
                    term: Some(3),
                    index: Some(10),
                    data: Some(Bytes::from_static(b"value")),
                },
                raftpb::Entry {
                    r#type: Some(1),
                    term: Some(3),
                    index: Some(11),
                    data: Some(Bytes::from_static(b"not a conf change")),
                },
            ],
            commit: Some(8),
            snapshot: None,
            reject: Some(true),
            reject_hint: Some(5),
            context: Some(Bytes::from_static(b"context")),
            vote: None,
            responses: Vec::new(),
            commit_term: None,
        };
        let there = message_to_crate(message.clone());
        assert!(there.entries[1].data.is_empty(), "the crate's parser gets nothing");
        assert_eq!(message_from_crate(there), message);
    }

    #[test]
    fn a_vote_carries_the_term_of_what_is_committed() {
        let vote = raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgPreVote as i32),
            commit: Some(8),
            commit_term: Some(2),
            ..raftpb::Message::default()
        };
        let there = message_to_crate(vote);
        assert_eq!((there.commit, there.commit_term), (8, 2));
        let back = message_from_crate(there);
        assert_eq!((back.commit, back.commit_term), (Some(8), Some(2)));
    }

    #[test]
    fn a_snapshot_survives_both_ways() {
        let mark = SnapshotMark {
            index: 7,
            term: 2,
            conf_state: ConfState { voters: vec![1, 2], learners: vec![3], ..ConfState::default() },
        };
        let mut message = eraftpb::Message::new();
        message.msg_type = eraftpb::MessageType::MsgSnapshot;
        message.set_snapshot(snapshot_to_crate(&mark));
        let back = message_to_crate(message_from_crate(message));
        assert_eq!(snapshot_from_crate(back.get_snapshot()), mark);
    }
}
