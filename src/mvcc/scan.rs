//! All records of a view in revision order: first those of the page file, then those only the read buffer has.
//!
//! ```text
//!   committed pages: cursor over bucket `key`      read buffer: looked up one by one
//!   2.0  3.0  3.1t  5.0 ......................... |  901.0  902.0  902.1t  903.0
//! ```
//!
//! The read buffer has no cursor and needs none: revisions are dense where nothing was compacted, a transaction is never split
//! between the two, and records in the buffer are not compacted (a compaction deletes only committed ones). So the first missing sub
//! revision ends a transaction and the next main revision follows.

use super::{
    Failure,
    revision::{RecordKey, Revision},
};
use crate::backend::{Bucket, ReadView};

/// A record where it is stored.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    pub revision: Revision,
    pub tombstone: bool,
    /// The key in bucket `key`: 17 or 18 bytes.
    pub stored_key: &'a [u8],
    /// `mvccpb.KeyValue`.
    pub record: &'a [u8],
}

/// A walk over records in slices. It holds no view, so each slice may use a newer one.
#[derive(Clone, Debug)]
pub struct RecordScan {
    next: Revision,
    last_main: i64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// `then_buffer`: continue with the read buffer after the pages.
    Pages {
        then_buffer: bool,
    },
    Buffer,
    Done,
}

impl RecordScan {
    /// Records from `from` to the last sub revision of `last_main`.
    #[must_use]
    pub fn new(from: Revision, last_main: i64) -> Self {
        Self { next: from, last_main, stage: Stage::Pages { then_buffer: true } }
    }

    /// Only those the page file has.
    #[must_use]
    pub fn committed(from: Revision, last_main: i64) -> Self {
        Self { stage: Stage::Pages { then_buffer: false }, ..Self::new(from, last_main) }
    }

    /// The first revision not visited yet.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.next
    }

    /// Visits at most about `budget` records; `true` when all were visited.
    pub fn step(
        &mut self,
        records: &ReadView,
        budget: usize,
        visit: &mut dyn FnMut(StoredRecord<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        if self.next.main > self.last_main {
            self.stage = Stage::Done;
        }
        let mut left = budget.max(1);
        if let Stage::Pages { then_buffer } = self.stage
            && self.walk_pages(records, &mut left, visit)?
        {
            self.stage = if then_buffer { Stage::Buffer } else { Stage::Done };
        }
        if self.stage == Stage::Buffer && self.probe_buffer(records, &mut left, visit)? {
            self.stage = Stage::Done;
        }
        Ok(self.stage == Stage::Done)
    }

    fn walk_pages(
        &mut self,
        records: &ReadView,
        left: &mut usize,
        visit: &mut dyn FnMut(StoredRecord<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let Some(bucket) = records.pages().bucket(Bucket::Key.name())? else {
            return Ok(true);
        };
        let mut cursor = records.pages().cursor(bucket);
        let mut found = cursor.seek(&self.next.put_key())?;
        while let Some(item) = found {
            let key = RecordKey::parse(item.key)?;
            if key.revision < self.next {
                return Err(Failure::OutOfOrder(key.revision));
            }
            if key.revision.main > self.last_main {
                return Ok(true);
            }
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            visit(StoredRecord {
                revision: key.revision,
                tombstone: key.tombstone,
                stored_key: item.key,
                record: item.value,
            })?;
            self.next = Revision::new(key.revision.main, key.revision.sub + 1);
            found = cursor.next_item()?;
        }
        Ok(true)
    }

    fn probe_buffer(
        &mut self,
        records: &ReadView,
        left: &mut usize,
        visit: &mut dyn FnMut(StoredRecord<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        while self.next.main <= self.last_main {
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            let revision = self.next;
            let put_key = revision.put_key();
            let tombstone_key = revision.tombstone_key();
            let found = match records.record(&put_key)? {
                Some(record) => Some((false, &put_key[..], record)),
                None => records.record(&tombstone_key)?.map(|record| (true, &tombstone_key[..], record)),
            };
            match found {
                Some((tombstone, stored_key, record)) => {
                    self.next.sub += 1;
                    visit(StoredRecord { revision, tombstone, stored_key, record })?;
                }
                None => self.next = Revision::new(revision.main + 1, 0),
            }
        }
        Ok(true)
    }
}
