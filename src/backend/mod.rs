//! etcd's buckets over the page file: changes are collected, visible at once to readers, and committed from time to time.
//!
//! ```text
//!   append, put, delete                begin_commit        step_commit ...        on_committed
//!          |                                |                    |                     |
//!          v                                v                    v                     v
//!   open WriteBatch ------------------> in flight ---------> Commit (a value) ---> page file has it,
//!   ReadBuffer (records only)                                                      read buffer drops it
//!          |                                                                           |
//!          +---------------------> view(): ReadView = read buffer + root <-------------+      (any core, no lock)
//! ```
//!
//! Invariants:
//! 1. Records of bucket `key` are appended in revision order, over batches and restarts. So every record in the read buffer is
//!    above all in the page file, no lookup needs both, and nothing is merged while reading.
//! 2. A record is in the read buffer from its append until a root that contains it is published; a view has one or the other.
//! 3. Views never change. An older view keeps the chunks and the root that it was made from.
//! 4. One commit is in flight at most; changes that arrive meanwhile belong to the next.
//!
//! Deliberately absent: when to commit (the store's: 100 ms or 10,000 changes), buffered reads of the small buckets for other
//! cores (they are read at start, or after a forced commit), bucket removal (etcd never does it).
//!
//! Read path: [`ReadView::record`], one lookup per record of a range. Write path: one slot and one change per record, no
//! allocation but the chunk of every 1024th.

mod bucket;
mod hash;
mod read_buffer;
mod read_view;
mod write_batch;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::pagefile::{Change, Commit, CommitError, Corrupt, Key, PageFile};
pub use bucket::Bucket;
pub use hash::DatabaseHash;
use read_buffer::ReadBuffer;
pub use read_view::ReadView;
use write_batch::WriteBatch;

/// The one writer of a page file.
#[derive(Debug)]
pub struct Backend {
    file: PageFile,
    buffer: ReadBuffer,
    open: WriteBatch,
    in_flight: Option<InFlight>,
    /// Buckets that the file does not have yet.
    missing: Vec<Bucket>,
    /// Of the last commit; views are made from it.
    committed: ReadView,
}

/// The commit in flight, until it is durable.
#[derive(Debug)]
struct InFlight {
    /// Small buckets only; the records are in the read buffer.
    batch: WriteBatch,
    /// The read buffer's end when the batch was sealed.
    buffer_end: u64,
}

impl Backend {
    /// Takes over a page file. Missing buckets are created by the first commit.
    pub fn new(file: PageFile) -> Result<Backend, Corrupt> {
        let committed = ReadView::new(ReadBuffer::default(), file.read(), file.in_use_bytes())?;
        let mut missing = Vec::new();
        for bucket in Bucket::ALL {
            if committed.pages().bucket(bucket.name())?.is_none() {
                missing.push(bucket);
            }
        }
        let buffer = ReadBuffer::default();
        Ok(Backend { file, buffer, open: WriteBatch::default(), in_flight: None, missing, committed })
    }

    /// Adds a record to bucket `key`, whose revision key (17 bytes, 18 for a tombstone) is above all before it.
    pub fn append(&mut self, key: &[u8], record: Bytes) {
        self.buffer.append(key, record.clone());
        self.open.append(Change { key: Key::from_slice(key), value: Some(record) });
    }

    /// Sets a value in any bucket but `key`.
    pub fn put(&mut self, bucket: Bucket, key: Bytes, value: Bytes) {
        self.open.set(bucket, key, Some(value));
    }

    /// Removes a record of any bucket. One of bucket `key` stays in the read buffer until the next commit but one; no lookup asks
    /// for it, because the index has dropped it before.
    pub fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        match bucket {
            Bucket::Key => self.open.delete_record(key),
            _ => self.open.set(bucket, Bytes::copy_from_slice(key), None),
        }
    }

    /// The writer's own view of the small buckets: every change so far, committed or not. Not for bucket `key`.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Corrupt> {
        assert!(bucket != Bucket::Key, "records are looked up in a view");
        let in_flight = self.in_flight.as_ref().map(|in_flight| &in_flight.batch);
        for batch in [Some(&self.open), in_flight].into_iter().flatten() {
            if let Some(value) = batch.get(bucket, key) {
                return Ok(value.clone());
            }
        }
        let pages = self.committed.pages();
        match pages.bucket(bucket.name())? {
            Some(root) => Ok(pages.get(&root, key)?.map(Bytes::copy_from_slice)),
            None => Ok(None),
        }
    }

    /// Changes since the last `begin_commit`.
    #[must_use]
    pub fn pending_changes(&self) -> usize {
        self.open.changes()
    }

    /// Size of the database of the last commit, as etcd reports it.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.committed.size_bytes()
    }

    /// Number of committed states with readers, the last one included.
    #[must_use]
    pub fn open_read_transactions(&self) -> usize {
        self.file.open_read_transactions()
    }

    /// The present state, for readers.
    #[must_use]
    pub fn view(&self) -> ReadView {
        self.committed.with_buffer(self.buffer.clone())
    }

    fn needs_commit(&self) -> bool {
        self.open.changes() > 0 || !self.missing.is_empty() || self.file.is_shrinking()
    }

    /// Defragments while serving: the next commits move pages from the end of the file to free ones and cut it. Done when
    /// `is_shrinking` is false; until then commits are needed even without changes.
    pub fn start_shrink(&mut self) {
        self.file.start_shrink();
    }

    #[must_use]
    pub fn is_shrinking(&self) -> bool {
        self.file.is_shrinking()
    }

    /// Seals the batch. False: nothing to commit, or a commit is in flight.
    pub fn begin_commit(&mut self) -> bool {
        if self.in_flight.is_some() || !self.needs_commit() {
            return false;
        }
        let mut batch = std::mem::take(&mut self.open);
        self.file.begin(batch.seal(&self.missing));
        self.in_flight = Some(InFlight { batch, buffer_end: self.buffer.end() });
        true
    }

    /// Builds the commit for about `budget` records. `Some`: the commit, to be made durable and then reported by `on_committed`.
    pub fn step_commit(&mut self, budget: usize) -> Result<Option<Commit>, CommitError> {
        self.file.step(budget)
    }

    /// The commit is durable: new views read its records from the page file.
    pub fn on_committed(&mut self) -> Result<(), Corrupt> {
        let in_flight = self.in_flight.take().expect("a commit is in flight");
        self.file.on_committed();
        self.missing.clear();
        self.buffer.forget(in_flight.buffer_end);
        self.committed = ReadView::new(ReadBuffer::default(), self.file.read(), self.file.in_use_bytes())?;
        Ok(())
    }

    /// Whether a commit is being built or in flight.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Checks every rule of the file format. Between commits only.
    #[must_use]
    pub fn check(&self) -> Vec<crate::pagefile::Violation> {
        self.file.check()
    }
}
