//! The tree index: all keys, and the versions of each.
//!
//! A persistent B-tree. The writer changes a node in place if no reader holds it and copies it otherwise, so a batch of
//! changes copies each node at most once. A reader takes a clone (one reference count) and keeps its state, on any core and
//! without a lock.
//!
//! 1. All leaves are at one depth. Keys ascend through the leaves. Only the root may be empty.
//! 2. The summary beside each child equals what the subtree holds; `newest` may be too high, never too low.
//! 3. Nothing here reads records: the index has only revisions, create revisions and versions.
//!
//! A subtree whose `newest` is not above the revision of a read has exactly `live` keys at it. So counting a range
//! at the current revision visits two paths, and at an old revision only what has changed since.
//!
//! Deliberately absent: values (bucket `key`), lease ids (the record), and limits of any kind.

use std::{fmt, sync::Arc};

use super::{
    key_index::{self, Compacted, KeyVersion, Stamp},
    revision::Revision,
    tree_cursor::TreeCursor,
    tree_node::{Branch, Child, Delta, Leaf, Node, Split, Summary, put_stamp},
};

/// A range of keys as etcd's requests spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// Exactly this key.
    Single(&'a [u8]),
    /// `[start, end)`; nothing when `start >= end`.
    Between(&'a [u8], &'a [u8]),
    /// Every key at or above the start.
    From(&'a [u8]),
}

/// All keys and their versions.
#[derive(Clone)]
pub struct TreeIndex {
    root: Arc<Node>,
    summary: Summary,
}

/// Part of a count that was taken in slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountSlice {
    pub count: u64,
    /// The next key; `None` when the range is done.
    pub resume: Option<Vec<u8>>,
}

impl<'a> KeyRange<'a> {
    /// From `key` and `range_end` of a request: an empty end means the single key, one zero byte means no upper bound.
    #[must_use]
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::Single(key),
            [0] => Self::From(key),
            end => Self::Between(key, end),
        }
    }

    #[must_use]
    pub fn start(&self) -> &'a [u8] {
        match *self {
            Self::Single(start) | Self::Between(start, _) | Self::From(start) => start,
        }
    }

    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Self::Single(only) => key == only,
            Self::Between(start, end) => start <= key && key < end,
            Self::From(start) => start <= key,
        }
    }
}

impl Default for TreeIndex {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Leaf::default())), summary: Summary::default() }
    }
}

/// Counts only: the content may be gigabytes.
impl fmt::Debug for TreeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeIndex")
            .field("live", &self.summary.live)
            .field("keys", &self.summary.keys)
            .finish_non_exhaustive()
    }
}

