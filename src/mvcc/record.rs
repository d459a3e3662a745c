//! The stored record: canonical protobuf bytes of `mvccpb.KeyValue` (fields ascending, zeros left out).
//!
//! | field | tag | a put | a tombstone |
//! |---|---|---|---|
//! | key | 0x0a | yes | yes |
//! | create_revision | 0x10 | yes | |
//! | mod_revision | 0x18 | yes | |
//! | version | 0x20 | yes | |
//! | value | 0x2a | yes | |
//! | lease | 0x30 | yes | |
//!
//! Hashes cover these bytes on every member, and a range answers with them unchanged, so writing is exact and
//! reading decodes a record without copying it.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};

use crate::proto::mvccpb::KeyValue;

const KEY: u8 = 0x0a;
const CREATE_REVISION: u8 = 0x10;
const MOD_REVISION: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

/// One record, its bytes borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordFields<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

/// Bytes that are no `mvccpb.KeyValue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record is not a key-value message: {0}")]
pub struct BadRecord(&'static str);

impl<'a> RecordFields<'a> {
    /// Decodes a record; unknown fields are skipped.
    pub fn parse(record: &'a [u8]) -> Result<Self, BadRecord> {
        let mut fields = Self::default();
        let mut rest = record;
        while !rest.is_empty() {
            let (number, wire) = decode_key(&mut rest).map_err(|_| BadRecord("tag"))?;
            match (number, wire) {
                (1, WireType::LengthDelimited) => fields.key = take_bytes(&mut rest)?,
                (5, WireType::LengthDelimited) => fields.value = take_bytes(&mut rest)?,
                (2, WireType::Varint) => fields.create_revision = take_number(&mut rest)?,
                (3, WireType::Varint) => fields.mod_revision = take_number(&mut rest)?,
                (4, WireType::Varint) => fields.version = take_number(&mut rest)?,
                (6, WireType::Varint) => fields.lease = take_number(&mut rest)?,
                (1..=6, _) => return Err(BadRecord("wire type of a known field")),
                (_, WireType::Varint) => drop(take_number(&mut rest)?),
                (_, WireType::LengthDelimited) => drop(take_bytes(&mut rest)?),
                (_, WireType::ThirtyTwoBit) => skip(&mut rest, 4)?,
                (_, WireType::SixtyFourBit) => skip(&mut rest, 8)?,
                (_, WireType::StartGroup | WireType::EndGroup) => return Err(BadRecord("group")),
            }
        }
        Ok(fields)
    }

    /// Exact size of [`Self::append`].
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        bytes_len(self.key)
            + number_len(self.create_revision)
            + number_len(self.mod_revision)
            + number_len(self.version)
            + bytes_len(self.value)
            + number_len(self.lease)
    }

    /// Appends the canonical bytes.
    pub fn append(&self, out: &mut BytesMut) {
        put_bytes(out, KEY, self.key);
        put_number(out, CREATE_REVISION, self.create_revision);
        put_number(out, MOD_REVISION, self.mod_revision);
        put_number(out, VERSION, self.version);
        put_bytes(out, VALUE, self.value);
        put_number(out, LEASE, self.lease);
    }

    /// The canonical bytes in one allocation.
    #[must_use]
    pub fn to_record(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.append(&mut out);
        out.freeze()
    }

    /// The decoded message.
    #[must_use]
    pub fn to_key_value(&self) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            value: Bytes::copy_from_slice(self.value),
            lease: self.lease,
        }
    }
}

/// The key as a slice of a record written by [`RecordFields::to_record`].
#[must_use]
pub fn key_of(record: &Bytes, key_len: usize) -> Bytes {
    if key_len == 0 {
        return Bytes::new();
    }
    let start = 1 + encoded_len_varint(key_len as u64);
    record.slice(start..start + key_len)
}

fn bytes_len(bytes: &[u8]) -> usize {
    match bytes.len() {
        0 => 0,
        len => 1 + encoded_len_varint(len as u64) + len,
    }
}

fn number_len(number: i64) -> usize {
    match number {
        0 => 0,
        number => 1 + encoded_len_varint(number as u64),
    }
}

fn put_bytes(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(tag);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}

fn put_number(out: &mut BytesMut, tag: u8, number: i64) {
    if number != 0 {
        out.put_u8(tag);
        encode_varint(number as u64, out);
    }
}

fn take_number(rest: &mut &[u8]) -> Result<i64, BadRecord> {
    let number = decode_varint(rest).map_err(|_| BadRecord("number"))?;
    Ok(number as i64)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadRecord> {
    let len = decode_varint(rest).map_err(|_| BadRecord("length"))?;
    let len = usize::try_from(len).map_err(|_| BadRecord("length"))?;
    let (bytes, after) = rest.split_at_checked(len).ok_or(BadRecord("cut short"))?;
    *rest = after;
    Ok(bytes)
}

fn skip(rest: &mut &[u8], len: usize) -> Result<(), BadRecord> {
    *rest = rest.get(len..).ok_or(BadRecord("cut short"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn samples() -> Vec<RecordFields<'static>> {
        let full = RecordFields {
            key: b"k",
            create_revision: 2,
            mod_revision: 300,
            version: 70_000,
            value: &[7; 200],
            lease: -5,
        };
        vec![
            full,
            RecordFields { value: b"", lease: 0, ..full },
            RecordFields { key: b"gone", ..RecordFields::default() },
            RecordFields::default(),
        ]
    }

    #[test]
    fn bytes_are_those_of_the_generated_message() {
        for fields in samples() {
            let record = fields.to_record();
            assert_eq!(record.len(), fields.encoded_len());
            assert_eq!(record, fields.to_key_value().encode_to_vec());
            assert_eq!(RecordFields::parse(&record), Ok(fields));
            assert_eq!(key_of(&record, fields.key.len()), fields.key);
        }
    }

    #[test]
    fn no_prefix_or_flip_panics() {
        for fields in samples() {
            let record = fields.to_record();
            for len in 0..record.len() {
                let _ = RecordFields::parse(&record[..len]);
                for bit in 0..8 {
                    let mut flipped = record.to_vec();
                    flipped[len] ^= 1 << bit;
                    let _ = RecordFields::parse(&flipped);
                }
            }
        }
    }
}
