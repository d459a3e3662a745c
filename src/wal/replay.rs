//! Reading a log from its segment files, in slices, up to an open `Wal`.
//!
//! ```text
//!   Walking  -- the next batch is not valid ---------------------------------> Doubting
//!   Doubting -- the next segment begins with the expected batch -------------> Walking
//!   Doubting -- anything else: read every block to the end, note which batches the headers record as durable
//! ```
//!
//! A full segment also ends in state Doubting, because only the next segment's first batch marks its end. At the end of the log
//! the headers seen decide between corruption and a torn tail (invariant 4).

use std::mem;

use bytes::Bytes;
use thiserror::Error;

use super::{
    Config, Damage, Metadata, SegmentFile, SegmentId, SnapshotMarker,
    append::Position,
    batch::{BatchHeader, HEADER_BYTES},
    record::{Record, take},
    repair::{Found, Recovered, ScannedSegment, Suspicion, recover},
    segment::{FIRST_BATCH, HeaderFault, SegmentHeader},
};
use crate::base::{
    limits::{BLOCK_BYTES, WAL_REPLAY_SLICE_BYTES},
    log_entry::{HardState, LogEntry},
    planted::{self, Bug},
};

/// Why a log cannot be used. All but `Empty` need an operator.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    #[error("the write-ahead log has no segment")]
    Empty,
    #[error("write-ahead log segment {expected} is missing: the next one found is {found}")]
    Missing { expected: u64, found: u64 },
    #[error("{}: there are two segments with this sequence", .segment.file_name())]
    Duplicate { segment: SegmentId },
    #[error("{}: not a write-ahead log segment", .segment.file_name())]
    NotASegment { segment: SegmentId },
    #[error("{}: segment header checksum is {found:08x}, expected {expected:08x}", .segment.file_name())]
    HeaderDamaged { segment: SegmentId, expected: u32, found: u32 },
    #[error("{}: written by a newer ringd (format {found}, known up to {known})", .segment.file_name())]
    NewerFormat { segment: SegmentId, known: u32, found: u32 },
    #[error("{}: written with blocks of {found} bytes, not {expected}", .segment.file_name())]
    BlockBytes { segment: SegmentId, expected: u32, found: u32 },
    #[error("{}: the file holds segment {found}", .segment.file_name())]
    Renamed { segment: SegmentId, found: u64 },
    #[error("{}: belongs to {found:?}, the segments before to {expected:?}", .segment.file_name())]
    OtherLog { segment: SegmentId, expected: Metadata, found: Metadata },
    #[error("{}: {found} bytes long, expected {expected}", .segment.file_name())]
    Size { segment: SegmentId, expected: u64, found: u64 },
    #[error("{}: corrupt at offset {offset}: {damage}; batches up to {durable} were durable, {expected} is damaged", .segment.file_name())]
    Corrupt {
        segment: SegmentId,
        offset: u64,
        /// The batch that should be here.
        expected: u64,
        /// The last batch that a later one records as durable.
        durable: u64,
        damage: Damage,
    },
    #[error("{}: the beginning of the log is corrupt at offset {offset}: {damage}", .segment.file_name())]
    CorruptHead { segment: SegmentId, offset: u64, damage: Damage },
    #[error("{}: batch at offset {offset} checks but makes no sense: {reason}", .segment.file_name())]
    Malformed { segment: SegmentId, offset: u64, reason: &'static str },
}

/// The next range to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub segment: SegmentId,
    pub offset: u64,
    pub length: usize,
}

/// A log being read. `while let Some(read) = replay.next_read() { replay.feed(bytes)? }`, then `finish`.
#[derive(Debug)]
pub struct Replay {
    files: Vec<SegmentFile>,
    /// Those of `files` whose header was read.
    segments: Vec<ScannedSegment>,
    /// Bytes of the current file from `offset` on that were read and not decoded yet.
    unread: Vec<u8>,
    /// The current file in `files`, and the offset in it.
    at: usize,
    offset: u64,
    mode: Mode,
    position: Option<Position>,
    /// The highest batch that a header seen in state Doubting records as durable.
    claimed: u64,
    metadata: Metadata,
    log: ReplayedLog,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Walking,
    Doubting(Suspicion),
}

/// Whether enough bytes were there.
enum Step {
    Taken,
    NeedsMore,
}

