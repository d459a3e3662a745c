//! Builds the index from the page file, in slices.
//!
//! | state | in a step | next |
//! |---|---|---|
//! | Records | puts records into the index in revision order | Leases at the last one |
//! | Leases | reads the records of keys that name a lease | done at the last key |
//!
//! The current revision afterwards is that of the last record, or of the last compaction if that is higher: its records may all be gone.

use bytes::Bytes;

use super::{
    Error, FIRST_REVISION, Failure, NEVER_COMPACTED, Store,
    compact::{FINISHED_KEY, SCHEDULED_KEY, read_mark},
    key_index::KeyVersion,
    record::RecordFields,
    revision::Revision,
    scan::{RecordScan, StoredRecord},
    tree_index::TreeIndex,
};
use crate::backend::{Backend, ReadView};

/// A key and the lease it is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub key: Bytes,
    pub lease: i64,
}

/// A store on its way from the page file into memory.
pub struct Restore {
    records: ReadView,
    index: TreeIndex,
    revision: i64,
    compact_revision: i64,
    scheduled: i64,
    attachments: Vec<Attachment>,
    state: State,
}

enum State {
    Records(RecordScan),
    Leases { rank: u64 },
    Done,
}

impl Restore {
    /// From the committed state of `records`.
    pub fn new(records: ReadView) -> Result<Self, Failure> {
        let finished = read_mark(&records, FINISHED_KEY)?;
        let scheduled = read_mark(&records, SCHEDULED_KEY)?;
        let first = Revision::new(FIRST_REVISION, 0);
        Ok(Self {
            records,
            index: TreeIndex::default(),
            revision: FIRST_REVISION,
            compact_revision: finished.unwrap_or(NEVER_COMPACTED),
            scheduled: scheduled.unwrap_or(NEVER_COMPACTED),
            attachments: Vec::new(),
            state: State::Records(RecordScan::committed(first, i64::MAX)),
        })
    }

    /// Goes on for about `budget` records; `true` when done.
    pub fn step(&mut self, budget: usize) -> Result<bool, Failure> {
        match &mut self.state {
            State::Records(scan) => {
                let (index, revision) = (&mut self.index, &mut self.revision);
                let done = scan.step(&self.records, budget, &mut |stored| {
                    *revision = stored.revision.main;
                    restore_record(index, &stored)
                })?;
                if done {
                    self.state = State::Leases { rank: 0 };
                }
            }
            State::Leases { rank } => {
                let read = read_leases(&self.index, &self.records, *rank, budget)?;
                *rank += budget.max(1) as u64;
                let done = *rank >= self.index.all_keys();
                self.attachments.extend(read);
                if done {
                    self.state = State::Done;
                }
            }
            State::Done => {}
        }
        Ok(matches!(self.state, State::Done))
    }

    /// The store, and which key hangs on which lease, in key order. A compaction that was cut short is under way again.
    ///
    /// # Panics
    /// If [`Self::step`] has not answered `true`.
    pub fn finish(self, backend: &mut Backend) -> Result<(Store, Vec<Attachment>), Failure> {
        assert!(matches!(self.state, State::Done), "restore is not through");
        let mut store = Store {
            index: self.index,
            revision: self.revision.max(self.compact_revision).max(self.scheduled),
            compact_revision: self.compact_revision,
            ..Store::default()
        };
        if self.scheduled > self.compact_revision {
            match store.compact_begin(backend, self.scheduled) {
                Ok(()) => {}
                Err(Error::Failed(failure)) => return Err(failure),
                Err(Error::Refused(_)) => unreachable!("above the last compaction, and the revision was raised to it"),
            }
        }
        Ok((store, self.attachments))
    }
}

fn restore_record(index: &mut TreeIndex, stored: &StoredRecord<'_>) -> Result<(), Failure> {
    let fields = RecordFields::of(stored.record, stored.revision)?;
    if stored.tombstone {
        index.restore_tombstone(fields.key, stored.revision);
        return Ok(());
    }
    let found = KeyVersion {
        created: fields.create_revision,
        modified: stored.revision,
        version: fields.version,
        leased: fields.lease != 0,
    };
    index.restore_put(fields.key, found);
    Ok(())
}

fn read_leases(index: &TreeIndex, records: &ReadView, rank: u64, budget: usize) -> Result<Vec<Attachment>, Failure> {
    let mut attachments = Vec::new();
    let mut cursor = index.cursor_at_rank(rank);
    for _ in 0..budget.max(1) {
        let Some(entry) = cursor.next() else {
            break;
        };
        let Some(version) = entry.version_at(i64::MAX).filter(|version| version.leased) else {
            continue;
        };
        let record = records.record(&version.modified.put_key())?.ok_or(Failure::RecordMissing(version.modified))?;
        attachments.push(Attachment {
            key: Bytes::copy_from_slice(entry.key()),
            lease: RecordFields::of(record, version.modified)?.lease,
        });
    }
    Ok(attachments)
}
