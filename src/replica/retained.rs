//! Applied entries that the log in memory still holds for followers that lag: bounded in number and bytes.

use std::collections::VecDeque;

use crate::base::limits;

#[derive(Debug, Default)]
pub(super) struct Retained {
    entries_max: u64,
    entries: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Retained {
    pub fn new(entries_max: u64) -> Self {
        Self { entries_max, ..Self::default() }
    }

    pub fn push(&mut self, index: u64, bytes: usize) {
        self.entries.push_back((index, bytes));
        self.bytes += bytes;
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// The oldest entry held, if any.
    pub fn first(&self) -> Option<u64> {
        self.entries.front().map(|(index, _)| *index)
    }

    /// The index up to which the log in memory may be dropped: none beyond `committed`, which the page file has, and none after
    /// `needed`, which a follower has of a state, up to a larger bound of the bytes.
    pub fn release(&mut self, committed: u64, needed: Option<u64>) -> Option<u64> {
        let mut released = None;
        while let Some((index, bytes)) = self.entries.front().copied()
            && index <= committed
        {
            let is_needed = needed.is_some_and(|needed| index > needed);
            let bytes_max = if is_needed { limits::RETAINED_FOR_STATE_BYTES_MAX } else { limits::RETAINED_BYTES_MAX };
            let is_over = self.bytes > bytes_max;
            let is_old = self.entries.len() as u64 > self.entries_max && !is_needed;
            if !is_over && !is_old {
                break;
            }
            self.entries.pop_front();
            self.bytes -= bytes;
            released = Some(index);
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retained_entries_are_bounded_and_never_uncommitted() {
        let mut retained = Retained::new(2);
        (1..=5).for_each(|index| retained.push(index, 10));
        assert_eq!(retained.release(2, None), Some(2));
        assert_eq!(retained.release(5, None), Some(3));
        assert_eq!(retained.release(5, None), None);
        retained.push(6, limits::RETAINED_BYTES_MAX);
        assert_eq!(retained.release(6, None), Some(5));
    }

    #[test]
    fn a_state_on_its_way_keeps_the_entries_after_it() {
        let mut retained = Retained::new(1);
        (1..=5).for_each(|index| retained.push(index, 10));
        assert_eq!(retained.release(5, Some(2)), Some(2));
        assert_eq!(retained.release(5, Some(2)), None);
        assert_eq!(retained.release(5, None), Some(4));
    }

    #[test]
    fn a_state_on_its_way_raises_the_bound_of_the_bytes() {
        let mut retained = Retained::new(1);
        (1..=4).for_each(|index| retained.push(index, limits::RETAINED_FOR_STATE_BYTES_MAX / 3));
        assert_eq!(retained.release(4, Some(0)), Some(1));
        assert_eq!(retained.release(4, Some(0)), None);
        assert_eq!(retained.release(4, Some(2)), Some(2));
        assert_eq!(retained.release(4, None), Some(4), "larger than the bound without a state");
    }
}
