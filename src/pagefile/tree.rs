//! Copy-on-write of one bucket: sorted changes in, new pages and a new root out.
//!
//! | phase | what one step does | function |
//! |---|---|---|
//! | apply | merges a run of changes into the leaf that covers it; then leaves that are only to be moved | `apply_run`, `move_leaf` |
//! | rebalance | looks at one node that became small: remove, join with a sibling, or leave | `rebalance_one` |
//! | spill | writes one page of one node, leaves first | `spill_piece` |
//!
//! Only nodes on the way to a change are taken apart; the rest of the tree is referred to by page. A run of appends behind a
//! full last leaf begins a new leaf and leaves the full one as it is, so an append never rewrites more than one leaf.
//!
//! A node that should join a sibling but has none (its parent has only this child) is *starved*: its parent is then too small
//! itself, will be joined or collapsed, and hands its starved children back to the queue. So no branch with one child is left.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::vec::IntoIter;

use super::commit::Output;
use super::freelist::Span;
use super::node::{Cell, Child, Content, Key, Node, NodeId, Record};
use super::page::{FLAG_BUCKET, HEADER_BYTES, Page, Window};
use super::read_txn::{BucketPlace, BucketRoot, ReadTxn};
use super::write_txn::{Change, Fill, Space};
use super::{Corrupt, PageId};
use crate::base::limits::TREE_DEPTH_MAX;

/// Where the bucket's tree begins after the commit.
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