impl Replay {
    /// Starts reading the segments given. Entries up to `keep_after` are checked but not returned: the caller has
    /// their effect elsewhere, durably.
    ///
    /// # Errors
    /// There is no segment, or one is missing in between.
    pub fn new(mut files: Vec<SegmentFile>, keep_after: u64) -> Result<Self, ReplayError> {
        files.sort_by_key(|file| file.id);
        if files.is_empty() {
            return Err(ReplayError::Empty);
        }
        for pair in files.windows(2) {
            let (before, segment) = (pair[0].id.sequence, pair[1].id);
            if before == segment.sequence {
                return Err(ReplayError::Duplicate { segment });
            }
            if segment.sequence != before + 1 {
                return Err(ReplayError::Missing { expected: before + 1, found: segment.sequence });
            }
        }
        if let Some(file) = files.iter().find(|file| file.size_bytes < FIRST_BATCH) {
            return Err(size_error(file, FIRST_BATCH));
        }
        Ok(Self {
            segments: Vec::with_capacity(files.len()),
            files,
            unread: Vec::new(),
            at: 0,
            offset: 0,
            mode: Mode::Walking,
            position: None,
            claimed: 0,
            metadata: Metadata::default(),
            log: ReplayedLog::new(keep_after),
        })
    }

    /// What to feed next; `None` when everything was read.
    #[must_use]
    pub fn next_read(&self) -> Option<Read> {
        let file = self.files.get(self.at)?;
        let offset = self.offset + self.unread.len() as u64;
        let length = (file.size_bytes - offset).min(WAL_REPLAY_SLICE_BYTES as u64) as usize;
        Some(Read { segment: file.id, offset, length })
    }

