//! Proposals under way: the core that waits for each, its start, and those that wait for a leader.
//!
//! | state of a proposal | moves on by |
//! |---|---|
//! | queued: no leader, no room in the log, or a full turn | `take_batch`, or it expires |
//! | proposed | its entry is applied (`end`), it is dropped (`requeue`), or it expires |
//! | deferred: applied, its answer follows from a compaction | `end`; it does not expire |
//!
//! Invariant: every proposal ends by exactly one answer within the request timeout, but a deferred one. One that was forwarded
//! to a leader and lost on the way is only known by its age.

use std::collections::VecDeque;

use ahash::{HashMap, HashMapExt};
use bytes::Bytes;

use super::CoreId;
use crate::{base::limits, proto::raftpb};

/// What is proposed.
#[derive(Clone, Debug)]
pub(super) enum Proposed {
    /// A marshalled `InternalRaftRequest`.
    Entry(Bytes),
    ConfChange(raftpb::ConfChange),
}

#[derive(Debug)]
pub(super) struct Queued {
    pub id: u64,
    pub proposed: Proposed,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    core: CoreId,
    since_ms: u64,
    is_deferred: bool,
}

#[derive(Debug)]
pub(super) struct Proposals {
    queue: VecDeque<Queued>,
    /// Proposals of the present turn, kept until consensus has taken them.
    turn: Vec<Queued>,
    waiting: HashMap<u64, Waiting>,
    /// By age. Ended proposals are skipped.
    ages: VecDeque<(u64, u64)>,
}

impl Proposals {
    pub fn new() -> Self {
        Self { queue: VecDeque::new(), turn: Vec::new(), waiting: HashMap::new(), ages: VecDeque::new() }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub fn push(&mut self, now_ms: u64, core: CoreId, id: u64, proposed: Proposed) {
        self.waiting.insert(id, Waiting { core, since_ms: now_ms, is_deferred: false });
        self.ages.push_back((now_ms, id));
        self.queue.push_back(Queued { id, proposed });
    }

    /// The next proposals for consensus, bounded in bytes. They are kept until `taken`.
    pub fn take_batch(&mut self) -> Vec<(u64, Proposed)> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < limits::PROPOSAL_BYTES_PER_TURN
            && let Some(queued) = self.queue.pop_front()
        {
            if !self.waiting.contains_key(&queued.id) {
                continue;
            }
            bytes += match &queued.proposed {
                Proposed::Entry(data) => data.len(),
                Proposed::ConfChange(change) => change.context().len(),
            };
            batch.push((queued.id, queued.proposed.clone()));
            self.turn.push(queued);
        }
        batch
    }

    /// Consensus has dropped a proposal of this turn: it waits for the next leader, or for the conf change under way.
    pub fn requeue(&mut self, id: u64) {
        if let Some(at) = self.turn.iter().position(|queued| queued.id == id) {
            let queued = self.turn.swap_remove(at);
            self.queue.push_back(queued);
        }
    }

    /// The turn has ended: proposals that consensus has not dropped are in the log or on their way to the leader.
    pub fn taken(&mut self) {
        self.turn.clear();
    }

    pub fn is_waiting(&self, id: u64) -> bool {
        self.waiting.contains_key(&id)
    }

    /// The entry was applied, and its answer follows later, however long that takes.
    pub fn defer(&mut self, id: u64) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.is_deferred = true;
        }
    }

    /// Ends a proposal. Returns the core that waits for it.
    pub fn end(&mut self, id: u64) -> Option<CoreId> {
        self.waiting.remove(&id).map(|waiting| waiting.core)
    }

    /// Ends the deferred proposals, because the compactions that they wait for do not end here.
    pub fn end_deferred(&mut self) -> Vec<(CoreId, u64)> {
        let deferred = self.waiting.extract_if(|_, waiting| waiting.is_deferred);
        let mut ended: Vec<_> = deferred.map(|(id, waiting)| (waiting.core, id)).collect();
        ended.sort_unstable();
        ended
    }

    /// Ends one proposal that has waited since `before_ms` or longer: its core, id and start.
    pub fn expire(&mut self, before_ms: u64) -> Option<(CoreId, u64, u64)> {
        while let Some((since_ms, id)) = self.ages.front().copied()
            && since_ms <= before_ms
        {
            self.ages.pop_front();
            match self.waiting.get(&id) {
                Some(waiting) if !waiting.is_deferred && waiting.since_ms == since_ms => {
                    let core = waiting.core;
                    self.waiting.remove(&id);
                    return Some((core, id, since_ms));
                }
                _ => {}
            }
        }
        None
    }

    /// Drops the ages of ended proposals when they outnumber the others, so that the list stays short without time-outs.
    pub fn tidy(&mut self) {
        if self.ages.len() > 2 * self.waiting.len() + limits::PROPOSALS_MAX {
            let waiting = &self.waiting;
            self.ages.retain(|(_, id)| waiting.contains_key(id));
        }
        self.queue.retain(|queued| self.waiting.contains_key(&queued.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Proposed {
        Proposed::Entry(Bytes::from_static(b"entry"))
    }

    #[test]
    fn a_lost_proposal_ends_by_its_age_and_a_deferred_one_does_not() {
        let mut proposals = Proposals::new();
        for id in 1..=3 {
            proposals.push(10 * id, 0, id, entry());
        }
        assert_eq!(proposals.take_batch().len(), 3);
        proposals.taken();
        proposals.defer(2);
        assert_eq!(proposals.expire(5), None);
        assert_eq!(proposals.expire(25), Some((0, 1, 10)));
        assert_eq!(proposals.expire(25), None);
        assert_eq!(proposals.end(2), Some(0));
        assert_eq!(proposals.expire(30), Some((0, 3, 30)));
        assert_eq!(proposals.len(), 0);
    }

    #[test]
    fn a_dropped_proposal_is_proposed_again_until_it_expires() {
        let mut proposals = Proposals::new();
        proposals.push(0, 7, 1, entry());
        assert_eq!(proposals.take_batch().len(), 1);
        proposals.requeue(1);
        proposals.taken();
        assert!(proposals.has_queued());
        assert_eq!(proposals.take_batch().len(), 1);
        proposals.requeue(1);
        proposals.taken();
        assert_eq!(proposals.expire(0), Some((7, 1, 0)));
        assert!(proposals.take_batch().is_empty(), "an expired proposal is not proposed");
    }
}
