//! The records inside a batch: entries, hard states, snapshot markers. Layout in the module head.

use bytes::{Buf, Bytes};

use super::little_endian::{u32_at, u64_at};
use crate::base::{
    aligned::AlignedBuffer,
    log_entry::{ConfState, EntryKind, HardState, LogEntry},
};

/// Bytes every record starts with: type, detail, zero, length of the rest.
const PREFIX_BYTES: usize = 8;
const ENTRY_FIXED_BYTES: usize = 16;
const MARKER_FIXED_BYTES: usize = 32;

pub(super) const HARD_STATE_BYTES: usize = PREFIX_BYTES + 24;

const TYPE_ENTRY: u8 = 1;
const TYPE_HARD_STATE: u8 = 2;
const TYPE_MARKER: u8 = 3;

const MARKER_RESTARTS: u8 = 1;
const MARKER_AUTO_LEAVE: u8 = 2;

/// Records that a state up to `index`, which came from another member or a backup, is durable elsewhere, and the members at that index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMarker {
    pub index: u64,
    pub term: u64,
    pub conf_state: ConfState,
    /// All entries before the marker in the log are void, whatever their index, and the log continues at `index + 1`. False where the
    /// head of a later segment repeats the marker.
    pub restarts_log: bool,
}

/// One record, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry(LogEntry),
    HardState(HardState),
    Marker(SnapshotMarker),
}

pub(super) fn entry_bytes(entry: &LogEntry) -> usize {
    PREFIX_BYTES + ENTRY_FIXED_BYTES + entry.data.len()
}

pub(super) fn marker_bytes(marker: &SnapshotMarker) -> usize {
    let ids: usize = lists(&marker.conf_state).iter().map(|list| list.len()).sum();
    PREFIX_BYTES + MARKER_FIXED_BYTES + ids * 8
}

#[inline]
pub(super) fn put_entry(buffer: &mut AlignedBuffer, entry: &LogEntry) {
    let kind = match entry.kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    };
    let mut fixed = [0; PREFIX_BYTES + ENTRY_FIXED_BYTES];
    fixed[..8].copy_from_slice(&prefix(TYPE_ENTRY, kind, entry_bytes(entry)));
    fixed[8..16].copy_from_slice(&entry.index.to_le_bytes());
    fixed[16..24].copy_from_slice(&entry.term.to_le_bytes());
    buffer.push(&fixed);
    buffer.push(&entry.data);
}

pub(super) fn put_hard_state(buffer: &mut AlignedBuffer, state: &HardState) {
    buffer.push(&prefix(TYPE_HARD_STATE, 0, HARD_STATE_BYTES));
    for number in [state.term, state.vote, state.commit] {
        buffer.push(&number.to_le_bytes());
    }
}

pub(super) fn put_marker(buffer: &mut AlignedBuffer, marker: &SnapshotMarker) {
    let restarts = if marker.restarts_log { MARKER_RESTARTS } else { 0 };
    let leaves = if marker.conf_state.auto_leave { MARKER_AUTO_LEAVE } else { 0 };
    buffer.push(&prefix(TYPE_MARKER, restarts | leaves, marker_bytes(marker)));
    buffer.push(&marker.index.to_le_bytes());
    buffer.push(&marker.term.to_le_bytes());
    let lists = lists(&marker.conf_state);
    for list in lists {
        buffer.push(&(list.len() as u32).to_le_bytes());
    }
    for id in lists.into_iter().flatten() {
        buffer.push(&id.to_le_bytes());
    }
}

fn prefix(kind: u8, detail: u8, record_bytes: usize) -> [u8; PREFIX_BYTES] {
    let rest = u32::try_from(record_bytes - PREFIX_BYTES).expect("a record fits into a segment");
    let [a, b, c, d] = rest.to_le_bytes();
    [kind, detail, 0, 0, a, b, c, d]
}

fn lists(conf_state: &ConfState) -> [&[u64]; 4] {
    [&conf_state.voters, &conf_state.learners, &conf_state.voters_outgoing, &conf_state.learners_next]
}

/// Takes the next record off `rest`, which is not empty. The data of an entry shares the memory of `rest`.
pub(super) fn take(rest: &mut Bytes) -> Result<Record, &'static str> {
    if rest.len() < PREFIX_BYTES {
        return Err("a record is cut short");
    }
    let prefix = rest.split_to(PREFIX_BYTES);
    let length = u32_at(&prefix, 4) as usize;
    if prefix[2..4] != [0, 0] {
        return Err("a record has unknown flags");
    }
    if length > rest.len() {
        return Err("a record is longer than its batch");
    }
    let body = rest.split_to(length);
    match prefix[0] {
        TYPE_ENTRY => entry(prefix[1], body).map(Record::Entry),
        TYPE_HARD_STATE => hard_state(prefix[1], &body).map(Record::HardState),
        TYPE_MARKER => marker(prefix[1], &body).map(Record::Marker),
        _ => Err("a record has an unknown type"),
    }
}

