//! Builds the index from the page file, in slices.
//!
//! | state | in a step | next |
//! |---|---|---|
//! | Records | puts records into the index in revision order | Leases at the last one |
//! | Leases | reads the records of keys that name a lease | done at the last key |
//!
//! The current revision afterwards is that of the last record, or of the last compaction if that is higher, because a compaction may
//! have deleted the last records.

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

/// A store that is being read from the page file.
#[derive(Debug)]
pub struct Restore {
    records: ReadView,
    index: TreeIndex,
    revision: i64,
    compact_revision: i64,
    scheduled: i64,
    attachments: Vec<Attachment>,
    state: State,
}

#[derive(Debug)]
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

    /// Reads about `budget` records; `true` when done.
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

    /// The store, and the keys with leases in key order. A compaction that was interrupted is under way again.
    ///
    /// # Panics
    /// If [`Self::step`] has not returned `true`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Bucket,
        mvcc::{CompactStep, KeyRange, test_disk::Disk},
    };

    fn append(disk: &mut Disk, revision: Revision, fields: Option<RecordFields<'_>>, tombstone: bool) {
        let record = fields.map(|fields| fields.to_record()).unwrap_or_default();
        if tombstone {
            disk.backend.append(&revision.tombstone_key(), record);
        } else {
            disk.backend.append(&revision.put_key(), record);
        }
    }

    fn restored(disk: &mut Disk) -> (Store, Vec<Attachment>) {
        disk.commit();
        let mut restore = Restore::new(disk.backend.view()).expect("marks");
        while !restore.step(1).expect("sound") {}
        restore.finish(&mut disk.backend).expect("marks")
    }

    fn mark(disk: &mut Disk, name: &'static [u8], revision: i64) {
        let value = Revision::new(revision, 0).put_key().to_vec();
        disk.backend.put(Bucket::Meta, Bytes::from_static(name), value.into());
    }

    #[test]
    fn an_empty_database_is_at_the_first_revision() {
        let (store, attachments) = restored(&mut Disk::default());
        assert_eq!((store.revision(), store.compact_revision()), (1, -1));
        assert!(attachments.is_empty() && !store.is_compacting());
    }

    /// The first record of a key has its create revision and version; a leading tombstone only shows that the key existed.
    #[test]
    fn compacted_beginnings_are_taken_from_the_first_record() {
        let mut disk = Disk::default();
        let put = |key, created, modified, version, lease| RecordFields {
            key,
            create_revision: created,
            mod_revision: modified,
            version,
            value: b"v",
            lease,
        };
        let gone = RecordFields { key: b"b", ..RecordFields::default() };
        append(&mut disk, Revision::new(7, 0), Some(put(b"a", 3, 7, 4, 0)), false);
        append(&mut disk, Revision::new(7, 1), Some(gone), true);
        append(&mut disk, Revision::new(8, 0), Some(put(b"a", 3, 8, 5, 9)), false);
        append(&mut disk, Revision::new(9, 0), Some(put(b"b", 9, 9, 1, 0)), false);
        mark(&mut disk, SCHEDULED_KEY, 7);
        mark(&mut disk, FINISHED_KEY, 7);
        let (store, attachments) = restored(&mut disk);
        assert_eq!((store.revision(), store.compact_revision()), (9, 7));
        assert!(!store.is_compacting());
        let key = Bytes::from_static(b"a");
        assert_eq!(attachments, [Attachment { key, lease: 9 }]);
        let version = |key, at| store.index().version_at(key, at).map(|v| (v.created, v.modified.main, v.version));
        assert_eq!(version(b"a", 7), Some((3, 7, 4)));
        assert_eq!(version(b"a", 9), Some((3, 8, 5)));
        assert_eq!(version(b"b", 8), None);
        assert_eq!(version(b"b", 9), Some((9, 9, 1)));
        assert_eq!(store.index().change_at(b"b", 8), Some((Revision::new(7, 1), true)));
    }

    /// A compaction whose last record was deleted, by a release that deletes tombstones at the compact revision.
    #[test]
    fn revision_does_not_fall_behind_the_compaction() {
        for (scheduled, finished) in [(12, 12), (12, 5)] {
            let mut disk = Disk::default();
            mark(&mut disk, SCHEDULED_KEY, scheduled);
            mark(&mut disk, FINISHED_KEY, finished);
            let (store, _) = restored(&mut disk);
            assert_eq!((store.revision(), store.compact_revision()), (12, 12));
            assert_eq!(store.is_compacting(), scheduled > finished);
        }
    }

    /// The result of a restore with `--bump-revision --mark-compacted`: an empty record at a much higher revision, and everything before
    /// it compacted.
    #[test]
    fn a_bumped_database_continues_after_the_bump() {
        let mut disk = Disk::default();
        let fields =
            RecordFields { key: b"k", create_revision: 2, mod_revision: 2, version: 1, ..RecordFields::default() };
        append(&mut disk, Revision::new(2, 0), Some(fields), false);
        append(&mut disk, Revision::new(1_000_000_002, 0), None, false);
        mark(&mut disk, SCHEDULED_KEY, 1_000_000_002);
        let (mut store, _) = restored(&mut disk);
        assert_eq!((store.revision(), store.compact_revision()), (1_000_000_002, 1_000_000_002));
        let report = loop {
            match store.compact_step(&mut disk.backend, 1).expect("sound") {
                CompactStep::Finished(report) => break report,
                CompactStep::AwaitsCommit => disk.commit(),
                CompactStep::Indexing | CompactStep::Working | CompactStep::Idle => {}
            }
        };
        assert!(!report.hash_kept);
        assert_eq!(report.records_deleted, 0);
        let view = store.view(&disk.backend);
        assert_eq!(view.index.count(KeyRange::From(b"\0"), view.revision), 1);
        assert!(view.get(b"k", 0).expect("readable").is_some());
    }

    #[test]
    fn damaged_records_are_reported() {
        let bad_record = Bytes::from_static(b"\x0a\x05ab");
        let revision = Revision::new(2, 0);
        let mut disk = Disk::default();
        disk.backend.append(&revision.put_key(), bad_record);
        disk.commit();
        let mut restore = Restore::new(disk.backend.view()).expect("marks");
        assert!(matches!(restore.step(10), Err(Failure::BadRecord { revision: found, .. }) if found == revision));
        let mut disk = Disk::default();
        disk.backend.append(&revision.put_key(), Bytes::new());
        disk.backend.append(&revision.tombstone_key(), Bytes::new());
        disk.commit();
        let mut restore = Restore::new(disk.backend.view()).expect("marks");
        assert_eq!(restore.step(10), Err(Failure::OutOfOrder(revision)));
    }
}
