//! Leases: a promise to delete the attached keys unless a client renews the lease in time.
//!
//! ```text
//!   apply ── grant, revoke, checkpoint, follow (what changes attach and detach) ──▶ ids, TTLs, attachments   on every member
//!   engine ── promote, demote, on_time, on_tick ──────────────────────────────────▶ deadlines                leader only
//!   fronts ── renew, time to live, list ──▶ (through the engine)
//!   shell's expiry task ── take_expired ──▶ proposals to revoke ──▶ log ──▶ apply
//! ```
//!
//! | state | deadlines | transition | function |
//! |---|---|---|---|
//! | follower | none: no lease expires | this member leads and has applied all entries of earlier terms | [`Lessor::promote`] |
//! | primary | one per lease | it no longer leads | [`Lessor::demote`] |
//! | primary, lease past its deadline | passed | revoked through the log; cannot be renewed any more | [`Lessor::take_expired`] |
//!
//! Invariants
//!
//! 1. Leases, their TTLs and their keys follow from the log alone. Deadlines exist on the leader only and reach neither disk nor
//!    log; a lease ends on every member by the entry that revokes it.
//! 2. A lease lives at least for its TTL after its grant, its last renewal, and every change of leader.
//! 3. While primary, every lease is in `deadlines` exactly once, under its own deadline.
//! 4. A key is attached to one lease at most, the one that its newest record names.
//! 5. A lease that was reported as expired is reported again only after `retry_ms`, so scans are short.
//!
//! Deliberately absent: storage (apply writes bucket `lease`), deletion of keys (apply), a clock (`on_time` sets the time), waiting
//! callers.
//!
//! On the path of a put: one comparison if no lease is involved. A renewal costs one lookup and one move in an ordered set, no
//! allocation, no entry of the log and no published view.
//!
//! Memory: 32 bytes per lease in the map and 16 in the set of deadlines, with a B-tree's slack about 70; an attached key costs
//! its length, 8 bytes, and about 40 of tree and allocator. So a million leases with a key each take some 150 MB.
//! Promotion sorts all leases once: with a million of them some 0.2 s, at a change of leader only.

mod attachments;
mod spread;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod script_tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::{Bytes, BytesMut};

use self::attachments::Attachments;
use crate::{
    base::{limits, refusal::Refusal},
    mvcc::{Attachment, Change},
    proto::leasepb,
};

/// Settings of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Shorter TTLs are raised to this.
    pub ttl_min_s: i64,
    /// Added to each TTL by a new leader: an election timeout.
    pub extension_ms: u64,
    /// A proposed revocation that was not applied is proposed again after this.
    pub retry_ms: u64,
    /// Without a tick for longer than this a leader may have lost its leadership unnoticed.
    pub silence_ms_max: u64,
}

impl Terms {
    /// As etcd derives them. One and a half election timeouts, rounded up, are the shortest TTL.
    #[must_use]
    pub fn new(heartbeat_ms: u64, election_ms: u64, request_timeout_ms: u64) -> Self {
        let election_ticks = election_ms / heartbeat_ms.max(1);
        let ttl_min_ms = 3 * election_ticks / 2 * heartbeat_ms;
        Self {
            ttl_min_s: ttl_min_ms.div_ceil(1000).cast_signed(),
            extension_ms: election_ms,
            retry_ms: request_timeout_ms,
            silence_ms_max: 3 * heartbeat_ms,
        }
    }
}

impl Default for Terms {
    /// Those of the default configuration.
    fn default() -> Self {
        Self::new(100, 1000, 7000)
    }
}

/// All leases of a member.
#[derive(Debug, Default)]
pub struct Lessor {
    terms: Terms,
    leases: BTreeMap<i64, Lease>,
    attachments: Attachments,
    primary: Option<Primary>,
    /// The time last set by the shell, in milliseconds from an arbitrary start.
    now_ms: u64,
    ticked_ms: u64,
    /// The time of a tick that came late, until leadership was confirmed since.
    doubted_since_ms: Option<u64>,
    tally: LeaseTally,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_s: i64,
    /// Remaining TTL of the last checkpoint; 0 if there was none since the grant or since a renewal.
    remaining_s: i64,
    /// Valid while primary only.
    deadline_ms: u64,
}

