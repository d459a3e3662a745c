//! The write-ahead log: Raft's entries and hard state, as aligned blocks for direct, durable writes.
//!
//! A sync machine whose disk writes are values. The shell (or the simulator) carries them out and reports back:
//!
//! ```text
//!                 append, save_snapshot_marker, confirm            writes: whole blocks, several in flight
//!   consensus  ------------------------------------->  Wal  ------------------------------------------> shell
//!              <------------------- durable() -------       <------------- on_written(sequence) -------
//!                                                           ------- Prepare, Retire (background) ----->
//!                                                           <------------- on_prepared(segment) ------
//!   start:  shell reads 1 MiB slices  ->  Replay  ->  Recovered { Contents, Repair }  ->  Wal
//! ```
//!
//! # Files
//!
//! `<data>/member/wal/{sequence:016x}-{first_index:016x}.rwal`, the sequence without gaps. A segment is written once
//! ahead, with zeros or as the remains of a released segment, so that a write never changes a file's extents; it is
//! opened for direct and durable (`O_DIRECT|O_DSYNC`) writes. `first_index` is the log's next index when the segment
//! was prepared: a hint for people.
//!
//! ```text
//!   | header | batch  | batch (3 blocks)         | batch  | zeros, or the batches of an earlier life ...  |
//!   0        4096     8192                       20480    24576                                    size
//! ```
//!
//! ## Segment header (block 0; all within one sector, so it is replaced as a whole or not at all)
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 8 | magic `ringdwal` |
//! | 8 | 4 | CRC-32 of bytes 12..512; this and the magic never move, whatever the version |
//! | 12 | 4 | format version, 1 |
//! | 16 | 4 | block size, 4096 |
//! | 20 | 4 | zero |
//! | 24 | 8 | segment sequence, from 1, as in the file name |
//! | 32 | 8 | life: salt of the opening (high half), counter over the whole log (low half) |
//! | 40 | 8 | file size in bytes |
//! | 48 | 8 | cluster id |
//! | 56 | 8 | member id |
//!
//! ## Batch (whole blocks; padding is not covered by a checksum)
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4 | magic `RWB1` |
//! | 4 | 4 | CRC-32 of bytes 8..72: the header alone can be trusted when the rest is torn |
//! | 8 | 4 | seed: the chain of the batch before, 0 for batch 1 |
//! | 12 | 4 | chain: CRC-32 of bytes 16..72 and the records, seeded with `seed` |
//! | 16 | 8 | life of the segment it belongs to |
//! | 24 | 8 | batch sequence, from 1 over all segments, without gaps |
//! | 32 | 8 | the highest batch known to be durable when this one was issued |
//! | 40 | 8 | opening: how often the log had been opened for appending |
//! | 48 | 8 | index of its first entry, 0 if it has none |
//! | 56 | 8 | last index of the log after this batch |
//! | 64 | 4 | bytes of records |
//! | 68 | 4 | number of records |
//! | 72 | .. | records |
//!
//! ## Records (every record: type u8, detail u8, zero u16, bytes after these eight u32)
//!
//! | type | detail | rest |
//! |---|---|---|
//! | 1 entry | kind 0 normal, 1 conf change, 2 conf change v2 | index u64, term u64, data |
//! | 2 hard state | 0 | term u64, vote u64, commit u64 |
//! | 3 snapshot marker | bit 0 restarts the log, bit 1 auto leave | index u64, term u64, four counts u32, ids u64 |
//!
//! All numbers are little-endian. The first batch of every segment repeats the snapshot marker and the hard state, so
//! older segments can be released.
//!
//! # Invariants
//!
//! 1. No block of a batch is written twice in one life of its segment; batches in flight never share a block.
//! 2. A batch is part of the log only if every batch before it is (sequence, seed, life, opening). So what survives a
//!    power cut is a prefix of what was issued, whatever order the writes reached the disk in.
//! 3. `durable()` is the end of the contiguous prefix of completed writes. Nothing beyond it is acknowledged.
//! 4. A batch that does not check is corruption if any later batch header of the same life says it was durable, and a
//!    torn tail otherwise. A tail is cut together with everything after it, and before the first append all
//!    headers after the cut are erased (`Repair`), so a cut batch never reappears.
//! 5. A life is never used twice, so batches that remain in a recycled segment are never taken for present ones. The salt
//!    keeps a client from forging headers inside a value.
//! 6. The oldest segment is released only once the first batch of the next one is durable, so the head of a log whose
//!    beginning was released is always there: damage to it is corruption without further evidence.
//! 7. An entry with an index already seen replaces it and everything after it.
//!
//! Limit of this check: damage to the last acknowledged batches looks like a torn tail if nothing was appended after they became
//! durable. `confirm` appends an empty batch for that; the shell calls it when idle. In addition the caller refuses a log that
//! ends before the applied index of the page file.
//!
//! Deliberately absent: files, threads, time, timers and batching by time (shell), commit and apply (consensus),
//! when to release (snapshot), compression.
//!
//! Cost of an append on the write path: one buffer, one copy per entry, one CRC pass, one durable write.

mod append;
mod batch;
mod held;
mod little_endian;
mod record;
mod repair;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

pub use append::{Append, AppendError, IssuedBatch, Wal};
pub use batch::Damage;
pub use held::HeldBatches;
pub use record::SnapshotMarker;
pub use repair::{Contents, Cut, Recovered, Repair};
pub use replay::{Read, Replay, ReplayError};
pub use segment::{FileName, Metadata, SegmentFile, SegmentId, metadata_of};

use crate::base::{aligned::AlignedBuffer, limits};

/// Sizes of the log's files. None of them is needed to read a log.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Size of every segment but the first; a multiple of the block.
    pub segment_bytes: u64,
    /// Size of segment 1, at most `segment_bytes`.
    pub first_segment_bytes: u64,
    /// Records per batch beyond which an append is split.
    pub batch_bytes_max: usize,
    /// Any random number, a new one at each start (invariant 5).
    pub salt: u32,
}

impl Config {
    /// The defaults of `base::limits`.
    #[must_use]
    pub fn new(salt: u32) -> Self {
        Self {
            segment_bytes: limits::WAL_SEGMENT_BYTES,
            first_segment_bytes: limits::WAL_SEGMENT_BYTES_FIRST,
            batch_bytes_max: limits::WAL_BATCH_BYTES_MAX,
            salt,
        }
    }
}

/// Whole blocks for one direct, durable write.
#[derive(Debug)]
pub struct Write {
    pub segment: SegmentId,
    pub offset: u64,
    pub bytes: AlignedBuffer,
}

/// Work on files, off the path of an append. Carried out one after the other, in the order given.
#[derive(Debug)]
pub enum Action {
    Prepare(Prepare),
    /// Take a segment out of the log: rename it to its spare name or delete it, then sync the directory, before the
    /// next action.
    Retire {
        segment: SegmentId,
        fate: Fate,
    },
    /// Delete a file that has a spare name.
    Discard {
        spare: SegmentId,
    },
}

/// Make a segment file of `size_bytes`, then report `on_prepared`.
///
/// Without a spare: a file under the temporary name, `header` and then zeros up to the size, sync. With one: `header`
/// written over the first block of the file with the spare name, sync. Then, in both cases, rename it to its name and
/// sync the directory. The shell tries again if it fails.
#[derive(Debug)]
pub struct Prepare {
    pub segment: SegmentId,
    pub size_bytes: u64,
    pub header: AlignedBuffer,
    pub spare: Option<SegmentId>,
}

/// Whether the file of a retired segment is kept as a spare or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Spare,
    Delete,
}
