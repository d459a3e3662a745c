//! HashKV: one checksum over the history that members with equal revision and compact revision must share.
//!
//! CRC-32C over the three bytes `key`, then, for each record of bucket `key` in revision order, its key and its value, except
//!
//! | skipped | why |
//! |---|---|
//! | main above the revision asked for | later history |
//! | main at or below the compact revision, unless a compaction at the revision asked for would keep it | may be deleted already |
//! | a tombstone exactly at the compact revision | older releases delete it |
//!
//! A compatible hash shares one oddity of etcd: if that compaction would keep no record at all, the second rule does not
//! apply, and all records that the last compaction left are added.

use super::{Failure, record::RecordFields, scan::StoredRecord, tree_index::TreeIndex};
use crate::{
    backend::Bucket,
    base::{checksum::crc32c, limits::COMPACTION_HASHES_MAX},
};

/// A hash and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValueHash {
    pub hash: u32,
    pub compact_revision: i64,
    pub revision: i64,
}

/// The checksum while records are added.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    crc: u32,
    pub(super) compact_revision: i64,
    pub(super) revision: i64,
}

impl Hasher {
    pub(super) fn new(compact_revision: i64, revision: i64) -> Self {
        Self { crc: crc32c(0, Bucket::Key.name()), compact_revision, revision }
    }

    /// Whether the second rule may skip records of this revision.
    fn asks_for_kept(&self, stored: &StoredRecord<'_>) -> bool {
        stored.revision.main <= self.compact_revision
    }

    /// Adds a record; `kept` decides the second rule and is called only if the rule applies.
    pub(super) fn add(
        &mut self,
        stored: &StoredRecord<'_>,
        kept: impl FnOnce() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        if stored.revision.main > self.revision {
            return Ok(());
        }
        if self.asks_for_kept(stored) && !kept()? {
            return Ok(());
        }
        if stored.tombstone && stored.revision.main == self.compact_revision {
            return Ok(());
        }
        self.crc = crc32c(crc32c(self.crc, stored.stored_key), stored.record);
        Ok(())
    }

    pub(super) fn finish(&self) -> KeyValueHash {
        KeyValueHash { hash: self.crc, compact_revision: self.compact_revision, revision: self.revision }
    }
}

/// Whether `stored` is the record of its key that a compaction at `at` keeps.
pub(super) fn kept_by_compaction(index: &TreeIndex, stored: &StoredRecord<'_>, at: i64) -> Result<bool, Failure> {
    let key = RecordFields::of(stored.record, stored.revision)?.key;
    let newest = index.change_at(key, at);
    let is_newest = newest == Some((stored.revision, stored.tombstone));
    Ok(is_newest && (!stored.tombstone || stored.revision.main == at))
}

/// Adds a hash to those of the last compactions.
pub(super) fn remember(hashes: &mut Vec<KeyValueHash>, hash: KeyValueHash) {
    hashes.push(hash);
    hashes.sort_by_key(|hash| hash.revision);
    let surplus = hashes.len().saturating_sub(COMPACTION_HASHES_MAX);
    hashes.drain(..surplus);
}
