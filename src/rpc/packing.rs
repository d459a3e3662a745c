//! Compressed answers: a client that compresses its request gets a compressed answer, as from grpc-go.
//!
//! The first byte of every message tells whether it is compressed, so any message may be sent uncompressed. Empty ones are, as with
//! grpc-go, and those of more than PACKED_ANSWER_BYTES_MAX, which are produced while the client reads: a compressed message
//! begins with its length, so it exists as a whole before its first byte is sent.
//!
//! Compressing costs a core some 20 ns per byte; it is done in slices of [`SLICE_BYTES`], between which other tasks run.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::encoding::Encoding;
use crate::{base::limits::PACKED_ANSWER_BYTES_MAX, os};

/// Bytes compressed before other tasks run.
pub(super) const SLICE_BYTES: usize = 32 * 1024;

/// Whether a message of this length is compressed.
pub(super) fn packs(encoding: Encoding, length: u64) -> bool {
    encoding == Encoding::Gzip && (1..=PACKED_ANSWER_BYTES_MAX).contains(&length)
}

/// One message while it is compressed.
pub(super) struct Packer(GzEncoder<Vec<u8>>);

impl Packer {
    pub(super) fn new() -> Packer {
        Packer(GzEncoder::new(Vec::new(), Compression::default()))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("memory takes all bytes");
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.finish().expect("memory takes all bytes").into()
    }
}

/// A message that is no longer than a slice.
pub(super) fn pack(message: &[u8]) -> Bytes {
    let mut packer = Packer::new();
    packer.add(message);
    packer.finish()
}

/// A message of any length, in slices.
pub(super) async fn pack_in_slices(message: &[u8]) -> Bytes {
    let mut packer = Packer::new();
    for slice in message.chunks(SLICE_BYTES) {
        packer.add(slice);
        os::yield_now().await;
    }
    packer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_messages_are_unpacked_again() {
        for length in [1, 100, SLICE_BYTES, SLICE_BYTES + 1, 5 * SLICE_BYTES] {
            let message: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
            let mut packer = Packer::new();
            message.chunks(SLICE_BYTES).for_each(|slice| packer.add(slice));
            assert_eq!(Encoding::Gzip.decode(1, packer.finish(), length).unwrap(), message);
            assert_eq!(Encoding::Gzip.decode(1, pack(&message), length).unwrap(), message);
        }
    }

    #[test]
    fn some_messages_go_out_as_they_are() {
        for (encoding, length, is_packed) in [
            (Encoding::Gzip, 0, false),
            (Encoding::Gzip, 1, true),
            (Encoding::Gzip, PACKED_ANSWER_BYTES_MAX, true),
            (Encoding::Gzip, PACKED_ANSWER_BYTES_MAX + 1, false),
            (Encoding::Identity, 1, false),
        ] {
            assert_eq!(packs(encoding, length), is_packed, "{encoding:?} {length}");
        }
    }
}