fn entry(detail: u8, mut body: Bytes) -> Result<LogEntry, &'static str> {
    if body.len() < ENTRY_FIXED_BYTES {
        return Err("an entry is cut short");
    }
    let kind = match detail {
        0 => EntryKind::Normal,
        1 => EntryKind::ConfChange,
        2 => EntryKind::ConfChangeV2,
        _ => return Err("an entry has an unknown kind"),
    };
    let (index, term) = (u64_at(&body, 0), u64_at(&body, 8));
    if index == 0 {
        return Err("an entry has index zero");
    }
    body.advance(ENTRY_FIXED_BYTES);
    Ok(LogEntry { index, term, kind, data: body })
}

fn hard_state(detail: u8, body: &[u8]) -> Result<HardState, &'static str> {
    if detail != 0 || body.len() != HARD_STATE_BYTES - PREFIX_BYTES {
        return Err("a hard state has the wrong length");
    }
    Ok(HardState { term: u64_at(body, 0), vote: u64_at(body, 8), commit: u64_at(body, 16) })
}

fn marker(detail: u8, body: &[u8]) -> Result<SnapshotMarker, &'static str> {
    if detail & !(MARKER_RESTARTS | MARKER_AUTO_LEAVE) != 0 || body.len() < MARKER_FIXED_BYTES {
        return Err("a snapshot marker has the wrong form");
    }
    let (fixed, mut ids) = body.split_at(MARKER_FIXED_BYTES);
    let counts = [16, 20, 24, 28].map(|at| u32_at(fixed, at) as usize);
    if counts.iter().sum::<usize>().checked_mul(8) != Some(ids.len()) {
        return Err("a snapshot marker has the wrong length");
    }
    let [voters, learners, voters_outgoing, learners_next] = counts.map(|count| {
        let (list, rest) = ids.split_at(count * 8);
        ids = rest;
        list.chunks_exact(8).map(|id| u64_at(id, 0)).collect()
    });
    Ok(SnapshotMarker {
        index: u64_at(fixed, 0),
        term: u64_at(fixed, 8),
        conf_state: ConfState {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave: detail & MARKER_AUTO_LEAVE != 0,
        },
        restarts_log: detail & MARKER_RESTARTS != 0,
    })
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn samples() -> (LogEntry, HardState, SnapshotMarker) {
        let entry = LogEntry { index: 7, term: 3, kind: EntryKind::ConfChangeV2, data: Bytes::from_static(b"payload") };
        let state = HardState { term: 3, vote: 9, commit: 6 };
        let marker = SnapshotMarker {
            index: 5,
            term: 2,
            conf_state: ConfState {
                voters: vec![1, 2, 3],
                learners: vec![4],
                voters_outgoing: vec![],
                learners_next: vec![5, 6],
                auto_leave: true,
            },
            restarts_log: true,
        };
        (entry, state, marker)
    }

    fn encoded() -> Bytes {
        let (entry, state, marker) = samples();
        let mut buffer = AlignedBuffer::with_capacity(4096);
        put_marker(&mut buffer, &marker);
        put_entry(&mut buffer, &entry);
        put_hard_state(&mut buffer, &state);
        let sum = marker_bytes(&marker) + entry_bytes(&entry) + HARD_STATE_BYTES;
        assert_eq!(buffer.len(), sum);
        Bytes::copy_from_slice(&buffer)
    }

    #[test]
    fn records_round_trip() {
        let (entry, state, marker) = samples();
        let mut rest = encoded();
        assert_eq!(take(&mut rest), Ok(Record::Marker(marker)));
        assert_eq!(take(&mut rest), Ok(Record::Entry(entry)));
        assert_eq!(take(&mut rest), Ok(Record::HardState(state)));
        assert!(rest.is_empty());
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_list() {
        let whole = encoded();
        for length in 0..whole.len() {
            let mut rest = whole.slice(..length);
            let mut records = 0;
            while !rest.is_empty() && take(&mut rest).is_ok() {
                records += 1;
            }
            assert!(records < 3);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_come_back_the_same() {
        let seed = 0x5eed;
        println!("seed {seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let whole = encoded();
        for _ in 0..200_000 {
            let mut bytes = whole.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = if random.random() { random.random() } else { random.random_range(0..4) };
            }
            let original = Bytes::from(bytes);
            let mut rest = original.clone();
            let mut again = AlignedBuffer::with_capacity(original.len());
            while !rest.is_empty() {
                match take(&mut rest) {
                    Ok(Record::Entry(entry)) => put_entry(&mut again, &entry),
                    Ok(Record::HardState(state)) => put_hard_state(&mut again, &state),
                    Ok(Record::Marker(marker)) => put_marker(&mut again, &marker),
                    Err(_) => break,
                }
            }
            assert_eq!(again[..], original[..again.len()]);
        }
    }
}
