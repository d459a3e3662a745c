//! Nodes of the tree index: packed keys, leaves, branches, and the counts a parent keeps of each child.
//!
//! ```text
//!   Branch   keys       "k4" | "k8"              lower bound of each child but the first
//!            children  Arc<Node> + Summary
//!   Leaf     keys    k4 k5 k6 k7                 packed, see key_block
//!            stamps  28 plain bytes per key      the latest change
//!            histories (slot, Arc<History>)      only for keys with more than one change
//! ```
//!
//! Copying a leaf copies a few flat buffers; no reference count is touched for keys without history.

use std::sync::Arc;

use super::{
    key_block::{KeyBlock, reserve, shared_len},
    key_index::{History, KeyVersion, Stamp},
    revision::Revision,
};
use crate::base::limits::{INDEX_BRANCH_CHILDREN_MAX, INDEX_LEAF_BYTES_MAX, INDEX_LEAF_KEYS_MAX};

/// Below this many entries a node is merged with a neighbour.
const LEAF_KEYS_MIN: usize = INDEX_LEAF_KEYS_MAX / 4;
const BRANCH_CHILDREN_MIN: usize = INDEX_BRANCH_CHILDREN_MAX / 4;
/// As in a key block.
const GROW_KEYS: usize = 8;

/// Counts over a subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Keys that exist now.
    pub(super) live: u64,
    /// Keys with any record, tombstones included.
    pub(super) keys: u64,
    /// Stamps in histories.
    pub(super) past: u64,
    /// No change below is newer than this main revision.
    pub(super) newest: i64,
}

/// The change of a [`Summary`] by one edit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delta {
    pub(super) live: i64,
    pub(super) keys: i64,
    pub(super) past: i64,
    pub(super) newest: i64,
}

#[derive(Clone)]
pub(super) enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

#[derive(Clone, Default)]
pub(super) struct Leaf {
    keys: KeyBlock,
    stamps: Vec<Stamp>,
    histories: Vec<(u8, Arc<History>)>,
}

#[derive(Clone)]
pub(super) struct Branch {
    keys: KeyBlock,
    children: Vec<Child>,
}

#[derive(Clone)]
pub(super) struct Child {
    pub(super) node: Arc<Node>,
    pub(super) summary: Summary,
}

/// The upper part of a node that grew too large; its keys are at or above the separator.
pub(super) struct Split {
    pub(super) separator: Vec<u8>,
    pub(super) right: Child,
}

impl Summary {
    pub(super) fn apply(&mut self, delta: Delta) {
        let moved =
            |count: u64, by: i64| count.checked_add_signed(by).expect("a count of the tree index fell below zero");
        self.live = moved(self.live, delta.live);
        self.keys = moved(self.keys, delta.keys);
        self.past = moved(self.past, delta.past);
        self.newest = self.newest.max(delta.newest);
    }

    /// Whether a compaction could find anything to drop below.
    pub(super) fn droppable(&self) -> bool {
        self.past > 0 || self.live < self.keys
    }

    fn add(&mut self, other: &Self) {
        self.live += other.live;
        self.keys += other.keys;
        self.past += other.past;
        self.newest = self.newest.max(other.newest);
    }

    fn take_away(&mut self, part: &Self) {
        self.live -= part.live;
        self.keys -= part.keys;
        self.past -= part.past;
    }
}

impl Node {
    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        match self {
            Self::Leaf(leaf) => {
                summary.keys = leaf.len() as u64;
                summary.live = leaf.stamps.iter().filter(|s| !s.is_tombstone()).count() as u64;
                summary.past = leaf.histories.iter().map(|h| h.1.len() as u64).sum();
                let newest = leaf.stamps.iter().map(|stamp| stamp.main()).max();
                summary.newest = newest.unwrap_or(0);
            }
            Self::Branch(branch) => {
                for child in &branch.children {
                    summary.add(&child.summary);
                }
            }
        }
        summary
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.len() == 0,
            Self::Branch(branch) => branch.len() == 0,
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.len() < LEAF_KEYS_MIN,
            Self::Branch(branch) => branch.len() < BRANCH_CHILDREN_MIN,
        }
    }

    fn can_take(&self, right: &Self) -> bool {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                left.len() + right.len() <= INDEX_LEAF_KEYS_MAX * 3 / 4
                    && left.keys.bytes_len() + right.keys.bytes_len() <= INDEX_LEAF_BYTES_MAX / 2
            }
            (Self::Branch(left), Self::Branch(right)) => left.len() + right.len() <= INDEX_BRANCH_CHILDREN_MAX * 3 / 4,
            _ => unreachable!("siblings are of one level"),
        }
    }

    /// Appends the right sibling, whose lower bound is `separator`.
    fn merge(&mut self, right: &Self, separator: &[u8]) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                let shift = left.len() as u8;
                left.keys.append(&right.keys);
                left.stamps.extend_from_slice(&right.stamps);
                for (slot, history) in &right.histories {
                    left.histories.push((slot + shift, Arc::clone(history)));
                }
            }
            (Self::Branch(left), Self::Branch(right)) => {
                left.keys.insert(left.keys.len(), separator);
                left.keys.append(&right.keys);
                left.children.extend(right.children.iter().cloned());
            }
            _ => unreachable!("siblings are of one level"),
        }
    }
}

