//! Forwarded proposals that have not left this member, because the leader took no connection.
//!
//! Such a proposal has had no effect. Each tick forwards it again, to the leader of that moment, until its client's time-out. In etcd it
//! is lost, and its client learns that from its own time-out only. One that is too many is refused at once.

use super::{Effects, Replica};
use crate::{
    apply::request::RaftRequest,
    base::refusal::Refusal,
    consensus::Input as RaftInput,
    proto::raftpb::{self, EntryType},
};

impl Replica {
    /// A forwarded proposal has come back.
    pub(super) fn on_unsent(&mut self, message: raftpb::Message, effects: &mut Effects) {
        let Err(message) = self.unsent.push(message) else { return };
        for id in proposals(&message).collect::<Vec<_>>() {
            self.answer(id, Err(Refusal::TooManyRequests), effects);
        }
    }

    pub(super) fn resend_unsent(&mut self) {
        let local = Some(self.settings.identity.member_id);
        for message in self.unsent.take() {
            if !self.is_awaited(&message) {
                continue;
            }
            let message = raftpb::Message { to: local, from: local, ..message };
            self.consensus.step(RaftInput::Message(message), &mut self.raft_effects);
        }
    }

    /// Whether somebody still waits for an answer to this proposal.
    fn is_awaited(&self, message: &raftpb::Message) -> bool {
        proposals(message).any(|id| self.proposals.is_waiting(id))
    }
}

/// The ids of the requests in a forwarded proposal.
fn proposals(message: &raftpb::Message) -> impl Iterator<Item = u64> {
    message.entries.iter().filter(|entry| entry.r#type() == EntryType::EntryNormal).filter_map(|entry| {
        let data = entry.data.clone().unwrap_or_default();
        RaftRequest::parse(data).ok().map(|request| request.id)
    })
}
