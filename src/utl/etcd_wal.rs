//! Reads etcd's log: decodes its records and finds its end. From bytes to entries; `etcd_dir` reads the files.
//!
//! ```text
//!   file:    | crc | metadata | state | entry, entry, state, snapshot ...            | zeros (preallocated) |
//!   frame:   | length u64 little-endian: 56 bits of length, bit 63 and 3 bits of padding | Record | padding to 8 |
//!   Record:  { 1: type, 2: crc, 3: data }        crc: CRC-32C over the data of every record so far, over all files
//! ```
//!
//! | type | data | meaning |
//! |---|---|---|
//! | 1 metadata | { 1: member id, 2: cluster id } | the same in every file |
//! | 2 entry | raftpb.Entry | one with an index seen before replaces it and all after it |
//! | 3 state | raftpb.HardState | the last one counts |
//! | 4 crc | | the chain so far, at the head of each file |
//! | 5 snapshot | { 1: index, 2: term, .. } | the state up to here is in the database |
//!
//! A record that is cut short, or whose checksum is wrong while one of its 512-byte sectors is all zero, is a torn write if it is in
//! the last file: the log ends before it, as for etcd. In any other file it is damage.

use bytes::Bytes;
use prost::Message;

use crate::{
    base::{
        checksum::crc32c,
        log_entry::{EntryKind, HardState, LogEntry},
    },
    proto::raftpb,
    wal::Metadata,
};

const FRAME_BYTES: usize = 8;
const SECTOR_BYTES: usize = 512;

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(uint32, optional, tag = "2")]
    crc: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredMetadata {
    #[prost(uint64, optional, tag = "1")]
    member_id: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    cluster_id: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Snapshot {
    #[prost(uint64, optional, tag = "1")]
    index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
}

/// A fault of a log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{file} at {offset}: {reason}")]
    Damaged { file: String, offset: usize, reason: &'static str },
    #[error("{file} at {offset}: {source}")]
    Undecodable { file: String, offset: usize, source: prost::DecodeError },
    #[error("{file} at {offset}: record of unknown type {kind}")]
    UnknownRecord { file: String, offset: usize, kind: i64 },
    #[error("entry {index} is of unknown type {kind}")]
    UnknownEntry { index: u64, kind: i32 },
    #[error("{file}: metadata differs from that of the files before")]
    OtherMember { file: String },
    #[error("the log says nowhere whose it is")]
    NoMetadata,
    #[error("entries {wanted} to {found} are not in the log: it was cut off after the database, or files are missing")]
    Gap { wanted: u64, found: u64 },
}

/// A log read so far.
#[derive(Debug)]
pub struct LogReader {
    /// Entries up to here are in the database.
    after: u64,
    crc: u32,
    metadata: Option<Metadata>,
    contents: Contents,
}

/// The content of a log.
#[derive(Debug, Default)]
pub struct Contents {
    pub metadata: Metadata,
    pub hard_state: HardState,
    /// Contiguous, from the first one that the database does not have.
    pub entries: Vec<LogEntry>,
    /// Term of the last entry that the database has, if it is still in the log or a snapshot was recorded at it.
    pub term_at_start: Option<u64>,
    /// Conf changes that the database has, too, as far as the log still holds them, by index.
    pub old_conf_changes: Vec<LogEntry>,
    /// File and offset of a torn write at the end.
    pub torn: Option<(String, usize)>,
}

/// A position in the log.
struct Place<'a> {
    file: &'a str,
    offset: usize,
    is_last: bool,
}

impl Place<'_> {
    fn damaged(&self, reason: &'static str) -> LogError {
        LogError::Damaged { file: self.file.to_owned(), offset: self.offset, reason }
    }

    fn undecodable(&self) -> impl FnOnce(prost::DecodeError) -> LogError {
        let (file, offset) = (self.file.to_owned(), self.offset);
        move |source| LogError::Undecodable { file, offset, source }
    }
}

