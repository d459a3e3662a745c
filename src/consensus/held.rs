//! Proposals of other members that nobody can take at the moment: they were forwarded to a leader that is handing leadership over, or
//! to one that has lost it.
//!
//! The member that forwarded one does not learn that it was dropped and waits for its request timeout. So it is held for the next
//! leader instead, for two election timeouts at most.

use std::collections::VecDeque;

use raft::eraftpb;

use crate::base::limits;

/// Forwarded proposals in the order of their arrival.
#[derive(Default)]
pub(super) struct Held {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    ticks: usize,
}

struct Waiting {
    message: eraftpb::Message,
    bytes: usize,
    since_ticks: usize,
}

impl Held {
    /// Holds a message, unless too much waits already.
    pub fn push(&mut self, message: eraftpb::Message) {
        let bytes = message.entries.iter().map(|entry| entry.data.len() + entry.context.len()).sum();
        let is_full =
            self.waiting.len() >= limits::PROPOSALS_HELD_MAX || self.bytes + bytes > limits::PROPOSALS_HELD_BYTES_MAX;
        if !is_full {
            self.bytes += bytes;
            self.waiting.push_back(Waiting { message, bytes, since_ticks: self.ticks });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A tick; drops what has waited for `ticks_max` of them.
    pub fn tick(&mut self, ticks_max: usize) {
        self.ticks += 1;
        while let Some(first) = self.waiting.front()
            && self.ticks - first.since_ticks >= ticks_max
        {
            self.bytes -= first.bytes;
            self.waiting.pop_front();
        }
    }

    pub fn take(&mut self) -> impl Iterator<Item = eraftpb::Message> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(bytes: usize) -> eraftpb::Message {
        let mut entry = eraftpb::Entry::new();
        entry.data = vec![0; bytes].into();
        let mut message = eraftpb::Message::new();
        message.entries = vec![entry].into();
        message
    }

    #[test]
    fn what_is_held_is_bounded_in_bytes_and_time() {
        let mut held = Held::default();
        held.push(proposal(limits::PROPOSALS_HELD_BYTES_MAX));
        held.push(proposal(1));
        held.tick(2);
        held.push(proposal(0));
        assert_eq!(held.waiting.len(), 2, "the second was too much");
        held.tick(2);
        assert_eq!(held.take().count(), 1, "the first was too old");
        assert!(held.is_empty());
        held.push(proposal(limits::PROPOSALS_HELD_BYTES_MAX));
        assert_eq!(held.take().count(), 1);
    }
}
