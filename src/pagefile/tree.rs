//! Copy-on-write of one bucket: sorted changes in, new pages and a new root out.
//!
//! | phase | what one step does | function |
//! |---|---|---|
//! | apply | merges a run of changes into the leaf that covers it; then leaves that are only to be moved | `apply_run`, `move_leaf` |
//! | rebalance | looks at one node that became small: remove, join with a sibling, or leave | `rebalance_one` |
//! | spill | writes one page of one node, leaves first | `spill_piece` |
//!
//! Only nodes on the path to a change are decoded; the rest of the tree is referred to by page. A run of appends after a
//! full last leaf begins a new leaf and leaves the full one as it is, so an append never rewrites more than one leaf.
//!
//! A node that should join a sibling but has none (its parent has only this child) is *starved*: its parent is then too small
//! itself, will be joined or collapsed, and puts its starved children back into the queue. So no branch with one child remains.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::vec::IntoIter;

use super::bucket_root::{BucketPlace, BucketRoot};
use super::changes::Change;
use super::commit::Output;
use super::freelist::Span;
use super::node::{Cell, Child, Content, Fill, Key, Node, NodeId, Record};
use super::page::{FLAG_BUCKET, Page, Reach, Window};
use super::read_txn::ReadTxn;
use super::space::Space;
use super::{Corrupt, PageId};
use crate::base::limits::TREE_DEPTH_MAX;

mod rebalance;
mod spill;

/// The root of the bucket's tree after the commit.
#[derive(Debug)]
pub(super) enum NewRoot {
    Unchanged,
    Page(PageId),
    /// The image of the only leaf, small enough to live in the bucket's value.
    Inline(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Node(NodeId),
    Stored(BucketPlace),
}

/// A node or page on the way down, and which of its children comes next.
#[derive(Clone, Copy, Debug)]
struct Step {
    place: Place,
    index: usize,
    count: usize,
}

#[derive(Debug)]
enum Phase {
    Apply,
    Rebalance,
    Spill(Spill),
}

/// Progress of writing: nodes in order, and how far the present one is.
#[derive(Debug)]
struct Spill {
    order: Vec<NodeId>,
    next: usize,
    entry: usize,
    remaining: usize,
}

#[derive(Debug)]
pub(super) struct Tree {
    base: ReadTxn,
    root: Place,
    fill: Fill,
    /// Element flags of what is put: buckets in the root bucket, plain values elsewhere.
    flags: u32,
    changes: IntoIter<Change>,
    /// Keys whose leaves are rewritten even if nothing changes in them.
    moves: IntoIter<Key>,
    nodes: Vec<Node>,
    /// Nodes to be looked at by rebalance, leaves first.
    unbalanced: BTreeSet<(usize, NodeId)>,
    phase: Phase,
}

/// The effect of a run of changes on its leaf.
enum Plan {
    Nothing,
    Merge,
    NewLeafBehind,
}

impl Tree {
    /// `root`: `None` makes a new bucket. `flags`: see the field.
    pub(super) fn new(
        base: ReadTxn,
        root: Option<BucketRoot>,
        flags: u32,
        fill: Fill,
        changes: Vec<Change>,
        moves: Vec<Key>,
    ) -> Tree {
        let mut nodes = Vec::new();
        let root = root.map_or_else(
            || {
                nodes.push(Node::new(0, None, Content::Leaf(Vec::new())));
                Place::Node(0)
            },
            |root| Place::Stored(root.place),
        );
        let (changes, moves, unbalanced) = (changes.into_iter(), moves.into_iter(), BTreeSet::new());
        Tree { base, root, fill, flags, changes, moves, nodes, unbalanced, phase: Phase::Apply }
    }

    /// Works until `budget` (about one unit per record) is used up or the tree is written.
    pub(super) fn step(
        &mut self,
        space: &mut Space,
        output: &mut Output,
        budget: &mut usize,
    ) -> Result<Option<NewRoot>, Corrupt> {
        while *budget > 0 {
            let used = match self.phase {
                Phase::Apply if self.changes.as_slice().is_empty() => match self.moves.next() {
                    Some(key) => self.move_leaf(&key)?,
                    None => {
                        self.phase = Phase::Rebalance;
                        1
                    }
                },
                Phase::Apply => self.apply_run(*budget)?,
                Phase::Rebalance => match self.unbalanced.pop_first() {
                    Some((_, id)) => self.rebalance_one(id, space)?,
                    None => match self.root {
                        Place::Node(root) => self.begin_spill(root),
                        Place::Stored(_) => return Ok(Some(NewRoot::Unchanged)),
                    },
                },
                Phase::Spill(_) => match self.spill_piece(space, output) {
                    ControlFlow::Continue(used) => used,
                    ControlFlow::Break(root) => return Ok(Some(root)),
                },
            };
            *budget = budget.saturating_sub(used);
        }
        Ok(None)
    }