/// What a run of changes asks of its leaf.
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

    // ---- apply

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
                let leaf = self.add_leaf_behind(&path)?;
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
                    let index = if page.is_leaf() { 0 } else { page.child_index(key)? };
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
        let is_behind = *page.leaf(page.count() - 1)?.key < *first.key;
        if is_behind && page.used_bytes()? + record.bytes() > self.fill.of(self.page_size()) {
            return Ok(Plan::NewLeafBehind);
        }
        Ok(Plan::Merge)
    }

    /// Takes apart the first `depth` pages of `path`, and answers the last of them.
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
    fn add_leaf_behind(&mut self, path: &[Step]) -> Result<NodeId, Corrupt> {
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

    /// Takes the leaf that covers `key` apart, so that it will be written elsewhere, and joined if it has become small.
    fn move_leaf(&mut self, key: &[u8]) -> Result<usize, Corrupt> {
        let path = self.descend(key)?;
        let leaf = self.load(&path, path.len())?;
        self.unbalanced.insert((0, leaf));
        Ok(1 + self.nodes[leaf].content.count())
    }

    // ---- rebalance

    fn rebalance_one(&mut self, id: NodeId, space: &mut Space) -> Result<usize, Corrupt> {
        let node = &self.nodes[id];
        if node.gone {
            return Ok(1);
        }
        let Some(parent) = node.parent else {
            return self.rebalance_root(id, space);
        };
        let (count, level) = (node.content.count(), node.level);
        let index = self.index_in_parent(parent, id);
        if count == 0 {
            self.remove_child(parent, index);
            self.drop_node(id, space);
            return Ok(1);
        }
        let must = level > 0 && count < 2;
        if !must && node.bytes > self.fill.of(self.page_size()) / 2 {
            return Ok(1);
        }
        let siblings = self.nodes[parent].children().len();
        if siblings == 1 {
            self.nodes[id].starved = true;
            self.unbalanced.insert((level + 1, parent));
            return Ok(1);
        }
        let left = (index > 0).then(|| index - 1);
        let right = (index + 1 < siblings).then_some(index);
        for join_at in [left, right].into_iter().flatten() {
            if must || self.joined_bytes(parent, join_at)? <= self.page_size() {
                return self.join(parent, join_at, space);
            }
        }
        Ok(1)
    }

    /// A root branch with one child gives way to that child; with none, to an empty leaf.
    fn rebalance_root(&mut self, id: NodeId, space: &mut Space) -> Result<usize, Corrupt> {
        let node = &mut self.nodes[id];
        match (node.level, node.content.count()) {
            (0, _) | (_, 2..) => {}
            (_, 0) => {
                node.level = 0;
                node.content = Content::Leaf(Vec::new());
                node.bytes = HEADER_BYTES;
            }
            (level, _) => {
                let child = self.load_child(id, 0)?;
                self.nodes[child].parent = None;
                self.nodes[child].starved = false;
                self.root = Place::Node(child);
                self.unbalanced.insert((level - 1, child));
                self.drop_node(id, space);
            }
        }
        Ok(1)
    }

    fn joined_bytes(&self, parent: NodeId, left: usize) -> Result<usize, Corrupt> {
        let mut bytes = 0;
        for child in &self.nodes[parent].children()[left..left + 2] {
            bytes += match child.node {
                Some(id) => self.nodes[id].bytes,
                None => self.window().page(child.page)?.used_bytes()?,
            };
        }
        Ok(bytes - HEADER_BYTES)
    }

    /// Joins children `left` and `left + 1` of `parent` into the left one.
    fn join(&mut self, parent: NodeId, left: usize, space: &mut Space) -> Result<usize, Corrupt> {
        let left_id = self.load_child(parent, left)?;
        let right_id = self.load_child(parent, left + 1)?;
        let level = self.nodes[left_id].level;
        let content = std::mem::replace(&mut self.nodes[right_id].content, Content::Leaf(Vec::new()));
        let moved = content.count();
        self.nodes[left_id].bytes += self.nodes[right_id].bytes - HEADER_BYTES;
        match content {
            Content::Leaf(records) => self.nodes[left_id].records().extend(records),
            Content::Branch(children) => {
                for id in children.iter().filter_map(|child| child.node) {
                    self.nodes[id].parent = Some(left_id);
                }
                self.nodes[left_id].children_mut().extend(children);
                self.wake_starved_children(left_id);
            }
        }
        self.remove_child(parent, left + 1);
        self.drop_node(right_id, space);
        self.unbalanced.insert((level, left_id));
        Ok(1 + moved)
    }

    fn wake_starved_children(&mut self, id: NodeId) {
        let children: Vec<NodeId> = self.nodes[id].children().iter().filter_map(|child| child.node).collect();
        for child in children {
            if std::mem::take(&mut self.nodes[child].starved) {
                self.unbalanced.insert((self.nodes[child].level, child));
            }
        }
    }

    fn remove_child(&mut self, parent: NodeId, index: usize) {
        let node = &mut self.nodes[parent];
        let child = node.children_mut().remove(index);
        node.bytes -= child.bytes();
        self.unbalanced.insert((node.level, parent));
    }

    fn drop_node(&mut self, id: NodeId, space: &mut Space) {
        let node = &mut self.nodes[id];
        node.gone = true;
        if let Some(old) = node.old.take() {
            space.free(old);
        }
    }

    fn index_in_parent(&self, parent: NodeId, id: NodeId) -> usize {
        let children = self.nodes[parent].children();
        children.iter().position(|child| child.node == Some(id)).expect("a node is a child of its parent")
    }

    // ---- spill

    /// Orders the nodes: leaves first, each level by key.
    fn begin_spill(&mut self, root: NodeId) -> usize {
        let mut order = Vec::new();
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            order.push(id);
            stack.extend(self.nodes[id].children().iter().rev().filter_map(|child| child.node));
        }
        order.sort_by_key(|id| self.nodes[*id].level);
        let used = 1 + order.len() / 8;
        self.phase = Phase::Spill(Spill { order, next: 0, entry: 0, remaining: 0 });
        used
    }

    /// Writes the next page. `Break`: nothing is left to write, this is the root.
    fn spill_piece(&mut self, space: &mut Space, output: &mut Output) -> ControlFlow<NewRoot, usize> {
        let Phase::Spill(spill) = &self.phase else { unreachable!("called while spilling") };
        let (id, from, mut remaining) = (spill.order[spill.next], spill.entry, spill.remaining);
        if from == 0 {
            self.replace_written_children(id);
            self.free_old(id, space);
            if let Some(image) = self.inline_image(id) {
                return ControlFlow::Break(NewRoot::Inline(image));
            }
            remaining = self.nodes[id].bytes - HEADER_BYTES;
        }
        let (to, bytes) = self.write_page(id, from, remaining, space, output);
        let Phase::Spill(spill) = &mut self.phase else { unreachable!("still spilling") };
        spill.entry = to;
        spill.remaining = remaining + HEADER_BYTES - bytes;
        if to == self.nodes[id].content.count() {
            spill.next += 1;
            spill.entry = 0;
            if self.nodes[id].parent.is_none() {
                self.finish_root(id)?;
            }
        }
        ControlFlow::Continue(1 + to - from + bytes / 1024)
    }

    /// Writes entries `from ..` as far as one page goes; answers where it stopped and the bytes used.
    fn write_page(
        &mut self,
        id: NodeId,
        from: usize,
        remaining: usize,
        space: &mut Space,
        output: &mut Output,
    ) -> (usize, usize) {
        let page_size = self.page_size();
        let node = &self.nodes[id];
        let to = from + node.piece(from, remaining, page_size, self.fill);
        assert!(node.level == 0 || to - from >= 2, "a branch has two children or more");
        let bytes = node.piece_bytes(from, to);
        let pages = bytes.div_ceil(page_size) as u64;
        let page = space.allocate(pages);
        node.write(self.window(), from, to, page, pages - 1, output.page(page, pages));
        if to > from {
            let key = node.content.key(from).clone();
            self.nodes[id].written.push((key, page));
        } else {
            self.nodes[id].written.push((Cell::Key(Key::new()), page));
        }
        (to, bytes)
    }

    /// Puts the pages that the children were written to in their place.
    fn replace_written_children(&mut self, id: NodeId) {
        if self.nodes[id].level == 0 {
            return;
        }
        let children = std::mem::take(self.nodes[id].children_mut());
        let mut replaced = Vec::with_capacity(children.len() + 8);
        for child in children {
            match child.node {
                None => replaced.push(child),
                Some(node) => replaced.extend(self.nodes[node].written.drain(..).map(child_at)),
            }
        }
        let node = &mut self.nodes[id];
        node.bytes = HEADER_BYTES + replaced.iter().map(Child::bytes).sum::<usize>();
        *node.children_mut() = replaced;
    }

    fn free_old(&mut self, id: NodeId, space: &mut Space) {
        if let Some(old) = self.nodes[id].old.take() {
            space.free(old);
        }
    }

    /// A bucket of a few small records lives in its own value; the root bucket and buckets with buckets do not.
    fn inline_image(&self, id: NodeId) -> Option<Vec<u8>> {
        let node = &self.nodes[id];
        let Content::Leaf(records) = &node.content else { return None };
        let is_root = node.parent.is_none() && self.flags & FLAG_BUCKET == 0;
        let plain = records.iter().all(|record| record.flags & FLAG_BUCKET == 0);
        if !is_root || !plain || node.bytes > self.page_size() / 4 {
            return None;
        }
        let mut image = vec![0; node.bytes];
        node.write(self.window(), 0, records.len(), PageId(0), 0, &mut image);
        Some(image)
    }

    /// The root in one page is the root; in several, they get a branch above them.
    fn finish_root(&mut self, id: NodeId) -> ControlFlow<NewRoot> {
        let written = std::mem::take(&mut self.nodes[id].written);
        if let [(_, page)] = written[..] {
            return ControlFlow::Break(NewRoot::Page(page));
        }
        let level = self.nodes[id].level + 1;
        let children = written.into_iter().map(child_at).collect();
        let root = self.nodes.len();
        self.nodes.push(Node::new(level, None, Content::Branch(children)));
        let Phase::Spill(spill) = &mut self.phase else { unreachable!("called while spilling") };
        spill.order.push(root);
        ControlFlow::Continue(())
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

fn child_at((key, page): (Cell, PageId)) -> Child {
    Child { key, page, node: None }
}

fn page_at(window: &Window, stored: BucketPlace) -> Result<Page<'_>, Corrupt> {
    let page = BucketRoot { place: stored, sequence: 0 }.page(window)?;
    if page.is_freelist() {
        return Err(Corrupt::new(page.id, "is not part of a tree"));
    }
    Ok(page)
}

/// The first change that is not the deletion of a key that is absent anyway.
fn first_effective<'c>(page: &Page<'_>, changes: &'c [Change]) -> Result<Option<&'c Change>, Corrupt> {
    for change in changes {
        if change.value.is_some() || page.leaf_index(&change.key)?.is_ok() {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

fn record_of(change: &Change, flags: u32) -> Option<Record> {
    let value = change.value.clone()?;
    Some(Record { flags, key: Cell::Key(change.key.clone()), value: Cell::Value(value) })
}
