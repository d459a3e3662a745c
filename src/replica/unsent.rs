//! Forwarded proposals that have not left this member, because the leader took no connection.
//!
//! Such a proposal has had no effect. Each tick forwards it again, to the leader of that moment, until its client's time-out. In etcd it is lost, and its client learns that from its own time-out only.

use super::Replica;
use crate::{
    apply::request::RaftRequest,
    consensus::Input as RaftInput,
    proto::raftpb::{self, EntryType},
};

impl Replica {
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
        message.entries.iter().any(|entry| {
            let data = entry.data.clone().unwrap_or_default();
            entry.r#type() == EntryType::EntryNormal
                && RaftRequest::parse(data).is_ok_and(|request| self.proposals.is_waiting(request.id))
        })
    }
}
