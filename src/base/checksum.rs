//! The three checksums on disk: CRC-32 (our WAL), CRC-32C (etcd's hashes), FNV-1a 64 (bbolt's meta pages).

/// Continues a CRC-32 (IEEE) over `bytes`.
#[must_use]
pub fn crc32(previous: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(previous);
    hasher.update(bytes);
    hasher.finalize()
}

/// Continues a CRC-32C (Castagnoli) over `bytes`.
#[must_use]
pub fn crc32c(previous: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(previous, bytes)
}

/// FNV-1a, 64 bit, over `bytes`.
#[must_use]
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_check_values() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(fnv1a_64(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn continuing_equals_one_piece() {
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), crc32(0, b"123456789"));
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), crc32c(0, b"123456789"));
    }
}
