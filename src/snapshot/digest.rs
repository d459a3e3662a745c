//! The checksum after the pages of a snapshot file.

use sha2::{Digest as _, Sha256};

/// SHA-256, raw.
pub const DIGEST_BYTES: usize = 32;
/// Pages of every size come in multiples of a disk's smallest sector.
const SECTOR_BYTES: u64 = 512;

/// Whether a file of this length ends in a checksum.
#[must_use]
pub fn has_digest(file_bytes: u64) -> bool {
    file_bytes % SECTOR_BYTES == DIGEST_BYTES as u64
}

/// The checksum over the bytes seen so far.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    hasher: Sha256,
}

impl Digest {
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    #[must_use]
    pub fn finish(self) -> [u8; DIGEST_BYTES] {
        self.hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_tell_whether_there_is_one() {
        assert!(has_digest(4 * 4096 + 32));
        for without in [0, 31, 33, 512, 4 * 4096, 4 * 4096 + 31] {
            assert!(!has_digest(without), "{without}");
        }
    }

    #[test]
    fn pieces_do_not_matter() {
        let mut digest = Digest::default();
        digest.update(b"a");
        digest.update(b"bc");
        let hex: String = digest.finish().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
