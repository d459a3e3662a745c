//! All records of a state, in chunks, of which a defragmented file is built.
//!
//! | state | chunk | next |
//! |---|---|---|
//! | a bucket and its next key | records from there | the same bucket, or the first key of the next one |
//! | no bucket left | none | |
//!
//! A chunk names each bucket that it touches, also one without records, so that empty buckets are copied, too. A copy holds no
//! place in the file between two chunks: it looks its next key up again.

use bytes::Bytes;

use crate::{
    base::limits::{COPY_CHUNK_BYTES, COPY_CHUNK_RECORDS},
    pagefile::{BucketChanges, Change, Corrupt, Fill, Key, ReadTxn},
};

/// A copy under way.
#[derive(Debug)]
pub struct StateCopy {
    source: ReadTxn,
    /// The buckets still to come, in reverse order: the one at work is the last.
    buckets: Vec<Bytes>,
    /// Records of the bucket at work up to this key are done.
    after: Option<Key>,
}

/// Why a state cannot be copied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("{0:?} is not a bucket")]
    Stray(String),
    #[error("bucket {0:?} has a bucket in it, which etcd never makes")]
    Nested(String),
}

/// The remaining size of a chunk.
struct Room {
    records: usize,
    bytes: usize,
}

impl StateCopy {
    /// Starts at the first bucket.
    pub fn new(source: ReadTxn) -> Result<Self, CopyError> {
        let mut buckets = Vec::new();
        let mut cursor = source.cursor(source.root_bucket());
        let mut found = cursor.first()?;
        while let Some(item) = found {
            if !item.is_bucket {
                return Err(CopyError::Stray(lossy(item.key)));
            }
            buckets.push(Bytes::copy_from_slice(item.key));
            found = cursor.next_item()?;
        }
        drop(cursor);
        buckets.reverse();
        Ok(Self { source, buckets, after: None })
    }

    /// The next records, in the order of buckets and keys; `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<BucketChanges>>, CopyError> {
        let mut room = Room { records: COPY_CHUNK_RECORDS, bytes: COPY_CHUNK_BYTES };
        let mut chunk = Vec::new();
        while room.records > 0 && room.bytes > 0 {
            let Some(name) = self.buckets.last().cloned() else { break };
            let changes = self.records(&name, &mut room)?;
            chunk.push(BucketChanges { name, fill: Fill::APPEND, changes });
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    fn records(&mut self, name: &Bytes, room: &mut Room) -> Result<Vec<Change>, CopyError> {
        let mut changes: Vec<Change> = Vec::new();
        let root = self.source.bucket(name)?.ok_or_else(|| CopyError::Stray(lossy(name)))?;
        let mut cursor = self.source.cursor(root);
        let mut found = match &self.after {
            None => cursor.first()?,
            Some(key) => match cursor.seek(key)? {
                Some(item) if *item.key == **key => cursor.next_item()?,
                later => later,
            },
        };
        while let Some(item) = found {
            if item.is_bucket {
                return Err(CopyError::Nested(lossy(name)));
            }
            if room.records == 0 || room.bytes == 0 {
                self.after = changes.last().map(|change| change.key.clone());
                return Ok(changes);
            }
            room.records -= 1;
            room.bytes = room.bytes.saturating_sub(item.key.len() + item.value.len());
            changes.push(Change { key: Key::from_slice(item.key), value: Some(Bytes::copy_from_slice(item.value)) });
            found = cursor.next_item()?;
        }
        self.buckets.pop();
        self.after = None;
        Ok(changes)
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{pagefile::PageFile, sim::page_files::LonePageFile};

    type Content = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

    const RESERVED: usize = 64 << 20;

    struct Disk {
        pages: LonePageFile,
        file: PageFile,
    }

    impl Disk {
        fn new() -> Self {
            let new = LonePageFile::new(&PageFile::image_of_new_file(4096), RESERVED);
            let (pages, file) = new.expect("a new file");
            Self { pages, file }
        }

        fn commit(&mut self, changes: Vec<BucketChanges>) {
            self.file.begin(changes);
            let commit = loop {
                if let Some(commit) = self.file.step(usize::MAX).expect("sound") {
                    break commit;
                }
            };
            self.pages.carry_out(commit).expect("a disk without faults");
            self.file.on_committed();
        }

        fn content(&self) -> Content {
            let txn = self.file.read();
            let mut content = Content::new();
            let mut names = txn.cursor(txn.root_bucket());
            let mut bucket = names.first().expect("sound");
            while let Some(found) = bucket {
                let root = txn.bucket(found.key).expect("sound").expect("a bucket");
                let mut records = txn.cursor(root);
                let of_bucket = content.entry(found.key.to_vec()).or_default();
                let mut record = records.first().expect("sound");
                while let Some(found) = record {
                    of_bucket.insert(found.key.to_vec(), found.value.to_vec());
                    record = records.next_item().expect("sound");
                }
                bucket = names.next_item().expect("sound");
            }
            content
        }
    }

    fn changes(name: &'static str, records: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> BucketChanges {
        let changes = records
            .into_iter()
            .map(|(key, value)| Change { key: Key::from_slice(&key), value: value.map(Bytes::from) })
            .collect();
        BucketChanges { name: Bytes::from_static(name.as_bytes()), fill: Fill::HALF, changes }
    }

    /// Buckets of all kinds: inline, empty, of many pages, with values larger than a page and than a chunk.
    #[test]
    fn a_copy_has_everything_and_no_free_pages() {
        let mut source = Disk::new();
        let records = 3 * COPY_CHUNK_RECORDS + 7;
        let numbered = |number: usize| (number as u64).to_be_bytes().to_vec();
        source.commit(vec![
            changes("alarm", Vec::new()),
            changes("key", (0..records).map(|number| (numbered(number), Some(vec![7; number % 50]))).collect()),
            changes("large", (0..3).map(|number| (numbered(number), Some(vec![8; COPY_CHUNK_BYTES + 1]))).collect()),
            changes("meta", vec![(b"term".to_vec(), Some(b"1".to_vec()))]),
        ]);
        source.commit(vec![changes("key", (0..records).step_by(2).map(|number| (numbered(number), None)).collect())]);
        let mut target = Disk::new();
        let mut copy = StateCopy::new(source.file.read()).expect("sound");
        let mut chunks = 0;
        while let Some(chunk) = copy.next_chunk().expect("sound") {
            let of_chunk: usize = chunk.iter().map(|bucket| bucket.changes.len()).sum();
            assert!(of_chunk <= COPY_CHUNK_RECORDS);
            target.commit(chunk);
            chunks += 1;
        }
        assert!(chunks >= 4, "{chunks} chunks");
        assert_eq!(target.content(), source.content());
        assert!(target.file.check().is_empty());
        assert!(target.file.size_bytes() < source.file.size_bytes());
    }

    #[test]
    fn an_empty_file_has_no_chunk() {
        let mut copy = StateCopy::new(Disk::new().file.read()).expect("sound");
        assert!(copy.next_chunk().expect("sound").is_none());
    }
}
