//! Expired leases: the leader proposes to revoke them, and to clear checkpoints that renewals have outdated.
//!
//! A revocation is proposed only while this member leads, and is never forwarded: a leader that was deposed during a pause of
//! its process must not end leases that clients have renewed at its successor (etcd #15247).

use bytes::Bytes;
use prost::Message;

use super::{Count, Effect, Effects, Note, Replica, Timer, progress::EXPIRY, proposals::Proposed};
use crate::{
    apply::request::{self, Kind},
    auth::Requester,
    base::{
        limits,
        planted::{self, Bug},
        refusal::Refusal,
    },
    proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest},
};

impl Replica {
    pub(super) fn on_expire_timer(&mut self, effects: &mut Effects) {
        effects.push(Effect::SetTimer { timer: Timer::Expire, after_ms: limits::LEASE_SCAN_MS });
        let may_expire = self.consensus.is_leader() || planted::has(Bug::ExpireAsFollower);
        if !may_expire || self.is_overloaded() {
            return;
        }
        for id in self.applier.lessor().take_expired(limits::LEASE_REVOKES_PER_SCAN) {
            let proposal = self.propose_own(Kind::LeaseRevoke, &LeaseRevokeRequest { id });
            self.expiry.waiting.insert(proposal, id);
            while self.expiry.waiting.len() > limits::LEASE_REVOKES_WAITING_MAX {
                self.expiry.waiting.pop_first();
            }
        }
        let outdated = self.applier.lessor().take_outdated(limits::LEASE_CHECKPOINTS_PER_ENTRY_MAX);
        if !outdated.is_empty() {
            let clear = |id| LeaseCheckpoint { id, remaining_ttl: 0 };
            let checkpoints = outdated.into_iter().map(clear).collect();
            self.propose_own(Kind::LeaseCheckpoint, &LeaseCheckpointRequest { checkpoints });
        }
    }

    fn propose_own(&mut self, kind: Kind, message: &impl Message) -> u64 {
        let id = self.own_ids.take();
        let entry = own_entry(id, kind, message, self.applier.auth().root());
        self.proposals.push(self.now_ms, EXPIRY, id, Proposed::Entry(entry));
        id
    }

    /// A proposal of this file has ended.
    pub(super) fn on_own_outcome(&mut self, id: u64, refusal: Option<Refusal>, effects: &mut Effects) {
        if self.reads.on_logged(id, refusal.is_none()) {
            return;
        }
        match (self.expiry.waiting.remove(&id), refusal) {
            (Some(_), None) => effects.push(Effect::Count(Count::LeasesExpired(1))),
            (Some(lease), Some(refusal)) => effects.push(Effect::Note(Note::RevokeFailed { lease, refusal })),
            (None, _) => {}
        }
    }
}

/// An entry of the member itself, which may revoke any lease.
pub(super) fn own_entry(id: u64, kind: Kind, message: &impl Message, who: Requester<'_>) -> Bytes {
    request::wrap(id, kind, &message.encode_to_vec(), who)
}
