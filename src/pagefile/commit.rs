//! A commit as data, and the buffer that its pages are written into.

use super::PageId;
use crate::base::limits::PAGE_WRITE_BYTES_MAX;

/// Work on the file, in this order: grow it and sync, write `pages`, sync, write `meta`, sync, and cut the file if
/// `truncate_to` is set.
#[derive(Debug)]
pub struct Commit {
    pub txid: u64,
    /// New length of the file, in bytes, if it has to become longer.
    pub grow_to: Option<u64>,
    /// Disjoint, in file order.
    pub pages: Vec<PageWrite>,
    /// The commit point.
    pub meta: PageWrite,
    /// Length to which the file can be cut after the commit point (while shrinking only).
    pub truncate_to: Option<u64>,
}

/// Consecutive whole pages. Only a page file makes them, so that none overwrites a page that a reader may use.
#[derive(Debug, PartialEq, Eq)]
pub struct PageWrite {
    offset: u64,
    bytes: Vec<u8>,
}

impl PageWrite {
    pub(super) fn new(offset: u64, bytes: Vec<u8>) -> PageWrite {
        PageWrite { offset, bytes }
    }

    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer, for a disk that needs to own it.
    #[must_use]
    pub fn into_parts(self) -> (u64, Vec<u8>) {
        (self.offset, self.bytes)
    }
}

/// Collects pages; neighbours share one write, up to [`PAGE_WRITE_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct Output {
    page_size: usize,
    runs: Vec<PageWrite>,
}

impl Output {
    pub(super) fn new(page_size: usize) -> Output {
        Output { page_size, runs: Vec::new() }
    }

    /// A zeroed page to be filled in.
    pub(super) fn page(&mut self, id: PageId, pages: u64) -> &mut [u8] {
        let offset = id.0 * self.page_size as u64;
        let len = pages as usize * self.page_size;
        let fits = |run: &PageWrite| {
            run.offset + run.bytes.len() as u64 == offset && run.bytes.len() + len <= PAGE_WRITE_BYTES_MAX
        };
        if !self.runs.last().is_some_and(fits) {
            self.runs.push(PageWrite { offset, bytes: Vec::with_capacity(len) });
        }
        let run = self.runs.last_mut().expect("just pushed");
        let start = run.bytes.len();
        run.bytes.resize(start + len, 0);
        &mut run.bytes[start..]
    }

    /// The writes in file order.
    pub(super) fn finish(mut self) -> Vec<PageWrite> {
        self.runs.sort_unstable_by_key(|run| run.offset);
        for pair in self.runs.windows(2) {
            assert!(pair[0].offset + pair[0].bytes.len() as u64 <= pair[1].offset, "page written twice in a commit");
        }
        self.runs
    }
}

const _: () = assert!(PAGE_WRITE_BYTES_MAX.is_multiple_of(64 * 1024));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_write_and_writes_are_in_order() {
        let mut output = Output::new(4096);
        for (id, pages) in [(10, 1), (11, 2), (20, 1), (4, 1)] {
            output.page(PageId(id), pages)[0] = id as u8;
        }
        let runs: Vec<_> = output.finish().iter().map(|run| (run.offset() / 4096, run.bytes().len() / 4096)).collect();
        assert_eq!(runs, [(4, 1), (10, 3), (20, 1)]);
    }
}
