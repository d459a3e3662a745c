//! What the replica keeps between two inputs: how far each long work is, the leader's lease, and what waits. The file of a work has
//! the table of its states, and what moves it from one to the next.

use std::collections::BTreeMap;

use super::{CoreId, Sizes, opening::Opening};
use crate::{
    base::{
        limits,
        planted::{self, Bug},
    },
    consensus::{Follower, SnapshotMark},
    proto::raftpb,
};

/// Commits of the page file, and what waits for them.
#[derive(Debug)]
pub(super) struct PageCommits {
    pub state: CommitState,
    /// A commit begins as soon as possible.
    pub is_due: bool,
    /// It begins even if only the applied index has changed.
    pub is_forced: bool,
    /// Commits begun so far.
    pub begun: u64,
    /// The last entry that the page file has.
    pub committed: SnapshotMark,
    pub flushes: Vec<Flush>,
    pub defragment: Defragment,
}

#[derive(Debug)]
pub(super) enum CommitState {
    Idle,
    Building { mark: SnapshotMark, took_ns: u64 },
    Writing { mark: SnapshotMark, truncate_to: Option<u64> },
}

/// A request that ends with a commit of the page file.
#[derive(Debug)]
pub(super) struct Flush {
    /// The number of the commit that ends the flush.
    pub commit: u64,
    pub purpose: FlushPurpose,
}

/// What follows a flush.
#[derive(Debug, Clone, Copy)]
pub(super) enum FlushPurpose {
    Chore {
        core: CoreId,
        id: u64,
    },
    Defragment,
    /// The compaction is resumed.
    Compaction,
    /// A compaction has ended, and its answers are sent.
    Compacted {
        revision: i64,
    },
    /// The states that members wait for are sent.
    Image,
    /// The process ends.
    Stop,
}

/// Requests to defragment; those that come while one is under way share the next.
#[derive(Debug, Default)]
pub(super) struct Defragment {
    pub asked: Vec<(CoreId, u64)>,
    pub served: Vec<(CoreId, u64)>,
    pub progress: Option<Defragmenting>,
}

/// A defragmentation under way.
#[derive(Debug)]
pub(super) struct Defragmenting {
    pub started_ms: u64,
    /// Set when the file has begun to shrink.
    pub before: Option<Sizes>,
}

impl PageCommits {
    pub fn new(committed: SnapshotMark) -> Self {
        Self {
            state: CommitState::Idle,
            is_due: false,
            is_forced: false,
            begun: 0,
            committed,
            flushes: Vec::new(),
            defragment: Defragment::default(),
        }
    }

    pub fn is_building(&self) -> bool {
        matches!(self.state, CommitState::Building { .. })
    }

    pub fn is_writing(&self) -> bool {
        matches!(self.state, CommitState::Writing { .. })
    }

    /// Drops a commit that is being built, because the state that it is made of is about to be replaced.
    pub fn abandon(&mut self) {
        if self.is_building() {
            self.state = CommitState::Idle;
        }
    }
}

/// The compaction under way.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    pub state: CompactionState,
    /// When the first slice was done.
    pub started_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CompactionState {
    #[default]
    Idle,
    Due,
    Pausing,
    Awaiting,
}

/// The core under which revocations of expired leases are proposed: no client waits for them, their outcome is only counted.
pub(super) const EXPIRY: CoreId = CoreId::MAX - 1;

/// Revocations that were proposed.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Lease by proposal, oldest first. Bounded, because some outcomes never come.
    pub waiting: BTreeMap<u64, i64>,
}

impl Expiry {
    /// Whether a proposal revokes an expired lease.
    pub fn is_own(&self, id: u64) -> bool {
        self.waiting.contains_key(&id)
    }
}

/// A wait until the state is applied as far as it was committed when the wait began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    pub core: CoreId,
    pub id: u64,
    /// The last entry that was committed then.
    pub index: u64,
    pub since_ms: u64,
}

/// What a leader has done about its stalled log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stall {
    #[default]
    None,
    /// Leadership was offered to another member, and these ticks have gone by since.
    Offered { ticks: u64 },
    /// Nobody took it, and this member has stepped down.
    SteppedDown,
}

/// When the last heartbeat to each member left.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(BTreeMap<u64, u64>);

impl Heartbeats {
    /// Another leader, or another term, begins anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A heartbeat leaves: by how much it is late.
    pub fn leaves(&mut self, to: u64, now_ms: u64, expected_ms: u64) -> Option<u64> {
        let last_ms = self.0.insert(to, now_ms)?;
        let exceeded_ms = now_ms.saturating_sub(last_ms + expected_ms);
        (exceeded_ms > 0).then_some(exceeded_ms)
    }
}

/// A transfer of leadership that a client waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub core: CoreId,
    pub id: u64,
    pub to: u64,
    pub since_ms: u64,
}

/// States on their way to other members, and the one that is being installed here.
#[derive(Default)]
pub(super) struct Snapshots {
    /// Messages that wait for an image which reaches as far as they say.
    pub wanted: Vec<raftpb::Message>,
    /// Member, and index of the state that is being sent to it.
    pub sent: BTreeMap<u64, u64>,
    /// Members that have received one, and lack what was written meanwhile.
    pub behind: BTreeMap<u64, Behind>,
    pub install: Install,
    /// A state that was accepted while an older one is being installed.
    pub next: Option<u64>,
    /// Older ones that were accepted and are not needed any more when the marker of a newer one is durable.
    pub superseded: Vec<u64>,
}

