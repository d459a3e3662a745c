//! From the bytes of a message to JSON, piece by piece.
//!
//! The bytes come in pieces of any size. What of a field is complete is written; only a key, a number, a text or a byte string that is
//! torn waits for the next piece. A message inside a message is written as it comes. The output is proto3's JSON with the names of the
//! proto files; fields without a value are left out.
//!
//! It relies on what the members of this house write: fields in ascending order of their numbers, so that the values of a list
//! follow each other, and each single field once.

use std::rc::Rc;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::encoding::decode_varint;

use super::{
    inner_json::push_quoted,
    shapes::{Field, Kind, MessageId, Shapes},
};

/// One message under way.
pub(super) struct Transcoder {
    shapes: Rc<Shapes>,
    /// The messages that are open, the outermost first.
    open: Vec<Frame>,
    /// A field that is not complete.
    torn: Vec<u8>,
}

struct Frame {
    message: MessageId,
    /// Bytes of the message that have not come.
    missing: u64,
    has_members: bool,
    /// The number of the list whose values are being written.
    list: Option<u32>,
}

/// The bytes are not of the message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value of one field.
enum Value<'a> {
    Number(u64),
    /// The bytes, as many as have come.
    Sized {
        length: u64,
        bytes: &'a [u8],
    },
    /// Of a kind that the interface has not.
    Unknown,
}

impl Transcoder {
    /// Writes a message of `length` bytes; `out` receives its beginning.
    pub(super) fn begin(shapes: &Rc<Shapes>, message: MessageId, length: u64, out: &mut Vec<u8>) -> Transcoder {
        let mut transcoder = Transcoder { shapes: Rc::clone(shapes), open: Vec::new(), torn: Vec::new() };
        transcoder.enter(message, length, out);
        transcoder
    }

    /// Writes what `bytes` complete.
    ///
    /// # Errors
    /// They are malformed.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.torn.is_empty() {
            let taken = self.fields(bytes, out)?;
            self.torn.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut torn = std::mem::take(&mut self.torn);
        torn.extend_from_slice(bytes);
        let taken = self.fields(&torn, out)?;
        torn.drain(..taken);
        self.torn = torn;
        Ok(())
    }

    /// Whether the message is complete.
    pub(super) fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    fn enter(&mut self, message: MessageId, length: u64, out: &mut Vec<u8>) {
        out.push(b'{');
        self.open.push(Frame { message, missing: length, has_members: false, list: None });
        self.leave_complete(out);
    }

    /// Ends the messages that are complete.
    fn leave_complete(&mut self, out: &mut Vec<u8>) {
        while let Some(frame) = self.open.pop_if(|frame| frame.missing == 0) {
            if frame.list.is_some() {
                out.push(b']');
            }
            out.push(b'}');
        }
    }

    /// Writes complete fields; returns how many bytes they are.
    fn fields(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut taken = 0;
        while let Some(frame) = self.open.last() {
            let message = frame.message;
            let rest = &bytes[taken..];
            let Some((number, value, head)) = next(rest)? else { return Ok(taken) };
            let position = self.shapes.position(message, number);
            let shapes = Rc::clone(&self.shapes);
            let field = position.map(|position| &shapes.fields(message)[position]);
            let size = match value {
                Value::Number(_) | Value::Unknown => head as u64,
                Value::Sized { length, .. } => head as u64 + length,
            };
            let inner = match field.map(|field| field.kind) {
                Some(Kind::Message(inner)) if matches!(value, Value::Sized { .. }) => Some(inner),
                _ => None,
            };
            let whole = usize::try_from(size).map_err(|_| Malformed)?;
            if inner.is_none() && rest.len() < whole {
                return Ok(taken);
            }
            let frame = self.open.last_mut().ok_or(Malformed)?;
            frame.missing = frame.missing.checked_sub(size).ok_or(Malformed)?;
            match (field, inner, value) {
                (Some(field), Some(inner), Value::Sized { length, .. }) => {
                    frame.name(field, out);
                    taken += head;
                    self.enter(inner, length, out);
                    continue;
                }
                (Some(field), _, Value::Number(number)) => frame.number(&shapes, field, number, out),
                (Some(field), _, Value::Sized { length, bytes }) => {
                    frame.sized(field, &bytes[..usize::try_from(length).map_err(|_| Malformed)?], out);
                }
                (_, _, _) => {}
            }
            taken += whole;
            self.leave_complete(out);
        }
        if taken < bytes.len() { Err(Malformed) } else { Ok(taken) }
    }
}

