//! The checksum of a whole database, as Maintenance.Hash returns it, in slices.
//!
//! CRC-32C over every bucket in the order of their names: the name, then key and value of each record; without the three keys
//! of bucket `meta` that differ between members with the same content.

use super::Bucket;
use crate::{
    base::checksum::crc32c,
    pagefile::{Corrupt, Key, ReadTxn},
};

/// Keys of bucket `meta` that are left out.
const IGNORED: [&[u8]; 3] = [b"consistent_index", b"storageVersion", b"term"];

/// A checksum under way, over one commit.
#[derive(Debug)]
pub struct DatabaseHash {
    pages: ReadTxn,
    crc: u32,
    place: Place,
}

/// The next position.
#[derive(Debug)]
enum Place {
    /// At the first bucket whose name is not below this one.
    Bucket(Key),
    /// In a bucket, at the first record whose key is not below this one.
    Record {
        bucket: Key,
        key: Key,
    },
    Done,
}

impl DatabaseHash {
    #[must_use]
    pub fn new(pages: ReadTxn) -> Self {
        Self { pages, crc: 0, place: Place::Bucket(Key::new()) }
    }

    /// Adds about `budget` records; the checksum when all are added.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn step(&mut self, budget: usize) -> Result<Option<u32>, Corrupt> {
        let mut left = budget.max(1);
        while left > 0 {
            let done = match std::mem::replace(&mut self.place, Place::Done) {
                Place::Done => return Ok(Some(self.crc)),
                Place::Bucket(from) => {
                    self.enter(&from)?;
                    1
                }
                Place::Record { bucket, key } => self.add_records(bucket, &key, left)?,
            };
            left -= done.max(1);
        }
        Ok(None)
    }

    fn enter(&mut self, from: &[u8]) -> Result<(), Corrupt> {
        let mut cursor = self.pages.cursor(self.pages.root_bucket());
        if let Some(item) = cursor.seek(from)? {
            self.crc = crc32c(self.crc, item.key);
            self.place = Place::Record { bucket: Key::from_slice(item.key), key: Key::new() };
        }
        Ok(())
    }

    /// Adds at most `budget` records from `key` on; returns how many.
    fn add_records(&mut self, bucket: Key, key: &[u8], budget: usize) -> Result<usize, Corrupt> {
        let mut added = 0;
        let root = self.pages.bucket(&bucket)?;
        let mut cursor = root.map(|root| self.pages.cursor(root));
        let mut next = match &mut cursor {
            Some(cursor) => cursor.seek(key)?,
            None => None,
        };
        while let Some(item) = next {
            if added >= budget {
                self.place = Place::Record { key: Key::from_slice(item.key), bucket };
                return Ok(added);
            }
            if *bucket != *Bucket::Meta.name() || !IGNORED.contains(&item.key) {
                self.crc = crc32c(crc32c(self.crc, item.key), item.value);
            }
            added += 1;
            next = match &mut cursor {
                Some(cursor) => cursor.next_item()?,
                None => None,
            };
        }
        let mut next_name = bucket;
        // The smallest name after this one.
        next_name.push(0);
        self.place = Place::Bucket(next_name);
        Ok(added)
    }
}
