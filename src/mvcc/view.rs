//! A view: one immutable state of the store, for readers.
//!
//! Cloning a view is a few reference counts. A point read costs a walk down the index (about four nodes), one lookup of
//! the record by its revision and one copy into the output: no allocation, no lock, no hop.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use prost::encoding::encode_varint;

use super::{
    Error, Failure, Refusal, hash::KeyValueHash, key_index::KeyVersion, record::RecordFields, revision::Revision,
    tree_index::TreeIndex,
};
use crate::backend::ReadView;

/// Tag of field 2 (`kvs`) of `RangeResponse`, and of the message-typed fields with that number elsewhere.
pub(super) const KVS_TAG: u8 = 0x12;

/// An immutable state of the key space.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) index: TreeIndex,
    pub(super) records: ReadView,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    pub(super) hashes: Arc<Vec<KeyValueHash>>,
}

impl View {
    /// The revision of the last transaction.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The hashes of the last compactions, by their revisions.
    #[must_use]
    pub fn compaction_hashes(&self) -> &[KeyValueHash] {
        &self.hashes
    }

    /// The revision of the last compaction asked for; -1 if there was none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    #[must_use]
    pub fn index(&self) -> &TreeIndex {
        &self.index
    }

    #[must_use]
    pub fn records(&self) -> &ReadView {
        &self.records
    }

    /// The revision at which a read that asks for `requested` takes place; zero and below mean the current one.
    pub fn read_revision(&self, requested: i64) -> Result<i64, Refusal> {
        if requested > self.revision {
            return Err(Refusal::FutureRevision);
        }
        let at = if requested <= 0 { self.revision } else { requested };
        if at < self.compact_revision {
            return Err(Refusal::Compacted);
        }
        Ok(at)
    }

    /// What the index knows of `key` at a requested revision.
    pub fn version(&self, key: &[u8], requested: i64) -> Result<Option<KeyVersion>, Refusal> {
        let at = self.read_revision(requested)?;
        Ok(self.index.version_at(key, at))
    }

    /// The record of a put, by the revision the index names.
    pub fn record(&self, revision: Revision) -> Result<&[u8], Failure> {
        self.records.record(&revision.put_key())?.ok_or(Failure::RecordMissing(revision))
    }

    /// The stored `mvccpb.KeyValue` of `key` at a requested revision.
    pub fn get(&self, key: &[u8], requested: i64) -> Result<Option<&[u8]>, Error> {
        match self.version(key, requested)? {
            Some(version) => Ok(Some(self.record(version.modified)?)),
            None => Ok(None),
        }
    }

    /// Appends `key`, if it exists, as one `kvs` field of a `RangeResponse`. Returns whether it exists.
    pub fn point(&self, key: &[u8], requested: i64, keys_only: bool, out: &mut BytesMut) -> Result<bool, Error> {
        let Some(version) = self.version(key, requested)? else {
            return Ok(false);
        };
        if keys_only {
            let fields = index_fields(key, version);
            append_header(out, fields.encoded_len());
            fields.append(out);
        } else {
            let record = self.record(version.modified)?;
            append_header(out, record.len());
            out.put_slice(record);
        }
        Ok(true)
    }
}

/// The fields of a key in a keys-only answer: no value, and no lease either.
pub(super) fn index_fields(key: &[u8], version: KeyVersion) -> RecordFields<'_> {
    RecordFields {
        key,
        create_revision: version.created,
        mod_revision: version.modified.main,
        version: version.version,
        ..RecordFields::default()
    }
}

fn append_header(out: &mut BytesMut, len: usize) {
    out.reserve(11 + len);
    out.put_u8(KVS_TAG);
    encode_varint(len as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{HashReader, RangeReader};

    #[test]
    fn readers_may_live_on_any_core() {
        fn any_core<T: Send + Sync>() {}
        any_core::<View>();
        any_core::<RangeReader>();
        any_core::<HashReader>();
    }
}