impl Leaf {
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    pub(super) fn keys(&self) -> &KeyBlock {
        &self.keys
    }

    pub(super) fn stamp(&self, slot: usize) -> Stamp {
        self.stamps[slot]
    }

    pub(super) fn history(&self, slot: usize) -> Option<&Arc<History>> {
        let found = self.find_history(slot).ok()?;
        Some(&self.histories[found].1)
    }

    /// The version of the key in `slot` that a read at `at` returns.
    pub(super) fn version_at(&self, slot: usize, at: i64) -> Option<KeyVersion> {
        self.newest_at(slot, at)?.live()
    }

    /// The newest change of the key in `slot` with `main <= at`.
    pub(super) fn newest_at(&self, slot: usize, at: i64) -> Option<Stamp> {
        let latest = self.stamps[slot];
        if latest.main() <= at {
            return Some(latest);
        }
        self.history(slot)?.newest_at(at)
    }

    /// Makes `stamp` the latest of the key in `slot`; the one before becomes history.
    pub(super) fn push(&mut self, slot: usize, stamp: Stamp) -> Delta {
        let before = std::mem::replace(&mut self.stamps[slot], stamp);
        assert!(stamp.revision() > before.revision(), "revision {} after {}", stamp.revision(), before.revision());
        match self.find_history(slot) {
            Ok(found) => {
                let history = &mut self.histories[found].1;
                *history = History::pushed(Some(history), before);
            }
            Err(place) => {
                let history = History::pushed(None, before);
                self.histories.insert(place, (slot as u8, history));
            }
        }
        Delta {
            live: i64::from(!stamp.is_tombstone()) - i64::from(!before.is_tombstone()),
            keys: 0,
            past: 1,
            newest: stamp.main(),
        }
    }

    pub(super) fn insert(&mut self, slot: usize, key: &[u8], stamp: Stamp) -> Delta {
        self.keys.insert(slot, key);
        reserve(&mut self.stamps, 1, GROW_KEYS);
        self.stamps.insert(slot, stamp);
        for (later, _) in &mut self.histories {
            *later += u8::from(usize::from(*later) >= slot);
        }
        Delta { live: i64::from(!stamp.is_tombstone()), keys: 1, past: 0, newest: stamp.main() }
    }

    pub(super) fn replace_history(&mut self, slot: usize, history: Option<Arc<History>>) -> Delta {
        let mut past = history.as_ref().map_or(0, |history| history.len() as i64);
        if let Ok(found) = self.find_history(slot) {
            past -= self.histories[found].1.len() as i64;
            match history {
                Some(history) => self.histories[found].1 = history,
                None => drop(self.histories.remove(found)),
            }
        } else {
            assert!(history.is_none(), "compaction made a history longer");
        }
        Delta { past, ..Delta::default() }
    }

    pub(super) fn remove(&mut self, slot: usize) -> Delta {
        let mut delta = self.replace_history(slot, None);
        let stamp = self.stamps.remove(slot);
        self.keys.remove(slot);
        for (later, _) in &mut self.histories {
            *later -= u8::from(usize::from(*later) > slot);
        }
        delta.live = -i64::from(!stamp.is_tombstone());
        delta.keys = -1;
        delta
    }