    fn apply_run(&mut self, limit: usize) -> Result<usize, Corrupt> {
        let path = self.descend(&self.changes.as_slice()[0].key)?;
        let upper = self.upper_bound(&path)?;
        let below = |change: &&Change| upper.as_ref().is_none_or(|upper| change.key < *upper);
        let run = self.changes.as_slice().iter().take(limit).take_while(below).count();
        if run == 0 {
            return Err(self.corrupt(self.root, "branch keys are not in order"));
        }
        match self.plan(&path, run)? {
            Plan::Nothing => self.changes.by_ref().take(run).for_each(drop),
            Plan::Merge => {
                let leaf = self.load(&path, path.len())?;
                self.merge(leaf, run)?;
            }
            Plan::NewLeafBehind => {
                let leaf = self.add_leaf_after(&path)?;
                self.merge(leaf, run)?;
            }
        }
        Ok(run)
    }

    /// The way from the root to the leaf that covers `key`.
    fn descend(&self, key: &[u8]) -> Result<Vec<Step>, Corrupt> {
        let window = self.window();
        let mut path = Vec::with_capacity(8);
        let mut place = self.root;
        loop {
            let (step, child) = match place {
                Place::Node(id) => {
                    let children = self.nodes[id].children();
                    let index = children.partition_point(|child| child.key.bytes(window) <= key).saturating_sub(1);
                    let child = children.get(index).map(place_of_child);
                    (Step { place, index, count: children.len() }, child)
                }
                Place::Stored(stored) => {
                    let page = page_at(window, stored)?;
                    let index = if page.is_leaf() { 0 } else { page.child_index(key, Reach::default())? };
                    let child = if page.is_leaf() { None } else { Some(Place::page(page.branch(index)?.child)) };
                    (Step { place, index, count: page.count() }, child)
                }
            };
            path.push(step);
            match child {
                None => return Ok(path),
                Some(_) if path.len() == TREE_DEPTH_MAX => return Err(self.corrupt(place, "tree is too deep")),
                Some(child) => place = child,
            }
        }
    }

    /// The first key that the leaf at the end of `path` does not cover.
    fn upper_bound(&self, path: &[Step]) -> Result<Option<Key>, Corrupt> {
        let ancestors = &path[..path.len() - 1];
        let Some(step) = ancestors.iter().rev().find(|step| step.index + 1 < step.count) else {
            return Ok(None);
        };
        let window = self.window();
        Ok(Some(match step.place {
            Place::Node(id) => Key::from_slice(self.nodes[id].content.key(step.index + 1).bytes(window)),
            Place::Stored(stored) => Key::from_slice(page_at(window, stored)?.branch(step.index + 1)?.key),
        }))
    }

    fn plan(&self, path: &[Step], run: usize) -> Result<Plan, Corrupt> {
        let Place::Stored(stored) = path[path.len() - 1].place else {
            return Ok(Plan::Merge);
        };
        let changes = &self.changes.as_slice()[..run];
        let page = page_at(self.window(), stored)?;
        let Some(first) = first_effective(&page, changes)? else {
            return Ok(Plan::Nothing);
        };
        let Some(record) = record_of(first, self.flags).filter(|_| path.len() > 1 && page.count() > 0) else {
            return Ok(Plan::Merge);
        };
        let is_after = *page.leaf(page.count() - 1)?.key < *first.key;
        if is_after && page.used_bytes()? + record.bytes() > self.fill.of(self.page_size()) {
            return Ok(Plan::NewLeafBehind);
        }
        Ok(Plan::Merge)
    }

    /// Decodes the first `depth` pages of `path`, and returns the last node.
    fn load(&mut self, path: &[Step], depth: usize) -> Result<NodeId, Corrupt> {
        let mut last = None;
        for (above, step) in path[..depth].iter().enumerate() {
            let id = match (step.place, last) {
                (Place::Node(id), _) => id,
                (Place::Stored(stored), None) => {
                    let id = self.take_apart(stored, path.len() - 1 - above)?;
                    self.root = Place::Node(id);
                    id
                }
                (Place::Stored(_), Some((parent, index))) => self.load_child(parent, index)?,
            };
            last = Some((id, step.index));
        }
        Ok(last.expect("a path begins at the root").0)
    }

    fn load_child(&mut self, parent: NodeId, index: usize) -> Result<NodeId, Corrupt> {
        let child = &self.nodes[parent].children()[index];
        if let Some(id) = child.node {
            return Ok(id);
        }
        let (page, level) = (child.page, self.nodes[parent].level);
        if level == 0 {
            return Err(Corrupt::new(page, "leaves at different depths"));
        }
        let id = self.take_apart(BucketPlace::Page(page), level - 1)?;
        self.nodes[id].parent = Some(parent);
        self.nodes[parent].children_mut()[index].node = Some(id);
        Ok(id)
    }

