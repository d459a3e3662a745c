//! Byte strings in ascending order, packed, and found with few cache misses.
//!
//! ```text
//!   bytes   /registry/pods/a/registry/pods/b/registry/svc/x      the keys one after the other
//!   ends                   ^               ^               ^     where each one ends
//!   heads   "pods" "pods" "svc/"                                 four bytes of each after the `skip` bytes all share
//! ```
//!
//! A search compares heads first: a few neighbouring cache lines, instead of one distant line per step of a binary search.
//! Only keys with an equal head, usually one, are compared as a whole. With a million keys nearly every line is a cache miss,
//! so the number of misses in sequence is the cost of a lookup.
//!
//! 1. Every key starts with the same `skip` bytes. In a sorted list these are the bytes that the first and the last key share.
//! 2. Heads ascend as the keys do; a key that ends early has zeros in its head.

use std::cmp::Ordering;

/// Buffers grow by this much at a time, not by doubling: a million leaves half empty would be most of the index.
const GROW_KEYS: usize = 8;
const GROW_BYTES: usize = 128;

/// A sorted list of keys.
#[derive(Clone, Default)]
pub(super) struct KeyBlock {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    heads: Vec<u32>,
    skip: u32,
}

impl KeyBlock {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all keys.
    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn at(&self, position: usize) -> &[u8] {
        &self.bytes[self.start(position)..self.ends[position] as usize]
    }

    fn start(&self, position: usize) -> usize {
        match position {
            0 => 0,
            _ => self.ends[position - 1] as usize,
        }
    }

    /// Position of `key`, or where it would be inserted.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let skip = self.skip as usize;
        let shared = key.len().min(skip);
        match key[..shared].cmp(&self.bytes[..shared]) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal if shared < skip => return Err(0),
            Ordering::Equal => {}
        }
        let head = head(key, skip);
        let mut low = self.heads.iter().map(|other| u32::from(*other < head)).sum::<u32>() as usize;
        let equal = self.heads[low..].iter().take_while(|other| **other == head).count();
        let mut high = low + equal;
        while low < high {
            let middle = (low + high) / 2;
            match self.at(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(super) fn insert(&mut self, position: usize, key: &[u8]) {
        let start = self.start(position);
        let grown = u32::try_from(key.len()).expect("a key is smaller than a request");
        reserve(&mut self.bytes, key.len(), GROW_BYTES);
        reserve(&mut self.ends, 1, GROW_KEYS);
        reserve(&mut self.heads, 1, GROW_KEYS);
        let len = self.bytes.len();
        self.bytes.resize(len + key.len(), 0);
        self.bytes.copy_within(start..len, start + key.len());
        self.bytes[start..start + key.len()].copy_from_slice(key);
        self.ends.insert(position, start as u32 + grown);
        for end in &mut self.ends[position + 1..] {
            *end += grown;
        }
        self.heads.insert(position, head(key, self.skip as usize));
        if position == 0 || position == self.len() - 1 {
            self.find_heads();
        }
    }

    pub(super) fn remove(&mut self, position: usize) {
        let start = self.start(position);
        let end = self.ends.remove(position) as usize;
        self.bytes.drain(start..end);
        for later in &mut self.ends[position..] {
            *later -= (end - start) as u32;
        }
        self.heads.remove(position);
        if self.heads.is_empty() {
            self.skip = 0;
        }
    }

    pub(super) fn split_off(&mut self, position: usize) -> Self {
        let start = self.start(position);
        let mut right = Self {
            bytes: self.bytes.split_off(start),
            ends: self.ends.split_off(position),
            heads: self.heads.split_off(position),
            skip: self.skip,
        };
        for end in &mut right.ends {
            *end -= start as u32;
        }
        self.bytes.shrink_to(start + GROW_BYTES);
        self.ends.shrink_to(position + GROW_KEYS);
        self.heads.shrink_to(position + GROW_KEYS);
        self.find_heads();
        right.find_heads();
        right
    }

    pub(super) fn append(&mut self, other: &Self) {
        let shift = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + shift));
        self.heads.extend_from_slice(&other.heads);
        self.skip = u32::MAX;
        self.find_heads();
    }

    /// Brings `skip` and heads up to date with the first and the last key.
    fn find_heads(&mut self) {
        let skip = match self.len() {
            0 => 0,
            len => shared_len(self.at(0), self.at(len - 1)) as u32,
        };
        if skip != self.skip {
            self.skip = skip;
            for position in 0..self.len() {
                self.heads[position] = head(self.at(position), skip as usize);
            }
        }
    }
}

/// Number of leading bytes two keys share.
pub(super) fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Makes room for `more` entries, `grow` at a time.
pub(super) fn reserve<T>(buffer: &mut Vec<T>, more: usize, grow: usize) {
    if buffer.capacity() - buffer.len() < more {
        buffer.reserve_exact(more.next_multiple_of(grow));
    }
}

fn head(key: &[u8], skip: usize) -> u32 {
    let rest = key.get(skip..).unwrap_or_default();
    if let Some(four) = rest.first_chunk() {
        return u32::from_be_bytes(*four);
    }
    let mut padded = [0; 4];
    padded[..rest.len()].copy_from_slice(rest);
    u32::from_be_bytes(padded)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    impl KeyBlock {
        fn check(&self, keys: &[Vec<u8>]) {
            assert_eq!(self.len(), keys.len());
            assert!(self.heads.is_sorted());
            for (position, key) in keys.iter().enumerate() {
                assert_eq!(self.at(position), key);
                assert_eq!(self.heads[position], head(key, self.skip as usize));
                assert_eq!(key[..self.skip as usize], keys[0][..self.skip as usize]);
            }
        }
    }

    fn key(rng: &mut SmallRng) -> Vec<u8> {
        let prefix: &[u8] = [&b""[..], b"a", b"ab", b"abab\0", b"b\xff"][rng.random_range(0..5)];
        let mut key = prefix.to_vec();
        for _ in 0..rng.random_range(0..7) {
            key.push(b"\0ab\xff"[rng.random_range(0..4)]);
        }
        key
    }

    #[test]
    fn block_agrees_with_a_sorted_list() {
        for seed in 0..200 {
            println!("seed {seed}");
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut block = KeyBlock::default();
            let mut keys: Vec<Vec<u8>> = Vec::new();
            for _ in 0..200 {
                let key = key(&mut rng);
                assert_eq!(block.search(&key), keys.binary_search(&key));
                match (keys.binary_search(&key), rng.random_range(0..3)) {
                    (Err(position), 0..=1) => {
                        block.insert(position, &key);
                        keys.insert(position, key);
                    }
                    (Ok(position), _) => {
                        block.remove(position);
                        keys.remove(position);
                    }
                    (Err(position), _) => {
                        let right = block.split_off(position);
                        let right_keys = keys.split_off(position);
                        block.check(&keys);
                        right.check(&right_keys);
                        block.append(&right);
                        keys.extend(right_keys);
                    }
                }
                block.check(&keys);
            }
        }
    }
}
