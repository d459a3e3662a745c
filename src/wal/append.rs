//! The log while it is open: appending, what is durable, preparing and releasing segments.
//!
//! States of a segment, oldest first in the log:
//!
//! | state | moves on by |
//! |---|---|
//! | prepared, not ready (`Prepare` returned) | `on_prepared` |
//! | prepared, ready | `activate`, when a batch no longer fits into the current one |
//! | current: the last in `segments` | `activate` of the next one |
//! | full | `release` |
//! | spare, or gone | `prepare` reuses a spare |
//!
//! A current segment that is not ready yet is legal: its batches are held until `is_ready` (`held`).

use std::collections::VecDeque;

use thiserror::Error;

use super::{
    Action, Config, Fate, Metadata, Prepare, SegmentFile, SegmentId, Write,
    batch::{BatchHeader, HEADER_BYTES, extent_bytes},
    record::{HARD_STATE_BYTES, SnapshotMarker, entry_bytes, marker_bytes, put_entry, put_hard_state, put_marker},
    segment::{FIRST_BATCH, Life, SegmentHeader},
};
use crate::base::{
    aligned::AlignedBuffer,
    limits::{BLOCK_BYTES, WAL_SPARES_MAX},
    log_entry::{HardState, LogEntry},
};

/// The open log.
#[derive(Debug)]
pub struct Wal {
    config: Config,
    metadata: Metadata,
    /// Part of the log, oldest first. The last one is the current one. Empty before the first append.
    segments: VecDeque<Segment>,
    /// After the current one, in order of use.
    prepared: VecDeque<Segment>,
    spares: VecDeque<SegmentId>,
    /// Where the next batch goes in the current segment.
    offset: u64,
    position: Position,
    in_flight: InFlight,
    hard_state: HardState,
    marker: Option<SnapshotMarker>,
    /// Counter of the last life used.
    lives: u32,
}

/// Where the chain of batches ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// Of the last batch; 0 if there is none.
    pub sequence: u64,
    pub chain: u32,
    pub opening: u64,
    pub last_index: u64,
}

/// A segment that is part of the log, or will be next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub id: SegmentId,
    pub life: Life,
    pub size_bytes: u64,
    pub ready: bool,
    /// Batch at its head, 0 while it has none.
    pub first_sequence: u64,
    /// Highest last index of any batch in it.
    pub last_index: u64,
}

/// The writes and the background work of one append.
#[derive(Debug)]
pub struct Append {
    /// The append is durable once `Wal::durable()` has reached this.
    pub sequence: u64,
    /// Usually one. May be written in any order and all at once; `on_written` for each.
    pub writes: Vec<IssuedBatch>,
    /// Background work.
    pub actions: Vec<Action>,
}

/// One batch to be written.
#[derive(Debug)]
pub struct IssuedBatch {
    pub sequence: u64,
    /// The log's last index once this batch and all before it are durable.
    pub last_index: u64,
    pub write: Write,
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error("a log record of {found} bytes does not fit into a segment (at most {limit})")]
    TooLarge { found: usize, limit: usize },
}

/// The records of one batch, apart from what the head of a segment repeats.
#[derive(Clone, Copy)]
struct Content<'a> {
    marker: Option<&'a SnapshotMarker>,
    entries: &'a [LogEntry],
    hard_state: Option<&'a HardState>,
}

impl Content<'_> {
    fn payload_bytes(&self) -> usize {
        self.marker.map_or(0, marker_bytes)
            + self.entries.iter().map(entry_bytes).sum::<usize>()
            + self.hard_state.map_or(0, |_| HARD_STATE_BYTES)
    }
}

impl Wal {
    /// A new log. The actions make its first segment; appending may begin at once, writing when it `is_ready`.
    #[must_use]
    pub fn create(config: Config, metadata: Metadata) -> (Self, Vec<Action>) {
        let mut wal = Self::assemble(config, metadata, VecDeque::new(), 0);
        wal.position.opening = 1;
        let action = wal.prepare();
        (wal, vec![action])
    }