impl Frame {
    /// What comes before a value.
    fn name(&mut self, field: &Field, out: &mut Vec<u8>) {
        if self.list == Some(field.number) {
            out.push(b',');
            return;
        }
        if self.list.take().is_some() {
            out.push(b']');
        }
        if std::mem::replace(&mut self.has_members, true) {
            out.push(b',');
        }
        push_quoted(out, &field.name);
        out.push(b':');
        if field.is_list {
            out.push(b'[');
            self.list = Some(field.number);
        }
    }

    fn number(&mut self, shapes: &Shapes, field: &Field, number: u64, out: &mut Vec<u8>) {
        if number == 0 && !field.is_list && field.oneof.is_none() {
            return;
        }
        self.name(field, out);
        let mut digits = itoa::Buffer::new();
        let mut text = |digits: &str| {
            out.push(b'"');
            out.extend_from_slice(digits.as_bytes());
            out.push(b'"');
        };
        match field.kind {
            Kind::Int64 => text(digits.format(number.cast_signed())),
            Kind::Uint64 => text(digits.format(number)),
            Kind::Bool => out.extend_from_slice(if number == 0 { b"false" } else { b"true" }),
            Kind::Enum(values) => {
                let number = number.cast_signed() as i32;
                match shapes.value_name(values, number) {
                    Some(name) => text(name),
                    None => out.extend_from_slice(digits.format(number).as_bytes()),
                }
            }
            Kind::Int32 => out.extend_from_slice(digits.format(number.cast_signed() as i32).as_bytes()),
            Kind::Uint32 => out.extend_from_slice(digits.format(number as u32).as_bytes()),
            Kind::Text | Kind::Bytes | Kind::Message(_) => out.extend_from_slice(b"null"),
        }
    }

    fn sized(&mut self, field: &Field, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes.is_empty() && !field.is_list && field.oneof.is_none() {
            return;
        }
        self.name(field, out);
        match field.kind {
            Kind::Text => push_quoted(out, &String::from_utf8_lossy(bytes)),
            Kind::Bytes => {
                out.push(b'"');
                let begin = out.len();
                out.resize(begin + bytes.len().div_ceil(3) * 4, 0);
                STANDARD.encode_slice(bytes, &mut out[begin..]).expect("there is room for it");
                out.push(b'"');
            }
            // Numbers that are packed are in requests alone.
            _ => out.extend_from_slice(b"null"),
        }
    }
}

/// The number and the value of the first field, and the size of what comes before the value's bytes. `None` if too little has come.
fn next(bytes: &[u8]) -> Result<Option<(u32, Value<'_>, usize)>, Malformed> {
    let Some((key, key_size)) = varint(bytes)? else { return Ok(None) };
    let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
    let rest = &bytes[key_size..];
    let sized = |length| (number, Value::Unknown, key_size + length);
    Ok(match key & 7 {
        0 => varint(rest)?.map(|(value, size)| (number, Value::Number(value), key_size + size)),
        1 => Some(sized(8)),
        5 => Some(sized(4)),
        2 => {
            varint(rest)?.map(|(length, size)| (number, Value::Sized { length, bytes: &rest[size..] }, key_size + size))
        }
        _ => return Err(Malformed),
    })
}

/// A varint and its size.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    const BYTES_MAX: usize = 10;
    let Some(last) = bytes.iter().take(BYTES_MAX).position(|byte| byte & 0x80 == 0) else {
        return if bytes.len() < BYTES_MAX { Ok(None) } else { Err(Malformed) };
    };
    let value = decode_varint(&mut &bytes[..=last]).map_err(|_| Malformed)?;
    Ok(Some((value, last + 1)))
}