impl TreeIndex {
    /// Keys that exist now.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.summary.live
    }

    /// Keys with any version or tombstone left.
    #[must_use]
    pub fn all_keys(&self) -> u64 {
        self.summary.keys
    }

    /// Records the index knows of: latest and past, tombstones included.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.summary.keys + self.summary.past
    }

    /// The version of `key` that a read at `at` returns.
    #[must_use]
    pub fn version_at(&self, key: &[u8], at: i64) -> Option<KeyVersion> {
        let (leaf, slot) = self.find(key)?;
        leaf.version_at(slot, at)
    }

    /// The newest change of `key` with `main <= at`, and whether it is a tombstone.
    #[must_use]
    pub fn change_at(&self, key: &[u8], at: i64) -> Option<(Revision, bool)> {
        let (leaf, slot) = self.find(key)?;
        let stamp = leaf.newest_at(slot, at)?;
        Some((stamp.revision(), stamp.is_tombstone()))
    }

    fn find(&self, key: &[u8]) -> Option<(&Leaf, usize)> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Branch(branch) => node = &branch.child(branch.position_of(key)).node,
                Node::Leaf(leaf) => return Some((leaf, leaf.keys().search(key).ok()?)),
            }
        }
    }

    /// Records a put; returns the key's version before and after it.
    pub fn put(&mut self, key: &[u8], revision: Revision, leased: bool) -> (Option<KeyVersion>, KeyVersion) {
        let mut replaced = None;
        let mut written = None;
        self.edit(key, &mut |leaf, place| {
            let before = place.ok().map(|slot| leaf.stamp(slot));
            let stamp = put_stamp(before, revision, leased);
            replaced = before.and_then(Stamp::live);
            written = stamp.live();
            match place {
                Ok(slot) => leaf.push(slot, stamp),
                Err(slot) => leaf.insert(slot, key, stamp),
            }
        });
        (replaced, written.expect("a put makes a live version"))
    }

    /// Records a deletion. Returns `false` if the key does not exist.
    pub fn tombstone(&mut self, key: &[u8], revision: Revision) -> bool {
        let exists = self.find(key).is_some_and(|(leaf, slot)| !leaf.stamp(slot).is_tombstone());
        if exists {
            self.edit(key, &mut |leaf, place| {
                let slot = place.expect("the key was found");
                leaf.push(slot, Stamp::tombstone(revision))
            });
        }
        exists
    }

    /// Records a put found in the database. The first record of a key brings its create revision and version along,
    /// because earlier records may be compacted; later ones count from there.
    pub fn restore_put(&mut self, key: &[u8], found: KeyVersion) {
        self.edit(key, &mut |leaf, place| match place {
            Ok(slot) => {
                let before = Some(leaf.stamp(slot));
                let stamp = put_stamp(before, found.modified, found.leased);
                leaf.push(slot, stamp)
            }
            Err(slot) => leaf.insert(slot, key, Stamp::put(found)),
        });
    }

    /// Records a tombstone found in the database; a second one in a row changes nothing.
    pub fn restore_tombstone(&mut self, key: &[u8], revision: Revision) {
        self.edit(key, &mut |leaf, place| match place {
            Ok(slot) if leaf.stamp(slot).is_tombstone() => Delta::default(),
            Ok(slot) => leaf.push(slot, Stamp::tombstone(revision)),
            Err(slot) => leaf.insert(slot, key, Stamp::tombstone(revision)),
        });
    }

    /// Keys at or above `from` of which compaction at `at` drops versions, out of about `leaves` leaves, and the next key. Leaves with
    /// nothing to drop are skipped.
    #[must_use]
    pub fn compactable(&self, at: i64, from: &[u8], leaves: usize) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let mut search = CompactableSearch { at, leaves: leaves.max(1), keys: Vec::new() };
        let resume = if self.summary.droppable() { search.visit(&self.root, Some(from)) } else { None };
        (search.keys, resume.map(<[u8]>::to_vec))
    }

    /// Drops what compaction at `at` drops of one key.
    pub fn compact_key(&mut self, key: &[u8], at: i64) {
        self.edit(key, &mut |leaf, place| {
            let Ok(slot) = place else {
                return Delta::default();
            };
            match key_index::compact(leaf.stamp(slot), leaf.history(slot), at) {
                Compacted::Unchanged => Delta::default(),
                Compacted::Trimmed(history) => leaf.replace_history(slot, history),
                Compacted::Gone => leaf.remove(slot),
            }
        });
    }

    fn edit(&mut self, key: &[u8], change: &mut Change<'_>) {
        let (delta, split) = edit(&mut self.root, key, change);
        self.summary.apply(delta);
        if let Some(split) = split {
            let mut summary = self.summary;
            summary.live -= split.right.summary.live;
            summary.keys -= split.right.summary.keys;
            summary.past -= split.right.summary.past;
            let node = Arc::clone(&self.root);
            let left = Child { node, summary };
            self.root = Arc::new(Node::Branch(Branch::above(left, split)));
        }
        while let Node::Branch(branch) = &*self.root {
            let only = match branch.len() {
                0 => Arc::new(Node::Leaf(Leaf::default())),
                1 => Arc::clone(&branch.child(0).node),
                _ => break,
            };
            self.root = only;
        }
    }

    /// A cursor before the first key at or above `key`.
    #[must_use]
    pub fn cursor_at(&self, key: &[u8]) -> TreeCursor<'_> {
        TreeCursor::at_key(&self.root, key)
    }

    /// A cursor before the key with `rank` keys below it.
    #[must_use]
    pub fn cursor_at_rank(&self, rank: u64) -> TreeCursor<'_> {
        TreeCursor::at_rank(&self.root, rank)
    }

    /// Number of keys (live or not) below `key`.
    #[must_use]
    pub fn rank(&self, key: &[u8]) -> u64 {
        let mut rank = 0;
        let mut node = &*self.root;
        loop {
            match node {
                Node::Branch(branch) => {
                    let position = branch.position_of(key);
                    rank += (0..position).map(|before| branch.child(before).summary.keys).sum::<u64>();
                    node = &branch.child(position).node;
                }
                Node::Leaf(leaf) => {
                    let (Ok(slot) | Err(slot)) = leaf.keys().search(key);
                    return rank + slot as u64;
                }
            }
        }
    }

    /// Ranks of the first key of a range and of the first one after it.
    #[must_use]
    pub fn ranks(&self, range: KeyRange<'_>) -> (u64, u64) {
        let first = self.rank(range.start());
        let end = match range {
            KeyRange::Single(key) => first + u64::from(self.find(key).is_some()),
            KeyRange::Between(_, end) => self.rank(end).max(first),
            KeyRange::From(_) => self.summary.keys,
        };
        (first, end)
    }

    /// Number of keys of `range` that exist at `at`.
    #[must_use]
    pub fn count(&self, range: KeyRange<'_>, at: i64) -> u64 {
        self.count_slice(range, range.start(), at, usize::MAX).count
    }

    /// Part of [`Self::count`]: keys at or above `from`, visiting at most about `leaves` leaves.
    #[must_use]
    pub fn count_slice(&self, range: KeyRange<'_>, from: &[u8], at: i64, leaves: usize) -> CountSlice {
        let mut slice = CountSlice { count: 0, resume: None };
        let upper = match range {
            KeyRange::Single(key) => {
                slice.count = u64::from(self.version_at(key, at).is_some());
                return slice;
            }
            KeyRange::Between(start, end) if start >= end => return slice,
            KeyRange::Between(_, end) => Some(end),
            KeyRange::From(_) => None,
        };
        let mut count = Count { at, leaves: leaves.max(1), found: 0 };
        let resume = count.visit(&self.root, &self.summary, Some(from), upper);
        slice.count = count.found;
        slice.resume = resume.map(<[u8]>::to_vec);
        slice
    }

    /// Whether any key exists at `at`.
    #[must_use]
    pub fn any_live_at(&self, at: i64) -> bool {
        if self.summary.newest <= at {
            return self.summary.live > 0;
        }
        let mut cursor = self.cursor_at(b"");
        while let Some(entry) = cursor.next() {
            if entry.version_at(at).is_some() {
                return true;
            }
        }
        false
    }
}

