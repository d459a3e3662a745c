//! Conditions on messages from outside, without which the crate would panic, overflow or silently corrupt its log.
//!
//! | Checked | What the crate would do |
//! |---|---|
//! | type 2 to 9 or 13 to 18 | act on a local event from outside (hup, beat, unreachable ...) |
//! | `to` is this member, `from` is another one (of requests: any) | count its own answer; grant a vote to member 0 |
//! | every number below 2^62 | overflow in `+ 1` |
//! | a term, except on proposals and reads (none there) | treat the message as local and go back to term 0 |
//! | proposal: entries there; conf changes readable and not of version 2 | panic; append what no member can apply |
//! | read: exactly one entry, with a context of bounded size | index out of bounds |
//! | append: indexes continue `index`, terms do not fall nor pass the message's | slice out of range, a log that contradicts itself |
//! | heartbeat: commit within the log | panic ("to_commit is out of range") |
//! | answer to an append: index and hint within the leader's log | match index beyond the log |
//! | every entry has a type known to the crate | - (no conversion) |
//! | snapshot: point and plain membership (voters, no duplicates, not joint) | panic while restoring it |
//!
//! Two more conditions depend on the role and are checked in `machine`: a transfer of leadership that reaches a
//! member that does not lead, and a request to campaign now while [`super::Consensus`] may not.
//!
//! Checks against our own state are made for messages of our term or later; older ones the crate ignores.

use prost::Message as _;

use crate::base::log_entry::ConfState;
use crate::proto::raftpb::{self, EntryType, MessageType};

/// Room for the addition of one and of any number of entries.
const NUMBER_MAX: u64 = 1 << 62;

/// Largest context of a read request; ours have 24 bytes, etcd's 8.
const CONTEXT_BYTES_MAX: usize = 64;

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("messages of this type are not exchanged between members")]
    Kind,
    #[error("it is addressed to another member")]
    Recipient,
    #[error("its sender is this member, or none")]
    Sender,
    #[error("its sender is not in the configuration")]
    UnknownSender,
    #[error("a number in it is out of range")]
    Number,
    #[error("its term is missing, or given where none belongs")]
    Term,
    #[error("its entries do not form a log, or are missing")]
    Entries,
    #[error("it proposes an unreadable conf change")]
    ConfChange,
    #[error("its read context is missing or too long")]
    ReadContext,
    #[error("it commits entries that this member acknowledged and does not have")]
    CommitBeyondLog,
    #[error("it acknowledges entries that this leader does not have")]
    AnswerBeyondLog,
    #[error("its snapshot has no usable metadata")]
    Snapshot,
}

/// The state of this member against which messages are checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    pub id: u64,
    pub term: u64,
    pub last_index: u64,
    pub is_leader: bool,
}

/// Checks a message; the type is returned because an unknown one has no name.
pub(super) fn check(message: &raftpb::Message, local: &Local) -> Result<MessageType, Refusal> {
    let number = message.r#type.unwrap_or_default();
    let kind = MessageType::try_from(number).map_err(|_| Refusal::Kind)?;
    check_envelope(message, kind, local)?;
    let is_current = message.term() >= local.term;
    match kind {
        MessageType::MsgProp => check_proposal(message)?,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => check_read(message)?,
        MessageType::MsgApp => check_append(message)?,
        MessageType::MsgSnap => check_snapshot(message)?,
        MessageType::MsgHeartbeat if is_current && message.commit() > local.last_index => {
            return Err(Refusal::CommitBeyondLog);
        }
        MessageType::MsgAppResp => {
            let furthest = message.index().max(message.reject_hint());
            let is_answer = local.is_leader && message.term() == local.term;
            if is_answer && furthest > local.last_index {
                return Err(Refusal::AnswerBeyondLog);
            }
        }
        _ => {}
    }
    Ok(kind)
}

fn check_envelope(message: &raftpb::Message, kind: MessageType, local: &Local) -> Result<(), Refusal> {
    // A forwarded request keeps its origin, and may come back to it when the leader has changed meanwhile. A
    // transfer names the member that becomes leader.
    let (termless, from_is_sender) = match kind {
        MessageType::MsgProp | MessageType::MsgReadIndex => (true, false),
        MessageType::MsgTransferLeader => (false, false),
        MessageType::MsgApp
        | MessageType::MsgAppResp
        | MessageType::MsgVote
        | MessageType::MsgVoteResp
        | MessageType::MsgSnap
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResp
        | MessageType::MsgTimeoutNow
        | MessageType::MsgReadIndexResp
        | MessageType::MsgPreVote
        | MessageType::MsgPreVoteResp => (false, true),
        _ => return Err(Refusal::Kind),
    };
    if message.to() != local.id {
        return Err(Refusal::Recipient);
    }
    if message.from() == 0 || (from_is_sender && message.from() == local.id) {
        return Err(Refusal::Sender);
    }
    if termless != (message.term() == 0) {
        return Err(Refusal::Term);
    }
    let numbers = [
        message.term(),
        message.log_term(),
        message.index(),
        message.commit(),
        message.commit_term(),
        message.reject_hint(),
    ];
    if numbers.iter().any(|number| *number >= NUMBER_MAX) {
        return Err(Refusal::Number);
    }
    let has_type = |entry: &raftpb::Entry| EntryType::try_from(entry.r#type.unwrap_or(0)).is_ok();
    if !message.entries.iter().all(has_type) {
        return Err(Refusal::Entries);
    }
    Ok(())
}

fn check_proposal(message: &raftpb::Message) -> Result<(), Refusal> {
    if message.entries.is_empty() {
        return Err(Refusal::Entries);
    }
    for entry in &message.entries {
        match entry.r#type() {
            EntryType::EntryNormal => {}
            EntryType::EntryConfChange => {
                let data = entry.data.clone().unwrap_or_default();
                raftpb::ConfChange::decode(data).map_err(|_| Refusal::ConfChange)?;
            }
            EntryType::EntryConfChangeV2 => return Err(Refusal::ConfChange),
        }
    }
    Ok(())
}

