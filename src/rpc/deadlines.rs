//! The deadlines of one connection's calls, in one heap with one timer.
//!
//! Most calls end long before their deadline, so ended calls stay in the heap until their deadline or until they are
//! the majority, when the heap is swept.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    rc::Weak,
    time::Instant,
};

use super::{inbox::CallKey, streams::StreamState};

/// Below this size sweeping is not worth it.
const SWEEP_FROM: usize = 256;

/// The call that ends at a deadline.
pub(super) enum Expiring {
    Unary(CallKey),
    Stream(Weak<StreamState>),
    /// A unary call whose message is not complete: its number and serial among the slow calls.
    Half {
        number: usize,
        serial: u64,
    },
}

struct Entry {
    due: Instant,
    what: Expiring,
}

/// Ordered by time.
#[derive(Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<Entry>>,
    sweep_at: usize,
}

impl Deadlines {
    /// `is_live` tells which calls have not ended; it is called only when the heap has doubled.
    pub(super) fn add(&mut self, due: Instant, what: Expiring, is_live: impl Fn(&Expiring) -> bool) {
        if self.heap.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.heap.retain(|Reverse(entry)| is_live(&entry.what));
            self.sweep_at = self.heap.len() * 2;
        }
        self.heap.push(Reverse(Entry { due, what }));
    }

    /// The nearest deadline, possibly of a call that has ended.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.due)
    }

    /// One call whose deadline has passed.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Expiring> {
        if self.next().is_none_or(|due| due > now) {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn in_order_and_swept() {
        let start = Instant::now();
        let mut deadlines = Deadlines::default();
        for serial in 0..1000_u64 {
            let due = start + Duration::from_millis(serial * 7 % 1000);
            let key = CallKey { slot: 0, serial };
            deadlines.add(due, Expiring::Unary(key), |what| matches!(what, Expiring::Unary(key) if key.serial >= 250));
        }
        assert!(deadlines.heap.len() < 1000, "ended calls were swept");
        assert!(deadlines.next().unwrap() >= start);
        let mut count = 0;
        while deadlines.pop(start + Duration::from_millis(499)).is_some() {
            count += 1;
        }
        assert!(count > 300);
        assert!(deadlines.next().unwrap() > start + Duration::from_millis(499));
    }
}
