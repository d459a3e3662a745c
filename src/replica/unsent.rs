//! Forwarded proposals that have not left this member, because the leader took no connection.
//!
//! Such a proposal can have had no effect, so it is forwarded again at the next tick, to whoever leads then, for as long as its
//! client waits for it. In etcd it is lost, and its client learns that from its own time-out only.

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
