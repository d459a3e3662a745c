//! Nodes that became small: removed when empty, joined with a sibling when both fit in one page, left alone otherwise.
//!
//! bbolt joins whenever a node is small, and splits the result again while spilling; joining only what fits keeps the same
//! bound on waste (two neighbours that were touched together fill a page) and rewrites less.

use super::super::Corrupt;
use super::super::node::{Content, NodeId};
use super::super::page::HEADER_BYTES;
use super::super::space::Space;
use super::{Place, Tree};

impl Tree {
    pub(super) fn rebalance_one(&mut self, id: NodeId, space: &mut Space) -> Result<usize, Corrupt> {
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

    /// Replaces a root branch with one child by that child, and one without children by an empty leaf.
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
}
