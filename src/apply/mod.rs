//! Apply: one committed entry becomes a change of state, the same on every member.
//!
//! ```text
//!   LogEntry ─▶ request (taken apart) ─▶ txn | put | delete | compact | alarm ─▶ mvcc ─▶ backend
//!                                     ├▶ lease ─▶ lessor, mvcc              ─▶ backend
//!                                     ├▶ users, roles ─▶ auth                 ─▶ backend
//!                                     └▶ membership, cluster version          ─▶ backend
//!                                                                              └▶ encoded response, if a caller of this member waits
//! ```
//!
//! Invariants
//!
//! 1. Entries are applied in index order, each once; the applied index and term go into the page file in the same commit as
//!    what they cover, so a restart replays from there.
//! 2. A refusal is a result, the same on every member, and changes nothing.
//! 3. A failure (a damaged page, an entry that is no request) stops the member before it can differ from the others.
//! 4. A [`View`] never changes after it was published.
//!
//! Deliberately absent: waiting, time, the callers (the engine keeps them), checks that need no state (service).
//!
//! On the write path: between consensus and the answer.

pub mod alarms;
#[cfg(test)]
mod copy_tests;
mod lease;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod member_tests;
mod outcome;
pub mod permission;
pub mod request;
mod revocation;
#[cfg(test)]
mod script_tests;
pub mod state;
mod tally;
pub mod txn;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

pub use self::{
    alarms::Alarms,
    outcome::{Applied, ApplyFailure, Stop},
    tally::Tally,
    view::{RaftStatus, View},
};
use self::{
    outcome::{Done, Response},
    request::{Operation, RaftRequest},
    revocation::Revocation,
};
use crate::{
    auth::{Auth, AuthRequest, TokenChange},
    backend::Backend,
    base::{
        log_entry::{ConfState, EntryKind, LogEntry},
        planted::{self, Bug},
        refusal::Refusal,
    },
    cluster::{
        change::{Change as MemberChange, Effect},
        membership::{Downgrade, Membership},
    },
    lease::Lessor,
    mvcc::{Change, Committed, CompactStep, Store},
    proto::{
        etcdserverpb::{
            AuthEnableResponse, AuthenticateResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest,
            PutRequest, ResponseHeader, TxnRequest,
        },
        membershippb::DowngradeInfoSetRequest,
        raftpb,
    },
};

/// The state machine.
pub struct Applier {
    store: Store,
    backend: Backend,
    membership: Arc<Membership>,
    alarms: Arc<Alarms>,
    auth: Arc<Auth>,
    lessor: Lessor,
    revocation: Option<Revocation>,
    index: u64,
    term: u64,
    storage_version: Option<String>,
    /// Proposals whose answer waits for a compaction, with the revision.
    compactions: Vec<(u64, i64)>,
    /// Changes since the last [`Applier::take_changes`].
    changes: Vec<Change>,
    /// The same of tokens.
    token_changes: Vec<TokenChange>,
    tally: Tally,
    /// Negative: none.
    quota_bytes: i64,
}

impl Applier {
    /// Continues from what a page file holds.
    #[must_use]
    pub fn new(
        store: Store,
        mut backend: Backend,
        mut state: state::Restored,
        membership: Membership,
        lessor: Lessor,
    ) -> Self {
        state.auth.found(&mut backend);
        Self {
            store,
            backend,
            membership: Arc::new(membership),
            alarms: Arc::new(if planted::has(Bug::ForgetAlarm) { Alarms::default() } else { state.alarms }),
            auth: Arc::new(state.auth),
            lessor,
            revocation: None,
            index: state.index,
            term: state.term,
            storage_version: state.storage_version,
            compactions: Vec::new(),
            changes: Vec::new(),
            token_changes: Vec::new(),
            tally: Tally::default(),
            quota_bytes: -1,
        }
    }

    /// Sets the quota. A request that makes the database larger is applied, and answered with a refusal.
    #[must_use]
    pub fn with_quota(self, quota_bytes: i64) -> Self {
        Self { quota_bytes, ..self }
    }

