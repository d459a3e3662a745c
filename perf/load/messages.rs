//! gRPC messages from pieces of a body, and the few fields that are read.

/// Of a ResponseHeader.
const REVISION: u64 = 3;
/// Of a KeyValue.
const MOD_REVISION: u64 = 3;

/// Joins the pieces of one stream's messages.
#[derive(Default)]
pub struct Assembly {
    partial: Vec<u8>,
}

impl Assembly {
    /// Calls `each` with every message that is complete now.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        if self.partial.is_empty() {
            let done = complete(bytes, each);
            self.partial.extend_from_slice(&bytes[done..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let done = complete(&self.partial, each);
            self.partial.drain(..done);
        }
    }
}

fn complete(bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> usize {
    let mut at = 0;
    while let Some(prefix) = bytes[at..].first_chunk::<5>() {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let Some(message) = bytes.get(at + 5..at + 5 + length) else { break };
        each(message);
        at += 5 + length;
    }
    at
}

/// The figures of a watch response, read without decoding its events.
#[derive(Default)]
pub struct WatchNews {
    pub created: bool,
    pub canceled: bool,
    pub events: u64,
    /// Of the last event.
    pub mod_revision: i64,
}

impl WatchNews {
    pub fn of(message: &[u8]) -> WatchNews {
        let mut news = WatchNews::default();
        let mut last_event: &[u8] = &[];
        for field in Fields(message) {
            match field {
                Field { number: 3, value, .. } => news.created = value != 0,
                Field { number: 4, value, .. } => news.canceled = value != 0,
                Field { number: 11, bytes, .. } => {
                    news.events += 1;
                    last_event = bytes;
                }
                _ => {}
            }
        }
        if let Some(kv) = Fields(last_event).find(|field| field.number == 2) {
            news.mod_revision = number_in(kv.bytes, MOD_REVISION);
        }
        news
    }
}

/// The revision in the header that every response begins with.
pub fn header_revision(message: &[u8]) -> i64 {
    Fields(message).find(|field| field.number == 1).map_or(0, |header| number_in(header.bytes, REVISION))
}

/// The number of occurrences of a field.
pub fn count_in(message: &[u8], number: u64) -> usize {
    Fields(message).filter(|field| field.number == number).count()
}

/// The value of a number field; 0 if it is absent, as in protobuf.
pub fn number_in(message: &[u8], number: u64) -> i64 {
    Fields(message).find(|field| field.number == number).map_or(0, |field| field.value as i64)
}

/// The fields of a protobuf message in their order, up to a malformed one.
struct Fields<'a>(&'a [u8]);

/// `value` of a number, `bytes` of what has a length.
struct Field<'a> {
    number: u64,
    value: u64,
    bytes: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let number = tag >> 3;
        match tag & 7 {
            0 => Some(Field { number, value: self.varint()?, bytes: &[] }),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Some(Field { number, value: 0, bytes })
            }
            _ => None,
        }
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }
}
