//! Rounds of linearizable reads: from a core's request for a read index until the state is new enough.
//!
//! | state of a round | moves on by |
//! |---|---|
//! | unasked: no leader is known | a leader is known: asked |
//! | asked | an index arrives: indexed; no answer within the retry time, or the leader changed: asked again |
//! | indexed | the applied index has reached it: confirmed |
//! | any | older than the request timeout: failed |
//!
//! Invariants
//!
//! 1. A round is confirmed only by an index that was asked for after the round began. Each attempt has a context of its own, so a
//!    late answer to one attempt is never counted for another (etcd #20418); every attempt of a round began after the round did.
//! 2. Every round ends by exactly one answer within the request timeout.

use ahash::HashMap;
use smallvec::SmallVec;

use super::CoreId;
use crate::base::limits;

#[derive(Debug)]
struct Round {
    core: CoreId,
    /// The core's name for it.
    context: u64,
    since_ms: u64,
    asked_ms: u64,
    attempts: SmallVec<[u64; 2]>,
    index: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct ReadRounds {
    last_attempt: u64,
    rounds: Vec<Round>,
    /// Proposals that stand for attempts, in mode `log`.
    logged: HashMap<u64, u64>,
}

/// A round that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub core: CoreId,
    pub context: u64,
    /// When it began.
    pub since_ms: u64,
}

impl ReadRounds {
    pub fn begin(&mut self, now_ms: u64, core: CoreId, context: u64) {
        self.rounds.push(Round {
            core,
            context,
            since_ms: now_ms,
            asked_ms: now_ms,
            attempts: SmallVec::new(),
            index: None,
        });
    }

    /// Contexts of rounds that were not asked for yet, or whose answer is overdue. The second number counts the repeated ones.
    pub fn take_due(&mut self, now_ms: u64) -> (SmallVec<[u64; 4]>, u64) {
        let mut contexts = SmallVec::new();
        let mut repeated = 0;
        for round in &mut self.rounds {
            let is_overdue = now_ms.saturating_sub(round.asked_ms) >= limits::READ_INDEX_RETRY_MS;
            if round.index.is_some() || !(round.attempts.is_empty() || is_overdue) {
                continue;
            }
            repeated += u64::from(!round.attempts.is_empty());
            self.last_attempt += 1;
            round.asked_ms = now_ms;
            round.attempts.push(self.last_attempt);
            contexts.push(self.last_attempt);
        }
        (contexts, repeated)
    }

    /// Whether a round waits to be asked for.
    pub fn has_unasked(&self) -> bool {
        self.rounds.iter().any(|round| round.index.is_none() && round.attempts.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// Consensus has answered an attempt.
    pub fn on_index(&mut self, attempt: u64, index: u64) {
        if let Some(round) = self.rounds.iter_mut().find(|round| round.attempts.contains(&attempt)) {
            round.index.get_or_insert(index);
        }
    }

    /// Consensus has dropped an attempt. The round is asked for again when no other attempt is under way.
    pub fn on_dropped(&mut self, attempt: u64) {
        for round in &mut self.rounds {
            round.attempts.retain(|other| *other != attempt);
        }
    }

    /// When the round of this attempt was asked for last.
    pub fn asked_ms(&self, attempt: u64) -> Option<u64> {
        let round = self.rounds.iter().find(|round| round.attempts.last() == Some(&attempt))?;
        Some(round.asked_ms)
    }

    /// The proposal of this id stands for an attempt.
    pub fn log(&mut self, id: u64, attempt: u64) {
        self.logged.insert(id, attempt);
    }

    /// A proposal has ended; if it stood for an attempt, that is answered.
    pub fn on_logged(&mut self, id: u64, is_applied: bool) -> bool {
        let Some(attempt) = self.logged.remove(&id) else { return false };
        match is_applied {
            // Whoever sees this entry applied has a state that is new enough.
            true => self.on_index(attempt, 0),
            false => self.on_dropped(attempt),
        }
        true
    }

    /// Gives every round that was not asked for this index.
    pub fn answer_unasked(&mut self, index: u64) {
        for round in &mut self.rounds {
            if round.attempts.is_empty() {
                round.index.get_or_insert(index);
            }
        }
    }

    /// Takes the rounds that the applied index has reached.
    pub fn take_confirmed(&mut self, applied: u64, is_early: bool) -> SmallVec<[Ended; 4]> {
        self.take(|round| round.index.is_some_and(|index| index <= applied || is_early))
    }

    /// Takes the rounds that are as old as `before_ms` or older.
    pub fn take_expired(&mut self, before_ms: u64) -> SmallVec<[Ended; 4]> {
        self.take(|round| round.since_ms <= before_ms)
    }

    fn take(&mut self, is_over: impl Fn(&Round) -> bool) -> SmallVec<[Ended; 4]> {
        let mut ended = SmallVec::new();
        self.rounds.retain(|round| {
            let is_over = is_over(round);
            if is_over {
                ended.push(Ended { core: round.core, context: round.context, since_ms: round.since_ms });
            }
            !is_over
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_the_round_that_it_was_asked_for() {
        let mut reads = ReadRounds::default();
        reads.begin(0, 1, 100);
        let (first, repeated) = reads.take_due(0);
        assert_eq!((first.len(), repeated), (1, 0));
        assert!(reads.take_due(limits::READ_INDEX_RETRY_MS - 1).0.is_empty());
        let (second, repeated) = reads.take_due(limits::READ_INDEX_RETRY_MS);
        assert_eq!((second.len(), repeated), (1, 1));
        assert_ne!(first, second);
        reads.on_index(first[0], 7);
        assert!(reads.take_confirmed(6, false).is_empty());
        reads.begin(600, 1, 101);
        reads.on_index(second[0], 3);
        assert_eq!(reads.take_confirmed(7, false)[..], [Ended { core: 1, context: 100, since_ms: 0 }]);
        assert!(reads.has_unasked(), "late answers of an ended round confirm no other");
    }

    #[test]
    fn a_dropped_round_is_asked_for_again_and_ends_in_time() {
        let mut reads = ReadRounds::default();
        reads.begin(5, 0, 9);
        let (asked, _) = reads.take_due(5);
        reads.on_dropped(asked[0]);
        assert!(reads.has_unasked());
        assert_eq!(reads.take_due(6).0.len(), 1);
        assert!(reads.take_expired(4).is_empty());
        assert_eq!(reads.take_expired(5)[..], [Ended { core: 0, context: 9, since_ms: 5 }]);
        assert!(reads.is_empty());
    }
}
