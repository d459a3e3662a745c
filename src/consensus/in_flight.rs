//! The appends issued and not yet durable.
//!
//! The crate numbers every ready; only those with something to write become appends. A ready without a write
//! counts as durable as soon as every append before it is.

use std::collections::VecDeque;

/// One append under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub number: u64,
    /// It carries a new term or vote.
    pub carries_vote: bool,
    /// Index of the snapshot it installs, or 0.
    pub snapshot_index: u64,
}

/// The effect of an acknowledgement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// All readies up to this number are durable.
    pub ready: u64,
    /// The newest snapshot among them, or 0.
    pub snapshot_index: u64,
}

#[derive(Default)]
pub(super) struct InFlightAppends {
    queue: VecDeque<InFlight>,
    /// Number of the newest ready, with a write or without.
    newest_ready: u64,
}

impl InFlightAppends {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The append after which everything issued so far is durable.
    pub fn last(&self) -> Option<u64> {
        self.queue.back().map(|append| append.number)
    }

    /// The append after which this member's term and vote are durable.
    pub fn last_vote(&self) -> Option<u64> {
        let mut newest_first = self.queue.iter().rev();
        let append = newest_first.find(|append| append.carries_vote)?;
        Some(append.number)
    }

    /// Whether the snapshot up to `index` is being installed.
    pub fn installs(&self, index: u64) -> bool {
        let mut appends = self.queue.iter();
        appends.any(|append| append.snapshot_index == index)
    }

    pub fn push(&mut self, append: InFlight) {
        assert!(append.number > self.newest_ready, "appends go upwards");
        self.newest_ready = append.number;
        self.queue.push_back(append);
    }

    /// Records a ready with nothing to write; true if it is durable at once.
    pub fn note_empty(&mut self, number: u64) -> bool {
        assert!(number > self.newest_ready, "readies go upwards");
        self.newest_ready = number;
        self.queue.is_empty()
    }

    /// Takes the acknowledgement of `number` and all before it.
    pub fn settle(&mut self, number: u64) -> Settled {
        assert!(number <= self.newest_ready, "append {number} was never issued, the newest is {}", self.newest_ready);
        let mut snapshot_index = 0;
        while let Some(append) = self.queue.pop_front_if(|append| append.number <= number) {
            snapshot_index = snapshot_index.max(append.snapshot_index);
        }
        let ready = match self.queue.front() {
            Some(next) => next.number - 1,
            None => self.newest_ready,
        };
        Settled { ready, snapshot_index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(number: u64, carries_vote: bool, snapshot_index: u64) -> InFlight {
        InFlight { number, carries_vote, snapshot_index }
    }

    #[test]
    fn empty_readies_settle_with_the_append_before_them() {
        let mut appends = InFlightAppends::default();
        assert!(appends.note_empty(1));
        appends.push(append(2, true, 0));
        assert!(!appends.note_empty(3));
        appends.push(append(4, false, 9));
        assert_eq!(appends.last(), Some(4));
        assert_eq!(appends.last_vote(), Some(2));

        let settled = appends.settle(2);
        assert_eq!((settled.ready, settled.snapshot_index), (3, 0));
        assert_eq!(appends.last_vote(), None);
        let settled = appends.settle(4);
        assert_eq!((settled.ready, settled.snapshot_index), (4, 9));
        assert!(appends.is_empty());
    }

    #[test]
    #[should_panic(expected = "never issued")]
    fn an_unknown_acknowledgement_is_a_bug() {
        InFlightAppends::default().settle(1);
    }
}
