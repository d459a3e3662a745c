//! Nodes to pages: leaves first, each level in key order, so that the leaves of a run of appends are neighbours in the file.

use std::ops::ControlFlow;

use super::super::PageId;
use super::super::commit::Output;
use super::super::node::{Cell, Child, Content, Key, Node, NodeId};
use super::super::page::{FLAG_BUCKET, HEADER_BYTES};
use super::super::space::Space;
use super::{NewRoot, Phase, Spill, Tree};

impl Tree {
    /// Orders the nodes: leaves first, each level by key.
    pub(super) fn begin_spill(&mut self, root: NodeId) -> usize {
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
    pub(super) fn spill_piece(&mut self, space: &mut Space, output: &mut Output) -> ControlFlow<NewRoot, usize> {
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

    /// Writes as many of entries `from ..` as fit in one page. Returns the first entry left and the bytes used.
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

    /// Replaces children that were written by their new pages.
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

    /// The inline image of a bucket of a few small records; the root bucket and buckets with buckets have none.
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
}

fn child_at((key, page): (Cell, PageId)) -> Child {
    Child { key, page, node: None }
}
