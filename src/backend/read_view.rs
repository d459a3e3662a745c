//! The view of readers on any core: the read buffer as of some change, and the root of the last commit before it.

use crate::pagefile::{BucketRoot, Corrupt, ReadTxn};

use super::Bucket;
use super::read_buffer::ReadBuffer;

/// Never changes. A clone costs two reference counts. Its pages are not reused while it lives, so it must not be kept for long.
#[derive(Clone, Debug)]
pub struct ReadView {
    buffer: ReadBuffer,
    pages: ReadTxn,
    /// Bucket `key` of that root, found once per commit instead of once per lookup.
    records: Option<BucketRoot>,
    in_use_bytes: u64,
}

impl ReadView {
    pub(super) fn new(buffer: ReadBuffer, pages: ReadTxn, in_use_bytes: u64) -> Result<ReadView, Corrupt> {
        let records = pages.bucket(Bucket::Key.name())?;
        Ok(ReadView { buffer, pages, records, in_use_bytes })
    }

    pub(super) fn with_buffer(&self, buffer: ReadBuffer) -> ReadView {
        let pages = self.pages.clone();
        ReadView { buffer, pages, records: self.records, in_use_bytes: self.in_use_bytes }
    }

    /// The value stored under a revision key in bucket `key`. No allocation; a binary search in the read buffer, or one per level
    /// of the page file's tree.
    #[inline]
    pub fn record(&self, key: &[u8]) -> Result<Option<&[u8]>, Corrupt> {
        if let Some(value) = self.buffer.get(key) {
            return Ok(Some(value));
        }
        match &self.records {
            Some(bucket) => self.pages.get(bucket, key),
            None => Ok(None),
        }
    }

    /// The last commit, for scans. It holds everything if a commit was forced before.
    #[must_use]
    pub fn pages(&self) -> &ReadTxn {
        &self.pages
    }

    /// Size of the database of the last commit, as etcd reports it.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.pages.size_bytes()
    }

    /// The part of it that is not free.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.in_use_bytes
    }
}
