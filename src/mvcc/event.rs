//! Changes as watchers and leases receive them.
//!
//! The event of a put carries the stored record unchanged. The event of a deletion carries a `KeyValue` with key and
//! mod_revision. The stored tombstone has only the key, so that event is made here.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{Failure, View, record::RecordFields, revision::Revision, scan::RecordScan};

const TYPE_DELETE: &[u8] = &[0x08, 0x01];
const KV_TAG: u8 = 0x12;
const PREVIOUS_TAG: u8 = 0x1a;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Put,
    Delete,
}

/// One change of a transaction that has just ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    pub revision: Revision,
    /// Shares its bytes with the record.
    pub key: Bytes,
    /// The stored record: `mvccpb.KeyValue`, for a deletion with only the key.
    pub record: Bytes,
    /// Main revision of the put that created the key; 0 for a deletion.
    pub created: i64,
    /// Lease the key is attached to from now on; 0 for none and for a deletion.
    pub lease: i64,
    /// Lease the key was attached to; 0 for none. Equal to `lease` if nothing changed.
    pub previous_lease: i64,
}

/// One change, borrowed: from a [`Change`] or from history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRecord<'a> {
    pub kind: ChangeKind,
    pub revision: Revision,
    pub key: &'a [u8],
    /// As [`Change::record`].
    pub record: &'a [u8],
    /// As [`Change::created`].
    pub created: i64,
}

impl Change {
    #[must_use]
    pub fn event(&self) -> EventRecord<'_> {
        EventRecord {
            kind: self.kind,
            revision: self.revision,
            key: &self.key,
            record: &self.record,
            created: self.created,
        }
    }
}

impl EventRecord<'_> {
    /// Whether this put created the key: such an event has no previous key-value.
    #[must_use]
    pub fn is_create(&self) -> bool {
        self.kind == ChangeKind::Put && self.created == self.revision.main
    }

    /// Size of [`Self::append`].
    #[must_use]
    pub fn encoded_len(&self, previous: Option<&[u8]>) -> usize {
        let kind = match self.kind {
            ChangeKind::Put => 0,
            ChangeKind::Delete => TYPE_DELETE.len(),
        };
        kind + message_len(self.kv_len()) + previous.map_or(0, |kv| message_len(kv.len()))
    }

    /// Appends `mvccpb.Event`, with the record of the version before if one is given.
    pub fn append(&self, previous: Option<&[u8]>, out: &mut BytesMut) {
        if self.kind == ChangeKind::Delete {
            out.put_slice(TYPE_DELETE);
        }
        append_message_header(KV_TAG, self.kv_len(), out);
        match self.kind {
            ChangeKind::Put => out.put_slice(self.record),
            ChangeKind::Delete => self.deleted_fields().append(out),
        }
        if let Some(kv) = previous {
            append_message_header(PREVIOUS_TAG, kv.len(), out);
            out.put_slice(kv);
        }
    }

    fn kv_len(&self) -> usize {
        match self.kind {
            ChangeKind::Put => self.record.len(),
            ChangeKind::Delete => self.deleted_fields().encoded_len(),
        }
    }

    fn deleted_fields(&self) -> RecordFields<'_> {
        RecordFields { key: self.key, mod_revision: self.revision.main, ..RecordFields::default() }
    }
}

fn message_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn append_message_header(tag: u8, len: usize, out: &mut BytesMut) {
    out.put_u8(tag);
    encode_varint(len as u64, out);
}

/// Reads history in slices: every change from a revision on, in order.
#[derive(Clone, Debug)]
pub struct EventReader {
    scan: RecordScan,
}

impl EventReader {
    /// Changes from main revision `from` up to the revision of `view`. The caller has compared `from` with the compact
    /// revision: below it changes may be missing.
    #[must_use]
    pub fn new(view: &View, from: i64) -> Self {
        let from = Revision::new(from.max(0), 0);
        Self { scan: RecordScan::new(from, view.revision()) }
    }

    /// The first revision not visited yet.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.scan.position()
    }

    /// Visits about `budget` changes; `true` when all were visited.
    pub fn step(
        &mut self,
        view: &View,
        budget: usize,
        visit: &mut dyn FnMut(EventRecord<'_>),
    ) -> Result<bool, Failure> {
        self.scan.step(view.records(), budget, &mut |stored| {
            let fields = RecordFields::of(stored.record, stored.revision)?;
            visit(EventRecord {
                kind: if stored.tombstone { ChangeKind::Delete } else { ChangeKind::Put },
                revision: stored.revision,
                key: fields.key,
                record: stored.record,
                created: fields.create_revision,
            });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::mvccpb::{Event, KeyValue};

    #[test]
    fn events_are_those_of_the_generated_message() {
        let previous = KeyValue { key: Bytes::from_static(b"k"), version: 4, ..KeyValue::default() };
        let before = previous.encode_to_vec();
        let record =
            RecordFields { key: b"k", create_revision: 3, mod_revision: 300, version: 5, value: b"v", lease: 9 };
        for kind in [ChangeKind::Put, ChangeKind::Delete] {
            for prev_kv in [None, Some(previous.clone())] {
                let stored = record.to_record();
                let event =
                    EventRecord { kind, revision: Revision::new(300, 1), key: b"k", record: &stored, created: 3 };
                let given = prev_kv.as_ref().map(|_| &before[..]);
                let mut out = BytesMut::new();
                event.append(given, &mut out);
                assert_eq!(out.len(), event.encoded_len(given));
                let kv = match kind {
                    ChangeKind::Put => record.to_key_value(),
                    ChangeKind::Delete => {
                        KeyValue { key: Bytes::from_static(b"k"), mod_revision: 300, ..KeyValue::default() }
                    }
                };
                let expected = Event { r#type: i32::from(kind == ChangeKind::Delete), kv: Some(kv), prev_kv };
                assert_eq!(out, expected.encode_to_vec());
            }
        }
    }
}
