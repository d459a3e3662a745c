//! A committed root, held by readers on any core: lookups, scans, and the image of a snapshot.

use std::sync::Arc;

use super::Corrupt;
use super::bucket_root::{BucketPlace, BucketRoot};
use super::cursor::{Cursor, lookup};
use super::meta::Meta;
use super::page::{FLAG_BUCKET, Window};

/// The last commit, or an older one with readers. While it lives its pages are not reused.
#[derive(Clone, Debug)]
pub struct ReadTxn {
    root: Arc<CommittedRoot>,
}

/// The root that readers share: one per commit.
#[derive(Debug)]
pub(super) struct CommittedRoot {
    pub(super) window: Window,
    pub(super) meta: Meta,
}

impl ReadTxn {
    pub(super) fn new(root: Arc<CommittedRoot>) -> ReadTxn {
        ReadTxn { root }
    }

    pub(super) fn committed(&self) -> &CommittedRoot {
        &self.root
    }

    /// The transaction that made this root.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.root.meta.txid
    }

    #[must_use]
    pub fn page_size(&self) -> usize {
        self.root.window.page_size
    }

    /// The bucket of buckets.
    #[must_use]
    pub fn root_bucket(&self) -> BucketRoot {
        BucketRoot { place: BucketPlace::Page(self.root.meta.root), sequence: self.root.meta.sequence }
    }

    /// A bucket by name. The result is valid for this root only.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<BucketRoot>, Corrupt> {
        match lookup(&self.root.window, &self.root_bucket(), name)? {
            Some(element) if element.flags & FLAG_BUCKET != 0 => BucketRoot::of(&element).map(Some),
            _ => Ok(None),
        }
    }

    /// The value stored under `key`.
    #[inline]
    pub fn get(&self, bucket: &BucketRoot, key: &[u8]) -> Result<Option<&[u8]>, Corrupt> {
        Ok(lookup(&self.root.window, bucket, key)?.map(|element| element.value))
    }

    #[must_use]
    pub fn cursor(&self, bucket: BucketRoot) -> Cursor<'_> {
        Cursor::new(&self.root.window, bucket)
    }

    /// Length of the file this root needs, and of its image.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.root.meta.high_water * self.root.window.page_size as u64
    }

    /// Appends up to `len_max` bytes of this root's image, from `offset`, to `target`; less only at the end.
    ///
    /// The image is what bbolt's `WriteTo` gives: both meta pages describe this root, with txid and txid - 1, and every other
    /// page is as in the file, free ones included (their content is arbitrary).
    pub fn copy_image(&self, offset: u64, len_max: usize, target: &mut Vec<u8>) {
        let page_size = self.root.window.page_size as u64;
        let end = self.size_bytes().min(offset + len_max as u64);
        let mut at = offset;
        while at < end.min(2 * page_size) {
            let slot = at / page_size;
            let meta = Meta { txid: self.root.meta.txid.saturating_sub(slot), ..self.root.meta };
            let stop = end.min((slot + 1) * page_size);
            let page = meta.encode(slot);
            target.extend_from_slice(&page[(at - slot * page_size) as usize..(stop - slot * page_size) as usize]);
            at = stop;
        }
        if at < end {
            self.root.window.map.copy(at, (end - at) as usize, target);
        }
    }
}
