//! Half-open intervals of byte strings, found by a point inside them: an AVL tree whose nodes know the greatest end below.
//!
//! ```text
//!   order: by start, then by end           [b, f) greatest end: none ─┐ a subtree whose greatest end is at or before
//!                                         /      \                    │ the point is skipped, and so is everything
//!                                  [a, c) f       [d, ∞)              │ right of a start beyond the point
//! ```
//!
//! Insert and remove take O(log n), a point O(log n + intervals found). The depth of an AVL tree is below 1.45 log2 n whatever the
//! keys are, so its recursion is bounded; a random tree would leave that to the clients.

use std::cmp::Ordering;

use bytes::Bytes;

/// `[start, end)`; without an end, everything from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub start: Bytes,
    pub end: Option<Bytes>,
}

/// Distinct intervals with a value each.
#[derive(Clone, Debug)]
pub struct IntervalTree<V> {
    nodes: Vec<Node<V>>,
    /// Places in `nodes` that are not used.
    free: Vec<Place>,
    root: Place,
}

type Place = u32;
const NONE: Place = Place::MAX;

#[derive(Clone, Debug)]
struct Node<V> {
    interval: Interval,
    /// `None` in a free place.
    value: Option<V>,
    left: Place,
    right: Place,
    height: u8,
    /// Greatest end of this subtree; `None` is beyond all.
    greatest: Option<Bytes>,
}

impl<V> Default for IntervalTree<V> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NONE }
    }
}

impl<V> IntervalTree<V> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of exactly this interval.
    #[must_use]
    pub fn get(&self, interval: &Interval) -> Option<&V> {
        let mut at = self.root;
        while at != NONE {
            let node = self.node(at);
            at = match order(interval, &node.interval) {
                Ordering::Equal => return node.value.as_ref(),
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
            };
        }
        None
    }

    /// Adds a new interval.
    ///
    /// # Panics
    /// The interval exists already.
    pub fn insert(&mut self, interval: Interval, value: V) {
        let greatest = interval.end.clone();
        let node = Node { interval, value: Some(value), left: NONE, right: NONE, height: 1, greatest };
        let place = match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                Place::try_from(self.nodes.len() - 1).expect("fewer intervals than places")
            }
        };
        self.root = self.insert_below(self.root, place);
    }

    /// Removes exactly this interval.
    pub fn remove(&mut self, interval: &Interval) -> Option<V> {
        let (root, removed) = self.remove_below(self.root, interval);
        self.root = root;
        let place = removed?;
        self.free.push(place);
        let node = &mut self.nodes[place as usize];
        node.interval = Interval { start: Bytes::new(), end: None };
        node.greatest = None;
        node.value.take()
    }

    /// Calls `show` with the value of every interval that contains `point`, in the order of the intervals.
    pub fn at_point(&self, point: &[u8], show: &mut impl FnMut(&V)) {
        self.show_below(self.root, point, show);
    }

    fn show_below(&self, at: Place, point: &[u8], show: &mut impl FnMut(&V)) {
        if at == NONE {
            return;
        }
        let node = self.node(at);
        if !is_before(point, node.greatest.as_ref()) {
            return;
        }
        self.show_below(node.left, point, show);
        if node.interval.start <= point {
            if is_before(point, node.interval.end.as_ref()) {
                show(node.value.as_ref().expect("a node of the tree has a value"));
            }
            self.show_below(node.right, point, show);
        }
    }

    fn insert_below(&mut self, at: Place, new: Place) -> Place {
        if at == NONE {
            return new;
        }
        match order(&self.node(new).interval, &self.node(at).interval) {
            Ordering::Less => self.node_mut(at).left = self.insert_below(self.node(at).left, new),
            Ordering::Greater => self.node_mut(at).right = self.insert_below(self.node(at).right, new),
            Ordering::Equal => panic!("an interval is inserted once"),
        }
        self.balanced(at)
    }

    /// The root of the subtree afterwards, and the node that was removed.
    fn remove_below(&mut self, at: Place, interval: &Interval) -> (Place, Option<Place>) {
        if at == NONE {
            return (NONE, None);
        }
        let (left, right) = (self.node(at).left, self.node(at).right);
        let removed = match order(interval, &self.node(at).interval) {
            Ordering::Less => {
                let (below, removed) = self.remove_below(left, interval);
                self.node_mut(at).left = below;
                removed
            }
            Ordering::Greater => {
                let (below, removed) = self.remove_below(right, interval);
                self.node_mut(at).right = below;
                removed
            }
            Ordering::Equal if left == NONE => return (right, Some(at)),
            Ordering::Equal if right == NONE => return (left, Some(at)),
            Ordering::Equal => {
                let (next, rest) = self.take_first(right);
                self.node_mut(next).left = left;
                self.node_mut(next).right = rest;
                return (self.balanced(next), Some(at));
            }
        };
        (self.balanced(at), removed)
    }

    /// The first node of the subtree, and the root of the rest.
    fn take_first(&mut self, at: Place) -> (Place, Place) {
        let left = self.node(at).left;
        if left == NONE {
            return (at, self.node(at).right);
        }
        let (first, rest) = self.take_first(left);
        self.node_mut(at).left = rest;
        (first, self.balanced(at))
    }

    /// Updates a node's greatest end and restores the balance, after a node below it was added or removed.
    fn balanced(&mut self, at: Place) -> Place {
        let (left, right) = (self.node(at).left, self.node(at).right);
        let tilt = i16::from(self.height(left)) - i16::from(self.height(right));
        if tilt > 1 {
            if self.height(self.node(left).left) < self.height(self.node(left).right) {
                self.node_mut(at).left = self.rotated_left(left);
            }
            return self.rotated_right(at);
        }
        if tilt < -1 {
            if self.height(self.node(right).right) < self.height(self.node(right).left) {
                self.node_mut(at).right = self.rotated_right(right);
            }
            return self.rotated_left(at);
        }
        self.sum_up(at);
        at
    }

    fn rotated_left(&mut self, at: Place) -> Place {
        let up = self.node(at).right;
        self.node_mut(at).right = self.node(up).left;
        self.sum_up(at);
        self.node_mut(up).left = at;
        self.sum_up(up);
        up
    }

    fn rotated_right(&mut self, at: Place) -> Place {
        let up = self.node(at).left;
        self.node_mut(at).left = self.node(up).right;
        self.sum_up(at);
        self.node_mut(up).right = at;
        self.sum_up(up);
        up
    }

    fn sum_up(&mut self, at: Place) {
        let node = self.node(at);
        let (left, right) = (node.left, node.right);
        let height = 1 + self.height(left).max(self.height(right));
        let mut greatest = node.interval.end.clone();
        for below in [left, right] {
            if below != NONE && is_greater(self.node(below).greatest.as_ref(), greatest.as_ref()) {
                greatest.clone_from(&self.node(below).greatest);
            }
        }
        let node = self.node_mut(at);
        node.height = height;
        node.greatest = greatest;
    }

    fn height(&self, at: Place) -> u8 {
        if at == NONE { 0 } else { self.node(at).height }
    }

    fn node(&self, at: Place) -> &Node<V> {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: Place) -> &mut Node<V> {
        &mut self.nodes[at as usize]
    }
}