    /// Takes the bytes that `next_read` asked for.
    ///
    /// # Errors
    /// The log cannot be used; or fewer bytes than asked for, so the file shrank.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReplayError> {
        let read = self.next_read().expect("more was asked for");
        if bytes.len() != read.length {
            let found = read.offset + bytes.len() as u64;
            return Err(ReplayError::Size { segment: read.segment, expected: self.files[self.at].size_bytes, found });
        }
        let mut unread = mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let start = self.offset;
        while let Step::Taken = self.step(&unread[(self.offset - start) as usize..])? {}
        unread.drain(..(self.offset - start) as usize);
        self.unread = unread;
        if self.offset == self.files[self.at].size_bytes {
            assert!(self.unread.is_empty());
            self.at += 1;
            self.offset = 0;
        }
        Ok(())
    }

    /// Ends the replay: the content of the log and the repair before appending. `spares` are the files with a spare name.
    ///
    /// # Errors
    /// A batch that was durable is damaged.
    ///
    /// # Panics
    /// If not everything was fed.
    pub fn finish(self, config: Config, spares: &[SegmentFile]) -> Result<Recovered, ReplayError> {
        assert_eq!(self.at, self.files.len(), "all segments are fed first");
        let last = self.files.len() - 1;
        let end = match self.mode {
            Mode::Doubting(suspicion) => suspicion,
            Mode::Walking => Suspicion { at: last, offset: self.segments[last].size_bytes, damage: Damage::Absent },
        };
        let (segment, offset) = (self.segments[end.at].id, end.offset);
        if self.position.is_none() && self.files[0].id.sequence > 1 {
            let damage = end.damage;
            return Err(ReplayError::CorruptHead { segment, offset, damage });
        }
        let position = self.position.unwrap_or_default();
        if self.claimed > position.sequence {
            return Err(ReplayError::Corrupt {
                segment,
                offset,
                expected: position.sequence + 1,
                durable: self.claimed,
                damage: end.damage,
            });
        }
        let mut entries = self.log.entries;
        if planted::has(Bug::DropLastRecord) {
            entries.pop();
        }
        let found = Found {
            metadata: self.metadata,
            segments: self.segments,
            end,
            position,
            hard_state: self.log.hard_state,
            snapshot: self.log.snapshot,
            entries,
        };
        Ok(recover(found, config, spares))
    }

    /// Decodes one batch or block at the start of `bytes`, which begin at `self.offset`.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, ReplayError> {
        if bytes.len() < BLOCK_BYTES {
            return Ok(Step::NeedsMore);
        }
        if self.segments.len() == self.at {
            self.take_header(bytes)?;
            self.offset += BLOCK_BYTES as u64;
            return Ok(Step::Taken);
        }
        match self.mode {
            Mode::Walking => self.walk(bytes),
            Mode::Doubting(suspicion) => Ok(self.doubt(bytes, suspicion)),
        }
    }

    fn take_header(&mut self, block: &[u8]) -> Result<(), ReplayError> {
        let file = self.files[self.at];
        let segment = file.id;
        let header = SegmentHeader::decode(block).map_err(|fault| header_error(segment, fault))?;
        if header.sequence != segment.sequence {
            let found = header.sequence;
            return Err(ReplayError::Renamed { segment, found });
        }
        let aligned = header.size_bytes.is_multiple_of(BLOCK_BYTES as u64);
        if !aligned || header.size_bytes != file.size_bytes {
            return Err(size_error(&file, header.size_bytes));
        }
        if self.at == 0 {
            self.metadata = header.metadata;
        } else if self.metadata != header.metadata {
            return Err(ReplayError::OtherLog { segment, expected: self.metadata, found: header.metadata });
        }
        self.segments.push(ScannedSegment {
            id: segment,
            life: header.life,
            size_bytes: header.size_bytes,
            first_sequence: 0,
            last_index: 0,
            stray_end: 0,
        });
        Ok(())
    }

    /// Takes the next batch of the log, or changes to state Doubting.
    fn walk(&mut self, bytes: &[u8]) -> Result<Step, ReplayError> {
        let checked = self.header_at(bytes).and_then(|header| {
            self.check_link(&header)?;
            Ok(header)
        });
        let damage = match checked {
            Ok(header) if (bytes.len() as u64) < header.extent_bytes() => {
                return Ok(Step::NeedsMore);
            }
            Ok(header) => match header.check(&bytes[..header.batch_bytes()]) {
                Ok(()) => {
                    self.accept(&header, &bytes[HEADER_BYTES..header.batch_bytes()])?;
                    return Ok(Step::Taken);
                }
                Err(damage) => damage,
            },
            Err(damage) => damage,
        };
        self.mode = Mode::Doubting(Suspicion { at: self.at, offset: self.offset, damage });
        Ok(Step::Taken)
    }

    /// Reads one block in state Doubting, or changes back to Walking.
    fn doubt(&mut self, bytes: &[u8], suspicion: Suspicion) -> Step {
        let header = self.header_at(bytes);
        let is_next_head = self.offset == FIRST_BATCH && self.at > suspicion.at;
        if is_next_head && self.continues_here(&header, suspicion) {
            self.mode = Mode::Walking;
            self.claimed = 0;
            return Step::Taken;
        }
        let expected = self.position.map_or(1, |position| position.sequence + 1);
        let mut length = BLOCK_BYTES as u64;
        if let Ok(header) = header
            && header.sequence >= expected
        {
            length = header.extent_bytes();
            if length > bytes.len() as u64 {
                return Step::NeedsMore;
            }
            self.claimed = self.claimed.max(header.durable);
            self.segments[self.at].stray_end = self.offset + length;
        }
        self.offset += length;
        Step::Taken
    }

    /// Whether the log continues at the head of this segment, even if that batch is damaged.
    fn continues_here(&self, header: &Result<BatchHeader, Damage>, suspicion: Suspicion) -> bool {
        match header {
            Ok(header) => self.check_link(header).is_ok(),
            Err(Damage::Absent) => false,
            // The head of this segment is damaged, and the place where the log should continue is empty.
            Err(_) => {
                let before = &self.segments[suspicion.at..self.at];
                suspicion.damage == Damage::Absent && before.iter().all(|segment| segment.stray_end == 0)
            }
        }
    }

    /// A batch header of this life at the beginning of `bytes`.
    fn header_at(&self, bytes: &[u8]) -> Result<BatchHeader, Damage> {
        let header = BatchHeader::decode(bytes)?;
        let segment = &self.segments[self.at];
        if header.life != segment.life {
            return Err(Damage::Absent);
        }
        let (limit, found) = (segment.size_bytes - self.offset, header.extent_bytes());
        if found > limit {
            return Err(Damage::Length { limit, found });
        }
        Ok(header)
    }

    /// Whether a batch is the next one of the log.
    fn check_link(&self, header: &BatchHeader) -> Result<(), Damage> {
        let before = match self.position {
            Some(position) => position,
            None if self.files[0].id.sequence == 1 => Position::default(),
            // The beginning of the log was released, so the first batch found is the first of the log.
            None => return Ok(()),
        };
        let (expected, found) = (before.sequence + 1, header.sequence);
        if expected != found {
            return Err(Damage::Sequence { expected, found });
        }
        let (expected, found) = (before.chain, header.seed);
        if expected != found {
            return Err(Damage::Seed { expected, found });
        }
        let (expected, found) = (before.opening, header.opening);
        if expected > found {
            return Err(Damage::Opening { expected, found });
        }
        Ok(())
    }

    fn accept(&mut self, header: &BatchHeader, payload: &[u8]) -> Result<(), ReplayError> {
        let result = self.log.apply(header, payload);
        result.map_err(|reason| ReplayError::Malformed {
            segment: self.files[self.at].id,
            offset: self.offset,
            reason,
        })?;
        let segment = &mut self.segments[self.at];
        segment.last_index = segment.last_index.max(header.last_index);
        if segment.first_sequence == 0 {
            segment.first_sequence = header.sequence;
        }
        self.position = Some(Position {
            sequence: header.sequence,
            chain: header.chain,
            opening: header.opening,
            last_index: header.last_index,
        });
        self.offset += header.extent_bytes();
        Ok(())
    }
}