/// The change of the leaf that holds the key (`Ok(slot)`) or into which it belongs (`Err(slot)`).
type Change<'c> = dyn FnMut(&mut Leaf, Result<usize, usize>) -> Delta + 'c;

/// Descends to the leaf of `key`, copying shared nodes, and repairs the path on the way back. Recursion is as deep as the tree.
fn edit(node: &mut Arc<Node>, key: &[u8], change: &mut Change<'_>) -> (Delta, Option<Split>) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let place = leaf.keys().search(key);
            let delta = change(leaf, place);
            let (Ok(slot) | Err(slot)) = place;
            let split = if delta.keys > 0 { leaf.split(slot) } else { None };
            (delta, split)
        }
        Node::Branch(branch) => {
            let position = branch.position_of(key);
            let child = branch.child_mut(position);
            let (delta, split) = edit(&mut child.node, key, change);
            child.summary.apply(delta);
            if let Some(split) = split {
                branch.insert(position, split);
            } else if delta.keys < 0 {
                branch.mend(position);
            }
            (delta, branch.split())
        }
    }
}

struct Count {
    at: i64,
    leaves: usize,
    found: u64,
}

impl Count {
    /// Counts the keys of a subtree within the bounds that cut through it. Returns the next key if the budget ended.
    fn visit<'n>(
        &mut self,
        node: &'n Node,
        summary: &Summary,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Option<&'n [u8]> {
        if lower.is_none() && upper.is_none() && summary.newest <= self.at {
            self.found += summary.live;
            return None;
        }
        match node {
            Node::Leaf(leaf) => {
                let place = |key| leaf.keys().search(key).unwrap_or_else(|slot| slot);
                let first = lower.map_or(0, place);
                let end = upper.map_or(leaf.len(), place);
                let live = (first..end).filter(|slot| leaf.version_at(*slot, self.at).is_some());
                self.found += live.count() as u64;
                self.leaves -= 1;
                None
            }
            Node::Branch(branch) => {
                let first = lower.map_or(0, |key| branch.position_of(key));
                let last = upper.map_or(branch.len() - 1, |key| branch.position_of(key));
                for position in first..=last {
                    if position > first && self.leaves == 0 {
                        return Some(branch.lower_bound(position));
                    }
                    let child = branch.child(position);
                    let lower = lower.filter(|_| position == first);
                    let upper = upper.filter(|_| position == last);
                    let resume = self.visit(&child.node, &child.summary, lower, upper);
                    if resume.is_some() {
                        return resume;
                    }
                }
                None
            }
        }
    }
}

