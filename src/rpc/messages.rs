//! Several messages for one stream, sent together.
//!
//! Small messages are copied one after the other, so that a stream with many of them fills its frames; large bodies are not copied, so
//! that many streams can share their bytes.

use bytes::{Bytes, BytesMut};

use super::{
    call::Traffic,
    frame::{PLAIN, prefix},
    status::{Code, Status},
};
use crate::base::limits::{SEND_BYTES_MAX, SHARED_BODY_BYTES_MIN};

/// Messages in the order in which they are sent.
#[derive(Debug, Default)]
pub struct Messages {
    pieces: Vec<Bytes>,
    /// Bytes after the pieces.
    small: BytesMut,
    pub(super) traffic: Traffic,
    largest: usize,
}

impl Messages {
    /// Adds one message: its head, then its body.
    pub fn push(&mut self, head: &[u8], body: Bytes) {
        let length = head.len() + body.len();
        self.traffic.add(length);
        self.largest = self.largest.max(length);
        if length as u64 > SEND_BYTES_MAX {
            // Refused as a whole when it is sent.
            return;
        }
        self.small.extend_from_slice(&prefix(PLAIN, length as u64));
        self.small.extend_from_slice(head);
        if body.len() < SHARED_BODY_BYTES_MIN {
            self.small.extend_from_slice(&body);
        } else {
            self.pieces.push(self.small.split().freeze());
            self.pieces.push(body);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traffic.messages == 0
    }

    /// The framed bytes.
    pub(super) fn into_pieces(mut self) -> Result<Vec<Bytes>, Status> {
        if self.largest as u64 > SEND_BYTES_MAX {
            let text = format!("trying to send message larger than max ({} vs. {SEND_BYTES_MAX})", self.largest);
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if !self.small.is_empty() {
            self.pieces.push(self.small.freeze());
        }
        Ok(self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::frame::Assembler;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut messages = Messages::default();
        assert!(messages.is_empty());
        let lengths = [0, 3, SHARED_BODY_BYTES_MIN, 5, SHARED_BODY_BYTES_MIN + 1, SHARED_BODY_BYTES_MIN - 1];
        for length in lengths {
            messages.push(b"head", vec![7; length].into());
        }
        assert_eq!(messages.traffic.messages, 6);
        let mut assembler = Assembler::default();
        messages.into_pieces().unwrap().into_iter().for_each(|piece| assembler.push(piece));
        for length in lengths {
            let message = assembler.next(1 << 20).unwrap().unwrap();
            assert_eq!(message, [b"head", &vec![7; length][..]].concat());
        }
        assert!(assembler.next(1 << 20).unwrap().is_none());
    }
}