    fn take_apart(&mut self, stored: BucketPlace, level: usize) -> Result<NodeId, Corrupt> {
        let page = page_at(self.window(), stored)?;
        let old = match stored {
            BucketPlace::Page(start) => Some(Span { start, pages: page.span() }),
            BucketPlace::Inline { .. } => None,
        };
        let node = Node::from_page(&page, level, old)?;
        let id = self.nodes.len();
        if level > 0 && node.content.count() < 2 {
            self.unbalanced.insert((level, id));
        }
        self.nodes.push(node);
        Ok(id)
    }

    /// A new leaf after the one at the end of `path`, for the next put.
    fn add_leaf_after(&mut self, path: &[Step]) -> Result<NodeId, Corrupt> {
        let parent = self.load(path, path.len() - 1)?;
        let index = path[path.len() - 2].index + 1;
        let put = self.changes.as_slice().iter().find(|change| change.value.is_some()).expect("planned for a put");
        let leaf = self.nodes.len();
        let child = Child { key: Cell::Key(put.key.clone()), page: PageId(0), node: Some(leaf) };
        self.nodes.push(Node::new(0, Some(parent), Content::Leaf(Vec::new())));
        let parent = &mut self.nodes[parent];
        parent.bytes += child.bytes();
        parent.children_mut().insert(index, child);
        Ok(leaf)
    }

    /// Merges the next `run` changes into a leaf.
    fn merge(&mut self, leaf: NodeId, run: usize) -> Result<(), Corrupt> {
        let base = self.base.clone();
        let window = &base.committed().window;
        let node = &mut self.nodes[leaf];
        let page = node.old.map_or(PageId(0), |old| old.start);
        let mut bytes = node.bytes;
        let mut removed = false;
        let records = node.records();
        let first = &self.changes.as_slice()[0].key;
        let start = records.partition_point(|record| *record.key.bytes(window) < **first);
        let mut old = records.split_off(start).into_iter().peekable();
        for change in self.changes.by_ref().take(run) {
            while let Some(record) = old.next_if(|record| *record.key.bytes(window) < *change.key) {
                records.push(record);
            }
            if let Some(record) = old.next_if(|record| record.key.bytes(window) == &*change.key) {
                if (record.flags ^ self.flags) & FLAG_BUCKET != 0 {
                    return Err(Corrupt::new(page, "a bucket and a value have the same key"));
                }
                bytes -= record.bytes();
                removed |= change.value.is_none();
            }
            if let Some(record) = record_of(&change, self.flags) {
                bytes += record.bytes();
                records.push(record);
            }
        }
        records.extend(old);
        node.bytes = bytes;
        if removed {
            self.unbalanced.insert((0, leaf));
        }
        Ok(())
    }

    /// Decodes the leaf that covers `key`, so that it is written to a new page, and joined if it has become small.
    fn move_leaf(&mut self, key: &[u8]) -> Result<usize, Corrupt> {
        let path = self.descend(key)?;
        let leaf = self.load(&path, path.len())?;
        self.unbalanced.insert((0, leaf));
        Ok(1 + self.nodes[leaf].content.count())
    }

    fn window(&self) -> &Window {
        &self.base.committed().window
    }

    fn page_size(&self) -> usize {
        self.window().page_size
    }

    fn corrupt(&self, place: Place, reason: &'static str) -> Corrupt {
        let page = match place {
            Place::Node(id) => self.nodes[id].old.map_or(PageId(0), |old| old.start),
            Place::Stored(BucketPlace::Page(page) | BucketPlace::Inline { host: page, .. }) => page,
        };
        Corrupt::new(page, reason)
    }
}

impl Place {
    fn page(id: PageId) -> Place {
        Place::Stored(BucketPlace::Page(id))
    }
}

fn place_of_child(child: &Child) -> Place {
    child.node.map_or(Place::page(child.page), Place::Node)
}

fn page_at(window: &Window, stored: BucketPlace) -> Result<Page<'_>, Corrupt> {
    let page = BucketRoot { place: stored, sequence: 0 }.page(window)?;
    if page.is_freelist() {
        return Err(Corrupt::new(page.id, "is not part of a tree"));
    }
    Ok(page)
}

/// The first change that is not the deletion of an absent key.
fn first_effective<'c>(page: &Page<'_>, changes: &'c [Change]) -> Result<Option<&'c Change>, Corrupt> {
    for change in changes {
        if change.value.is_some() || page.leaf_index(&change.key, Reach::default())?.is_ok() {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

fn record_of(change: &Change, flags: u32) -> Option<Record> {
    let value = change.value.clone()?;
    Some(Record { flags, key: Cell::Key(change.key.clone()), value: Cell::Value(value) })
}