struct CompactableSearch {
    at: i64,
    leaves: usize,
    keys: Vec<Vec<u8>>,
}

impl CompactableSearch {
    fn visit<'n>(&mut self, node: &'n Node, from: Option<&[u8]>) -> Option<&'n [u8]> {
        match node {
            Node::Leaf(leaf) => {
                let place = |key| leaf.keys().search(key).unwrap_or_else(|slot| slot);
                for slot in from.map_or(0, place)..leaf.len() {
                    let outcome = key_index::compact(leaf.stamp(slot), leaf.history(slot), self.at);
                    if !matches!(outcome, Compacted::Unchanged) {
                        self.keys.push(leaf.keys().at(slot).to_vec());
                    }
                }
                self.leaves -= 1;
                None
            }
            Node::Branch(branch) => {
                let first = from.map_or(0, |key| branch.position_of(key));
                for position in first..branch.len() {
                    let child = branch.child(position);
                    if !child.summary.droppable() {
                        continue;
                    }
                    if position > first && self.leaves == 0 {
                        return Some(branch.lower_bound(position));
                    }
                    let from = from.filter(|_| position == first);
                    let resume = self.visit(&child.node, from);
                    if resume.is_some() {
                        return resume;
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    impl TreeIndex {
        /// Checks every invariant of the tree.
        pub(in crate::mvcc) fn check(&self) {
            let mut depths = Vec::new();
            let mut last: Option<Vec<u8>> = None;
            let found = check_node(&self.root, 0, None, None, &mut depths, &mut last);
            assert_same(&found, &self.summary);
            assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    /// `newest` may be too high beside a child.
    fn assert_same(found: &Summary, stated: &Summary) {
        assert!(found.newest <= stated.newest);
        let stated = Summary { newest: found.newest, ..*stated };
        assert_eq!(*found, stated);
    }

    fn check_node(
        node: &Node,
        depth: usize,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        depths: &mut Vec<usize>,
        last: &mut Option<Vec<u8>>,
    ) -> Summary {
        let mut found = Summary::default();
        match node {
            Node::Leaf(leaf) => {
                assert!(leaf.len() > 0 || depth == 0, "empty leaf");
                depths.push(depth);
                for slot in 0..leaf.len() {
                    let key = leaf.keys().at(slot);
                    assert!(last.as_deref().is_none_or(|last| last < key));
                    assert!(lower.is_none_or(|lower| lower <= key));
                    assert!(upper.is_none_or(|upper| key < upper));
                    *last = Some(key.to_vec());
                }
                return node.summary();
            }
            Node::Branch(branch) => {
                assert!(branch.len() > 1 || depth > 0, "root with one child");
                for position in 0..branch.len() {
                    let lower = match position {
                        0 => lower,
                        _ => Some(branch.lower_bound(position)),
                    };
                    let upper = match position + 1 {
                        next if next < branch.len() => Some(branch.lower_bound(next)),
                        _ => upper,
                    };
                    let child = branch.child(position);
                    let below = check_node(&child.node, depth + 1, lower, upper, depths, last);
                    assert_same(&below, &child.summary);
                    found.live += below.live;
                    found.keys += below.keys;
                    found.past += below.past;
                    found.newest = found.newest.max(below.newest);
                }
            }
        }
        found
    }

    fn key(rng: &mut SmallRng, space: u32) -> Vec<u8> {
        let number = rng.random_range(0..space);
        let mut key = format!("key/{:05}", number).into_bytes();
        if number.is_multiple_of(97) {
            key.extend(std::iter::repeat_n(b'x', 5000));
        }
        key
    }

    /// Key to (create revision, mod revision, version); a missing one is deleted or was never there.
    type Live = BTreeMap<Vec<u8>, (i64, i64, i64)>;

    fn assert_equal(tree: &TreeIndex, live: &Live, at: i64, rng: &mut SmallRng) {
        let mut cursor = tree.cursor_at(b"");
        let mut found = Live::new();
        while let Some(entry) = cursor.next() {
            if let Some(v) = entry.version_at(at) {
                found.insert(entry.key().to_vec(), (v.created, v.modified.main, v.version));
            }
        }
        assert_eq!(&found, live);
        let mut backwards = tree.cursor_at_rank(tree.all_keys());
        let mut count = 0;
        while let Some(entry) = backwards.previous() {
            count += u64::from(entry.version_at(at).is_some());
        }
        assert_eq!(count, live.len() as u64);
        for _ in 0..8 {
            let (start, end) = (key(rng, 6000), key(rng, 6000));
            let range = KeyRange::Between(&start, &end);
            let expected = live.keys().filter(|k| range.contains(k)).count() as u64;
            assert_eq!(tree.count(range, at), expected);
            let (mut sliced, mut from) = (0, Some(start.clone()));
            while let Some(resume) = from {
                let slice = tree.count_slice(range, &resume, at, 1);
                sliced += slice.count;
                from = slice.resume;
            }
            assert_eq!(sliced, expected);
            let (first, end) = tree.ranks(range);
            let mut cursor = tree.cursor_at_rank(first);
            for _ in first..end {
                assert!(range.contains(cursor.next().expect("in range").key()));
            }
            assert!(cursor.next().is_none_or(|next| !range.contains(next.key())));
        }
    }

    #[test]
    fn tree_agrees_with_a_map_through_growth_and_decay() {
        for seed in 0..6 {
            println!("seed {seed}");
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut tree = TreeIndex::default();
            let mut live = Live::new();
            let mut old: Vec<(TreeIndex, Live, i64)> = Vec::new();
            for main in 2..12_000_i64 {
                let key = key(&mut rng, 6000);
                let revision = Revision::new(main, 0);
                let growing = main % 6000 < 3500;
                if rng.random_bool(if growing { 0.9 } else { 0.05 }) {
                    tree.put(&key, revision, false);
                    let version = live.entry(key).or_insert((main, 0, 0));
                    *version = (version.0, main, version.2 + 1);
                } else {
                    let start = live.range(key..).next().map(|found| found.0.clone());
                    if let Some(key) = start {
                        live.remove(&key);
                        assert!(tree.tombstone(&key, revision));
                        assert!(!tree.tombstone(&key, revision));
                    }
                }
                if main % 700 == 0 {
                    let mut from = Some(Vec::new());
                    while let Some(resume) = from {
                        let (keys, next) = tree.compactable(main - 50, &resume, 3);
                        for key in keys {
                            tree.compact_key(&key, main - 50);
                        }
                        from = next;
                    }
                }
                if main % 500 == 0 {
                    tree.check();
                    assert_equal(&tree, &live, main, &mut rng);
                    old.push((tree.clone(), live.clone(), main));
                    for (tree, live, at) in &old {
                        assert_equal(tree, live, *at, &mut rng);
                        tree.check();
                    }
                    if old.len() > 3 {
                        old.remove(0);
                    }
                }
            }
        }
    }

    #[test]
    fn keys_in_order_fill_leaves() {
        let mut tree = TreeIndex::default();
        for number in 0..10_000_i64 {
            let key = format!("{number:08}");
            tree.put(key.as_bytes(), Revision::new(number + 2, 0), false);
        }
        tree.check();
        assert_eq!(tree.rank(b"00005000"), 5000);
        assert!(tree.any_live_at(2));
        assert!(!tree.any_live_at(1));
    }
}