/// The next record of a file.
enum Frame<'a> {
    /// Its bytes, without and with padding.
    Record {
        record: &'a [u8],
        padded: &'a [u8],
    },
    /// Zeros or the end.
    End,
    Short,
}

impl LogReader {
    /// A reader for a database that has everything up to entry `after`.
    #[must_use]
    pub fn new(after: u64) -> Self {
        Self { after, crc: 0, metadata: None, contents: Contents::default() }
    }

    /// Reads the next file, by age.
    pub fn read(&mut self, file: &str, bytes: &[u8], is_last: bool) -> Result<(), LogError> {
        let mut place = Place { file, offset: 0, is_last };
        loop {
            let (record, padded) = match frame(bytes, place.offset) {
                Frame::End => return Ok(()),
                Frame::Short => return self.torn(&place, "record is cut short"),
                Frame::Record { record, padded } => (record, padded),
            };
            let is_torn = || place.is_last && has_empty_sector(padded, place.offset + FRAME_BYTES);
            let decoded = match Record::decode(record) {
                Ok(decoded) => decoded,
                Err(_) if is_torn() => return self.torn(&place, "record is torn"),
                Err(source) => return Err(place.undecodable()(source)),
            };
            if !self.checks(&decoded) {
                if decoded.kind() != 4 && is_torn() {
                    return self.torn(&place, "record is torn");
                }
                return Err(place.damaged("crc mismatch"));
            }
            self.take(&decoded, &place)?;
            place.offset += FRAME_BYTES + padded.len();
        }
    }

    /// The content, after all files were read.
    pub fn finish(mut self) -> Result<Contents, LogError> {
        self.contents.metadata = self.metadata.ok_or(LogError::NoMetadata)?;
        Ok(self.contents)
    }

    fn torn(&mut self, place: &Place, reason: &'static str) -> Result<(), LogError> {
        if !place.is_last {
            return Err(place.damaged(reason));
        }
        self.contents.torn = Some((place.file.to_owned(), place.offset));
        Ok(())
    }

    /// Whether a record carries the checksum of everything up to it. A record of type crc sets the chain.
    fn checks(&mut self, record: &Record) -> bool {
        if record.kind() == 4 {
            let is_right = self.crc == 0 || record.crc() == self.crc;
            self.crc = record.crc();
            return is_right;
        }
        self.crc = crc32c(self.crc, record.data());
        record.crc() == self.crc
    }