fn header_error(segment: SegmentId, fault: HeaderFault) -> ReplayError {
    match fault {
        HeaderFault::Magic => ReplayError::NotASegment { segment },
        HeaderFault::Checksum { expected, found } => ReplayError::HeaderDamaged { segment, expected, found },
        HeaderFault::Version(found) => ReplayError::NewerFormat { segment, known: SegmentHeader::VERSION, found },
        HeaderFault::BlockBytes(found) => ReplayError::BlockBytes { segment, expected: BLOCK_BYTES as u32, found },
    }
}

fn size_error(file: &SegmentFile, expected: u64) -> ReplayError {
    ReplayError::Size { segment: file.id, expected, found: file.size_bytes }
}

/// The content of all batches read so far (invariant 7).
#[derive(Debug)]
struct ReplayedLog {
    keep_after: u64,
    hard_state: HardState,
    snapshot: Option<SnapshotMarker>,
    /// Contiguous, all beyond `keep_after`.
    entries: Vec<LogEntry>,
    /// Last index of the log; `None` before the first batch.
    last_index: Option<u64>,
}

impl ReplayedLog {
    fn new(keep_after: u64) -> Self {
        Self { keep_after, hard_state: HardState::default(), snapshot: None, entries: Vec::new(), last_index: None }
    }

    fn apply(&mut self, header: &BatchHeader, payload: &[u8]) -> Result<(), &'static str> {
        if self.last_index.is_none() {
            let before = match header.first_index {
                0 => header.last_index,
                first => first - 1,
            };
            self.last_index = Some(before);
        }
        let mut rest = Bytes::copy_from_slice(payload);
        let mut first_index = 0;
        for _ in 0..header.records {
            match take(&mut rest)? {
                Record::Entry(entry) => {
                    first_index = if first_index == 0 { entry.index } else { first_index };
                    self.entry(entry)?;
                }
                Record::HardState(state) => self.hard_state = state,
                Record::Marker(marker) => self.marker(marker),
            }
        }
        if !rest.is_empty() {
            return Err("there is more in it than its header says");
        }
        if first_index != header.first_index || self.last_index != Some(header.last_index) {
            return Err("its entries are not those its header names");
        }
        Ok(())
    }

    fn entry(&mut self, entry: LogEntry) -> Result<(), &'static str> {
        // Index 0 is refused by the decoder.
        if entry.index - 1 > self.last_index.unwrap_or(0) {
            return Err("its entries leave a gap");
        }
        self.last_index = Some(entry.index);
        if entry.index <= self.keep_after {
            self.entries.clear();
            return Ok(());
        }
        if let Some(first) = self.entries.first() {
            let keep = entry.index.saturating_sub(first.index);
            self.entries.truncate(keep as usize);
        }
        self.entries.push(entry);
        Ok(())
    }

    fn marker(&mut self, marker: SnapshotMarker) {
        if marker.restarts_log {
            self.entries.clear();
            self.last_index = Some(marker.index);
        }
        self.snapshot = Some(marker);
    }
}
