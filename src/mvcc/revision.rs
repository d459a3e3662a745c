//! Revisions and the keys they become in bucket `key`.
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | main, big-endian |
//! | 8 | 1 | `_` |
//! | 9 | 8 | sub, big-endian |
//! | 17 | 1 | `t`, only for a tombstone |

use std::fmt;

/// Length of the key of a put.
pub const PUT_KEY_BYTES: usize = 17;
/// Length of the key of a tombstone.
pub const TOMBSTONE_KEY_BYTES: usize = 18;

/// Largest sub revision the index can hold: changes of one transaction.
pub const SUB_MAX: i64 = (1 << 30) - 1;

const SEPARATOR: u8 = b'_';
const TOMBSTONE_MARK: u8 = b't';

/// The place of one change in history: `main` counts transactions, `sub` counts changes within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    pub main: i64,
    pub sub: i64,
}

/// A decoded key of bucket `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKey {
    pub revision: Revision,
    pub tombstone: bool,
}

/// Bytes that are no revision key: the database is damaged or was written by another program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a revision key: {0:02x?}")]
pub struct BadRevisionKey(pub Vec<u8>);

impl Revision {
    #[must_use]
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }

    /// The key under which a put of this revision is stored.
    #[must_use]
    pub fn put_key(self) -> [u8; PUT_KEY_BYTES] {
        assert!(self.main >= 0 && self.sub >= 0, "negative revision {self}");
        let mut key = [SEPARATOR; PUT_KEY_BYTES];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[9..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The key under which a tombstone of this revision is stored.
    #[must_use]
    pub fn tombstone_key(self) -> [u8; TOMBSTONE_KEY_BYTES] {
        let mut key = [TOMBSTONE_MARK; TOMBSTONE_KEY_BYTES];
        key[..PUT_KEY_BYTES].copy_from_slice(&self.put_key());
        key
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

impl RecordKey {
    /// Reads a key of bucket `key`.
    pub fn parse(key: &[u8]) -> Result<Self, BadRevisionKey> {
        let bad = || BadRevisionKey(key[..key.len().min(64)].to_vec());
        let tombstone = match key.len() {
            PUT_KEY_BYTES => false,
            TOMBSTONE_KEY_BYTES if key[PUT_KEY_BYTES] == TOMBSTONE_MARK => true,
            _ => return Err(bad()),
        };
        let number = |at: usize| {
            let bytes = key[at..at + 8].try_into().expect("eight bytes");
            i64::from_be_bytes(bytes)
        };
        let revision = Revision::new(number(0), number(9));
        if key[8] != SEPARATOR || revision.main < 0 || !(0..=SUB_MAX).contains(&revision.sub) {
            return Err(bad());
        }
        Ok(Self { revision, tombstone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_etcd_writes_them() {
        let revision = Revision::new(258, 3);
        let put = b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03";
        assert_eq!(&revision.put_key(), put);
        assert_eq!(&revision.tombstone_key()[..17], put);
        assert_eq!(revision.tombstone_key()[17], b't');
        for (key, tombstone) in [(revision.put_key().to_vec(), false), (revision.tombstone_key().to_vec(), true)] {
            let parsed = RecordKey::parse(&key).expect("own key");
            assert_eq!(parsed, RecordKey { revision, tombstone });
        }
    }

    #[test]
    fn byte_order_is_revision_order() {
        let keys = [
            Revision::new(1, 0).put_key().to_vec(),
            Revision::new(1, 0).tombstone_key().to_vec(),
            Revision::new(1, 1).put_key().to_vec(),
            Revision::new(2, 0).put_key().to_vec(),
            Revision::new(256, 0).put_key().to_vec(),
        ];
        assert!(keys.is_sorted());
    }

    #[test]
    fn anything_else_is_refused() {
        let good = Revision::new(1, 2).put_key();
        let mut separator = good;
        separator[8] = b'-';
        let mut negative_main = good;
        negative_main[0] = 0x80;
        let mut negative_sub = good;
        negative_sub[9] = 0xff;
        let mut mark = Revision::new(1, 2).tombstone_key();
        mark[17] = b'x';
        for bad in [&[][..], &good[..16], &separator, &negative_main, &negative_sub, &mark] {
            assert!(RecordKey::parse(bad).is_err(), "{bad:?}");
        }
    }
}
