//! How a linearizable read learns that this member's state is new enough (`--read-mode`).
//!
//! | mode | a batch of reads costs | holds as long as |
//! |---|---|---|
//! | index | one quorum round of the leader (Raft thesis, 6.4) | always |
//! | lease | nothing while the leader's lease runs, else one quorum round, which renews it | clocks run at the same speed within a tenth, and every member is a ringd in this mode |
//! | log | one entry of the log, as in etcd 3.0 | always |
//!
//! The lease. A quorum that answers a round has heard of the leader after the round began, and does not elect another one until an
//! election timeout has passed, counted in its own ticks. So the leader is the only one for `(election - tick) * 9/10` after the
//! beginning of the round: one tick, because a follower's first tick may come at once, and a tenth, because its clock may be
//! faster. Three things end that promise early and are excluded:
//!
//! 1. A member forgets at its restart whom it has heard of. In this mode it takes no part in elections for an election timeout.
//! 2. A transfer of leadership asks for votes in spite of the promise, and its message may be late. A term in which one was begun
//!    has no lease any more.
//! 3. A machine that sleeps stops the monotonic clock. Time is read from `CLOCK_BOOTTIME`, which counts sleep.

use super::{
    Effect, Effects, Replica,
    expiry::own_entry,
    progress::{EXPIRY, ReadMode},
    proposals::Proposed,
};
use crate::{
    apply::request::Kind,
    auth::Requester,
    proto::{
        etcdserverpb::TxnRequest,
        raftpb::{self, MessageType},
    },
};

impl Replica {
    /// Answers the rounds that wait, or asks for them through the log, where the mode has another way than a quorum round.
    pub(super) fn confirm_by_mode(&mut self) {
        match self.settings.read_mode {
            _ if self.reads.is_empty() || self.leader == 0 => {}
            ReadMode::Index => {}
            ReadMode::Lease => {
                if self.has_lease() {
                    self.reads.answer_unasked(self.consensus.commit());
                }
            }
            ReadMode::Log => {
                for attempt in self.reads.take_due(self.now_ms).0 {
                    let id = self.own_ids.take();
                    // A transaction without operations changes nothing, and etcd members apply it, too.
                    let entry = own_entry(id, Kind::Txn, &TxnRequest::default(), Requester::NOBODY);
                    self.reads.log(id, attempt);
                    self.proposals.push(self.now_ms, EXPIRY, id, Proposed::Entry(entry));
                }
            }
        }
    }

    /// A quorum has confirmed an attempt of this member.
    pub(super) fn on_read_index(&mut self, attempt: u64, index: u64) {
        if self.settings.read_mode == ReadMode::Lease
            && self.consensus.is_leader()
            && let Some(asked_ms) = self.reads.asked_ms(attempt)
        {
            let length_ms = self.settings.election_ms.saturating_sub(self.settings.tick_ms) * 9 / 10;
            self.lease.renew(self.consensus.term(), asked_ms, length_ms);
        }
        self.reads.on_index(attempt, index);
    }

    fn has_lease(&mut self) -> bool {
        if self.consensus.transferee().is_some() {
            self.lease.spoil(self.consensus.term());
        }
        self.consensus.is_leader() && self.lease.holds(self.consensus.term(), self.now_ms)
    }

    /// What the mode makes of a message; a message that is left goes to consensus.
    pub(super) fn filter_message(
        &mut self,
        message: raftpb::Message,
        effects: &mut Effects,
    ) -> Option<raftpb::Message> {
        if self.settings.read_mode != ReadMode::Lease {
            return Some(message);
        }
        match message.r#type() {
            MessageType::MsgVote | MessageType::MsgPreVote if self.is_deaf() => None,
            MessageType::MsgReadIndex if self.has_lease() => {
                effects.push(Effect::Send(raftpb::Message {
                    r#type: Some(MessageType::MsgReadIndexResp as i32),
                    to: message.from,
                    from: Some(self.settings.identity.member_id),
                    term: Some(self.consensus.term()),
                    index: Some(self.consensus.commit()),
                    entries: message.entries,
                    ..raftpb::Message::default()
                }));
                None
            }
            MessageType::MsgTransferLeader => {
                self.lease.spoil(self.consensus.term());
                Some(message)
            }
            _ => Some(message),
        }
    }

    /// Whether a promise to a leader that this member gave before its start may still bind it.
    fn is_deaf(&self) -> bool {
        let started_ms = self.started_ms.unwrap_or(self.now_ms);
        self.now_ms.saturating_sub(started_ms) < self.settings.election_ms
    }
}