const _: () = assert!(size_of::<Lease>() == 24);

/// State that only the leader has.
#[derive(Debug, Default)]
struct Primary {
    /// Deadline and lease.
    deadlines: BTreeSet<(u64, i64)>,
    /// Leases that were reported as expired, and the time from which they may be reported again.
    revoking: BTreeMap<i64, u64>,
    /// Renewed leases whose checkpoint in the log is below their TTL.
    outdated: BTreeSet<i64>,
}

/// The outcome of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    Renewed {
        ttl_s: i64,
    },
    /// No lease of this id was applied here.
    Unknown,
    /// The lease has expired and is being revoked. Callers wait until it has been revoked.
    Expired,
    NotPrimary,
    /// No tick has come for so long that another member may lead by now.
    Unsure,
}

/// The state of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds, rounded down; negative after its deadline.
    pub remaining_s: i64,
    pub granted_s: i64,
}

/// Counts since the last call, for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseTally {
    /// TTL of each lease granted.
    pub granted: Vec<i64>,
    pub revoked: u64,
    pub renewed: u64,
}

impl Lessor {
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self { terms, ..Self::default() }
    }

    /// Restores the stored leases. Returns the number of keys whose lease does not exist: these stay, attached to no lease.
    pub fn restore(&mut self, stored: &[leasepb::Lease], attachments: &[Attachment]) -> usize {
        for lease in stored {
            let ttl_s = lease.ttl.max(self.terms.ttl_min_s);
            self.leases.insert(lease.id, Lease { ttl_s, remaining_s: lease.remaining_ttl, deadline_ms: 0 });
        }
        let mut dangling = 0;
        for attachment in attachments {
            if self.contains(attachment.lease) {
                self.attachments.insert(attachment.lease, &attachment.key);
            } else {
                dangling += 1;
            }
        }
        dangling
    }

    #[must_use]
    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Creates a lease. Returns its TTL.
    ///
    /// # Errors
    /// No id, an id in use, or a TTL beyond the limit.
    pub fn grant(&mut self, id: i64, ttl_s: i64) -> Result<i64, Refusal> {
        if id == 0 {
            return Err(Refusal::LeaseNotFound);
        }
        if ttl_s > limits::LEASE_TTL_S_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl_s = ttl_s.max(self.terms.ttl_min_s);
        let deadline_ms = after(self.now_ms, ttl_s);
        self.leases.insert(id, Lease { ttl_s, remaining_s: 0, deadline_ms });
        if let Some(primary) = &mut self.primary {
            primary.deadlines.insert((deadline_ms, id));
        }
        self.tally.granted.push(ttl_s);
        Ok(ttl_s)
    }

    /// Takes the next key off a lease that is being revoked, in the order of keys.
    pub fn take_attached(&mut self, id: i64) -> Option<Bytes> {
        self.attachments.take_first(id)
    }

    /// Ends a lease that has no keys any more.
    pub fn end(&mut self, id: i64) {
        debug_assert!(self.attachments.of(id).next().is_none(), "its keys were taken before");
        let Some(lease) = self.leases.remove(&id) else { return };
        if let Some(primary) = &mut self.primary {
            primary.deadlines.remove(&(lease.deadline_ms, id));
            primary.revoking.remove(&id);
            primary.outdated.remove(&id);
        }
        self.tally.revoked += 1;
    }

    /// Sets the remaining TTL of a lease for the next leader. Returns the record to be stored, if the lease exists.
    pub fn checkpoint(&mut self, id: i64, remaining_s: i64) -> Option<leasepb::Lease> {
        let lease = self.leases.get_mut(&id)?;
        lease.remaining_s = remaining_s;
        if let Some(primary) = &mut self.primary {
            primary.outdated.remove(&id);
        }
        Some(leasepb::Lease { id, ttl: lease.ttl_s, remaining_ttl: remaining_s })
    }

    /// Attaches and detaches the keys that a transaction changed.
    pub fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            if change.previous_lease == change.lease {
                continue;
            }
            if change.previous_lease != 0 {
                self.attachments.remove(change.previous_lease, &change.key);
            }
            if change.lease != 0 && self.contains(change.lease) {
                self.attachments.insert(change.lease, &change.key);
            }
        }
    }

    /// Sets the time.
    pub fn on_time(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Consensus has processed a tick. One that comes late says nothing about the time before it, in which others may have elected
    /// another leader.
    pub fn on_tick(&mut self) {
        if self.is_silent() {
            self.doubted_since_ms = Some(self.now_ms);
        }
        self.ticked_ms = self.now_ms;
    }

    /// A read that began at this time was confirmed: if this member leads, it has led since.
    pub fn on_confirmed(&mut self, began_ms: u64) {
        if self.doubted_since_ms.is_some_and(|doubted_ms| doubted_ms <= began_ms) {
            self.doubted_since_ms = None;
        }
    }

    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// Whether this member may have lost its leadership unnoticed, because no tick has come for too long.
    fn is_unsure(&self) -> bool {
        self.is_silent() || self.doubted_since_ms.is_some()
    }

    fn is_silent(&self) -> bool {
        self.now_ms.saturating_sub(self.ticked_ms) > self.terms.silence_ms_max
    }

    /// This member leads and has applied all entries of earlier terms: every lease gets its full time again.
    pub fn promote(&mut self) {
        if self.is_primary() {
            return;
        }
        let from_ms = self.now_ms + self.terms.extension_ms;
        let mut deadlines: Vec<(u64, i64)> =
            self.leases.iter().map(|(id, lease)| (after(from_ms, lease.left_s()), *id)).collect();
        deadlines.sort_unstable();
        if deadlines.len() >= limits::LEASE_REVOKES_PER_SECOND {
            spread::spread(&mut deadlines);
        }
        for (deadline_ms, id) in &deadlines {
            self.leases.get_mut(id).expect("listed a moment ago").deadline_ms = *deadline_ms;
        }
        self.primary = Some(Primary { deadlines: deadlines.into_iter().collect(), ..Primary::default() });
    }

    /// This member does not lead any more.
    pub fn demote(&mut self) {
        self.primary = None;
    }

    /// Gives a lease its full TTL again.
    pub fn renew(&mut self, id: i64) -> Renewal {
        let unsure = self.is_unsure();
        let Some(primary) = &mut self.primary else { return Renewal::NotPrimary };
        if unsure {
            return Renewal::Unsure;
        }
        let Some(lease) = self.leases.get_mut(&id) else { return Renewal::Unknown };
        if lease.deadline_ms <= self.now_ms {
            return Renewal::Expired;
        }
        if lease.remaining_s > 0 {
            primary.outdated.insert(id);
        }
        let deadline_ms = after(self.now_ms, lease.ttl_s);
        if deadline_ms != lease.deadline_ms {
            primary.deadlines.remove(&(lease.deadline_ms, id));
            primary.deadlines.insert((deadline_ms, id));
            lease.deadline_ms = deadline_ms;
        }
        self.tally.renewed += 1;
        Renewal::Renewed { ttl_s: lease.ttl_s }
    }

    /// The remaining time of a lease; none between its expiry and its revocation. Known on the primary only.
    #[must_use]
    pub fn time_to_live(&self, id: i64) -> Option<TimeToLive> {
        let lease = self.leases.get(&id)?;
        // Some time has always passed since the clock was read: as in etcd, a lease of 90 s has 89 whole seconds left at once.
        let left_ms = lease.deadline_ms.saturating_sub(self.now_ms).saturating_sub(1);
        Some(TimeToLive { remaining_s: (left_ms / 1000).cast_signed(), granted_s: lease.ttl_s })
    }

    /// The keys of a lease in their order.
    pub fn keys(&self, id: i64) -> impl Iterator<Item = &[u8]> {
        self.attachments.of(id)
    }

    /// The keys of a lease in their order, as the repeated field `tag` of a message: no allocation per key, since a lease can
    /// have very many.
    #[must_use]
    pub fn encode_keys(&self, id: i64, tag: u32) -> Bytes {
        let mut out = BytesMut::new();
        for key in self.attachments.of(id) {
            prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut out);
            prost::encoding::encode_varint(key.len() as u64, &mut out);
            out.extend_from_slice(key);
        }
        out.freeze()
    }

    /// Up to `limit` leases with ids above `after`, or the lowest, in the order of their ids: deadline and id. A member
    /// without deadlines returns 0 for them.
    #[must_use]
    pub fn list(&self, after: Option<i64>, limit: usize) -> Vec<(u64, i64)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let leases = self.leases.range((start, Bound::Unbounded)).take(limit);
        let is_primary = self.is_primary();
        leases.map(|(id, lease)| (if is_primary { lease.deadline_ms } else { 0 }, *id)).collect()
    }

    /// Up to `limit` expired leases to be revoked, the most overdue first.
    pub fn take_expired(&mut self, limit: usize) -> Vec<i64> {
        // A doubt does not count here: a revocation takes effect only if this member leads.
        if self.is_silent() {
            return Vec::new();
        }
        let Some(primary) = &mut self.primary else { return Vec::new() };
        let now_ms = self.now_ms;
        let due = primary.deadlines.iter().take_while(|(deadline_ms, _)| *deadline_ms <= now_ms).map(|(_, id)| *id);
        let is_new = |id: &i64| primary.revoking.get(id).is_none_or(|again_ms| *again_ms <= now_ms);
        let expired: Vec<i64> = due.filter(is_new).take(limit).collect();
        primary.revoking.extend(expired.iter().map(|id| (*id, now_ms + self.terms.retry_ms)));
        expired
    }

    /// Up to `limit` renewed leases whose checkpoint is to be cleared in the log.
    pub fn take_outdated(&mut self, limit: usize) -> Vec<i64> {
        let Some(primary) = &mut self.primary else { return Vec::new() };
        let mut outdated = Vec::new();
        while outdated.len() < limit
            && let Some(id) = primary.outdated.pop_first()
        {
            outdated.push(id);
        }
        outdated
    }

    /// Counts since the last call.
    pub fn take_tally(&mut self) -> LeaseTally {
        std::mem::take(&mut self.tally)
    }
}

