//! The pages that may be written: free ones, and those that become free when a reader ends.
//!
//! A page is born in the transaction that allocates it and dies in the one that frees it. Every root r with
//! birth <= r < death may read it. It is reusable when no such root is alive. To keep that check cheap, a dead page waits in the
//! list of **one** live root that may read it, the oldest. When that root is dropped, the page moves to the list of the next live
//! root that may read it, or becomes free. So a long-running snapshot holds back the pages of its own root only, not pages that
//! were allocated and freed after it.
//!
//! Births are recorded for pages younger than the oldest live root; all others count as born at 0.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ahash::AHashMap;

use super::page::{Window, read_u64};
use super::{Corrupt, PageId};
use crate::base::{
    limits::SHRINK_SPANS_VISITED_MAX,
    planted::{self, Bug},
};

/// Consecutive physical pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: PageId,
    pub(super) pages: u64,
}

#[derive(Clone, Copy, Debug)]
struct Dead {
    span: Span,
    birth: u64,
    death: u64,
}

#[derive(Debug, Default)]
pub(super) struct FreeSet {
    /// Reusable now: start -> length, no two adjacent.
    spans: BTreeMap<u64, u64>,
    /// The same as (length, start), for finding room for a page with overflow.
    by_length: BTreeSet<(u64, u64)>,
    free_pages: u64,
    /// Root -> pages that wait for it.
    waiting: BTreeMap<u64, Vec<Dead>>,
    waiting_pages: u64,
    live: BTreeSet<u64>,
    births: AHashMap<u64, u64>,
    births_by_txid: VecDeque<(u64, Vec<u64>)>,
}

impl FreeSet {
    /// Pages that no root of the last commit reaches: reusable ones and waiting ones.
    pub(super) fn pages(&self) -> u64 {
        self.free_pages + self.waiting_pages
    }

    /// Adds a root that readers may hold.
    pub(super) fn add_root(&mut self, txid: u64) {
        self.live.insert(txid);
    }

    /// Drops roots without readers.
    pub(super) fn drop_roots(&mut self, gone: &[u64]) {
        for txid in gone {
            self.live.remove(txid);
        }
        for txid in gone {
            for dead in self.waiting.remove(txid).unwrap_or_default() {
                self.waiting_pages -= dead.span.pages;
                self.place(dead);
            }
        }
        let oldest = self.live.first().copied().unwrap_or(u64::MAX);
        while self.births_by_txid.front().is_some_and(|(txid, _)| *txid <= oldest) {
            let (txid, starts) = self.births_by_txid.pop_front().expect("just seen");
            for start in starts {
                if self.births.get(&start) == Some(&txid) {
                    self.births.remove(&start);
                }
            }
        }
    }

    /// The lowest free page, or the smallest sufficient span for several (a low one if `low`); `None`: the file has to grow.
    pub(super) fn allocate(&mut self, pages: u64, txid: u64, low: bool) -> Option<PageId> {
        let start = match pages {
            1 => *self.spans.first_key_value()?.0,
            _ if low => self.low_span(pages).or_else(|| self.small_span(pages))?,
            _ => self.small_span(pages)?,
        };
        let length = self.remove_span(start);
        if length > pages {
            self.insert_span(start + pages, length - pages);
        }
        self.born(PageId(start), txid);
        Some(PageId(start))
    }

    fn small_span(&self, pages: u64) -> Option<u64> {
        self.by_length.range((pages, 0)..).next().map(|(_, start)| *start)
    }

    fn low_span(&self, pages: u64) -> Option<u64> {
        let mut low = self.spans.iter().take(SHRINK_SPANS_VISITED_MAX);
        low.find(|(_, length)| **length >= pages).map(|(start, _)| *start)
    }

    /// Reusable pages below `limit`.
    pub(super) fn pages_below(&self, limit: PageId) -> u64 {
        self.spans.range(..limit.0).map(|(start, length)| (*length).min(limit.0 - start)).sum()
    }

    /// Records that a page was born in `txid` (also when it came from the end of the file).
    pub(super) fn born(&mut self, start: PageId, txid: u64) {
        self.births.insert(start.0, txid);
        match self.births_by_txid.back_mut() {
            Some((last, starts)) if *last == txid => starts.push(start.0),
            _ => self.births_by_txid.push_back((txid, vec![start.0])),
        }
    }

    /// Frees pages that transaction `death` does not use any more.
    pub(super) fn free(&mut self, span: Span, death: u64) {
        let birth = self.births.remove(&span.start.0).unwrap_or(0);
        self.place(Dead { span, birth, death });
    }

    fn place(&mut self, dead: Dead) {
        match self.live.range(dead.birth..dead.death).next() {
            Some(root) if !(planted::has(Bug::ReusePage) && root + 2 < dead.death) => {
                self.waiting_pages += dead.span.pages;
                self.waiting.entry(*root).or_default().push(dead);
            }
            _ => self.insert(dead.span),
        }
    }