    fn take(&mut self, record: &Record, place: &Place) -> Result<(), LogError> {
        let data = record.data.clone().unwrap_or_default();
        match record.kind() {
            1 => {
                let stored = StoredMetadata::decode(data).map_err(place.undecodable())?;
                let metadata = Metadata { cluster_id: stored.cluster_id(), member_id: stored.member_id() };
                if self.metadata.is_some_and(|known| known != metadata) {
                    return Err(LogError::OtherMember { file: place.file.to_owned() });
                }
                self.metadata = Some(metadata);
            }
            2 => self.take_entry(raftpb::Entry::decode(data).map_err(place.undecodable())?)?,
            3 => {
                let state = raftpb::HardState::decode(data).map_err(place.undecodable())?;
                self.contents.hard_state = HardState { term: state.term(), vote: state.vote(), commit: state.commit() };
            }
            4 => {}
            5 => {
                let snapshot = Snapshot::decode(data).map_err(place.undecodable())?;
                if snapshot.index() == self.after {
                    self.contents.term_at_start = Some(snapshot.term());
                }
            }
            kind => {
                return Err(LogError::UnknownRecord { file: place.file.to_owned(), offset: place.offset, kind });
            }
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: raftpb::Entry) -> Result<(), LogError> {
        let (index, term) = (entry.index(), entry.term());
        let number = entry.r#type.unwrap_or_default();
        let kind = match raftpb::EntryType::try_from(number) {
            Ok(raftpb::EntryType::EntryNormal) => EntryKind::Normal,
            Ok(raftpb::EntryType::EntryConfChange) => EntryKind::ConfChange,
            Ok(raftpb::EntryType::EntryConfChangeV2) => EntryKind::ConfChangeV2,
            Err(_) => return Err(LogError::UnknownEntry { index, kind: number }),
        };
        let entry = LogEntry { index, term, kind, data: entry.data.unwrap_or_default() };
        let contents = &mut self.contents;
        contents.old_conf_changes.retain(|older| older.index < index);
        if index <= self.after {
            contents.entries.clear();
            if index == self.after {
                contents.term_at_start = Some(term);
            }
            if kind != EntryKind::Normal {
                contents.old_conf_changes.push(entry);
            }
            return Ok(());
        }
        let at = usize::try_from(index - self.after - 1).unwrap_or(usize::MAX);
        if at > contents.entries.len() {
            let wanted = self.after + 1 + contents.entries.len() as u64;
            return Err(LogError::Gap { wanted, found: index - 1 });
        }
        contents.entries.truncate(at);
        contents.entries.push(entry);
        Ok(())
    }
}

fn frame(bytes: &[u8], offset: usize) -> Frame<'_> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let Some((length, rest)) = rest.split_first_chunk::<FRAME_BYTES>() else {
        return if rest.is_empty() { Frame::End } else { Frame::Short };
    };
    let length = u64::from_le_bytes(*length);
    if length == 0 {
        return Frame::End;
    }
    let record_bytes = usize::try_from(length & !(0xff << 56)).unwrap_or(usize::MAX);
    let padding = if length >> 63 == 1 { usize::try_from(length >> 56 & 0x7).unwrap_or(0) } else { 0 };
    match rest.get(..record_bytes.saturating_add(padding)) {
        Some(padded) => Frame::Record { record: &padded[..record_bytes], padded },
        None => Frame::Short,
    }
}

