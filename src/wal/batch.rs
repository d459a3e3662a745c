//! The header of a batch and its checksums. Layout in the module head.

use thiserror::Error;

use super::{
    little_endian::{u32_at, u64_at},
    segment::Life,
};
use crate::base::{aligned::AlignedBuffer, checksum::crc32, limits::BLOCK_BYTES};

pub(super) const HEADER_BYTES: usize = 72;

const MAGIC: &[u8; 4] = b"RWB1";
/// The header's own checksum covers the header from this offset on.
const HEADER_CHECKED_FROM: usize = 8;
/// The chain covers the whole batch from this offset on.
const CHAINED_FROM: usize = 16;

/// Why the bytes at a place are not the batch that belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("no batch of this segment's present life")]
    Absent,
    #[error("header checksum is {found:08x}, expected {expected:08x}")]
    HeaderChecksum { expected: u32, found: u32 },
    #[error("batch of {found} bytes where at most {limit} are left")]
    Length { limit: u64, found: u64 },
    #[error("batch number is {found}, expected {expected}")]
    Sequence { expected: u64, found: u64 },
    #[error("batch follows chain {found:08x}, expected {expected:08x}")]
    Seed { expected: u32, found: u32 },
    #[error("batch is of opening {found}, the one before of {expected}")]
    Opening { expected: u64, found: u64 },
    #[error("batch checksum is {found:08x}, expected {expected:08x}")]
    Checksum { expected: u32, found: u32 },
}

/// The fields of a batch's header, without the checksum that follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub seed: u32,
    pub chain: u32,
    pub life: Life,
    pub sequence: u64,
    pub durable: u64,
    pub opening: u64,
    pub first_index: u64,
    pub last_index: u64,
    pub payload_bytes: u32,
    pub records: u32,
}

impl BatchHeader {
    /// Reads a header whose own checksum is right. `bytes` holds at least a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        if &bytes[..4] != MAGIC {
            return Err(Damage::Absent);
        }
        let expected = u32_at(bytes, 4);
        let found = crc32(0, &bytes[HEADER_CHECKED_FROM..HEADER_BYTES]);
        if expected != found {
            return Err(Damage::HeaderChecksum { expected, found });
        }
        Ok(Self {
            seed: u32_at(bytes, 8),
            chain: u32_at(bytes, 12),
            life: Life(u64_at(bytes, 16)),
            sequence: u64_at(bytes, 24),
            durable: u64_at(bytes, 32),
            opening: u64_at(bytes, 40),
            first_index: u64_at(bytes, 48),
            last_index: u64_at(bytes, 56),
            payload_bytes: u32_at(bytes, 64),
            records: u32_at(bytes, 68),
        })
    }

    /// Header and records, without the padding.
    pub fn batch_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }

    /// Whole blocks.
    pub fn extent_bytes(&self) -> u64 {
        extent_bytes(self.payload_bytes as usize)
    }

    /// Checks the batch as a whole. `batch` is `batch_bytes` long.
    pub fn check(&self, batch: &[u8]) -> Result<(), Damage> {
        let found = crc32(self.seed, &batch[CHAINED_FROM..]);
        if found == self.chain { Ok(()) } else { Err(Damage::Checksum { expected: self.chain, found }) }
    }

    /// Fills in the header of `batch`, whose records follow an empty header, sets the chain and pads.
    pub fn seal(&mut self, batch: &mut AlignedBuffer) {
        assert_eq!(batch.len(), self.batch_bytes());
        batch.overwrite(16, &self.life.0.to_le_bytes());
        batch.overwrite(24, &self.sequence.to_le_bytes());
        batch.overwrite(32, &self.durable.to_le_bytes());
        batch.overwrite(40, &self.opening.to_le_bytes());
        batch.overwrite(48, &self.first_index.to_le_bytes());
        batch.overwrite(56, &self.last_index.to_le_bytes());
        batch.overwrite(64, &self.payload_bytes.to_le_bytes());
        batch.overwrite(68, &self.records.to_le_bytes());
        self.chain = crc32(self.seed, &batch[CHAINED_FROM..]);
        batch.overwrite(0, MAGIC);
        batch.overwrite(8, &self.seed.to_le_bytes());
        batch.overwrite(12, &self.chain.to_le_bytes());
        let checksum = crc32(0, &batch[HEADER_CHECKED_FROM..HEADER_BYTES]);
        batch.overwrite(4, &checksum.to_le_bytes());
        batch.pad_to_block();
    }
}

/// Whole blocks that a batch with so many bytes of records takes.
pub(super) fn extent_bytes(payload_bytes: usize) -> u64 {
    (HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES) as u64
}
