//! Records that the page file does not have yet, in revision order, shared with readers on other cores without a lock.
//!
//! ```text
//!   chunk list (an Arc slice, replaced when a chunk fills):   [ chunk ][ chunk ][ chunk ]
//!   slots (written once each):                                  ..xxxxxxxxxxxxxxxxxxx......
//!                                                                 ^first            ^end
//! ```
//!
//! A view is a clone: the list and the two positions. The writer appends after every view's `end`, and moves only its own
//! `first`; so views of the past stay as they are. Lookup: a binary search over `first .. end`, two loads per probe.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::base::limits::READ_BUFFER_CHUNK_RECORDS;

const TOMBSTONE_KEY_BYTES: usize = 18;
const PUT_KEY_BYTES: usize = 17;
const SEPARATOR: u8 = b'_';
const TOMBSTONE_MARK: u8 = b't';

/// A revision key (main, `_`, sub, and `t` for a tombstone) in the form that compares fast. Its order is that of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RevisionKey {
    main: u64,
    sub: u64,
    tombstone: bool,
}

impl RevisionKey {
    fn parse(key: &[u8]) -> Option<RevisionKey> {
        let tombstone = match key.len() {
            PUT_KEY_BYTES => false,
            TOMBSTONE_KEY_BYTES if key[PUT_KEY_BYTES] == TOMBSTONE_MARK => true,
            _ => return None,
        };
        if key[8] != SEPARATOR {
            return None;
        }
        let main = u64::from_be_bytes(key[..8].try_into().expect("eight bytes"));
        let sub = u64::from_be_bytes(key[9..17].try_into().expect("eight bytes"));
        Some(RevisionKey { main, sub, tombstone })
    }
}

#[derive(Debug)]
struct Record {
    key: RevisionKey,
    value: Bytes,
}

type Chunk = [OnceLock<Record>];

/// The buffer, and, cloned, what a view sees of it.
#[derive(Clone, Debug)]
pub(super) struct ReadBuffer {
    chunks: Arc<[Arc<Chunk>]>,
    /// Position of the first slot of the first chunk. Positions count records since the backend was made.
    base: u64,
    /// The oldest record that the page file may not have.
    first: u64,
    end: u64,
}

impl Default for ReadBuffer {
    fn default() -> ReadBuffer {
        ReadBuffer { chunks: Arc::new([]), base: 0, first: 0, end: 0 }
    }
}

impl ReadBuffer {
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn append(&mut self, key: &[u8], value: Bytes) {
        let key = RevisionKey::parse(key).expect("a revision key");
        assert!(self.first == self.end || self.at(self.end - 1).key < key, "records are appended in revision order");
        if self.end - self.base == (self.chunks.len() * READ_BUFFER_CHUNK_RECORDS) as u64 {
            let chunk = (0..READ_BUFFER_CHUNK_RECORDS).map(|_| OnceLock::new()).collect();
            self.chunks = self.chunks.iter().cloned().chain([chunk]).collect();
        }
        let written = self.slot(self.end).set(Record { key, value });
        written.expect("a slot is written once");
        self.end += 1;
    }

    /// The page file has everything before `position`.
    pub(super) fn forget(&mut self, position: u64) {
        assert!((self.first..=self.end).contains(&position), "a position of the past");
        self.first = position;
        let full = (position - self.base) as usize / READ_BUFFER_CHUNK_RECORDS;
        if full > 0 {
            self.chunks = self.chunks[full..].iter().cloned().collect();
            self.base += (full * READ_BUFFER_CHUNK_RECORDS) as u64;
        }
    }

    /// The record of a revision key, if it is here.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        let key = RevisionKey::parse(key)?;
        if self.first == self.end || key < self.at(self.first).key {
            return None;
        }
        let (mut low, mut high) = (self.first, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.at(middle);
            match record.key.cmp(&key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(&record.value),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn at(&self, position: u64) -> &Record {
        self.slot(position).get().expect("positions below the end are written")
    }

    fn slot(&self, position: u64) -> &OnceLock<Record> {
        let index = (position - self.base) as usize;
        &self.chunks[index / READ_BUFFER_CHUNK_RECORDS][index % READ_BUFFER_CHUNK_RECORDS]
    }
}

const _: () = assert!(READ_BUFFER_CHUNK_RECORDS.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    fn key(main: u64, sub: u64) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()[..]].concat()
    }

    #[test]
    fn views_stay_as_they_are() {
        let mut buffer = ReadBuffer::default();
        let mut views = Vec::new();
        for main in 0..5000u64 {
            buffer.append(&key(main, 0), Bytes::copy_from_slice(&main.to_be_bytes()));
            if main % 700 == 0 {
                buffer.forget(main.saturating_sub(600));
            }
            views.push((main, buffer.clone()));
        }
        for (last, view) in &views {
            for main in view.first..=*last {
                assert_eq!(view.get(&key(main, 0)).expect("seen").as_ref(), main.to_be_bytes());
            }
            assert!(view.get(&key(last + 1, 0)).is_none());
            assert!(view.get(&key(*last, 1)).is_none());
            assert!(view.first == 0 || view.get(&key(view.first - 1, 0)).is_none());
        }
    }

    #[test]
    fn a_tombstone_is_not_a_put() {
        let mut buffer = ReadBuffer::default();
        buffer.append(&[&key(7, 0)[..], b"t"].concat(), Bytes::new());
        assert!(buffer.get(&key(7, 0)).is_none());
        assert!(buffer.get(&[&key(7, 0)[..], b"t"].concat()).is_some());
        assert!(buffer.get(b"short").is_none());
    }

    #[test]
    fn memory_of_forgotten_chunks_is_given_back() {
        let mut buffer = ReadBuffer::default();
        for main in 0..10 * READ_BUFFER_CHUNK_RECORDS as u64 {
            buffer.append(&key(main, 0), Bytes::new());
            buffer.forget(main);
        }
        assert_eq!(buffer.chunks.len(), 1);
    }
}
