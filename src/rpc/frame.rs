//! gRPC messages inside HTTP/2 DATA.
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 1 | 0 plain, 1 compressed |
//! | 1 | 4 | length of the message, big endian |
//! | 5 | length | the message |
//!
//! Outgoing, [`Payload`] puts the prefix in front of a message without copying it. Incoming, an [`Assembler`] cuts
//! messages out of DATA pieces: a message that lies in one piece is a slice of it, others are joined.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    encoding::Encoding,
    status::{Code, Status},
};

/// Size of the prefix in front of every message.
pub(super) const PREFIX_BYTES: usize = 5;

/// The first byte of the prefix.
pub(super) const PLAIN: u8 = 0;
pub(super) const COMPRESSED: u8 = 1;

/// The most memory that is reserved for a message before any of it has arrived. The rest is reserved once this much is here.
const TRUST_BYTES: usize = 64 * 1024;

/// A piece of outgoing DATA: an optional prefix, then bytes.
#[derive(Debug)]
pub struct Payload {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that are sent already.
    prefix_sent: usize,
    body: Bytes,
}

impl Payload {
    /// One whole message. It must be shorter than 4 GiB.
    pub(super) fn message(body: Bytes) -> Payload {
        Payload { prefix: prefix(PLAIN, body.len() as u64), prefix_sent: 0, body }
    }

    /// One whole message that was compressed.
    pub(super) fn packed(body: Bytes) -> Payload {
        Payload { prefix: prefix(COMPRESSED, body.len() as u64), prefix_sent: 0, body }
    }

    /// Bytes as they are: a later piece of a message.
    pub(super) fn raw(body: Bytes) -> Payload {
        Payload { prefix: [0; PREFIX_BYTES], prefix_sent: PREFIX_BYTES, body }
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        PREFIX_BYTES - self.prefix_sent + self.body.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.prefix_sent < PREFIX_BYTES { &self.prefix[self.prefix_sent..] } else { &self.body }
    }

    fn advance(&mut self, count: usize) {
        let of_prefix = count.min(PREFIX_BYTES - self.prefix_sent);
        self.prefix_sent += of_prefix;
        self.body.advance(count - of_prefix);
    }
}

/// The prefix of a message.
pub(super) fn prefix(flag: u8, length: u64) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(length).expect("messages are limited to less than 4 GiB before");
    let [a, b, c, d] = length.to_be_bytes();
    [flag, a, b, c, d]
}

/// Cuts messages out of the DATA of one stream.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Unread bytes while no message is torn across pieces.
    whole: Bytes,
    /// Unread bytes from the first torn message on; then `whole` is empty.
    torn: BytesMut,
    encoding: Encoding,
    decompressed: usize,
}

impl Assembler {
    pub(super) fn new(encoding: Encoding) -> Assembler {
        Assembler { encoding, ..Assembler::default() }
    }

    /// Adds the next DATA.
    pub(super) fn push(&mut self, data: Bytes) {
        if self.torn.is_empty() && self.whole.is_empty() {
            self.whole = data;
            return;
        }
        if !self.whole.is_empty() {
            self.torn.extend_from_slice(&self.whole);
            self.whole = Bytes::new();
        }
        self.torn.extend_from_slice(&data);
    }

    /// Bytes held that no complete message covers yet.
    pub(super) fn held(&self) -> usize {
        self.whole.len() + self.torn.len()
    }

    /// Whether the stream ends inside a message here. As in grpc-go, an end inside a prefix does not count.
    pub(super) fn is_torn(&self) -> bool {
        self.held() >= PREFIX_BYTES
    }

    /// Bytes of all messages so far that came compressed, after unpacking.
    pub(super) fn decompressed(&self) -> usize {
        self.decompressed
    }

    /// The next message, if it is complete. Errors are grpc-go's.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<Bytes>, Status> {
        let unread: &[u8] = if self.torn.is_empty() { &self.whole } else { &self.torn };
        let Some((&[flag, a, b, c, d], rest)) = unread.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > limit {
            let text = format!("grpc: received message larger than max ({length} vs. {limit})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if rest.len() < length {
            self.expect_more(length);
            return Ok(None);
        }
        let message = self.take(length);
        let decoded = self.encoding.decode(flag, message, limit);
        if flag != 0 {
            self.decompressed += decoded.as_ref().map_or(limit, Bytes::len);
        }
        decoded.map(Some)
    }

    /// Moves a torn message to memory of its own, with room for the rest.
    fn expect_more(&mut self, length: usize) {
        if self.torn.is_empty() {
            self.torn.reserve(PREFIX_BYTES + length.min(TRUST_BYTES));
            self.torn.extend_from_slice(&self.whole);
            self.whole = Bytes::new();
        } else if self.torn.len() >= TRUST_BYTES {
            // The client has sent enough to be trusted: growing step by step would copy a long message once more.
            self.torn.reserve((PREFIX_BYTES + length).saturating_sub(self.torn.len()));
        }
    }

