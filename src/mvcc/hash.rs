//! HashKV: one checksum over the history that members with equal revision and compact revision must share.
//!
//! CRC-32C over the three bytes `key`, then, for each record of bucket `key` in revision order, its key and its value, except
//!
//! | skipped | why |
//! |---|---|
//! | main above the revision asked for | later history |
//! | main at or below the compact revision, and not what a compaction at the revision asked for would keep | may be deleted already |
//! | a tombstone exactly at the compact revision | older releases delete it |
//!
//! etcd has one oddity that a compatible hash must share: if that compaction would keep nothing at all, the second rule does not
//! apply, and whatever the last compaction left counts.

use super::{
    Failure, ReadError, Refusal, View,
    record::RecordFields,
    scan::{RecordScan, StoredRecord},
    tree_index::TreeIndex,
};
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

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashResult {
    pub hash: KeyValueHash,
    /// The store's revision, for the header.
    pub current_revision: i64,
}

/// The checksum while records are added.
#[derive(Clone, Debug)]
pub(super) struct Hasher {
    crc: u32,
    compact_revision: i64,
    revision: i64,
}

impl Hasher {
    pub(super) fn new(compact_revision: i64, revision: i64) -> Self {
        Self { crc: crc32c(0, Bucket::Key.name()), compact_revision, revision }
    }

    /// Whether the second rule may skip records of this revision.
    fn asks_for_kept(&self, stored: &StoredRecord<'_>) -> bool {
        stored.revision.main <= self.compact_revision
    }

    /// Adds a record; `kept` answers the second rule and is asked only if it applies.
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

/// HashKV over one view, in slices.
pub struct HashReader {
    view: View,
    state: State,
}

enum State {
    Known(KeyValueHash),
    Reading { hasher: Hasher, scan: RecordScan, keeps_any: bool },
}

impl HashReader {
    /// Hash of the history up to `requested`; zero means the current revision.
    pub fn new(view: View, requested: i64) -> Result<Self, Refusal> {
        let known = view.hashes.iter().find(|hash| hash.revision == requested);
        if let Some(known) = known.copied() {
            let state = State::Known(known);
            return Ok(Self { view, state });
        }
        if requested > 0 && requested < view.compact_revision {
            return Err(Refusal::Compacted);
        }
        if requested > view.revision {
            return Err(Refusal::FutureRevision);
        }
        let revision = if requested == 0 { view.revision } else { requested };
        let state = State::Reading {
            hasher: Hasher::new(view.compact_revision, revision),
            scan: RecordScan::new(super::Revision::default(), revision),
            keeps_any: view.index.any_live_at(revision),
        };
        Ok(Self { view, state })
    }

    /// Goes on for about `budget` records; an answer when done.
    pub fn step(&mut self, budget: usize) -> Result<Option<HashResult>, Failure> {
        let Self { view, state } = self;
        let hash = match state {
            State::Known(hash) => *hash,
            State::Reading { hasher, scan, keeps_any } => {
                let (compact_revision, revision) = (hasher.compact_revision, hasher.revision);
                let done = scan.step(&view.records, budget, &mut |stored| {
                    hasher.add(&stored, || {
                        if *keeps_any {
                            live_at(&view.index, &stored, revision)
                        } else {
                            kept_by_compaction(&view.index, &stored, compact_revision)
                        }
                    })
                })?;
                if !done {
                    return Ok(None);
                }
                hasher.finish()
            }
        };
        Ok(Some(HashResult { hash, current_revision: view.revision }))
    }

    /// The whole hash at once.
    pub fn finish(mut self) -> Result<HashResult, ReadError> {
        loop {
            if let Some(result) = self.step(usize::MAX)? {
                return Ok(result);
            }
        }
    }
}

fn live_at(index: &TreeIndex, stored: &StoredRecord<'_>, at: i64) -> Result<bool, Failure> {
    let key = RecordFields::of(stored.record, stored.revision)?.key;
    let version = index.version_at(key, at);
    Ok(!stored.tombstone && version.is_some_and(|version| version.modified == stored.revision))
}
