//! A place between two keys of one tree, moved forwards and backwards.

use smallvec::SmallVec;

use super::{
    key_index::KeyVersion,
    tree_node::{Branch, Leaf, Node},
};

/// A gap between two keys; borrowed from the tree, so the tree cannot change under it.
pub struct TreeCursor<'t> {
    path: SmallVec<[(&'t Branch, usize); 8]>,
    leaf: &'t Leaf,
    slot: usize,
}

/// One key and its versions.
#[derive(Clone, Copy)]
pub struct TreeEntry<'t> {
    leaf: &'t Leaf,
    slot: usize,
}

impl<'t> TreeEntry<'t> {
    #[must_use]
    pub fn key(&self) -> &'t [u8] {
        self.leaf.keys().at(self.slot)
    }

    /// The version that a read at `at` returns.
    #[must_use]
    pub fn version_at(&self, at: i64) -> Option<KeyVersion> {
        self.leaf.version_at(self.slot, at)
    }
}

impl<'t> TreeCursor<'t> {
    pub(super) fn at_key(root: &'t Node, key: &[u8]) -> Self {
        let mut path = SmallVec::new();
        let mut node = root;
        loop {
            match node {
                Node::Branch(branch) => {
                    let position = branch.position_of(key);
                    path.push((branch, position));
                    node = &branch.child(position).node;
                }
                Node::Leaf(leaf) => {
                    let (Ok(slot) | Err(slot)) = leaf.keys().search(key);
                    return Self { path, leaf, slot };
                }
            }
        }
    }

    pub(super) fn at_rank(root: &'t Node, rank: u64) -> Self {
        let mut path = SmallVec::new();
        let mut node = root;
        let mut below = rank;
        loop {
            match node {
                Node::Branch(branch) => {
                    let mut position = 0;
                    while position + 1 < branch.len() {
                        let keys = branch.child(position).summary.keys;
                        if below < keys {
                            break;
                        }
                        below -= keys;
                        position += 1;
                    }
                    path.push((branch, position));
                    node = &branch.child(position).node;
                }
                Node::Leaf(leaf) => {
                    let slot = leaf.len().min(below as usize);
                    return Self { path, leaf, slot };
                }
            }
        }
    }

    /// The key after the gap; the cursor moves past it.
    #[allow(clippy::should_implement_trait, reason = "it also moves backwards")]
    pub fn next(&mut self) -> Option<TreeEntry<'t>> {
        while self.slot == self.leaf.len() {
            while let Some((branch, position)) = self.path.pop() {
                if position + 1 < branch.len() {
                    self.descend(branch, position + 1, |_| 0);
                    self.slot = 0;
                    break;
                }
            }
            if self.path.is_empty() {
                return None;
            }
        }
        self.slot += 1;
        Some(TreeEntry { leaf: self.leaf, slot: self.slot - 1 })
    }

    /// The key before the gap; the cursor moves before it.
    pub fn previous(&mut self) -> Option<TreeEntry<'t>> {
        while self.slot == 0 {
            while let Some((branch, position)) = self.path.pop() {
                if position > 0 {
                    self.descend(branch, position - 1, |branch| branch.len() - 1);
                    self.slot = self.leaf.len();
                    break;
                }
            }
            if self.path.is_empty() {
                return None;
            }
        }
        self.slot -= 1;
        Some(TreeEntry { leaf: self.leaf, slot: self.slot })
    }

    fn descend(&mut self, branch: &'t Branch, position: usize, side: fn(&Branch) -> usize) {
        self.path.push((branch, position));
        let mut node = &*branch.child(position).node;
        loop {
            match node {
                Node::Branch(branch) => {
                    let position = side(branch);
                    self.path.push((branch, position));
                    node = &branch.child(position).node;
                }
                Node::Leaf(leaf) => {
                    self.leaf = leaf;
                    return;
                }
            }
        }
    }
}
