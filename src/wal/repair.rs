//! From a replay's result to an open log: where appending continues, and what is erased before (invariant 4).

use super::{
    Action, Config, Damage, Fate, Metadata, SegmentFile, SegmentId, SnapshotMarker, Wal, Write,
    append::{Position, Segment},
    segment::Life,
};
use crate::base::{
    aligned::AlignedBuffer,
    limits::{BLOCK_BYTES, WAL_REPLAY_SLICE_BYTES},
    log_entry::{HardState, LogEntry},
};

/// A log that was read.
#[derive(Debug)]
pub struct Recovered {
    pub contents: Contents,
    pub repair: Repair,
}

/// The content of a log.
#[derive(Debug)]
pub struct Contents {
    pub metadata: Metadata,
    pub hard_state: HardState,
    /// The last one in the log.
    pub snapshot: Option<SnapshotMarker>,
    /// Contiguous, all beyond the replay's `keep_after`.
    pub entries: Vec<LogEntry>,
    /// Last index of the log, also if that entry was not returned.
    pub last_index: u64,
    /// For the log message; `None` if the log ends cleanly.
    pub cut: Option<Cut>,
}

impl Contents {
    /// Whether the log never had anything: the first start ended before its first batch was durable.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.last_index == 0 && self.snapshot.is_none() && self.hard_state == HardState::default()
    }
}

/// A torn tail that is dropped. Nothing in it was ever acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub segment: SegmentId,
    pub offset: u64,
    /// The first batch dropped.
    pub sequence: u64,
    /// What is wrong with it.
    pub damage: Damage,
}

/// The work before the log is open. The shell has synced the directory before, because after a crash of the process alone a name
/// may be visible and not durable.
#[derive(Debug)]
pub struct Repair {
    /// Segments to be synced first, with the cache of their device, because after a crash of the process alone the content read may be
    /// in that cache only. All segments: an interrupted repair may have written a header of a prepared one.
    pub sync: Vec<SegmentId>,
    /// Durable writes after the syncs, in any order.
    pub writes: Vec<Write>,
    /// Actions after the writes, in order.
    actions: Vec<Action>,
    wal: Wal,
}

impl Repair {
    /// The log, after syncs and writes. The actions are carried out in the background.
    #[must_use]
    pub fn done(self) -> (Wal, Vec<Action>) {
        (self.wal, self.actions)
    }
}

/// The result of a replay.
#[derive(Debug)]
pub(super) struct Found {
    pub metadata: Metadata,
    pub segments: Vec<ScannedSegment>,
    pub end: Suspicion,
    pub position: Position,
    pub hard_state: HardState,
    pub snapshot: Option<SnapshotMarker>,
    pub entries: Vec<LogEntry>,
}

/// The first place where the log does not continue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    /// In `files`.
    pub at: usize,
    pub offset: u64,
    pub damage: Damage,
}

/// The scan of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScannedSegment {
    pub id: SegmentId,
    pub life: Life,
    pub size_bytes: u64,
    pub first_sequence: u64,
    pub last_index: u64,
    /// End of the last batch of the segment's life that is not part of the log; 0 if there is none.
    pub stray_end: u64,
}

pub(super) fn recover(found: Found, config: Config, spares: &[SegmentFile]) -> Recovered {
    let cut = cut(&found);
    let last_index = found.position.last_index;
    let (log, ahead) = found.segments.split_at(found.end.at + 1);
    let sync = found.segments.iter().map(|segment| segment.id).collect();
    let lives = found.segments.iter().map(|segment| segment.life.counter());
    let lives = lives.max().unwrap_or(0);
    let usable = ahead.iter().take_while(|segment| segment.size_bytes == config.segment_bytes).count();
    let (ahead, unfit) = ahead.split_at(usable);

    let mut writes = erase(&found);
    let segments = log.iter().map(reopened).collect();
    let mut wal = Wal::assemble(config, found.metadata, segments, lives);
    for segment in ahead {
        writes.extend(wal.keep_ahead(reopened(segment), segment.stray_end > 0));
    }
    let position = Position { opening: found.position.opening + 1, ..found.position };
    wal.resume(position, found.end.offset, found.hard_state, found.snapshot.clone());

    // Newest first, so that a power cut between two deletions leaves no gap in the middle.
    let mut actions: Vec<Action> = unfit.iter().rev().map(|unfit| delete(unfit.id)).collect();
    actions.extend(wal.adopt_spares(spares));
    actions.extend(wal.prepare_ahead());
    Recovered {
        contents: Contents {
            metadata: found.metadata,
            hard_state: found.hard_state,
            snapshot: found.snapshot,
            entries: found.entries,
            last_index,
            cut,
        },
        repair: Repair { sync, writes, actions, wal },
    }
}

fn cut(found: &Found) -> Option<Cut> {
    let rest = &found.segments[found.end.at..];
    let clean = found.end.damage == Damage::Absent && rest.iter().all(|segment| segment.stray_end == 0);
    (!clean).then(|| Cut {
        segment: rest[0].id,
        offset: found.end.offset,
        sequence: found.position.sequence + 1,
        damage: found.end.damage,
    })
}

/// Zeros over the cut range of the segment in which the log ends, if anything of this life is there.
fn erase(found: &Found) -> Vec<Write> {
    let segment = &found.segments[found.end.at];
    let mut end = segment.stray_end;
    if found.end.damage != Damage::Absent {
        end = end.max(found.end.offset + BLOCK_BYTES as u64);
    }
    (found.end.offset..end)
        .step_by(WAL_REPLAY_SLICE_BYTES)
        .map(|offset| {
            let length = (end - offset).min(WAL_REPLAY_SLICE_BYTES as u64);
            Write { segment: segment.id, offset, bytes: AlignedBuffer::zeroed(length as usize) }
        })
        .collect()
}

fn reopened(scanned: &ScannedSegment) -> Segment {
    Segment {
        id: scanned.id,
        life: scanned.life,
        size_bytes: scanned.size_bytes,
        ready: true,
        first_sequence: scanned.first_sequence,
        last_index: scanned.last_index,
    }
}

fn delete(segment: SegmentId) -> Action {
    Action::Retire { segment, fate: Fate::Delete }
}