    /// A log in the given state, without position and content yet.
    pub(super) fn assemble(config: Config, metadata: Metadata, segments: VecDeque<Segment>, lives: u32) -> Self {
        let blocks = BLOCK_BYTES as u64;
        assert!(config.segment_bytes.is_multiple_of(blocks) && config.segment_bytes >= 2 * blocks);
        assert!(config.segment_bytes <= u64::from(u32::MAX));
        assert!(config.first_segment_bytes.is_multiple_of(blocks));
        assert!((2 * blocks..=config.segment_bytes).contains(&config.first_segment_bytes));
        Self {
            config,
            metadata,
            segments,
            prepared: VecDeque::new(),
            spares: VecDeque::new(),
            offset: 0,
            position: Position::default(),
            in_flight: InFlight::default(),
            hard_state: HardState::default(),
            marker: None,
            lives,
        }
    }

    /// Continues at the end of a replay, where everything read is durable.
    pub(super) fn resume(
        &mut self,
        position: Position,
        offset: u64,
        hard_state: HardState,
        marker: Option<SnapshotMarker>,
    ) {
        self.position = position;
        self.offset = offset;
        self.in_flight.durable = position.sequence;
        self.hard_state = hard_state;
        self.marker = marker.map(repeatable);
    }

    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// The last batch issued.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.position.sequence
    }

    /// Index of the last entry appended (or of the marker that restarted the log), 0 for an empty log.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.position.last_index
    }

    /// The last batch before which, and including which, everything is on stable storage.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.in_flight.durable
    }

    /// Appends `entries`, which replace what is there from their first index on, and then the hard state, if any.
    ///
    /// After a power cut a prefix of a large append may be there: its first entries without the hard state.
    ///
    /// # Errors
    /// An entry does not fit into a segment; then nothing was appended.
    ///
    /// # Panics
    /// If the entries leave a gap, or there is nothing to append.
    pub fn append(&mut self, hard_state: Option<HardState>, entries: &[LogEntry]) -> Result<Append, AppendError> {
        assert!(hard_state.is_some() || !entries.is_empty(), "an empty append");
        self.assert_contiguous(entries);
        let limit = self.room_bytes();
        if let Some(found) = entries.iter().map(entry_bytes).find(|found| *found > limit) {
            return Err(AppendError::TooLarge { found, limit });
        }
        let usual = limit.min(self.config.batch_bytes_max);
        let mut append = self.empty_append();
        let mut rest = entries;
        loop {
            let (now, later) = rest.split_at(fitting(rest, usual));
            rest = later;
            let content =
                Content { marker: None, entries: now, hard_state: hard_state.as_ref().filter(|_| rest.is_empty()) };
            self.issue(content, &mut append);
            if rest.is_empty() {
                return Ok(append);
            }
        }
    }

    /// Records that the state up to the marker is durable elsewhere, and the hard state with it, in one batch.
    ///
    /// # Errors
    /// The marker does not fit into a segment; then nothing was appended.
    pub fn save_snapshot_marker(
        &mut self,
        marker: SnapshotMarker,
        hard_state: Option<HardState>,
    ) -> Result<Append, AppendError> {
        let (found, limit) = (marker_bytes(&marker) * 2, self.room_bytes());
        if found > limit {
            return Err(AppendError::TooLarge { found, limit });
        }
        let mut append = self.empty_append();
        let content = Content { marker: Some(&marker), entries: &[], hard_state: hard_state.as_ref() };
        self.issue(content, &mut append);
        self.marker = Some(repeatable(marker));
        Ok(append)
    }

    /// An empty batch that records that the last one with content is durable, so that damage to it is recognised.
    /// For idle moments and a clean stop. `None` while batches are in flight, or if the log has such a batch at its end.
    pub fn confirm(&mut self) -> Option<Append> {
        let quiet = self.in_flight.durable == self.position.sequence;
        if !quiet || self.in_flight.confirmed == self.position.sequence {
            return None;
        }
        let mut append = self.empty_append();
        let content = Content { marker: None, entries: &[], hard_state: None };
        self.issue(content, &mut append);
        self.in_flight.confirmed = self.position.sequence;
        Some(append)
    }

    /// A batch reached stable storage. In any order; returns the new `durable()`.
    ///
    /// # Panics
    /// If it was not in flight.
    pub fn on_written(&mut self, sequence: u64) -> u64 {
        self.in_flight.complete(sequence);
        self.in_flight.durable
    }

    /// Whether batches may be written to the segment.
    #[must_use]
    pub fn is_ready(&self, segment: SegmentId) -> bool {
        self.segments.iter().chain(&self.prepared).any(|known| known.id == segment && known.ready)
    }

    /// A `Prepare` was carried out.
    ///
    /// # Panics
    /// If it was not asked for.
    pub fn on_prepared(&mut self, segment: SegmentId) {
        let known = self
            .segments
            .iter_mut()
            .chain(&mut self.prepared)
            .find(|known| known.id == segment)
            .expect("only a segment that was asked for is prepared");
        assert!(!known.ready, "segment {segment} prepared twice");
        known.ready = true;
    }

    /// Lets a preparation that found no room for a new file use a spare that was released meanwhile. False if there is no spare.
    pub fn reuse(&mut self, prepare: &mut Prepare) -> bool {
        if prepare.spare.is_none() && prepare.size_bytes == self.config.segment_bytes {
            prepare.spare = self.spares.pop_front();
            return prepare.spare.is_some();
        }
        false
    }

    /// Releases the oldest segments that only hold entries up to `index`. These entries are durable in the page file or in a
    /// snapshot, and no peer will be sent them from the log.
    pub fn release(&mut self, index: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.segments.len() > 1 {
            let (oldest, next) = (&self.segments[0], &self.segments[1]);
            let next_has_durable_head = (1..=self.durable()).contains(&next.first_sequence);
            if oldest.last_index > index || !next_has_durable_head {
                break;
            }
            let whole = oldest.size_bytes == self.config.segment_bytes;
            let segment = oldest.id;
            self.segments.pop_front();
            let fate = if whole && self.spares.len() < WAL_SPARES_MAX {
                self.spares.push_back(segment);
                Fate::Spare
            } else {
                Fate::Delete
            };
            actions.push(Action::Retire { segment, fate });
        }
        actions
    }

    /// Takes over the spares of an earlier run; those of another size are deleted.
    pub(super) fn adopt_spares(&mut self, spares: &[SegmentFile]) -> Vec<Action> {
        let (fit, unfit): (Vec<&SegmentFile>, Vec<&SegmentFile>) =
            spares.iter().partition(|spare| spare.size_bytes == self.config.segment_bytes);
        self.spares.extend(fit.into_iter().map(|spare| spare.id));
        unfit.into_iter().map(|spare| Action::Discard { spare: spare.id }).collect()
    }

    /// Makes a segment after the end of the log a prepared one again. If it has stray batches it begins a new life: the header is one
    /// sector, which is written whole or not at all.
    pub(super) fn keep_ahead(&mut self, mut segment: Segment, is_stray: bool) -> Option<Write> {
        assert_eq!(segment.first_sequence, 0, "it is no part of the log");
        if is_stray {
            segment.life = self.next_life();
        }
        self.prepared.push_back(segment);
        is_stray.then(|| Write { segment: segment.id, offset: 0, bytes: self.header_of(&segment) })
    }

    /// Asks for the next segment, if none is prepared.
    pub(super) fn prepare_ahead(&mut self) -> Option<Action> {
        self.prepared.is_empty().then(|| self.prepare())
    }

    fn prepare(&mut self) -> Action {
        let last = self.prepared.back().or(self.segments.back());
        let sequence = last.map_or(1, |segment| segment.id.sequence + 1);
        let size_bytes = match last {
            None => self.config.first_segment_bytes,
            Some(_) => self.config.segment_bytes,
        };
        let segment = Segment {
            id: SegmentId { sequence, first_index: self.position.last_index + 1 },
            life: self.next_life(),
            size_bytes,
            ready: false,
            first_sequence: 0,
            last_index: 0,
        };
        self.prepared.push_back(segment);
        let fits = size_bytes == self.config.segment_bytes;
        Action::Prepare(Prepare {
            segment: segment.id,
            size_bytes,
            header: self.header_of(&segment),
            spare: if fits { self.spares.pop_front() } else { None },
        })
    }

    fn next_life(&mut self) -> Life {
        self.lives = self.lives.checked_add(1).expect("2^32 segments are 2^58 bytes");
        Life::new(self.config.salt, self.lives)
    }

    fn header_of(&self, segment: &Segment) -> AlignedBuffer {
        SegmentHeader {
            sequence: segment.id.sequence,
            life: segment.life,
            size_bytes: segment.size_bytes,
            metadata: self.metadata,
        }
        .encode()
    }

    /// The most bytes of records that fit into a batch at the head of a segment, which also repeats marker and hard state.
    fn room_bytes(&self) -> usize {
        let repeated = self.marker.as_ref().map_or(0, marker_bytes) + HARD_STATE_BYTES;
        let taken = BLOCK_BYTES + HEADER_BYTES + repeated + HARD_STATE_BYTES;
        (self.config.segment_bytes as usize).saturating_sub(taken)
    }

    fn empty_append(&self) -> Append {
        Append { sequence: self.position.sequence, writes: Vec::with_capacity(1), actions: Vec::new() }
    }

    fn assert_contiguous(&self, entries: &[LogEntry]) {
        let Some(first) = entries.first() else {
            return;
        };
        assert!(
            (1..=self.position.last_index + 1).contains(&first.index),
            "entry {} after {} leaves a gap",
            first.index,
            self.position.last_index
        );
        let in_order = entries.windows(2).all(|pair| pair[1].index == pair[0].index + 1);
        assert!(in_order, "the entries leave a gap");
    }

    /// Gives a batch its place, its number and its bytes.
    fn issue(&mut self, content: Content<'_>, append: &mut Append) {
        let payload_bytes = self.place(&content, append);
        let current = *self.segments.back().expect("placed in a segment");
        let is_head = self.offset == FIRST_BATCH;
        let last_index = match (content.marker, content.entries.last()) {
            (_, Some(entry)) => entry.index,
            (Some(marker), None) if marker.restarts_log => marker.index,
            _ => self.position.last_index,
        };
        let mut header = BatchHeader {
            seed: self.position.chain,
            chain: 0,
            life: current.life,
            sequence: self.position.sequence + 1,
            durable: self.in_flight.durable,
            opening: self.position.opening,
            first_index: content.entries.first().map_or(0, |entry| entry.index),
            last_index,
            payload_bytes: u32::try_from(payload_bytes).expect("a batch fits into a segment"),
            records: 0,
        };
        let mut batch = AlignedBuffer::with_capacity(header.extent_bytes() as usize);
        batch.push(&[0; HEADER_BYTES]);
        if is_head {
            header.records += self.put_repeated(&mut batch);
        }
        header.records += put_content(&mut batch, &content);
        header.seal(&mut batch);
        self.position.chain = header.chain;
        append.writes.push(IssuedBatch {
            sequence: header.sequence,
            last_index,
            write: Write { segment: current.id, offset: self.offset, bytes: batch },
        });
        self.account(&header, content.hard_state);
        append.sequence = header.sequence;
    }

    /// Activates segments until the current one has room for the batch. Returns the bytes of its records.
    fn place(&mut self, content: &Content<'_>, append: &mut Append) -> usize {
        let bytes = content.payload_bytes();
        loop {
            if let Some(current) = self.segments.back() {
                let is_head = self.offset == FIRST_BATCH;
                let payload_bytes = bytes + if is_head { self.repeated_bytes() } else { 0 };
                if self.offset + extent_bytes(payload_bytes) <= current.size_bytes {
                    return payload_bytes;
                }
                let hopeless = is_head && current.size_bytes >= self.config.segment_bytes;
                assert!(!hopeless, "the limits were checked before");
            }
            self.activate(append);
        }
    }

    fn activate(&mut self, append: &mut Append) {
        append.actions.extend(self.prepare_ahead());
        let next = self.prepared.pop_front().expect("asked for");
        self.segments.push_back(next);
        self.offset = FIRST_BATCH;
        append.actions.extend(self.prepare_ahead());
    }

    fn repeated_bytes(&self) -> usize {
        self.marker.as_ref().map_or(0, marker_bytes) + HARD_STATE_BYTES
    }

    fn put_repeated(&self, batch: &mut AlignedBuffer) -> u32 {
        if let Some(marker) = &self.marker {
            put_marker(batch, marker);
        }
        put_hard_state(batch, &self.hard_state);
        1 + u32::from(self.marker.is_some())
    }

    fn account(&mut self, header: &BatchHeader, hard_state: Option<&HardState>) {
        self.position.sequence = header.sequence;
        self.position.last_index = header.last_index;
        self.offset += header.extent_bytes();
        self.in_flight.issue(header.sequence);
        if let Some(state) = hard_state {
            self.hard_state = *state;
        }
        let current = self.segments.back_mut().expect("placed in a segment");
        assert!(self.offset <= current.size_bytes);
        current.last_index = current.last_index.max(header.last_index);
        if current.first_sequence == 0 {
            current.first_sequence = header.sequence;
        }
    }
}

