//! Lookups and scans in one bucket of one root. A descent is bounded by [`TREE_DEPTH_MAX`] whatever the file says.
//!
//! A scan checks that the keys of branches agree with the pages they lead to. So the start of a member, which scans everything,
//! finds damage that would make lookups miss their record.

use smallvec::SmallVec;

use super::bucket_root::BucketRoot;
use super::page::{FLAG_BUCKET, LeafElement, Page, Reach, Window};
use super::{Corrupt, PageId};
use crate::base::limits::TREE_DEPTH_MAX;

/// A record of a bucket, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'t> {
    pub key: &'t [u8],
    pub value: &'t [u8],
    /// The value is a bucket of its own (only in the root bucket, as etcd uses the format).
    pub is_bucket: bool,
}

impl<'t> From<LeafElement<'t>> for Item<'t> {
    fn from(element: LeafElement<'t>) -> Item<'t> {
        Item { key: element.key, value: element.value, is_bucket: element.flags & FLAG_BUCKET != 0 }
    }
}

/// The element stored under `key`, if there is one.
#[inline]
pub(super) fn lookup<'t>(
    window: &'t Window,
    root: &BucketRoot,
    key: &[u8],
) -> Result<Option<LeafElement<'t>>, Corrupt> {
    let mut page = root.page(window)?;
    let mut reach = page.reach()?;
    for _ in 0..TREE_DEPTH_MAX {
        if page.is_leaf() {
            return match page.leaf_index(key, reach)? {
                Ok(index) => page.leaf(index).map(Some),
                Err(_) => Ok(None),
            };
        }
        let index = page.child_index(key, reach)?;
        let below = child(window, &page, index)?;
        reach = page.reach_of(index, reach)?;
        page = below;
    }
    Err(Corrupt::new(page.id, "tree is too deep"))
}

/// A child page, which has to be a branch or a leaf.
pub(super) fn child<'t>(window: &'t Window, parent: &Page<'t>, index: usize) -> Result<Page<'t>, Corrupt> {
    if !parent.is_branch() {
        return Err(Corrupt::new(parent.id, "is not part of a tree"));
    }
    window.page(parent.branch(index)?.child)
}

/// A position in a bucket. Every move returns the record it arrives at, `None` at the end.
#[derive(Clone)]
pub struct Cursor<'t> {
    window: &'t Window,
    root: BucketRoot,
    /// From the root to a leaf, with the index in each.
    path: SmallVec<[(Page<'t>, usize); 8]>,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(window: &'t Window, root: BucketRoot) -> Cursor<'t> {
        Cursor { window, root, path: SmallVec::new() }
    }

    /// To the first record.
    pub fn first(&mut self) -> Result<Option<Item<'t>>, Corrupt> {
        self.descend(|_| Ok(0), |_| Ok(0))?;
        self.settle()
    }

    /// To the first record whose key is not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Item<'t>>, Corrupt> {
        self.descend(
            |page| page.child_index(key, Reach::default()),
            |page| page.leaf_index(key, Reach::default()).map(|found| found.unwrap_or_else(|at| at)),
        )?;
        self.settle()
    }

    /// To the next record.
    pub fn next_item(&mut self) -> Result<Option<Item<'t>>, Corrupt> {
        if let Some((_, index)) = self.path.last_mut() {
            *index += 1;
        }
        self.settle()
    }

    /// To the last record.
    pub fn last(&mut self) -> Result<Option<Item<'t>>, Corrupt> {
        let last = |page: &Page<'t>| Ok(page.count().saturating_sub(1));
        self.descend(last, last)?;
        while self.path.last().is_some_and(|(leaf, _)| leaf.count() == 0) {
            self.path.pop();
            while self.path.last().is_some_and(|(_, index)| *index == 0) {
                self.path.pop();
            }
            match self.path.last_mut() {
                None => return Ok(None),
                Some((_, index)) => *index -= 1,
            }
            self.descend_from_path(last, last)?;
        }
        self.settle()
    }

    fn descend(
        &mut self,
        branch_index: impl Fn(&Page<'t>) -> Result<usize, Corrupt>,
        leaf_index: impl Fn(&Page<'t>) -> Result<usize, Corrupt>,
    ) -> Result<(), Corrupt> {
        self.path.clear();
        let root = self.root.page(self.window)?;
        let index = if root.is_leaf() { leaf_index(&root)? } else { branch_index(&root)? };
        self.path.push((root, index));
        self.descend_from_path(branch_index, leaf_index)
    }

    /// Completes the path from its last page down to a leaf.
    fn descend_from_path(
        &mut self,
        branch_index: impl Fn(&Page<'t>) -> Result<usize, Corrupt>,
        leaf_index: impl Fn(&Page<'t>) -> Result<usize, Corrupt>,
    ) -> Result<(), Corrupt> {
        while let Some((page, index)) = self.path.last() {
            if page.is_leaf() {
                return Ok(());
            }
            if self.path.len() == TREE_DEPTH_MAX {
                return Err(Corrupt::new(page.id, "tree is too deep"));
            }
            let below = child(self.window, page, *index)?;
            below.lies_between(page.branch(*index)?.key, self.key_after_path()?)?;
            let index = if below.is_leaf() { leaf_index(&below)? } else { branch_index(&below)? };
            self.path.push((below, index));
        }
        Ok(())
    }

    /// The separator after the last page of the path; none if that page is the last of the bucket.
    fn key_after_path(&self) -> Result<Option<&'t [u8]>, Corrupt> {
        let following = self.path.iter().rev().find(|(page, index)| *index + 1 < page.count());
        following.map(|(page, index)| Ok(page.branch(*index + 1)?.key)).transpose()
    }

    /// Moves on from the end of a leaf to the next record, over empty leaves.
    fn settle(&mut self) -> Result<Option<Item<'t>>, Corrupt> {
        loop {
            match self.path.last() {
                None => return Ok(None),
                Some((page, index)) if page.is_leaf() && *index < page.count() => {
                    return page.leaf(*index).map(|element| Some(element.into()));
                }
                Some(_) => {}
            }
            self.path.pop();
            while let Some((page, index)) = self.path.last_mut() {
                *index += 1;
                if *index < page.count() {
                    break;
                }
                self.path.pop();
            }
            self.descend_from_path(|_| Ok(0), |_| Ok(0))?;
        }
    }

    /// The page of the current position.
    #[must_use]
    pub fn page(&self) -> Option<PageId> {
        self.path.last().map(|(page, _)| page.id)
    }
}