    /// Makes pages reusable, joining them with their neighbours.
    pub(super) fn insert(&mut self, span: Span) {
        let (mut start, mut length) = (span.start.0, span.pages);
        if let Some((left, left_length)) = self.spans.range(..start).next_back().map(|(s, l)| (*s, *l)) {
            assert!(left + left_length <= start, "page {start} freed twice");
            if left + left_length == start {
                self.remove_span(left);
                start = left;
                length += left_length;
            }
        }
        if let Some((right, right_length)) = self.spans.range(start..).next().map(|(s, l)| (*s, *l)) {
            assert!(start + length <= right, "page {right} freed twice");
            if start + length == right {
                self.remove_span(right);
                length += right_length;
            }
        }
        self.insert_span(start, length);
    }

    /// Takes the free span that ends at `high_water`, if there is one.
    pub(super) fn take_tail(&mut self, high_water: u64) -> Option<PageId> {
        let (start, length) = self.spans.last_key_value().map(|(s, l)| (*s, *l))?;
        (start + length == high_water).then(|| {
            self.remove_span(start);
            PageId(start)
        })
    }

    fn insert_span(&mut self, start: u64, length: u64) {
        self.spans.insert(start, length);
        self.by_length.insert((length, start));
        self.free_pages += length;
    }

    fn remove_span(&mut self, start: u64) -> u64 {
        let length = self.spans.remove(&start).expect("a known span");
        self.by_length.remove(&(length, start));
        self.free_pages -= length;
        length
    }

    /// Every page that is not in use, reusable or waiting, with repetitions if there were any.
    pub(super) fn all(&self) -> impl Iterator<Item = Span> + '_ {
        let free = self.spans.iter().map(|(start, pages)| Span { start: PageId(*start), pages: *pages });
        free.chain(self.waiting.values().flatten().map(|dead| dead.span))
    }
}

/// A freelist that another program stored: where it lies, and the ids in it.
pub(super) struct StoredFreelist {
    pub(super) span: Span,
    pub(super) ids: Vec<PageId>,
}

/// Count value that says "the real count is the first id".
const COUNT_IN_FIRST_ID: usize = 0xFFFF;

impl StoredFreelist {
    pub(super) fn read(window: &Window, id: PageId) -> Result<StoredFreelist, Corrupt> {
        let page = window.page(id)?;
        if !page.is_freelist() {
            return Err(Corrupt::new(id, "is not a freelist"));
        }
        let body = page.body();
        let (skip, count) = match page.count() {
            COUNT_IN_FIRST_ID if body.len() >= 8 => (1, usize::try_from(read_u64(body, 0)).unwrap_or(usize::MAX)),
            count => (0, count),
        };
        if count > body.len() / 8 - skip {
            return Err(Corrupt::new(id, "more free pages than fit"));
        }
        let ids = body.chunks_exact(8).skip(skip).take(count).map(|id| PageId(read_u64(id, 0))).collect();
        Ok(StoredFreelist { span: Span { start: id, pages: page.span() }, ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, pages: u64) -> Span {
        Span { start: PageId(start), pages }
    }

    #[test]
    fn neighbours_join_and_room_is_found() {
        let mut free = FreeSet::default();
        for start in [10, 12, 30] {
            free.insert(span(start, 1));
        }
        assert_eq!(free.allocate(2, 1, false), None);
        free.insert(span(11, 1));
        assert_eq!(free.allocate(2, 1, false), Some(PageId(10)));
        assert_eq!(free.allocate(1, 1, false), Some(PageId(12)));
        assert_eq!(free.allocate(1, 1, false), Some(PageId(30)));
        assert_eq!(free.allocate(1, 1, false), None);
        assert_eq!(free.pages(), 0);
    }

    #[test]
    fn a_page_waits_for_every_root_that_sees_it() {
        let mut free = FreeSet::default();
        for root in [5, 7, 9] {
            free.add_root(root);
        }
        free.born(PageId(20), 6);
        free.born(PageId(30), 8);
        free.born(PageId(40), 8);
        free.free(span(10, 1), 10); // read by 5, 7 and 9
        free.free(span(20, 1), 8); // read by 7
        free.free(span(30, 1), 9); // read by none
        free.free(span(40, 1), 10); // read by 9
        assert_eq!(free.allocate(1, 10, false), Some(PageId(30)));
        assert_eq!(free.allocate(1, 10, false), None);
        free.drop_roots(&[7]);
        assert_eq!(free.allocate(1, 10, false), Some(PageId(20)));
        free.drop_roots(&[5]);
        assert_eq!(free.allocate(1, 10, false), None);
        free.drop_roots(&[9]);
        assert_eq!(free.allocate(1, 10, false), Some(PageId(10)));
        assert_eq!(free.allocate(1, 10, false), Some(PageId(40)));
    }

    #[test]
    fn the_tail_is_given_back() {
        let mut free = FreeSet::default();
        free.insert(span(4, 2));
        free.insert(span(10, 3));
        assert_eq!(free.take_tail(14), None);
        assert_eq!(free.take_tail(13), Some(PageId(10)));
        assert_eq!(free.pages(), 2);
    }
}
