//! A byte buffer that starts on a block boundary, as direct writes demand.
//!
//! Without `unsafe`: the vector is one block larger than asked for and its first aligned byte is where the buffer
//! starts. The capacity is fixed when it is made, so the vector never moves and filling it is one copy, without zeroing first.

use std::{fmt, ops::Deref};

use super::limits::BLOCK_BYTES;

/// A buffer of fixed capacity that dereferences to the bytes appended so far.
pub struct AlignedBuffer {
    /// `start` unused bytes, then the content.
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
}

impl AlignedBuffer {
    /// An empty buffer for up to `capacity` bytes, rounded up to whole blocks.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK_BYTES);
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + BLOCK_BYTES - 1);
        let address = bytes.as_ptr().addr();
        let start = address.next_multiple_of(BLOCK_BYTES) - address;
        bytes.resize(start, 0);
        Self { bytes, start, capacity }
    }

    /// `length` zeros, rounded up to whole blocks.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = Self::with_capacity(length);
        buffer.bytes.resize(buffer.start + buffer.capacity, 0);
        buffer
    }

    /// Appends `piece`.
    ///
    /// # Panics
    /// If it exceeds the capacity: the caller sums up before it fills.
    #[inline]
    pub fn push(&mut self, piece: &[u8]) {
        assert!(self.bytes.len() + piece.len() <= self.start + self.capacity);
        self.bytes.extend_from_slice(piece);
    }

    /// Overwrites bytes that were appended before, from `at` on.
    #[inline]
    pub fn overwrite(&mut self, at: usize, piece: &[u8]) {
        let at = self.start + at;
        self.bytes[at..at + piece.len()].copy_from_slice(piece);
    }

    /// Fills up with zeros to a whole block.
    pub fn pad_to_block(&mut self) {
        let padded = self.len().next_multiple_of(BLOCK_BYTES);
        self.bytes.resize(self.start + padded, 0);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AlignedBuffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_block_and_stays_there() {
        for capacity in [0, 1, 4095, 4096, 4097, 300_000] {
            let mut buffer = AlignedBuffer::with_capacity(capacity);
            let before = buffer.as_ptr().addr();
            assert_eq!(before % BLOCK_BYTES, 0);
            buffer.push(&vec![7; capacity]);
            buffer.pad_to_block();
            let moved = buffer;
            assert_eq!(moved.as_ptr().addr(), before);
            assert_eq!(moved.len(), capacity.next_multiple_of(BLOCK_BYTES));
            assert!(moved[..capacity].iter().all(|byte| *byte == 7));
            assert!(moved[capacity..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn overwrites_in_place() {
        let mut buffer = AlignedBuffer::zeroed(10);
        assert_eq!(buffer.len(), BLOCK_BYTES);
        buffer.overwrite(4, &[1, 2]);
        assert_eq!(buffer[3..7], [0, 1, 2, 0]);
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn refuses_more_than_its_capacity() {
        AlignedBuffer::with_capacity(BLOCK_BYTES).push(&vec![0; BLOCK_BYTES + 1]);
    }
}
