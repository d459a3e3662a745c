//! Allocating and freeing pages during one commit.

use super::PageId;
use super::freelist::{FreeSet, Span};

/// Allocates and frees pages of one commit.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) free: FreeSet,
    pub(super) high_water: u64,
    pub(super) txid: u64,
    /// The file is shrinking: spans of several pages are placed low, too.
    pub(super) low: bool,
}

impl Space {
    pub(super) fn allocate(&mut self, pages: u64) -> PageId {
        self.free.allocate(pages, self.txid, self.low).unwrap_or_else(|| {
            let id = PageId(self.high_water);
            self.high_water += pages;
            self.free.born(id, self.txid);
            id
        })
    }

    pub(super) fn free(&mut self, span: Span) {
        self.free.free(span, self.txid);
    }
}