    /// Splits if too large. `inserted` is the slot that grew: an insert at the end splits so that the left leaf stays full, so keys
    /// that come in order fill leaves completely.
    pub(super) fn split(&mut self, inserted: usize) -> Option<Split> {
        let len = self.len();
        if len <= INDEX_LEAF_KEYS_MAX && (len < 2 || self.keys.bytes_len() <= INDEX_LEAF_BYTES_MAX) {
            return None;
        }
        let middle = if inserted == len - 1 { len - 1 } else { len / 2 };
        let separator = separator(self.keys.at(middle - 1), self.keys.at(middle));
        let cut = self.histories.partition_point(|(slot, _)| usize::from(*slot) < middle);
        let mut histories = self.histories.split_off(cut);
        for (slot, _) in &mut histories {
            *slot -= middle as u8;
        }
        let right =
            Node::Leaf(Self { keys: self.keys.split_off(middle), stamps: self.stamps.split_off(middle), histories });
        self.stamps.shrink_to(middle + GROW_KEYS);
        Some(Split { separator, right: Child::new(right) })
    }

    fn find_history(&self, slot: usize) -> Result<usize, usize> {
        let wanted = slot as u8;
        self.histories.binary_search_by_key(&wanted, |(slot, _)| *slot)
    }
}

impl Child {
    pub(super) fn new(node: Node) -> Self {
        let summary = node.summary();
        Self { node: Arc::new(node), summary }
    }
}

impl Branch {
    /// A root above two nodes.
    pub(super) fn above(left: Child, split: Split) -> Self {
        let mut keys = KeyBlock::default();
        keys.insert(0, &split.separator);
        Self { keys, children: vec![left, split.right] }
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    pub(super) fn child(&self, position: usize) -> &Child {
        &self.children[position]
    }

    pub(super) fn child_mut(&mut self, position: usize) -> &mut Child {
        &mut self.children[position]
    }

    /// Lower bound of a child other than the first.
    pub(super) fn lower_bound(&self, position: usize) -> &[u8] {
        assert!(position > 0, "the bound of a first child is its parent's");
        self.keys.at(position - 1)
    }

    /// The child whose keys would include `key`.
    pub(super) fn position_of(&self, key: &[u8]) -> usize {
        match self.keys.search(key) {
            Ok(position) => position + 1,
            Err(position) => position,
        }
    }

    /// Puts the upper part of a split child beside it.
    pub(super) fn insert(&mut self, left: usize, split: Split) {
        self.children[left].summary.take_away(&split.right.summary);
        self.keys.insert(left, &split.separator);
        reserve(&mut self.children, 1, GROW_KEYS);
        self.children.insert(left + 1, split.right);
    }

    pub(super) fn split(&mut self) -> Option<Split> {
        if self.len() <= INDEX_BRANCH_CHILDREN_MAX {
            return None;
        }
        let middle = self.len() / 2;
        let separator = self.keys.at(middle - 1).to_vec();
        let right = Node::Branch(Self { keys: self.keys.split_off(middle), children: self.children.split_off(middle) });
        self.keys.remove(middle - 1);
        self.children.shrink_to(middle + GROW_KEYS);
        Some(Split { separator, right: Child::new(right) })
    }

    /// After a removal below `position`: drops an empty child, merges a small one with a neighbour.
    pub(super) fn mend(&mut self, position: usize) {
        let node = &self.children[position].node;
        if node.is_empty() {
            self.children.remove(position);
            if self.keys.len() > 0 {
                self.keys.remove(position.saturating_sub(1));
            }
            return;
        }
        if !node.is_small() {
            return;
        }
        for left in [position.checked_sub(1), Some(position)].into_iter().flatten() {
            let right = left + 1;
            if right < self.len() && self.children[left].node.can_take(&self.children[right].node) {
                self.merge(left);
                return;
            }
        }
    }

    fn merge(&mut self, left: usize) {
        let right = self.children.remove(left + 1);
        let child = &mut self.children[left];
        Arc::make_mut(&mut child.node).merge(&right.node, self.keys.at(left));
        child.summary.add(&right.summary);
        self.keys.remove(left);
    }
}

/// Shortest key that is above `left` and not above `right`.
fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    assert!(left < right, "keys of a leaf ascend");
    right[..=shared_len(left, right)].to_vec()
}

/// The latest stamp after a put, from the one before.
pub(super) fn put_stamp(before: Option<Stamp>, revision: Revision, leased: bool) -> Stamp {
    let (created, version) = match before.and_then(Stamp::live) {
        Some(live) => (live.created, live.version + 1),
        None => (revision.main, 1),
    };
    Stamp::put(KeyVersion { created, modified: revision, version, leased })
}