fn check_read(message: &raftpb::Message) -> Result<(), Refusal> {
    let [entry] = &message.entries[..] else {
        return Err(Refusal::Entries);
    };
    let length = entry.data.as_ref().map_or(0, bytes::Bytes::len);
    if length == 0 || length > CONTEXT_BYTES_MAX {
        return Err(Refusal::ReadContext);
    }
    Ok(())
}

fn check_append(message: &raftpb::Message) -> Result<(), Refusal> {
    if (message.index() == 0) != (message.log_term() == 0) {
        return Err(Refusal::Entries);
    }
    let (mut index, mut term) = (message.index(), message.log_term());
    for entry in &message.entries {
        if entry.index() != index + 1 || entry.term() < term || entry.term() == 0 {
            return Err(Refusal::Entries);
        }
        (index, term) = (entry.index(), entry.term());
    }
    if term > message.term() {
        return Err(Refusal::Entries);
    }
    Ok(())
}

fn check_snapshot(message: &raftpb::Message) -> Result<(), Refusal> {
    let snapshot = message.snapshot.as_ref();
    let metadata = snapshot.and_then(|snapshot| snapshot.metadata.as_ref());
    let metadata = metadata.ok_or(Refusal::Snapshot)?;
    let in_range = |number: u64| number > 0 && number < NUMBER_MAX;
    if !in_range(metadata.index()) || !in_range(metadata.term()) {
        return Err(Refusal::Snapshot);
    }
    let conf_state = metadata.conf_state.as_ref().ok_or(Refusal::Snapshot)?;
    let is_joint =
        !conf_state.voters_outgoing.is_empty() || !conf_state.learners_next.is_empty() || conf_state.auto_leave();
    if metadata.term() > message.term()
        || is_joint
        || conf_state.voters.is_empty()
        || !are_distinct(&conf_state.voters, &conf_state.learners)
    {
        return Err(Refusal::Snapshot);
    }
    Ok(())
}

/// Whether a membership is one the crate can start from: not joint, every id once.
pub(super) fn is_plain(conf_state: &ConfState) -> bool {
    conf_state.voters_outgoing.is_empty()
        && conf_state.learners_next.is_empty()
        && !conf_state.auto_leave
        && (conf_state.learners.is_empty() || !conf_state.voters.is_empty())
        && are_distinct(&conf_state.voters, &conf_state.learners)
}

