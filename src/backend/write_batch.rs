//! Changes between two commits: records as a list, which is sorted because revisions grow, and the small buckets as maps.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::pagefile::{BucketChanges, Change, Fill, Key};

use super::Bucket;

#[derive(Debug, Default)]
pub(super) struct WriteBatch {
    /// Appends to bucket `key`, ascending. One that was deleted again has no value.
    records: Vec<Change>,
    /// Keys of bucket `key` whose records are of an earlier batch and were deleted, in the order of deletion.
    deleted: Vec<Key>,
    small: [BTreeMap<Bytes, Option<Bytes>>; Bucket::ALL.len()],
    changes: usize,
}

impl WriteBatch {
    pub(super) fn changes(&self) -> usize {
        self.changes
    }

    pub(super) fn append(&mut self, record: Change) {
        self.records.push(record);
        self.changes += 1;
    }

    /// Drops a record of this batch, or removes one of an earlier batch from the page file.
    pub(super) fn delete_record(&mut self, key: &[u8]) {
        self.changes += 1;
        if self.records.first().is_none_or(|first| *key < *first.key) {
            self.deleted.push(Key::from_slice(key));
        } else if let Ok(index) = self.records.binary_search_by(|record| (*record.key).cmp(key)) {
            self.records[index].value = None;
        }
    }

    pub(super) fn set(&mut self, bucket: Bucket, key: Bytes, value: Option<Bytes>) {
        assert!(bucket != Bucket::Key, "records are appended");
        assert!(!key.is_empty(), "keys are not empty");
        self.small[bucket as usize].insert(key, value);
        self.changes += 1;
    }

    /// The last change of a key in a small bucket; `Some(&None)`: it was deleted.
    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&Option<Bytes>> {
        self.small[bucket as usize].get(key)
    }

    /// The changes for the page file. The records leave the batch; the small buckets stay for `get`.
    pub(super) fn seal(&mut self, missing: &[Bucket]) -> Vec<BucketChanges> {
        let mut sealed = Vec::new();
        for bucket in Bucket::ALL {
            let changes = match bucket {
                Bucket::Key => self.seal_records(),
                _ => self.small[bucket as usize].iter().map(change).collect(),
            };
            if !changes.is_empty() || missing.contains(&bucket) {
                let fill = if bucket == Bucket::Key { Fill::APPEND } else { Fill::HALF };
                sealed.push(BucketChanges { name: Bytes::from_static(bucket.name()), fill, changes });
            }
        }
        sealed
    }

    /// Deletions of older records, then appends: together ascending.
    fn seal_records(&mut self) -> Vec<Change> {
        let mut records = std::mem::take(&mut self.records);
        let mut deleted = std::mem::take(&mut self.deleted);
        if deleted.is_empty() {
            return records;
        }
        deleted.sort_unstable();
        deleted.dedup();
        let old = records.first().map_or(deleted.len(), |first| deleted.partition_point(|key| *key < first.key));
        let mut changes: Vec<Change> = deleted.drain(..old).map(|key| Change { key, value: None }).collect();
        changes.append(&mut records);
        changes
    }
}

fn change((key, value): (&Bytes, &Option<Bytes>)) -> Change {
    Change { key: Key::from_slice(key), value: value.clone() }
}