    /// Index of the last entry that was applied as a whole.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index - u64::from(self.is_midway())
    }

    /// Term of that entry.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Users and roles.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    #[must_use]
    pub fn backend(&mut self) -> &mut Backend {
        &mut self.backend
    }

    /// Returns the database, when no more entries will be applied.
    #[must_use]
    pub fn into_backend(self) -> Backend {
        self.backend
    }

    /// The present state, for readers.
    #[must_use]
    pub fn view(&self, raft: RaftStatus) -> View {
        View {
            kv: self.store.view(&self.backend),
            applied: self.index(),
            raft,
            membership: Arc::clone(&self.membership),
            alarms: Arc::clone(&self.alarms),
            auth: Arc::clone(&self.auth),
            storage_version: self.storage_version.clone(),
            tally: self.tally,
        }
    }

    /// Applies the next entry. `waits` tells whether a caller of this member waits for a proposal.
    ///
    /// # Errors
    /// The member cannot continue.
    pub fn apply(
        &mut self,
        entry: &LogEntry,
        raft: RaftStatus,
        waits: impl Fn(u64) -> bool,
    ) -> Result<Applied, ApplyFailure> {
        assert!(!self.is_midway(), "the entry before is applied to its end first");
        if entry.index != self.index + 1 {
            return Err(ApplyFailure::OutOfOrder { applied: self.index, found: entry.index });
        }
        self.index = entry.index;
        self.term = entry.term;
        match entry.kind {
            EntryKind::Normal if entry.data.is_empty() => Ok(Applied::Nothing),
            EntryKind::Normal => {
                let request = RaftRequest::parse(entry.data.clone())
                    .map_err(|source| ApplyFailure::Entry { index: entry.index, source })?;
                self.apply_request(request, raft, waits)
            }
            EntryKind::ConfChange => self.apply_conf_change(entry),
            EntryKind::ConfChangeV2 => Err(ApplyFailure::Unknown { index: entry.index, field: 0 }),
        }
    }

    fn apply_request(
        &mut self,
        request: RaftRequest,
        raft: RaftStatus,
        waits: impl Fn(u64) -> bool,
    ) -> Result<Applied, ApplyFailure> {
        let fits = self.fits_quota(&request.operation);
        let done = match self.run(&request) {
            // The entry changes the state of every member alike; only the answer depends on the member's quota.
            Ok(_) if !fits => Err(Refusal::NoSpace.into()),
            done => done,
        };
        self.outcome(request.id, done, raft, waits)
    }

    fn outcome(
        &self,
        id: u64,
        done: Result<Done, Stop>,
        raft: RaftStatus,
        waits: impl Fn(u64) -> bool,
    ) -> Result<Applied, ApplyFailure> {
        let outcome = match done {
            Ok(Done::Now(response)) => {
                if !waits(id) {
                    return Ok(Applied::Nothing);
                }
                Ok(self.encode(response, raft))
            }
            Ok(Done::Later) => return Ok(Applied::Deferred { id }),
            Ok(Done::Unfinished) => return Ok(Applied::Unfinished),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Failed(failure)) => return Err(failure),
        };
        Ok(Applied::Answered { id, outcome })
    }

    fn run(&mut self, request: &RaftRequest) -> Result<Done, Stop> {
        self.check_alarms(&request.operation)?;
        if self.auth.is_enabled() {
            self.check_permission(request)?;
        }
        match &request.operation {
            Operation::Put(put) => self.put(put),
            Operation::DeleteRange(delete) => self.delete_range(delete),
            Operation::Txn(txn) => self.txn(txn),
            Operation::Compaction(compaction) => self.compact(request.id, compaction),
            Operation::Alarm(alarm) => {
                let answer = Arc::make_mut(&mut self.alarms).apply(&mut self.backend, alarm);
                Ok(Done::Now(Response::Alarm(answer)))
            }
            Operation::ClusterVersionSet(set) => {
                self.set_cluster_version(&set.ver);
                Ok(Done::Now(Response::Empty))
            }
            Operation::DowngradeInfoSet(set) => {
                self.set_downgrade(set);
                Ok(Done::Now(Response::Empty))
            }
            Operation::DowngradeVersionTest => Ok(Done::Now(Response::Empty)),
            Operation::ClusterMemberAttrSet(set) => {
                let attributes = set.member_attributes.clone().unwrap_or_default();
                self.set_attributes(set.member_id, attributes.name, attributes.client_urls);
                Ok(Done::Now(Response::Empty))
            }
            Operation::LeaseGrant(grant) => self.lease_grant(grant),
            Operation::LeaseRevoke(revoke) => self.lease_revoke(request.id, revoke),
            Operation::LeaseCheckpoint(checkpoint) => Ok(self.lease_checkpoint(checkpoint)),
            Operation::Auth(request) => self.change_auth(request),
            Operation::Unknown(field) => Err(self.unknown(*field)),
        }
    }

    fn change_auth(&mut self, request: &AuthRequest) -> Result<Done, Stop> {
        let index = self.index;
        let changed = Arc::make_mut(&mut self.auth).apply(&mut self.backend, request, index)?;
        let response = match &changed {
            Some(TokenChange::Assigned { token, .. }) => {
                Response::Authenticate(AuthenticateResponse { token: token.clone(), ..AuthenticateResponse::default() })
            }
            _ => Response::AuthChanged(AuthEnableResponse::default()),
        };
        self.token_changes.extend(changed);
        Ok(Done::Now(response))
    }

    /// What has become of tokens since the last call, in order.
    pub fn take_token_changes(&mut self) -> Vec<TokenChange> {
        std::mem::take(&mut self.token_changes)
    }

    fn unknown(&self, field: u32) -> Stop {
        ApplyFailure::Unknown { index: self.index, field }.into()
    }

    /// CORRUPT refuses all KV requests; NOSPACE those that may grow the database.
    fn check_alarms(&self, operation: &Operation) -> Result<(), Refusal> {
        let is_kv = matches!(
            operation,
            Operation::Put(_)
                | Operation::DeleteRange(_)
                | Operation::Txn(_)
                | Operation::Compaction(_)
                | Operation::LeaseGrant(_)
                | Operation::LeaseRevoke(_)
        );
        if is_kv && self.alarms.is_corrupt() {
            return Err(Refusal::Corrupt);
        }
        if self.alarms.is_full() && alarms::cost(operation) > 0 {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// Whether the database stays within the quota with this request.
    fn fits_quota(&self, operation: &Operation) -> bool {
        let cost = alarms::cost(operation) as u64;
        cost == 0
            || self.quota_bytes < 0
            || self.backend.size_bytes().saturating_add(cost) < self.quota_bytes.cast_unsigned()
    }

    fn put(&mut self, request: &PutRequest) -> Result<Done, Stop> {
        if request.lease != 0 || request.ignore_value || request.ignore_lease {
            let view = self.store.view(&self.backend);
            txn::check_put(&view, request, &self.lessor)?;
        }
        let mut txn = self.store.write(&mut self.backend);
        let mut response = txn::put(&mut txn, request)?;
        let committed = txn.end();
        set_revision(&mut response.header, self.keep(committed));
        self.tally.count_put(request);
        Ok(Done::Now(Response::Put(response)))
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<Done, Stop> {
        let mut txn = self.store.write(&mut self.backend);
        let mut response = txn::delete_range(&mut txn, request)?;
        let committed = txn.end();
        set_revision(&mut response.header, self.keep(committed));
        self.tally.count_delete(request);
        Ok(Done::Now(Response::DeleteRange(response)))
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<Done, Stop> {
        let mut write = self.store.write(&mut self.backend);
        let response = txn::write(&mut write, &self.lessor, request)?;
        let committed = write.end();
        self.keep(committed);
        self.tally.count_txn(request, &response);
        Ok(Done::Now(Response::Txn(response)))
    }

    /// Keeps the changes of a transaction for watchers and leases. Returns the revision afterwards.
    fn keep(&mut self, committed: Committed) -> i64 {
        self.lessor.follow(&committed.changes);
        self.changes.extend(committed.changes);
        committed.revision
    }

    /// The changes since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn compact(&mut self, id: u64, request: &CompactionRequest) -> Result<Done, Stop> {
        self.store.compact_begin(&mut self.backend, request.revision)?;
        if request.physical {
            self.compactions.push((id, request.revision));
            return Ok(Done::Later);
        }
        Ok(Done::Now(Response::Compaction(self.compacted())))
    }

    fn compacted(&self) -> CompactionResponse {
        let header = ResponseHeader { revision: self.store.revision(), ..ResponseHeader::default() };
        CompactionResponse { header: Some(header) }
    }

    /// Whether a compaction is under way.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.store.is_compacting()
    }

    /// One slice of a compaction under way.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn compact_step(&mut self, budget: usize) -> Result<CompactStep, ApplyFailure> {
        Ok(self.store.compact_step(&mut self.backend, budget)?)
    }

    /// The answers that waited for a compaction up to `revision` to be in the page file.
    pub fn take_compacted(&mut self, revision: i64, raft: RaftStatus) -> Vec<(u64, Bytes)> {
        let (done, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.compactions).into_iter().partition(|(_, asked)| *asked <= revision);
        self.compactions = waiting;
        done.into_iter().map(|(id, _)| (id, self.encode(Response::Compaction(self.compacted()), raft))).collect()
    }

    /// Puts the applied index into the batch and seals it. `false` if there is nothing to commit. A shrinking page file is committed
    /// even without a change, and so is the applied index alone if `is_forced`.
    pub fn begin_commit(&mut self, is_forced: bool) -> bool {
        let is_idle = self.backend.pending_changes() == 0 && !self.backend.is_shrinking() && !is_forced;
        if is_idle || self.is_midway() {
            return false;
        }
        state::put_applied(&mut self.backend, self.index, self.term);
        self.backend.begin_commit()
    }

    fn apply_conf_change(&mut self, entry: &LogEntry) -> Result<Applied, ApplyFailure> {
        let index = entry.index;
        let mut change =
            raftpb::ConfChange::decode(entry.data.clone()).map_err(|source| ApplyFailure::Entry { index, source })?;
        let meaning = MemberChange::of(&change).map_err(|source| ApplyFailure::ConfChange { index, source })?;
        let outcome = self.membership.check(&meaning);
        match outcome {
            Err(_) => change.node_id = Some(0),
            Ok(()) => match Arc::make_mut(&mut self.membership).change(meaning) {
                Effect::Put(member) => state::put_member(&mut self.backend, member),
                Effect::Removed(id) => state::remove_member(&mut self.backend, id),
                Effect::Nothing => {}
            },
        }
        Ok(Applied::ConfChange { id: change.id(), change, outcome })
    }

    /// Stores the members of consensus after a conf change.
    pub fn set_conf_state(&mut self, conf_state: &ConfState) {
        state::put_conf_state(&mut self.backend, conf_state);
    }

    fn set_cluster_version(&mut self, version: &str) {
        Arc::make_mut(&mut self.membership).version = Some(version.to_owned());
        state::put_cluster_version(&mut self.backend, version);
        // The schema version follows the cluster version. Its content is the same since etcd 3.6, the first release that stores it.
        if self.storage_version.as_deref() != Some(version) && !matches!(version, "3.0.0" | "3.4.0" | "3.5.0") {
            state::put_storage_version(&mut self.backend, version);
            self.storage_version = Some(version.to_owned());
        }
    }

    fn set_downgrade(&mut self, set: &DowngradeInfoSetRequest) {
        let target_version = if set.enabled { set.ver.clone() } else { String::new() };
        let downgrade = Downgrade { target_version, enabled: set.enabled };
        state::put_downgrade(&mut self.backend, &downgrade);
        Arc::make_mut(&mut self.membership).downgrade = downgrade;
    }

    fn set_attributes(&mut self, id: u64, name: String, client_urls: Vec<String>) {
        if let Some(member) = Arc::make_mut(&mut self.membership).set_attributes(id, name, client_urls) {
            state::put_member(&mut self.backend, member);
        }
    }

    fn encode(&self, mut response: Response, raft: RaftStatus) -> Bytes {
        if let Some(header) = response.header() {
            let header = header.get_or_insert_with(ResponseHeader::default);
            header.cluster_id = self.membership.cluster_id;
            header.member_id = self.membership.local_id;
            header.raft_term = raft.term;
            if header.revision == 0 {
                header.revision = self.store.revision();
            }
        }
        response.encode()
    }
}

fn set_revision(header: &mut Option<ResponseHeader>, revision: i64) {
    header.get_or_insert_with(ResponseHeader::default).revision = revision;
}
