//! Compaction: drops history below a revision, in slices between batches, so that no write waits for it.
//!
//! | state | in a step | next |
//! |---|---|---|
//! | Index | drops stamps of some keys | Commit at the last key |
//! | Commit | checks whether `scheduledCompactRev` is in the page file | Records when it is; until then the shell should commit |
//! | Records | reads records up to the revision, adds them to the hash, deletes those not kept | finished at the last one |
//!
//! 1. From the moment it begins, new views refuse reads below the revision; older views keep what they hold.
//! 2. The present index decides whether a record is kept: the newest change of a key at or below the revision is affected neither by
//!    later writes nor by dropping older stamps. So there is no set of kept revisions, whatever the size of the store.
//! 3. `scheduledCompactRev` is written after everything at or below its revision. Once the page file has it, it has all records
//!    that the compaction concerns, and the buffer none.
//! 4. After a restart the index is built from the remaining records, so a compaction started again from `scheduledCompactRev` ends
//!    in the same state. Only the hash would differ, so it is not kept then.
//! 5. Compactions run one after the other in the order they were asked for.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Error, Failure, Refusal, Store,
    compaction::{Compaction, CompactionReport, State, keeps_any},
    hash::{self, Hasher},
    revision::{RecordKey, Revision},
    scan::RecordScan,
    tree_index::TreeIndex,
};
use crate::backend::{Backend, Bucket, ReadView};

pub(super) const SCHEDULED_KEY: &[u8] = b"scheduledCompactRev";
pub(super) const FINISHED_KEY: &[u8] = b"finishedCompactRev";

/// Keys in a leaf of the index, roughly: turns a budget of entries into one of leaves.
const ENTRIES_PER_LEAF: usize = 32;

/// The outcome of one slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompactStep {
    /// No compaction is under way.
    Idle,
    /// Waits until the backend has committed the pending changes.
    AwaitsCommit,
    /// A slice of the index is done; there is more to do.
    Indexing,
    /// There is more to do.
    Working,
    Finished(CompactionReport),
}

impl Store {
    /// Begins a compaction at `revision`. Reads below it are refused from now on.
    pub fn compact_begin(&mut self, backend: &mut Backend, revision: i64) -> Result<(), Error> {
        if revision <= self.compact_revision {
            return Err(Refusal::Compacted.into());
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision.into());
        }
        let finished = backend.get(Bucket::Meta, FINISHED_KEY).map_err(Failure::from)?;
        let keeps_hash = backend.get(Bucket::Meta, SCHEDULED_KEY).map_err(Failure::from)? == finished;
        self.compactions.push_back(Compaction {
            revision,
            keeps_hash,
            hasher: Hasher::new(self.compact_revision, revision),
            deleted: 0,
            state: State::Index { from: Vec::new() },
        });
        self.compact_revision = revision;
        put_mark(backend, SCHEDULED_KEY, revision);
        Ok(())
    }

    /// Whether a compaction is under way.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        !self.compactions.is_empty()
    }

    /// One slice of the oldest compaction under way: about `budget` keys or records.
    pub fn compact_step(&mut self, backend: &mut Backend, budget: usize) -> Result<CompactStep, Failure> {
        let Some(compaction) = self.compactions.front_mut() else {
            return Ok(CompactStep::Idle);
        };
        match &mut compaction.state {
            State::Index { from } => {
                let revision = compaction.revision;
                let resume = drop_stamps(&mut self.index, revision, from, budget);
                compaction.state = match resume {
                    Some(from) => State::Index { from },
                    None => State::Commit,
                };
                Ok(CompactStep::Indexing)
            }
            State::Commit => {
                let records = backend.view();
                let committed = read_mark(&records, SCHEDULED_KEY)?;
                if committed.is_none_or(|committed| committed < compaction.revision) {
                    return Ok(CompactStep::AwaitsCommit);
                }
                compaction.state = State::Records {
                    scan: RecordScan::committed(Revision::default(), compaction.revision),
                    keeps_any: keeps_any(&self.index, &records, compaction.revision)?,
                };
                Ok(CompactStep::Working)
            }
            State::Records { .. } => {
                if !compaction.delete_records(&self.index, backend, budget)? {
                    return Ok(CompactStep::Working);
                }
                let report = compaction.report();
                self.compactions.pop_front();
                put_mark(backend, FINISHED_KEY, report.revision);
                if report.hash_kept {
                    hash::remember(Arc::make_mut(&mut self.hashes), report.hash);
                }
                Ok(CompactStep::Finished(report))
            }
        }
    }
}

/// Compacts some keys at or above `from`; returns the next key.
fn drop_stamps(index: &mut TreeIndex, revision: i64, from: &[u8], budget: usize) -> Option<Vec<u8>> {
    let leaves = budget / ENTRIES_PER_LEAF + 1;
    let (keys, resume) = index.compactable(revision, from, leaves);
    for key in &keys {
        index.compact_key(key, revision);
    }
    resume
}

/// The main revision of a mark in bucket `meta` of the page file.
pub(super) fn read_mark(records: &ReadView, mark: &[u8]) -> Result<Option<i64>, Failure> {
    let pages = records.pages();
    let Some(bucket) = pages.bucket(Bucket::Meta.name())? else {
        return Ok(None);
    };
    match pages.get(&bucket, mark)? {
        Some(value) => Ok(Some(RecordKey::parse(value)?.revision.main)),
        None => Ok(None),
    }
}

fn put_mark(backend: &mut Backend, mark: &'static [u8], revision: i64) {
    let value = Revision::new(revision, 0).put_key();
    backend.put(Bucket::Meta, Bytes::from_static(mark), Bytes::copy_from_slice(&value));
}