    fn take(&mut self, length: usize) -> Bytes {
        if self.torn.is_empty() {
            self.whole.advance(PREFIX_BYTES);
            self.whole.split_to(length)
        } else {
            self.torn.advance(PREFIX_BYTES);
            self.torn.split_to(length).freeze()
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = Vec::new();
        for message in messages {
            wire.put(Payload::message(Bytes::from(message.clone())));
        }
        wire
    }

    #[test]
    fn any_cut_gives_the_same_messages() {
        for seed in 0..300 {
            println!("seed {seed}");
            let mut random = SmallRng::seed_from_u64(seed);
            let messages: Vec<Vec<u8>> = (0..random.random_range(1..8))
                .map(|_| (0..random.random_range(0..200)).map(|_| random.random()).collect())
                .collect();
            let wire = framed(&messages);
            let mut assembler = Assembler::default();
            let mut got = Vec::new();
            let mut at = 0;
            while at < wire.len() {
                let end = (at + random.random_range(1..150)).min(wire.len());
                assembler.push(Bytes::copy_from_slice(&wire[at..end]));
                at = end;
                while let Some(message) = assembler.next(1000).unwrap() {
                    got.push(message.to_vec());
                }
            }
            assert_eq!(got, messages);
            assert_eq!(assembler.held(), 0);
        }
    }

    #[test]
    fn a_long_message_grows_once() {
        let wire = framed(&[vec![7; 20 * TRUST_BYTES]]);
        let mut assembler = Assembler::default();
        let mut capacities = Vec::new();
        for piece in wire.chunks(16 * 1024) {
            assembler.push(Bytes::copy_from_slice(piece));
            if let Some(message) = assembler.next(wire.len()).unwrap() {
                assert_eq!(message.len(), 20 * TRUST_BYTES);
                break;
            }
            capacities.push(assembler.torn.capacity());
        }
        capacities.dedup();
        assert!(capacities.len() <= 3, "{capacities:?}");
    }

    #[test]
    fn a_payload_is_read_in_any_steps() {
        let mut payload = Payload::message(Bytes::from_static(b"abc"));
        assert_eq!(payload.remaining(), 8);
        payload.advance(3);
        assert_eq!(payload.chunk(), [0, 3]);
        payload.advance(3);
        assert_eq!(payload.chunk(), b"bc");
    }

    #[test]
    fn refusals_are_those_of_grpc_go() {
        let refused = |bytes: &'static [u8]| {
            let mut assembler = Assembler::default();
            assembler.push(Bytes::from_static(bytes));
            assembler.next(4).unwrap_err()
        };
        let status = refused(&[0, 0, 0, 0, 5]);
        assert_eq!(
            (status.code, &*status.message),
            (Code::ResourceExhausted, "grpc: received message larger than max (5 vs. 4)")
        );
        assert_eq!(refused(&[1, 0, 0, 0, 0]).message, "grpc: compressed flag set with identity or empty encoding");
        assert_eq!(refused(&[7, 0, 0, 0, 0]).message, "grpc: received unexpected payload format 7");
    }

    #[test]
    fn compressed_and_plain_messages_may_follow_each_other() {
        // "abc" packed by gzip(1).
        const PACKED: [u8; 23] =
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 0x4c, 0x4a, 6, 0, 0xc2, 0x41, 0x24, 0x35, 3, 0, 0, 0];
        let mut assembler = Assembler::new(Encoding::Gzip);
        assembler.push(Bytes::from([&[1, 0, 0, 0, 23], &PACKED[..], &[0, 0, 0, 0, 1, b'd']].concat()));
        assert_eq!(assembler.next(23).unwrap().unwrap(), "abc");
        assert_eq!(assembler.decompressed(), 3);
        assert_eq!(assembler.next(23).unwrap().unwrap(), "d");
        assert_eq!(assembler.decompressed(), 3);
    }

    #[test]
    fn a_stream_may_end_inside_a_prefix_but_not_inside_a_message() {
        let mut assembler = Assembler::default();
        for (byte, torn) in [(0, false), (0, false), (0, false), (0, false), (2, true), (b'a', true)] {
            assembler.push(Bytes::from(vec![byte]));
            assert!(assembler.next(10).unwrap().is_none());
            assert_eq!(assembler.is_torn(), torn);
        }
        assembler.push(Bytes::from_static(b"b"));
        assert_eq!(assembler.next(10).unwrap().unwrap(), "ab");
        assert!(!assembler.is_torn());
    }
}