/// The marker as the head of a later segment repeats it, where it must not restart the log again.
fn repeatable(marker: SnapshotMarker) -> SnapshotMarker {
    SnapshotMarker { restarts_log: false, ..marker }
}

/// How many of the entries go into a batch; at least one, if there is one.
fn fitting(entries: &[LogEntry], limit: usize) -> usize {
    let mut sum = 0;
    let count = entries
        .iter()
        .take_while(|entry| {
            sum += entry_bytes(entry);
            sum <= limit
        })
        .count();
    count.max(1).min(entries.len())
}

fn put_content(batch: &mut AlignedBuffer, content: &Content<'_>) -> u32 {
    if let Some(marker) = content.marker {
        put_marker(batch, marker);
    }
    for entry in content.entries {
        put_entry(batch, entry);
    }
    if let Some(state) = content.hard_state {
        put_hard_state(batch, state);
    }
    u32::from(content.marker.is_some()) + content.entries.len() as u32 + u32::from(content.hard_state.is_some())
}

/// Writes complete in any order; batches become durable in order.
#[derive(Debug, Default)]
struct InFlight {
    durable: u64,
    /// The last batch that a later one records as durable, or that has no content.
    confirmed: u64,
    /// Whether batch `durable + 1 + i` is complete; the first one never is.
    complete: VecDeque<bool>,
}

impl InFlight {
    fn issue(&mut self, sequence: u64) {
        self.complete.push_back(false);
        assert_eq!(sequence, self.durable + self.complete.len() as u64);
    }

    fn complete(&mut self, sequence: u64) {
        let place = sequence
            .checked_sub(self.durable + 1)
            .and_then(|place| self.complete.get_mut(place as usize))
            .filter(|complete| !**complete);
        *place.expect("a batch in flight completes once") = true;
        while self.complete.front() == Some(&true) {
            self.complete.pop_front();
            self.durable += 1;
        }
    }
}