fn are_distinct(voters: &[u64], learners: &[u64]) -> bool {
    let mut ids: Vec<u64> = voters.iter().chain(learners).copied().collect();
    ids.sort_unstable();
    ids.first() != Some(&0) && ids.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LOCAL: Local = Local { id: 1, term: 5, last_index: 10, is_leader: true };

    fn message(kind: MessageType) -> raftpb::Message {
        raftpb::Message {
            r#type: Some(kind as i32),
            to: Some(1),
            from: Some(2),
            term: Some(5),
            ..raftpb::Message::default()
        }
    }

    fn entry(index: u64, term: u64) -> raftpb::Entry {
        raftpb::Entry { r#type: Some(0), term: Some(term), index: Some(index), data: Some(Bytes::from_static(b"x")) }
    }

    fn refused(change: impl FnOnce(&mut raftpb::Message), kind: MessageType) -> Option<Refusal> {
        let mut message = message(kind);
        change(&mut message);
        check(&message, &LOCAL).err()
    }

    #[test]
    fn local_and_unknown_types_are_refused() {
        for number in [0, 1, 10, 11, 12, 19, 20, 21, 22, 23, 24, -1] {
            let change = |m: &mut raftpb::Message| m.r#type = Some(number);
            assert_eq!(refused(change, MessageType::MsgApp), Some(Refusal::Kind), "type {number}");
        }
    }

    #[test]
    fn the_envelope_is_checked() {
        let kind = MessageType::MsgVote;
        assert_eq!(refused(|_| {}, kind), None);
        assert_eq!(refused(|m| m.to = Some(2), kind), Some(Refusal::Recipient));
        assert_eq!(refused(|m| m.from = None, kind), Some(Refusal::Sender));
        assert_eq!(refused(|m| m.from = Some(1), kind), Some(Refusal::Sender));
        assert_eq!(refused(|m| m.term = None, kind), Some(Refusal::Term));
        assert_eq!(refused(|m| m.index = Some(u64::MAX), kind), Some(Refusal::Number));
        let transfer = MessageType::MsgTransferLeader;
        assert_eq!(refused(|m| m.from = Some(1), transfer), None);
    }

    #[test]
    fn appended_entries_form_a_log() {
        let kind = MessageType::MsgApp;
        let with = |index: u64, log_term: u64, entries: &[(u64, u64)]| {
            let entries: Vec<_> = entries.iter().map(|(i, t)| entry(*i, *t)).collect();
            refused(
                |m| {
                    m.index = Some(index);
                    m.log_term = Some(log_term);
                    m.entries = entries;
                },
                kind,
            )
        };
        assert_eq!(with(0, 0, &[]), None);
        assert_eq!(with(3, 2, &[(4, 2), (5, 4), (6, 5)]), None);
        for (index, log_term, entries) in [
            (3, 0, &[][..]),
            (0, 3, &[]),
            (3, 6, &[]),
            (3, 2, &[(5, 2)]),
            (3, 2, &[(4, 1)]),
            (3, 2, &[(4, 6)]),
            (3, 2, &[(4, 4), (5, 3)]),
            (0, 0, &[(1, 0)]),
        ] {
            assert_eq!(with(index, log_term, entries), Some(Refusal::Entries), "{index} {log_term} {entries:?}");
        }
    }

    #[test]
    fn commit_and_answers_stay_within_the_log() {
        let heartbeat = MessageType::MsgHeartbeat;
        assert_eq!(refused(|m| m.commit = Some(10), heartbeat), None);
        assert_eq!(refused(|m| m.commit = Some(11), heartbeat), Some(Refusal::CommitBeyondLog));
        let stale = |m: &mut raftpb::Message| {
            m.commit = Some(11);
            m.term = Some(4);
        };
        assert_eq!(refused(stale, heartbeat), None);

        let answer = MessageType::MsgAppResp;
        assert_eq!(refused(|m| m.index = Some(10), answer), None);
        for change in [|m: &mut raftpb::Message| m.index = Some(11), |m: &mut raftpb::Message| m.reject_hint = Some(11)]
        {
            assert_eq!(refused(change, answer), Some(Refusal::AnswerBeyondLog));
        }
    }

    #[test]
    fn proposals_and_reads_carry_what_the_crate_indexes() {
        let with = |kind, entries: Vec<raftpb::Entry>| {
            refused(
                |m| {
                    m.term = None;
                    m.entries = entries;
                },
                kind,
            )
        };
        let (proposal, read) = (MessageType::MsgProp, MessageType::MsgReadIndex);
        assert_eq!(with(proposal, vec![entry(0, 0)]), None);
        assert_eq!(with(proposal, vec![]), Some(Refusal::Entries));
        assert_eq!(with(read, vec![entry(0, 0)]), None);
        assert_eq!(with(read, vec![]), Some(Refusal::Entries));
        let empty = raftpb::Entry::default();
        assert_eq!(with(read, vec![empty.clone()]), Some(Refusal::ReadContext));
        let mut change = empty;
        change.r#type = Some(1);
        assert_eq!(with(proposal, vec![change.clone()]), None);
        change.data = Some(Bytes::from_static(b"\xff\xff"));
        assert_eq!(with(proposal, vec![change.clone()]), Some(Refusal::ConfChange));
        change.r#type = Some(2);
        assert_eq!(with(proposal, vec![change]), Some(Refusal::ConfChange));
    }

    #[test]
    fn snapshots_need_a_point_and_a_plain_membership() {
        let with = |index, term, voters: &[u64], learners: &[u64]| {
            let conf_state = raftpb::ConfState {
                voters: voters.to_vec(),
                learners: learners.to_vec(),
                ..raftpb::ConfState::default()
            };
            let metadata =
                raftpb::SnapshotMetadata { conf_state: Some(conf_state), index: Some(index), term: Some(term) };
            let snapshot = raftpb::Snapshot { data: None, metadata: Some(metadata) };
            refused(|m| m.snapshot = Some(snapshot), MessageType::MsgSnap)
        };
        assert_eq!(with(7, 2, &[1, 2], &[3]), None);
        for (index, term, voters, learners) in [
            (0, 2, &[1][..], &[][..]),
            (7, 0, &[1], &[]),
            (7, 6, &[1], &[]),
            (7, 2, &[], &[1]),
            (7, 2, &[0], &[]),
            (7, 2, &[1, 1], &[]),
            (7, 2, &[1], &[1]),
        ] {
            assert_eq!(
                with(index, term, voters, learners),
                Some(Refusal::Snapshot),
                "{index} {term} {voters:?} {learners:?}"
            );
        }
        assert_eq!(refused(|_| {}, MessageType::MsgSnap), Some(Refusal::Snapshot));
    }
}
