//! One compaction under way: its progress, and the deletion of records.

use super::{
    Failure,
    hash::{self, Hasher, KeyValueHash},
    revision::Revision,
    scan::RecordScan,
    tree_index::TreeIndex,
};
use crate::{
    backend::{Backend, Bucket, ReadView},
    base::planted::{self, Bug},
};

/// One compaction under way.
#[derive(Debug)]
pub(super) struct Compaction {
    pub revision: i64,
    /// Whether the compaction before had finished. Otherwise the hash lacks the records that it deleted.
    pub keeps_hash: bool,
    pub hasher: Hasher,
    pub deleted: u64,
    pub state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Index { from: Vec<u8> },
    Commit,
    Records { scan: RecordScan, keeps_any: bool },
}

/// A finished compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionReport {
    pub revision: i64,
    pub records_deleted: u64,
    pub hash: KeyValueHash,
    /// Whether the hash was kept for HashKV.
    pub hash_kept: bool,
}

impl Compaction {
    pub(super) fn delete_records(
        &mut self,
        index: &TreeIndex,
        backend: &mut Backend,
        budget: usize,
    ) -> Result<bool, Failure> {
        let State::Records { scan, keeps_any } = &mut self.state else {
            unreachable!("records are deleted in that state only");
        };
        let mut dropped = Vec::new();
        let records = backend.view();
        let done = scan.step(&records, budget, &mut |stored| {
            let kept = hash::kept_by_compaction(index, &stored, self.revision)? && !planted::has(Bug::CompactTooMuch);
            if !kept {
                dropped.push(stored.stored_key.to_vec());
            }
            self.hasher.add(&stored, || Ok(kept || !*keeps_any))
        })?;
        drop(records);
        self.deleted += dropped.len() as u64;
        for key in &dropped {
            backend.delete(Bucket::Key, key);
        }
        Ok(done)
    }

    pub(super) fn report(&self) -> CompactionReport {
        CompactionReport {
            revision: self.revision,
            records_deleted: self.deleted,
            hash: self.hasher.finish(),
            hash_kept: self.keeps_hash,
        }
    }
}

/// Whether the compaction keeps any record at or below its revision.
pub(super) fn keeps_any(index: &TreeIndex, records: &ReadView, revision: i64) -> Result<bool, Failure> {
    if index.any_live_at(revision) {
        return Ok(true);
    }
    let mut tombstone = false;
    let mut scan = RecordScan::committed(Revision::new(revision, 0), revision);
    while !tombstone {
        let done = scan.step(records, 1, &mut |stored| {
            tombstone |= stored.tombstone;
            Ok(())
        })?;
        if done {
            break;
        }
    }
    Ok(tombstone)
}