/// How far the installation of a received state is.
#[derive(Default)]
pub(super) enum Install {
    #[default]
    None,
    Marking {
        index: u64,
    },
    Installing {
        index: u64,
    },
    Restoring {
        index: u64,
        opening: Box<Opening>,
    },
}

/// A member that has received a state and follows from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    /// What it has.
    pub index: u64,
    /// Unless it has more by then, nothing is kept for it any more.
    pub until_ms: u64,
}

impl Behind {
    pub fn new(index: u64, now_ms: u64) -> Self {
        Self { index, until_ms: now_ms + limits::RETAINED_FOR_STATE_MS }
    }
}

impl Snapshots {
    /// The entry after which members need the log: those to which a state is on its way, and those that have received one and are
    /// further behind than `near`. `followers` is empty where this member does not lead.
    pub fn needed(
        &mut self,
        followers: impl FnOnce() -> Vec<Follower>,
        near: u64,
        newest: u64,
        now_ms: u64,
    ) -> Option<u64> {
        if !self.behind.is_empty() {
            let followers = followers();
            self.behind.retain(|id, behind| {
                let Some(follower) = followers.iter().find(|follower| follower.id == *id) else { return false };
                if follower.matched > behind.index {
                    *behind = Behind::new(follower.matched, now_ms);
                }
                now_ms < behind.until_ms && behind.index + near < newest
            });
        }
        let behind = self.behind.values().map(|behind| behind.index);
        self.sent.values().copied().chain(behind).min()
    }
}

/// How linearizable reads are confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    #[default]
    Index,
    Lease,
    Log,
}

/// The leader's lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    until_ms: u64,
    /// The term of the round that it comes from.
    term: u64,
    /// A term in which a transfer of leadership was begun.
    spoiled_term: u64,
}

impl Lease {
    /// A round that began at `asked_ms` was confirmed by a quorum.
    pub fn renew(&mut self, term: u64, asked_ms: u64, length_ms: u64) {
        if self.term != term {
            (self.term, self.until_ms) = (term, 0);
        }
        self.until_ms = self.until_ms.max(asked_ms + length_ms);
    }

    pub fn spoil(&mut self, term: u64) {
        if !planted::has(Bug::KeepReadLease) {
            self.spoiled_term = self.spoiled_term.max(term);
        }
    }

    pub fn holds(&self, term: u64, now_ms: u64) -> bool {
        term == self.term && term != self.spoiled_term && now_ms < self.until_ms
    }
}

/// Forwarded proposals that have come back, in their order.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    waiting: Vec<raftpb::Message>,
}

impl Unsent {
    /// Keeps one, or gives it back when there are too many already.
    #[expect(clippy::result_large_err, reason = "the message is given back, not an error")]
    pub fn push(&mut self, message: raftpb::Message) -> Result<(), raftpb::Message> {
        if self.waiting.len() >= limits::PROPOSALS_HELD_MAX {
            return Err(message);
        }
        self.waiting.push(message);
        Ok(())
    }

    pub fn take(&mut self) -> Vec<raftpb::Message> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_with_its_time_its_term_and_a_transfer() {
        let mut lease = Lease::default();
        assert!(!lease.holds(0, 0));
        lease.renew(3, 100, 50);
        assert!(lease.holds(3, 149) && !lease.holds(3, 150) && !lease.holds(4, 120));
        lease.renew(3, 90, 50);
        assert!(lease.holds(3, 149), "an older round shortens nothing");
        lease.spoil(3);
        assert!(!lease.holds(3, 120));
        lease.renew(4, 110, 5);
        assert!(lease.holds(4, 114) && !lease.holds(4, 115));
    }

    #[test]
    fn a_heartbeat_is_late_after_two_intervals() {
        let mut heartbeats = Heartbeats::default();
        assert_eq!(heartbeats.leaves(2, 1000, 200), None, "the first one");
        assert_eq!(heartbeats.leaves(2, 1200, 200), None);
        assert_eq!(heartbeats.leaves(3, 1250, 200), None, "another member");
        assert_eq!(heartbeats.leaves(2, 1450, 200), Some(50));
        heartbeats.clear();
        assert_eq!(heartbeats.leaves(2, 9000, 200), None);
    }

    #[test]
    fn the_log_is_kept_for_those_that_follow_a_state() {
        let follower = |matched| Follower {
            id: 2,
            matched,
            is_learner: false,
            is_active: true,
            needs_snapshot: false,
            is_replicating: true,
            next: matched + 1,
        };
        let mut snapshots = Snapshots::default();
        snapshots.sent.insert(3, 70);
        snapshots.behind.insert(2, Behind::new(50, 1_000));
        let mut needed = |matched, newest, now_ms| snapshots.needed(|| vec![follower(matched)], 10, newest, now_ms);
        assert_eq!(needed(4, 100, 2_000), Some(50), "it installs the state");
        assert_eq!(needed(60, 100, 30_000), Some(60), "it has some of what was written meanwhile");
        assert_eq!(needed(60, 100, 59_999), Some(60));
        assert_eq!(needed(60, 100, 60_000), Some(70), "nothing for half a minute");
        snapshots.behind.insert(2, Behind::new(60, 60_000));
        assert_eq!(snapshots.needed(|| vec![follower(90)], 10, 100, 60_000), Some(70), "near enough");
        snapshots.behind.insert(2, Behind::new(60, 60_000));
        assert_eq!(snapshots.needed(Vec::new, 10, 100, 60_000), Some(70), "somebody else leads, or it is no member");
        snapshots.sent.clear();
        assert_eq!(snapshots.needed(Vec::new, 10, 100, 60_000), None);
    }
}
