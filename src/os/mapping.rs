//! A read-only shared mapping that reserves far more addresses than the file has bytes.
//!
//! The file grows underneath without a remap, so a reader's slice never moves. Addresses past the end of the file must not
//! be touched (SIGBUS); the page file never follows a page number at or above its high-water mark.

use std::{fs::File, io, path::Path, ptr::NonNull, sync::Arc};

use memmap2::{Mmap, MmapOptions};

use crate::pagefile::PageMap;

/// The mapping of one file.
#[derive(Clone, Debug)]
pub struct Mapping {
    map: Arc<Mmap>,
}

impl Mapping {
    /// Maps `path` with `reserve_bytes` of address space, which may exceed the file.
    ///
    /// # Errors
    /// The file cannot be opened, or the address space is not to be had (`ulimit -v`).
    pub fn reserve(path: &Path, reserve_bytes: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the file is ours alone (locked), grows but never shrinks below the high-water mark of a live reader, and
        // pages reachable by readers are never rewritten (copy-on-write), so the bytes behind a slice do not change.
        let map = unsafe { MmapOptions::new().len(reserve_bytes).map(&file)? };
        Ok(Self { map: Arc::new(map) })
    }

    /// The mapping as the page file wants it.
    ///
    /// # Panics
    /// Never: a mapping has an address.
    #[must_use]
    pub fn page_map(&self) -> PageMap {
        let base = NonNull::new(self.map.as_ptr().cast_mut()).expect("a mapping is not at address 0");
        // SAFETY: the owner keeps the mapping; the file is locked, and only commits of its page file change it.
        unsafe { PageMap::from_raw(base, self.map.len() as u64, self.map.clone()) }
    }

    /// Asks the kernel to read the first `length` bytes ahead.
    pub fn will_need(&self, length: usize) {
        if length > 0 {
            // Advice only: a refusal changes nothing but speed.
            let _refused = self.map.advise_range(memmap2::Advice::WillNeed, 0, length.min(self.map.len()));
        }
    }
}
