//! One write transaction: all its changes under one main revision.
//!
//! Index and backend are changed at once, so reads within the transaction include its own writes; the revision takes effect when the
//! transaction ends. A long one can be paused: views taken meanwhile are those before it. No change can be refused: everything that
//! may be refused (unknown lease, missing key of `ignore_value`, revisions of ranges) is checked by the caller before the first change.

use super::{
    Failure, Store, View,
    event::{Change, ChangeKind},
    key_index::KeyVersion,
    record::{RecordFields, key_of},
    revision::{Revision, SUB_MAX},
    tree_index::KeyRange,
};
use crate::{backend::Backend, proto::mvccpb::KeyValue};

/// An open write transaction. The caller must end it.
#[must_use = "a write transaction has to be ended"]
pub struct WriteTxn<'s> {
    store: &'s mut Store,
    backend: &'s mut Backend,
    changes: Vec<Change>,
}

/// The result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The store's revision afterwards; the one before if nothing changed.
    pub revision: i64,
    /// In order of sub revision.
    pub changes: Vec<Change>,
}

/// A write transaction between two slices. Until it is resumed and ended, views are those before it: its changes have a revision
/// that no view reaches yet. Meanwhile the caller must not write, compact or commit.
#[derive(Debug)]
#[must_use = "a write transaction has to be ended"]
pub struct PausedTxn {
    begin_revision: i64,
    changes: Vec<Change>,
}

/// The result of a range deletion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deleted {
    pub count: i64,
    /// The deleted keys as they were, in key order, if asked for.
    pub previous: Vec<KeyValue>,
}

impl Store {
    /// Opens a write transaction.
    pub fn write<'s>(&'s mut self, backend: &'s mut Backend) -> WriteTxn<'s> {
        WriteTxn::new(self, backend)
    }

    /// Resumes a write transaction.
    pub fn resume<'s>(&'s mut self, backend: &'s mut Backend, paused: PausedTxn) -> WriteTxn<'s> {
        WriteTxn::resumed(self, backend, paused)
    }
}

impl<'s> WriteTxn<'s> {
    fn new(store: &'s mut Store, backend: &'s mut Backend) -> Self {
        Self { store, backend, changes: Vec::new() }
    }

    fn resumed(store: &'s mut Store, backend: &'s mut Backend, paused: PausedTxn) -> Self {
        assert_eq!(store.revision, paused.begin_revision, "nobody else wrote meanwhile");
        Self { store, backend, changes: paused.changes }
    }

    /// Pauses the transaction, to let other tasks run.
    pub fn pause(self) -> PausedTxn {
        PausedTxn { begin_revision: self.store.revision, changes: self.changes }
    }

