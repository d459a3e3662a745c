//! The pages that a root reaches: every tree from the root bucket down, nested buckets included. Each page is marked when it is
//! visited, and a page visited twice is damage, so the walk ends for any content of the file.

use super::bucket_root::{BucketPlace, BucketRoot};
use super::freelist::Span;
use super::page::{FLAG_BUCKET, Page, Window};
use super::{Corrupt, PageId};
use crate::base::limits::TREE_DEPTH_MAX;

/// One bit per page.
#[derive(Debug)]
pub(super) struct PageSet {
    words: Vec<u64>,
    high_water: u64,
}

impl PageSet {
    pub(super) fn new(high_water: u64) -> PageSet {
        PageSet { words: vec![0; high_water.div_ceil(64) as usize], high_water }
    }

    pub(super) fn contains(&self, id: PageId) -> bool {
        self.words.get((id.0 / 64) as usize).is_some_and(|word| word >> (id.0 % 64) & 1 == 1)
    }

    /// Marks a span; false if part of it was marked before, or lies outside.
    pub(super) fn insert(&mut self, span: Span) -> bool {
        let mut fresh = true;
        for id in span.start.0..span.start.0.saturating_add(span.pages).min(self.high_water) {
            let word = &mut self.words[(id / 64) as usize];
            fresh &= *word >> (id % 64) & 1 == 0;
            *word |= 1 << (id % 64);
        }
        fresh
    }

    /// The spans of `from ..` that are not marked, ascending.
    pub(super) fn gaps(&self, from: u64) -> impl Iterator<Item = Span> + '_ {
        let mut next = from;
        std::iter::from_fn(move || {
            let start = (next..self.high_water).find(|id| !self.contains(PageId(*id)))?;
            let end = (start..self.high_water).find(|id| self.contains(PageId(*id))).unwrap_or(self.high_water);
            next = end;
            Some(Span { start: PageId(start), pages: end - start })
        })
    }
}

/// All pages that the root bucket reaches.
pub(super) fn reachable(window: &Window, root: PageId) -> Result<PageSet, Corrupt> {
    let mut seen = PageSet::new(window.high_water);
    seen.insert(Span { start: PageId(0), pages: 2 });
    let mut stack = vec![(root, 1)];
    while let Some((id, depth)) = stack.pop() {
        let page = window.page(id)?;
        if depth > TREE_DEPTH_MAX {
            return Err(Corrupt::new(id, "tree is too deep"));
        }
        if !seen.insert(Span { start: id, pages: page.span() }) {
            return Err(Corrupt::new(id, "is reached twice"));
        }
        if page.is_branch() {
            for index in 0..page.count() {
                stack.push((page.branch(index)?.child, depth + 1));
            }
        } else if page.is_leaf() {
            push_buckets(window, &page, &mut stack)?;
        } else {
            return Err(Corrupt::new(id, "is not part of a tree"));
        }
    }
    Ok(seen)
}

fn push_buckets(window: &Window, leaf: &Page<'_>, stack: &mut Vec<(PageId, usize)>) -> Result<(), Corrupt> {
    for index in 0..leaf.count() {
        let element = leaf.leaf(index)?;
        if element.flags & FLAG_BUCKET == 0 {
            continue;
        }
        let bucket = BucketRoot::of(&element)?;
        match bucket.place {
            BucketPlace::Page(root) => stack.push((root, 1)),
            BucketPlace::Inline { .. } => drop(bucket.page(window)?),
        }
    }
    Ok(())
}
