//! Leases in the log: grant, revoke, checkpoint.
//!
//! Revoking deletes every key of the lease, in their order, and the lease itself, all under one revision. A lease can have very
//! many keys, so it is done in slices:
//!
//! | state | in a slice | next |
//! |---|---|---|
//! | no revocation | a `LeaseRevoke` is applied: the transaction opens | under way |
//! | under way | [`Applier::resume`] deletes up to `LEASE_KEYS_PER_SLICE` keys | under way, or the last slice |
//! | last slice | ends the transaction, removes the lease | no revocation |
//!
//! While one is under way its entry does not count as applied: no other entry is applied, views show the state before it,
//! nothing is committed to the page file and nothing compacted. So readers and restarts see the whole revocation or none of it.
//! Meanwhile serializable reads, keepalives and ticks continue; in a cluster of one linearizable reads too. Writes wait.

use super::{
    Applied, Applier, ApplyFailure, RaftStatus, Stop,
    outcome::{Done, Response},
    revocation::Revocation,
    state,
};
use crate::{
    base::{
        limits,
        planted::{self, Bug},
        refusal::Refusal,
    },
    lease::Lessor,
    proto::etcdserverpb::{
        LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
        LeaseRevokeResponse,
    },
    proto::leasepb::Lease,
};

/// The first cluster version whose members all store checkpoints.
const CHECKPOINTS_STORED_FROM: (u64, u64) = (3, 6);

impl Applier {
    /// The leases, for operations outside of the log: time, renewals, questions.
    #[must_use]
    pub fn lessor(&mut self) -> &mut Lessor {
        &mut self.lessor
    }

    /// Number of leases.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.lessor.len()
    }

    /// Whether an entry is applied in part. The caller then calls [`Self::resume`] before it applies, compacts or commits anything else.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.revocation.is_some()
    }

    /// The next slice of the entry that [`Self::apply`] left unfinished.
    ///
    /// # Errors
    /// The member cannot continue.
    pub fn resume(&mut self, raft: RaftStatus, waits: impl Fn(u64) -> bool) -> Result<Applied, ApplyFailure> {
        let Some(revocation) = self.revocation.take() else { return Ok(Applied::Nothing) };
        let id = revocation.id;
        let done = self.revoke_slice(revocation);
        self.outcome(id, Ok(done), raft, waits)
    }

    pub(super) fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Result<Done, Stop> {
        let ttl = self.lessor.grant(request.id, request.ttl)?;
        state::put_lease(&mut self.backend, &Lease { id: request.id, ttl, remaining_ttl: 0 });
        let response = LeaseGrantResponse { id: request.id, ttl, ..LeaseGrantResponse::default() };
        Ok(Done::Now(Response::LeaseGrant(response)))
    }

    pub(super) fn lease_revoke(&mut self, id: u64, request: &LeaseRevokeRequest) -> Result<Done, Stop> {
        if !self.lessor.contains(request.id) {
            return Err(Refusal::LeaseNotFound.into());
        }
        let txn = self.store.write(&mut self.backend).pause();
        Ok(self.revoke_slice(Revocation { id, lease: request.id, keys: 0, txn }))
    }

    fn revoke_slice(&mut self, mut revocation: Revocation) -> Done {
        let mut txn = self.store.resume(&mut self.backend, revocation.txn);
        for _ in 0..limits::LEASE_KEYS_PER_SLICE {
            let Some(key) = self.lessor.take_attached(revocation.lease) else {
                // The lessor has detached the keys already; the changes are for the watchers.
                self.changes.extend(txn.end().changes);
                self.lessor.end(revocation.lease);
                state::remove_lease(&mut self.backend, revocation.lease);
                self.tally.count_revoked(revocation.keys);
                return Done::Now(Response::LeaseRevoke(LeaseRevokeResponse::default()));
            };
            if planted::has(Bug::KeepLeaseKey) {
                continue;
            }
            revocation.keys += u64::from(txn.delete_attached(&key, revocation.lease));
        }
        revocation.txn = txn.pause();
        self.revocation = Some(revocation);
        Done::Unfinished
    }

    pub(super) fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Done {
        let is_stored = self.membership.version.as_deref().is_some_and(stores_checkpoints);
        for checkpoint in &request.checkpoints {
            let lease = self.lessor.checkpoint(checkpoint.id, checkpoint.remaining_ttl);
            if let Some(lease) = lease.filter(|_| is_stored) {
                state::put_lease(&mut self.backend, &lease);
            }
        }
        Done::Now(Response::LeaseCheckpoint(LeaseCheckpointResponse::default()))
    }
}

/// `3.7.0` does, `3.5.0` does not.
fn stores_checkpoints(cluster_version: &str) -> bool {
    let mut parts = cluster_version.split('.').map(|part| part.parse().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    major.zip(minor).is_some_and(|version: (u64, u64)| version >= CHECKPOINTS_STORED_FROM)
}
