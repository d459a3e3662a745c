//! A segment file: its names, its header block, and which life it is in.

use std::fmt;

use super::little_endian::{u32_at, u64_at};
use crate::base::{aligned::AlignedBuffer, checksum::crc32, limits::BLOCK_BYTES};

/// Where the first batch of a segment starts.
pub(super) const FIRST_BATCH: u64 = BLOCK_BYTES as u64;

const MAGIC: &[u8; 8] = b"ringdwal";
const VERSION: u32 = 1;
/// The header's checksum covers exactly the sector that holds it.
const SECTOR_BYTES: usize = 512;

/// Cluster and member that the log belongs to; the same in every segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub cluster_id: u64,
    pub member_id: u64,
}

/// Names one use of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId {
    /// From 1, without gaps.
    pub sequence: u64,
    /// The log's next index when the segment was prepared; a hint for people.
    pub first_index: u64,
}

impl SegmentId {
    /// The name of a file that is part of the log.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{self}.rwal")
    }

    /// The name while a new file is being zeroed.
    #[must_use]
    pub fn temporary_name(&self) -> String {
        format!("{self}.tmp")
    }

    /// The name of a released file that waits for reuse.
    #[must_use]
    pub fn spare_name(&self) -> String {
        format!("{self}.spare")
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}-{:016x}", self.sequence, self.first_index)
    }
}

/// The role of a file in the log's directory, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileName {
    /// Part of the log.
    Segment(SegmentId),
    /// A released file that `Replay::finish` reuses if it has the size of a segment, and discards otherwise.
    Spare(SegmentId),
    /// The remains of an interrupted preparation, to be deleted.
    Temporary(SegmentId),
}

impl FileName {
    /// `None` for a name of another form.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, extension) = name.split_once('.')?;
        let (sequence, first_index) = stem.split_once('-')?;
        let id = SegmentId { sequence: parse_hex(sequence)?, first_index: parse_hex(first_index)? };
        match extension {
            "rwal" => Some(Self::Segment(id)),
            "spare" => Some(Self::Spare(id)),
            "tmp" => Some(Self::Temporary(id)),
            _ => None,
        }
    }
}

fn parse_hex(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// A segment file as the shell finds it.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFile {
    pub id: SegmentId,
    pub size_bytes: u64,
}

/// Whose log it is, by the first block of a segment; `None` if that is not sound.
#[must_use]
pub fn metadata_of(block: &[u8]) -> Option<Metadata> {
    SegmentHeader::decode(block).ok().map(|header| header.metadata)
}

/// Distinguishes the uses of one file (invariant 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life(pub u64);

impl Life {
    pub fn new(salt: u32, counter: u32) -> Self {
        Self(u64::from(salt) << 32 | u64::from(counter))
    }

    pub fn counter(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }
}

/// The content of block 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub sequence: u64,
    pub life: Life,
    pub size_bytes: u64,
    pub metadata: Metadata,
}

/// Why a header block was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Magic,
    Checksum { expected: u32, found: u32 },
    Version(u32),
    BlockBytes(u32),
}

impl SegmentHeader {
    pub const VERSION: u32 = VERSION;

    pub fn encode(&self) -> AlignedBuffer {
        let mut block = AlignedBuffer::zeroed(BLOCK_BYTES);
        block.overwrite(0, MAGIC);
        block.overwrite(12, &VERSION.to_le_bytes());
        block.overwrite(16, &(BLOCK_BYTES as u32).to_le_bytes());
        block.overwrite(24, &self.sequence.to_le_bytes());
        block.overwrite(32, &self.life.0.to_le_bytes());
        block.overwrite(40, &self.size_bytes.to_le_bytes());
        block.overwrite(48, &self.metadata.cluster_id.to_le_bytes());
        block.overwrite(56, &self.metadata.member_id.to_le_bytes());
        let checksum = crc32(0, &block[12..SECTOR_BYTES]);
        block.overwrite(8, &checksum.to_le_bytes());
        block
    }

    pub fn decode(block: &[u8]) -> Result<Self, HeaderFault> {
        assert!(block.len() >= BLOCK_BYTES);
        if &block[..8] != MAGIC {
            return Err(HeaderFault::Magic);
        }
        let (expected, found) = (u32_at(block, 8), crc32(0, &block[12..SECTOR_BYTES]));
        if expected != found {
            return Err(HeaderFault::Checksum { expected, found });
        }
        match (u32_at(block, 12), u32_at(block, 16)) {
            (VERSION, block_bytes) if block_bytes as usize != BLOCK_BYTES => Err(HeaderFault::BlockBytes(block_bytes)),
            (VERSION, _) => Ok(Self {
                sequence: u64_at(block, 24),
                life: Life(u64_at(block, 32)),
                size_bytes: u64_at(block, 40),
                metadata: Metadata { cluster_id: u64_at(block, 48), member_id: u64_at(block, 56) },
            }),
            (version, _) => Err(HeaderFault::Version(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_left_alone() {
        let id = SegmentId { sequence: 0x1f, first_index: u64::MAX };
        assert_eq!(id.file_name(), "000000000000001f-ffffffffffffffff.rwal");
        assert_eq!(FileName::parse(&id.file_name()), Some(FileName::Segment(id)));
        assert_eq!(FileName::parse(&id.spare_name()), Some(FileName::Spare(id)));
        assert_eq!(FileName::parse(&id.temporary_name()), Some(FileName::Temporary(id)));
        for stranger in [
            "",
            ".",
            "-.rwal",
            "0000000000000001-0000000000000000.wal",
            "000000000000001-00000000000000000.rwal",
            "+00000000000001f-0000000000000000.rwal",
            "000000000000001F-0000000000000000.rwal",
            "0000000000000001-0000000000000000.rwal.broken",
        ] {
            assert_eq!(FileName::parse(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn header_round_trips_and_every_flipped_bit_is_seen() {
        let header = SegmentHeader {
            sequence: 3,
            life: Life::new(0xdead_beef, 7),
            size_bytes: 1 << 20,
            metadata: Metadata { cluster_id: 1, member_id: 2 },
        };
        assert_eq!(header.life.counter(), 7);
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        let mut copy = block.to_vec();
        for bit in 0..SECTOR_BYTES * 8 {
            copy[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&copy).is_err(), "bit {bit}");
            copy[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
