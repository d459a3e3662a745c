//! Every rule of the format, as bbolt's `Tx.Check` enforces them, and inside inline buckets too.
//!
//! Rules: page ids below the high-water mark; every reachable page reached once and a branch or leaf; keys strictly ascending
//! inside a page, not below the parent's key and below the parent's next key; no page both free and reachable, none twice in
//! the freelist, none neither.

use std::fmt;

use super::bucket_root::{BucketPlace, BucketRoot};
use super::freelist::{Span, StoredFreelist};
use super::page::{FLAG_BUCKET, LeafElement, Page, Window};
use super::read_txn::ReadTxn;
use super::walk::PageSet;
use super::{Corrupt, PageId};
use crate::base::limits::TREE_DEPTH_MAX;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub page: u64,
    pub rule: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}: {}", self.page, self.rule)
    }
}

impl From<Corrupt> for Violation {
    fn from(corrupt: Corrupt) -> Violation {
        Violation { page: corrupt.page, rule: corrupt.reason }
    }
}

/// Checks one root. Without a stored freelist, what is not reachable is free.
#[must_use]
pub fn check(txn: &ReadTxn) -> Vec<Violation> {
    let mut checker = Checker::new(txn);
    checker.trees(txn.committed().meta.root);
    if let Some(id) = txn.committed().meta.freelist {
        match StoredFreelist::read(checker.window, id) {
            Err(corrupt) => checker.violations.push(corrupt.into()),
            Ok(stored) => {
                if !checker.used.insert(stored.span) {
                    checker.violate(id, "multiple references");
                }
                checker.free(stored.ids.iter().map(|id| Span { start: *id, pages: 1 }));
            }
        }
    }
    checker.violations
}

/// Checks one root against the set of pages that are held to be free (or waiting to be).
pub(super) fn check_with_free(txn: &ReadTxn, free: &[Span]) -> Vec<Violation> {
    let mut checker = Checker::new(txn);
    checker.trees(txn.committed().meta.root);
    checker.free(free.iter().copied());
    checker.violations
}

struct Checker<'t> {
    window: &'t Window,
    used: PageSet,
    violations: Vec<Violation>,
    /// Subtrees yet to be looked at.
    stack: Vec<Subtree<'t>>,
}

/// A page and the keys it may contain: `lower <= key < upper`.
struct Subtree<'t> {
    page: PageId,
    depth: usize,
    lower: Option<&'t [u8]>,
    upper: Option<&'t [u8]>,
}

impl<'t> Checker<'t> {
    fn new(txn: &'t ReadTxn) -> Checker<'t> {
        let window = &txn.committed().window;
        let mut used = PageSet::new(window.high_water);
        used.insert(Span { start: PageId(0), pages: 2 });
        Checker { window, used, violations: Vec::new(), stack: Vec::new() }
    }

    fn violate(&mut self, page: PageId, rule: &'static str) {
        self.violations.push(Violation { page: page.0, rule });
    }

    fn trees(&mut self, root: PageId) {
        self.stack.push(Subtree { page: root, depth: 1, lower: None, upper: None });
        while let Some(subtree) = self.stack.pop() {
            if let Err(corrupt) = self.subtree(&subtree) {
                self.violations.push(corrupt.into());
            }
        }
    }

    fn subtree(&mut self, subtree: &Subtree<'t>) -> Result<(), Corrupt> {
        let window = self.window;
        let page = window.page(subtree.page)?;
        if subtree.depth > TREE_DEPTH_MAX {
            return Err(Corrupt::new(page.id, "tree is too deep"));
        }
        if !self.used.insert(Span { start: page.id, pages: page.span() }) {
            return Err(Corrupt::new(page.id, "multiple references"));
        }
        if page.is_leaf() {
            self.leaf(&page, subtree)
        } else if page.is_branch() {
            self.branch(&page, subtree)
        } else {
            Err(Corrupt::new(page.id, "invalid type"))
        }
    }

    fn branch(&mut self, page: &Page<'t>, subtree: &Subtree<'t>) -> Result<(), Corrupt> {
        let mut previous = None;
        for index in 0..page.count() {
            let element = page.branch(index)?;
            self.key_order(page, element.key, previous, subtree);
            previous = Some(element.key);
            let upper = if index + 1 < page.count() { Some(page.branch(index + 1)?.key) } else { subtree.upper };
            let depth = subtree.depth + 1;
            self.stack.push(Subtree { page: element.child, depth, lower: Some(element.key), upper });
        }
        Ok(())
    }

    fn leaf(&mut self, page: &Page<'t>, subtree: &Subtree<'t>) -> Result<(), Corrupt> {
        let mut previous = None;
        for index in 0..page.count() {
            let element = page.leaf(index)?;
            self.key_order(page, element.key, previous, subtree);
            previous = Some(element.key);
            if element.key.is_empty() {
                self.violate(page.id, "empty key");
            }
            if element.flags & FLAG_BUCKET != 0 {
                self.bucket(&element)?;
            }
        }
        Ok(())
    }

    fn bucket(&mut self, element: &LeafElement<'t>) -> Result<(), Corrupt> {
        let bucket = BucketRoot::of(element)?;
        match bucket.place {
            BucketPlace::Page(page) => {
                self.stack.push(Subtree { page, depth: 1, lower: None, upper: None });
                Ok(())
            }
            BucketPlace::Inline { host, .. } => {
                let page = bucket.page(self.window)?;
                self.inline_leaf(&page, host)
            }
        }
    }

    fn inline_leaf(&mut self, page: &Page<'t>, host: PageId) -> Result<(), Corrupt> {
        let whole = Subtree { page: host, depth: 1, lower: None, upper: None };
        let mut previous = None;
        for index in 0..page.count() {
            let element = page.leaf(index)?;
            self.key_order(page, element.key, previous, &whole);
            previous = Some(element.key);
            if element.flags & FLAG_BUCKET != 0 {
                self.violate(host, "bucket inside an inline bucket");
            }
        }
        Ok(())
    }

    fn key_order(&mut self, page: &Page<'t>, key: &[u8], previous: Option<&[u8]>, subtree: &Subtree<'t>) {
        if previous.is_some_and(|previous| previous >= key) {
            self.violate(page.id, "key is not above the one before");
        }
        if subtree.lower.is_some_and(|lower| key < lower) {
            self.violate(page.id, "key is below the key in the ancestor");
        }
        if subtree.upper.is_some_and(|upper| key >= upper) {
            self.violate(page.id, "key is not below the next key in the ancestor");
        }
    }

    /// Marks the free pages; afterwards nothing may be left unmarked.
    fn free(&mut self, spans: impl Iterator<Item = Span>) {
        let mut freed = PageSet::new(self.window.high_water);
        for span in spans {
            if span.start.0 < 2 || span.start.0.saturating_add(span.pages) > self.window.high_water {
                self.violate(span.start, "free page is out of bounds");
                continue;
            }
            if !freed.insert(span) {
                self.violate(span.start, "already freed");
            }
            if !self.used.insert(span) {
                self.violate(span.start, "reachable freed");
            }
        }
        let lost: Vec<Span> = self.used.gaps(2).collect();
        for span in lost {
            self.violate(span.start, "unreachable unfreed");
        }
    }
}