    /// The revision of reads in this transaction, and of inner response headers.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.store.revision + i64::from(!self.changes.is_empty())
    }

    /// The revision before the transaction.
    #[must_use]
    pub fn begin_revision(&self) -> i64 {
        self.store.revision
    }

    /// The state including this transaction's changes so far, for ranges and compares. The caller drops it before the next change,
    /// because nodes that a view holds are copied.
    #[must_use]
    pub fn view(&self) -> View {
        self.store.view_at(self.backend, self.revision())
    }

    /// The present version of `key`.
    #[must_use]
    pub fn version(&self, key: &[u8]) -> Option<KeyVersion> {
        self.store.index.version_at(key, self.revision())
    }

    /// `key` as it is now.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Failure> {
        match self.version(key) {
            Some(version) => self.key_value(version).map(Some),
            None => Ok(None),
        }
    }

    /// Writes one version of `key`. Returns the version before, if asked for and if there was one.
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: i64,
        with_previous: bool,
    ) -> Result<Option<KeyValue>, Failure> {
        let revision = self.next_revision();
        let (before, version) = self.store.index.put(key, revision, lease != 0);
        let previous = match before {
            Some(version) if with_previous => Some(self.key_value(version)?),
            _ => None,
        };
        let previous_lease = match (&previous, before) {
            (Some(previous), _) => previous.lease,
            (None, Some(version)) => self.lease_of(version)?,
            (None, None) => 0,
        };
        let record = RecordFields {
            key,
            create_revision: version.created,
            mod_revision: revision.main,
            version: version.version,
            value,
            lease,
        }
        .to_record();
        self.backend.append(&revision.put_key(), record.clone());
        self.changes.push(Change {
            kind: ChangeKind::Put,
            revision,
            key: key_of(&record, key.len()),
            record,
            created: version.created,
            lease,
            previous_lease,
        });
        Ok(previous)
    }

    /// Deletes every key of `range` that exists.
    pub fn delete_range(&mut self, range: KeyRange<'_>, with_previous: bool) -> Result<Deleted, Failure> {
        let mut deleted = Deleted::default();
        for (key, version) in self.existing(range) {
            let previous_lease = if with_previous {
                let previous = self.key_value(version)?;
                let lease = previous.lease;
                deleted.previous.push(previous);
                lease
            } else {
                self.lease_of(version)?
            };
            self.delete(&key, previous_lease);
            deleted.count += 1;
        }
        Ok(deleted)
    }

    /// Deletes one key that is known to be attached to `lease`, without reading its record. Returns whether it existed.
    pub fn delete_attached(&mut self, key: &[u8], lease: i64) -> bool {
        let exists = self.version(key).is_some();
        if exists {
            self.delete(key, lease);
        }
        exists
    }

    /// Ends the transaction.
    pub fn end(self) -> Committed {
        self.store.revision = self.revision();
        Committed { revision: self.store.revision, changes: self.changes }
    }

    fn delete(&mut self, key: &[u8], previous_lease: i64) {
        let revision = self.next_revision();
        let existed = self.store.index.tombstone(key, revision);
        assert!(existed, "a key that was found is there to be deleted");
        let record = RecordFields { key, ..RecordFields::default() }.to_record();
        self.backend.append(&revision.tombstone_key(), record.clone());
        self.changes.push(Change {
            kind: ChangeKind::Delete,
            revision,
            key: key_of(&record, key.len()),
            record,
            created: 0,
            lease: 0,
            previous_lease,
        });
    }

    fn existing(&self, range: KeyRange<'_>) -> Vec<(Vec<u8>, KeyVersion)> {
        let at = self.revision();
        let index = &self.store.index;
        if let KeyRange::Single(key) = range {
            let version = index.version_at(key, at);
            return version.map(|v| (key.to_vec(), v)).into_iter().collect();
        }
        let mut found = Vec::new();
        let mut cursor = index.cursor_at(range.start());
        while let Some(entry) = cursor.next() {
            if !range.contains(entry.key()) {
                break;
            }
            if let Some(version) = entry.version_at(at) {
                found.push((entry.key().to_vec(), version));
            }
        }
        found
    }

    fn next_revision(&self) -> Revision {
        let sub = self.changes.len() as i64;
        assert!(sub <= SUB_MAX, "too many changes in one transaction");
        Revision::new(self.store.revision + 1, sub)
    }

    fn lease_of(&self, version: KeyVersion) -> Result<i64, Failure> {
        if !version.leased {
            return Ok(0);
        }
        self.with_record(version, |fields| fields.lease)
    }

    fn key_value(&self, version: KeyVersion) -> Result<KeyValue, Failure> {
        self.with_record(version, |fields| fields.to_key_value())
    }

    fn with_record<R>(&self, version: KeyVersion, read: impl FnOnce(RecordFields<'_>) -> R) -> Result<R, Failure> {
        let revision = version.modified;
        let records = self.backend.view();
        let record = records.record(&revision.put_key())?.ok_or(Failure::RecordMissing(revision))?;
        Ok(read(RecordFields::of(record, revision)?))
    }
}