fn order(one: &Interval, other: &Interval) -> Ordering {
    one.start.cmp(&other.start).then_with(|| match (&one.end, &other.end) {
        (Some(one), Some(other)) => one.cmp(other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    })
}

fn is_before(point: &[u8], end: Option<&Bytes>) -> bool {
    end.is_none_or(|end| point < &end[..])
}

fn is_greater(end: Option<&Bytes>, other: Option<&Bytes>) -> bool {
    match (end, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(end), Some(other)) => end > other,
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    impl<V> IntervalTree<V> {
        /// Height of a subtree whose order, balance and ends were found right.
        fn checked(&self, at: Place, low: Option<&Interval>, high: Option<&Interval>) -> u8 {
            if at == NONE {
                return 0;
            }
            let node = self.node(at);
            assert!(low.is_none_or(|low| order(low, &node.interval) == Ordering::Less));
            assert!(high.is_none_or(|high| order(high, &node.interval) == Ordering::Greater));
            let left = self.checked(node.left, low, Some(&node.interval));
            let right = self.checked(node.right, Some(&node.interval), high);
            assert!(left.abs_diff(right) <= 1);
            assert_eq!(node.height, 1 + left.max(right));
            node.height
        }
    }

    fn key(random: &mut SmallRng) -> Bytes {
        let len = random.random_range(0..3);
        (0..len).map(|_| random.random_range(b'a'..b'f')).collect::<Vec<u8>>().into()
    }

    #[test]
    fn agrees_with_a_list() {
        for seed in 0..40 {
            println!("seed {seed}");
            let random = &mut SmallRng::seed_from_u64(seed);
            let mut tree = IntervalTree::default();
            let mut list: Vec<(Interval, u32)> = Vec::new();
            for step in 0..400 {
                let interval = Interval { start: key(random), end: random.random_bool(0.9).then(|| key(random)) };
                let known = list.iter().position(|(other, _)| *other == interval);
                assert_eq!(tree.get(&interval).copied(), known.map(|at| list[at].1));
                match known {
                    Some(at) => assert_eq!(tree.remove(&interval), Some(list.swap_remove(at).1)),
                    None if random.random_bool(0.3) => assert_eq!(tree.remove(&interval), None),
                    None => {
                        tree.insert(interval.clone(), step);
                        list.push((interval, step));
                    }
                }
                tree.checked(tree.root, None, None);
                assert_eq!(tree.len(), list.len());
                let point = key(random);
                let mut found = Vec::new();
                tree.at_point(&point, &mut |value| found.push(*value));
                found.sort_unstable();
                let holds = |i: &Interval| i.start <= point && i.end.as_ref().is_none_or(|end| point < end);
                let mut expected: Vec<u32> = list.iter().filter(|(i, _)| holds(i)).map(|(_, value)| *value).collect();
                expected.sort_unstable();
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn sorted_keys_do_not_make_it_deep() {
        let mut tree = IntervalTree::default();
        for number in 0..10_000u32 {
            let start = Bytes::copy_from_slice(&number.to_be_bytes());
            let end = Bytes::copy_from_slice(&(number + 1).to_be_bytes());
            tree.insert(Interval { start, end: Some(end) }, number);
        }
        assert!(tree.height(tree.root) <= 20);
        let mut found = Vec::new();
        tree.at_point(&77u32.to_be_bytes(), &mut |value| found.push(*value));
        assert_eq!(found, [77]);
    }
}
