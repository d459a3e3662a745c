//! The keys attached to each lease: one ordered set of lease and key, like a bucket whose keys begin with the lease.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 8 | lease id, big-endian |
//! | 8 | rest | key |
//!
//! So a lease without keys costs nothing, one with a single key no tree of its own, and the keys of each come out in order.

use std::{collections::BTreeSet, ops::Bound};

use bytes::Bytes;

const ID_BYTES: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Attachments {
    entries: BTreeSet<Box<[u8]>>,
    /// Buffer for the entry of a lookup.
    wanted: Vec<u8>,
}

impl Attachments {
    pub(super) fn insert(&mut self, lease: i64, key: &[u8]) {
        self.want(lease, key);
        self.entries.insert(self.wanted.as_slice().into());
    }

    pub(super) fn remove(&mut self, lease: i64, key: &[u8]) {
        self.want(lease, key);
        self.entries.remove(self.wanted.as_slice());
    }

    /// The keys of a lease in their order.
    pub(super) fn of(&self, lease: i64) -> impl Iterator<Item = &[u8]> {
        let prefix = lease.to_be_bytes();
        let from_prefix = self.entries.range::<[u8], _>((Bound::Included(&prefix[..]), Bound::Unbounded));
        from_prefix.take_while(move |entry| entry.starts_with(&prefix)).map(|entry| &entry[ID_BYTES..])
    }

    /// Removes the first key of a lease.
    pub(super) fn take_first(&mut self, lease: i64) -> Option<Bytes> {
        let key = Bytes::copy_from_slice(self.of(lease).next()?);
        self.remove(lease, &key);
        Some(key)
    }

    fn want(&mut self, lease: i64, key: &[u8]) {
        self.wanted.clear();
        self.wanted.extend_from_slice(&lease.to_be_bytes());
        self.wanted.extend_from_slice(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_do_not_see_each_others_keys() {
        let mut attachments = Attachments::default();
        for lease in [i64::MIN, -1, 1, 256, i64::MAX] {
            for key in [&b"b"[..], b"", b"a\xff", b"a"] {
                attachments.insert(lease, key);
            }
            attachments.insert(lease, b"a");
        }
        for lease in [i64::MIN, -1, 1, 256, i64::MAX] {
            assert_eq!(attachments.of(lease).collect::<Vec<_>>(), [&b""[..], b"a", b"a\xff", b"b"]);
            attachments.remove(lease, b"a");
            attachments.remove(lease, b"nothing");
            assert_eq!(attachments.take_first(lease), Some(Bytes::new()));
            assert_eq!(attachments.take_first(lease), Some(Bytes::from_static(b"a\xff")));
        }
        assert_eq!((attachments.of(2).count(), attachments.take_first(0)), (0, None));
        assert_eq!(attachments.entries.len(), 5);
    }
}