/// Whether one of the sectors of `bytes`, which lie at `offset`, is all zero.
fn has_empty_sector(bytes: &[u8], offset: usize) -> bool {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(bytes.len());
    let (head, tail) = bytes.split_at(first);
    let is_empty = |sector: &[u8]| !sector.is_empty() && sector.iter().all(|byte| *byte == 0);
    is_empty(head) || tail.chunks(SECTOR_BYTES).any(is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a log as etcd does.
    #[derive(Default)]
    struct Writer {
        bytes: Vec<u8>,
        crc: u32,
    }

    impl Writer {
        fn record(&mut self, kind: i64, data: &[u8]) {
            self.crc = crc32c(self.crc, data);
            self.write(Record { kind: Some(kind), crc: Some(self.crc), data: Some(Bytes::copy_from_slice(data)) });
        }

        fn head(&mut self) {
            self.write(Record { kind: Some(4), crc: Some(self.crc), data: None });
            self.record(1, &StoredMetadata { member_id: Some(7), cluster_id: Some(8) }.encode_to_vec());
        }

        fn write(&mut self, record: Record) {
            let encoded = record.encode_to_vec();
            let padding = (8 - encoded.len() % 8) % 8;
            let flags = if padding == 0 { 0 } else { 0x80 | padding as u64 };
            self.bytes.extend_from_slice(&(encoded.len() as u64 | flags << 56).to_le_bytes());
            self.bytes.extend_from_slice(&encoded);
            self.bytes.extend_from_slice(&[0; 8][..padding]);
        }

        fn entry(&mut self, index: u64, term: u64, data: &[u8]) {
            let entry = raftpb::Entry {
                r#type: Some(0),
                term: Some(term),
                index: Some(index),
                data: Some(Bytes::copy_from_slice(data)),
            };
            self.record(2, &entry.encode_to_vec());
        }

        fn state(&mut self, term: u64, commit: u64) {
            let state = raftpb::HardState { term: Some(term), vote: Some(7), commit: Some(commit) };
            self.record(3, &state.encode_to_vec());
        }

        /// The file so far, followed by zeros; the next file begins.
        fn cut(&mut self) -> Vec<u8> {
            let mut file = std::mem::take(&mut self.bytes);
            file.resize(file.len() + 4096, 0);
            file
        }
    }

    fn two_files() -> [Vec<u8>; 2] {
        let mut writer = Writer::default();
        writer.head();
        writer.record(5, &Snapshot { index: Some(0), term: Some(0) }.encode_to_vec());
        for index in 1..=4 {
            writer.entry(index, 2, &[index as u8; 3]);
        }
        writer.state(2, 3);
        let first = writer.cut();
        writer.head();
        writer.entry(4, 3, b"replaced");
        writer.entry(5, 3, &[9; 2000]);
        writer.state(3, 4);
        [first, writer.cut()]
    }

    fn read(files: &[Vec<u8>], after: u64) -> Result<Contents, LogError> {
        let mut reader = LogReader::new(after);
        for (number, file) in files.iter().enumerate() {
            reader.read(&number.to_string(), file, number + 1 == files.len())?;
        }
        reader.finish()
    }

    #[test]
    fn a_log_of_two_files() {
        let contents = read(&two_files(), 2).expect("sound");
        assert_eq!(contents.metadata, Metadata { cluster_id: 8, member_id: 7 });
        assert_eq!(contents.hard_state, HardState { term: 3, vote: 7, commit: 4 });
        assert_eq!(contents.term_at_start, Some(2));
        let entries: Vec<_> = contents.entries.iter().map(|entry| (entry.index, entry.term)).collect();
        assert_eq!(entries, [(3, 2), (4, 3), (5, 3)]);
        assert_eq!(contents.entries[1].data, &b"replaced"[..]);
        assert!(contents.torn.is_none());
        assert!(matches!(read(&two_files()[1..], 2), Err(LogError::Gap { wanted: 3, found: 3 })));
        assert_eq!(read(&two_files(), 5).expect("all applied").entries, []);
    }

    /// Every length that the last file may be cut to gives a prefix of the entries, never an error or a panic.
    #[test]
    fn a_cut_tail_ends_the_log() {
        let files = two_files();
        let whole = read(&files, 0).expect("sound").entries;
        for length in 0..files[1].len() {
            let mut cut = files.clone();
            cut[1].truncate(length);
            let contents = read(&cut, 0).unwrap_or_else(|error| panic!("cut at {length}: {error}"));
            let same = contents.entries.iter().zip(&whole).filter(|(found, entry)| found == entry).count();
            assert!(same >= 3, "cut at {length}");
            assert!(contents.entries.len() <= whole.len());
        }
    }

    #[test]
    fn a_sector_that_was_not_written_ends_the_log() {
        let mut files = two_files();
        let start = files[1].windows(2000).position(|bytes| bytes == [9; 2000]).expect("there");
        let sector = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
        files[1][sector..sector + SECTOR_BYTES].fill(0);
        let contents = read(&files, 0).expect("a torn write");
        assert_eq!(contents.entries.len(), 4);
        assert!(contents.torn.is_some());
    }

    /// A log with a changed byte is never read as a sound log with other entries.
    #[test]
    fn changed_bytes_are_damage() {
        let files = two_files();
        let whole = read(&files, 0).expect("sound").entries;
        let (mut refused, mut torn) = (0, 0);
        for (number, file) in files.iter().enumerate() {
            for at in 0..file.len() - 4096 {
                let mut changed = files.clone();
                changed[number][at] ^= 0x41;
                match read(&changed, 0) {
                    Err(_) => refused += 1,
                    Ok(contents) => {
                        let is_prefix = contents
                            .entries
                            .iter()
                            .all(|entry| whole.contains(entry) || entry.index == 4 && entry.term == 2);
                        assert!(is_prefix, "file {number}, byte {at}");
                        torn += usize::from(contents.torn.is_some());
                    }
                }
            }
        }
        assert!(refused > 100, "{refused} refused, {torn} torn");
    }
}