impl Lease {
    /// The time that a new leader gives the lease.
    fn left_s(self) -> i64 {
        if self.remaining_s > 0 { self.remaining_s } else { self.ttl_s }
    }
}

fn after(now_ms: u64, seconds: i64) -> u64 {
    now_ms.saturating_add(seconds.max(0).cast_unsigned().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary() -> Lessor {
        let mut lessor = Lessor::new(Terms::default());
        lessor.promote();
        lessor
    }

    fn pass(lessor: &mut Lessor, now_ms: u64) {
        lessor.on_time(now_ms);
        lessor.on_tick();
        lessor.on_confirmed(now_ms);
    }

    #[test]
    fn a_tick_that_comes_late_proves_no_leadership() {
        let mut lessor = primary();
        lessor.grant(7, 10).expect("granted");
        lessor.on_time(300);
        lessor.on_tick();
        assert_eq!(lessor.renew(7), Renewal::Renewed { ttl_s: 10 });
        lessor.on_time(1_300);
        assert_eq!(lessor.renew(7), Renewal::Unsure);
        lessor.on_tick();
        assert_eq!(lessor.renew(7), Renewal::Unsure);
        lessor.on_time(1_400);
        lessor.on_tick();
        lessor.on_confirmed(1_200);
        assert_eq!(lessor.renew(7), Renewal::Unsure, "a read that began before");
        lessor.on_confirmed(1_300);
        assert_eq!(lessor.renew(7), Renewal::Renewed { ttl_s: 10 });
        lessor.on_time(20_000);
        lessor.on_tick();
        assert_eq!(lessor.take_expired(10), [7], "it ends whether or not anybody reads");
    }

    #[test]
    fn terms_are_those_of_etcd() {
        let terms = |heartbeat, election| Terms::new(heartbeat, election, 7000).ttl_min_s;
        assert_eq!([terms(100, 1000), terms(10, 100), terms(500, 5000), terms(100, 550)], [2, 1, 8, 1]);
    }

    #[test]
    fn grants_are_checked() {
        let mut lessor = primary();
        assert_eq!(lessor.grant(0, 5), Err(Refusal::LeaseNotFound));
        assert_eq!(lessor.grant(1, limits::LEASE_TTL_S_MAX + 1), Err(Refusal::LeaseTtlTooLarge));
        assert_eq!(lessor.grant(1, limits::LEASE_TTL_S_MAX), Ok(limits::LEASE_TTL_S_MAX));
        assert_eq!(lessor.grant(1, 5), Err(Refusal::LeaseExists));
        assert_eq!([lessor.grant(2, 0), lessor.grant(-3, -9), lessor.grant(4, 3)], [Ok(2), Ok(2), Ok(3)]);
        assert_eq!(lessor.take_tally().granted, [limits::LEASE_TTL_S_MAX, 2, 2, 3]);
    }

    #[test]
    fn a_lease_runs_out_once_and_is_reported_again_if_nobody_revokes_it() {
        let mut lessor = primary();
        lessor.grant(7, 10).expect("granted");
        pass(&mut lessor, 9_999);
        assert!(lessor.take_expired(10).is_empty());
        assert_eq!(lessor.time_to_live(7), Some(TimeToLive { remaining_s: 0, granted_s: 10 }));
        pass(&mut lessor, 10_000);
        assert_eq!(lessor.take_expired(10), [7]);
        assert!(lessor.take_expired(10).is_empty());
        assert_eq!(lessor.renew(7), Renewal::Expired);
        pass(&mut lessor, 17_000);
        assert_eq!(lessor.time_to_live(7).map(|left| left.remaining_s), Some(0));
        assert_eq!(lessor.take_expired(10), [7]);
        lessor.end(7);
        assert_eq!(lessor.renew(7), Renewal::Unknown);
        assert!(lessor.take_expired(10).is_empty());
    }

    #[test]
    fn renewing_in_time_keeps_it() {
        let mut lessor = primary();
        lessor.grant(7, 10).expect("granted");
        for second in 1..100 {
            pass(&mut lessor, second * 1000);
            assert_eq!(lessor.renew(7), Renewal::Renewed { ttl_s: 10 });
            assert!(lessor.take_expired(10).is_empty());
        }
        assert_eq!(lessor.take_tally(), LeaseTally { granted: vec![10], revoked: 0, renewed: 99 });
    }

    #[test]
    fn only_the_primary_lets_leases_run_out_and_a_new_one_gives_all_their_time_again() {
        let mut lessor = Lessor::new(Terms::default());
        lessor.grant(7, 10).expect("granted");
        pass(&mut lessor, 50_000);
        assert_eq!((lessor.renew(7), lessor.take_expired(10)), (Renewal::NotPrimary, vec![]));
        lessor.promote();
        assert_eq!(lessor.time_to_live(7).map(|left| left.remaining_s), Some(10));
        pass(&mut lessor, 60_999);
        assert!(lessor.take_expired(10).is_empty());
        lessor.demote();
        pass(&mut lessor, 70_000);
        assert!(lessor.take_expired(10).is_empty());
        lessor.promote();
        lessor.promote();
        pass(&mut lessor, 81_000);
        assert_eq!(lessor.take_expired(10), [7]);
    }

    #[test]
    fn a_checkpoint_shortens_the_next_term_until_the_lease_is_renewed() {
        let mut lessor = Lessor::new(Terms::default());
        lessor.grant(7, 600).expect("granted");
        let stored = leasepb::Lease { id: 7, ttl: 600, remaining_ttl: 20 };
        assert_eq!(lessor.checkpoint(7, 20), Some(stored));
        assert_eq!(lessor.checkpoint(8, 20), None);
        let mut restarted = Lessor::new(Terms::default());
        assert_eq!(restarted.restore(&[stored], &[]), 0);
        restarted.promote();
        assert_eq!(restarted.time_to_live(7), Some(TimeToLive { remaining_s: 20, granted_s: 600 }));
        assert_eq!(restarted.renew(7), Renewal::Renewed { ttl_s: 600 });
        assert_eq!(restarted.time_to_live(7), Some(TimeToLive { remaining_s: 599, granted_s: 600 }));
        assert_eq!((restarted.take_outdated(5), restarted.take_outdated(5)), (vec![7], vec![]));
        restarted.checkpoint(7, 0);
        assert_eq!(restarted.renew(7), Renewal::Renewed { ttl_s: 600 });
        assert!(restarted.take_outdated(5).is_empty());
    }

    #[test]
    fn restored_leases_have_their_keys_and_at_least_the_shortest_ttl() {
        let mut lessor = Lessor::new(Terms::default());
        let lease = |id, ttl| leasepb::Lease { id, ttl, remaining_ttl: 0 };
        let attachment = |key: &'static str, lease| Attachment { key: key.into(), lease };
        let attachments = [attachment("a", 9), attachment("b", 7), attachment("c", 9), attachment("d", 8)];
        assert_eq!(lessor.restore(&[lease(7, 1), lease(9, 50)], &attachments), 1);
        assert_eq!(lessor.time_to_live(7).map(|left| left.granted_s), Some(2));
        assert_eq!(lessor.encode_keys(9, 5), b"\x2a\x01a\x2a\x01c"[..]);
        assert_eq!(lessor.take_attached(9), Some("a".into()));
        assert_eq!(lessor.take_attached(9), Some("c".into()));
        assert_eq!(lessor.take_attached(9), None);
        assert_eq!(lessor.list(None, 1), [(0, 7)]);
        assert_eq!(lessor.list(Some(7), 5), [(0, 9)]);
    }

    /// The cost of a scan, a renewal and a listing does not grow with the number of leases.
    #[test]
    fn a_million_leases() {
        const LEASES: i64 = 1_000_000;
        let mut lessor = primary();
        for id in 1..=LEASES {
            lessor.grant(id, 10 + id % 7).expect("granted");
        }
        assert_eq!(lessor.len(), LEASES as usize);
        pass(&mut lessor, 5_000);
        (1..=LEASES).step_by(10).for_each(|id| {
            let ttl_s = 10 + id % 7;
            assert_eq!(lessor.renew(id), Renewal::Renewed { ttl_s });
        });
        pass(&mut lessor, 100_000);
        let mut revoked = 0;
        for _ in 0..20 {
            let expired = lessor.take_expired(limits::LEASE_REVOKES_PER_SCAN);
            assert_eq!(expired.len(), limits::LEASE_REVOKES_PER_SCAN);
            let pending = lessor.primary.as_ref().expect("primary").revoking.len();
            assert_eq!(pending, limits::LEASE_REVOKES_PER_SCAN, "what a scan steps over is bounded");
            revoked += expired.len();
            expired.into_iter().for_each(|id| lessor.end(id));
        }
        assert_eq!(lessor.len(), LEASES as usize - revoked);
        assert_eq!(lessor.list(None, 100).len(), 100);
        lessor.demote();
        lessor.promote();
        pass(&mut lessor, 117_000);
        let due = lessor.take_expired(usize::MAX).len();
        assert!(due < 10 * limits::LEASE_REVOKES_PER_SECOND, "a new leader spreads what would end at once: {due}");
    }
}
