//! HPACK's Huffman code (RFC 7541, appendix B), decoding only.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols, and continue where the
//! codes of the next shorter length end. So the lengths are the whole table. For each length, [`FIRST`] holds the first code,
//! the end of the codes, and the position of the first symbol in [`SYMBOLS`].

use super::Malformed;

const SYMBOLS_COUNT: usize = 257;
/// The symbol that may not occur; its code pads the last byte.
const END: u16 = 256;
const LENGTH_MIN: usize = 5;
const LENGTH_MAX: usize = 30;

/// Bits of the code of each symbol.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS_COUNT] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// All symbols by length of their code, then by number.
static SYMBOLS: [u16; SYMBOLS_COUNT] = symbols();
static FIRST: [Codes; LENGTH_MAX + 1] = codes();

/// The codes of one length: `first..end`, for the symbols from `position` on.
#[derive(Clone, Copy)]
struct Codes {
    first: u32,
    end: u32,
    position: usize,
}

/// Appends the decoded text of `bytes`.
pub(super) fn decode(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    // The lowest `count` bits of `bits` are not decoded yet.
    let (mut bits, mut count) = (0_u64, 0);
    for byte in bytes {
        bits = bits << 8 | u64::from(*byte);
        count += 8;
        while let Some((symbol, length)) = next(bits, count) {
            if symbol == END {
                return Err(Malformed);
            }
            into.push(symbol as u8);
            count -= length;
        }
    }
    // The remaining bits are the first ones of the end symbol, fewer than a byte.
    let rest = bits & ((1 << count) - 1);
    if count < 8 && rest == (1 << count) - 1 { Ok(()) } else { Err(Malformed) }
}

/// The symbol at the start of the lowest `count` bits, and its length.
fn next(bits: u64, count: usize) -> Option<(u16, usize)> {
    let longest = count.min(LENGTH_MAX);
    for (length, codes) in FIRST.iter().enumerate().take(longest + 1).skip(LENGTH_MIN) {
        let code = (bits >> (count - length)) as u32 & ((1 << length) - 1);
        let Codes { first, end, position } = *codes;
        if code < end {
            return Some((SYMBOLS[position + (code - first) as usize], length));
        }
    }
    None
}

const fn symbols() -> [u16; SYMBOLS_COUNT] {
    let mut symbols = [0; SYMBOLS_COUNT];
    let (mut length, mut filled) = (LENGTH_MIN, 0);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < SYMBOLS_COUNT {
            if LENGTHS[symbol] as usize == length {
                symbols[filled] = symbol as u16;
                filled += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    assert!(filled == SYMBOLS_COUNT);
    symbols
}

const fn codes() -> [Codes; LENGTH_MAX + 1] {
    let mut codes = [Codes { first: 0, end: 0, position: 0 }; LENGTH_MAX + 1];
    let (mut length, mut code, mut position) = (LENGTH_MIN, 0, 0);
    while length <= LENGTH_MAX {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < SYMBOLS_COUNT {
            count += (LENGTHS[symbol] as usize == length) as usize;
            symbol += 1;
        }
        codes[length] = Codes { first: code, end: code + count as u32, position };
        position += count;
        code = (code + count as u32) << 1;
        length += 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of one symbol, by the table's own rule.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let Codes { first, position, .. } = FIRST[length];
            let at = SYMBOLS[position..].iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            let code = first + at as u32;
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push(true);
        }
        bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut text = Vec::new();
        decode(bytes, &mut text).map(|()| text)
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)).unwrap(), all);
        for byte in all {
            assert_eq!(decoded(&encode(&[byte])).unwrap(), [byte]);
        }
        assert_eq!(FIRST[LENGTH_MAX].end, 1 << LENGTH_MAX, "the code is complete");
    }

    #[test]
    fn padding_is_short_and_all_ones() {
        assert_eq!(decoded(&[]).unwrap(), b"");
        // 'a' is 00011.
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        assert!(decoded(&[0b0001_1110]).is_err(), "zeros pad");
        assert!(decoded(&[0b0001_1111, 0xff]).is_err(), "a whole byte pads");
        assert!(decoded(&[0xff, 0xff, 0xff, 0xff]).is_err(), "the end symbol occurs");
    }
}
