//! From one JSON document to the bytes of a message, by the rules and in the words of Go's `protojson`.
//!
//! | JSON | becomes |
//! |---|---|
//! | a member of either name, `request_put` or `requestPut` | the field; unknown names are skipped |
//! | `null` | nothing |
//! | number, or a string with one | an integer, if it is whole: `1e3` and `"1.0"` are |
//! | string | text; bytes in Base64, of either alphabet, padded or not; the name of a value of an enum, skipped if unknown |
//!
//! Refused: a field twice, two fields of one oneof, values of another kind or size. [`super::document`] has checked the syntax.

use std::ops::Range;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::encoding::{WireType, encode_key, encode_varint};
use smallvec::SmallVec;

use super::shapes::{Field, Kind, MessageId, Shapes};
use crate::base::limits::GATEWAY_MESSAGE_DEPTH_MAX;

/// A refusal in protojson's words.
pub(super) type Refused = String;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    shapes: &'a Shapes,
    depth: usize,
}

/// The message in `document`, which is one JSON value.
///
/// # Errors
/// It is not of this shape.
pub(super) fn read(document: &[u8], message: MessageId, shapes: &Shapes) -> Result<Vec<u8>, Refused> {
    // Go stops at the string in which the fault is; the text around it is the same.
    let text = std::str::from_utf8(document).map_err(|error| {
        let before = String::from_utf8_lossy(&document[..error.valid_up_to()]);
        let (line, column) = position(&before);
        format!("proto: syntax error (line {line}:{column}): invalid UTF-8 in string")
    })?;
    let mut out = Vec::with_capacity(document.len());
    Reader { text, at: 0, shapes, depth: 0 }.message(message, &mut out)?;
    Ok(out)
}

/// Line and column of what follows `before`.
fn position(before: &str) -> (usize, usize) {
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}

impl Reader<'_> {
    fn message(&mut self, message: MessageId, out: &mut Vec<u8>) -> Result<(), Refused> {
        self.depth += 1;
        if self.depth > GATEWAY_MESSAGE_DEPTH_MAX {
            return Err("proto: exceeded max recursion depth".to_owned());
        }
        if self.peek() != b'{' {
            return Err(self.unexpected());
        }
        self.at += 1;
        let mut seen = SmallVec::<[u32; 16]>::new();
        let mut oneofs = SmallVec::<[&str; 2]>::new();
        loop {
            match self.peek() {
                b'}' => break,
                b',' => {
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            let name = self.token();
            let key = self.string(&name)?;
            self.at = name.end;
            self.peek();
            // The colon.
            self.at += 1;
            let Some(field) = self.shapes.named(message, &key) else {
                self.skip();
                continue;
            };
            let raw = &self.text[name.clone()];
            if seen.contains(&field.number) {
                return Err(self.refused(name.start, &format!("duplicate field {raw}")));
            }
            seen.push(field.number);
            if self.peek() == b'n' {
                self.skip();
                continue;
            }
            if field.is_list {
                self.list(field, out)?;
                continue;
            }
            if let Some(group) = &field.oneof {
                if oneofs.contains(&&**group) {
                    let text = format!("error parsing {raw}, oneof {group} is already set");
                    return Err(self.refused(name.start, &text));
                }
                oneofs.push(group);
            }
            self.value(field, field.oneof.is_some(), out)?;
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    fn list(&mut self, field: &Field, out: &mut Vec<u8>) -> Result<(), Refused> {
        if self.peek() != b'[' {
            return Err(self.unexpected());
        }
        self.at += 1;
        loop {
            match self.peek() {
                b']' => break,
                b',' => self.at += 1,
                _ => self.value(field, true, out)?,
            }
        }
        self.at += 1;
        Ok(())
    }

    /// One value with its key. What is `explicit` is there even if it is empty.
    fn value(&mut self, field: &Field, explicit: bool, out: &mut Vec<u8>) -> Result<(), Refused> {
        if let Kind::Message(message) = field.kind {
            self.peek();
            let mut inner = Vec::new();
            self.message(message, &mut inner)?;
            push_bytes(out, field.number, &inner);
            return Ok(());
        }
        self.peek();
        let token = self.token();
        let refused = |reader: &Self| {
            let raw = &reader.text[token.clone()];
            let text = format!("invalid value for {} field {}: {raw}", field.kind.name(), field.json_name);
            reader.refused(token.start, &text)
        };
        let raw = &self.text[token.clone()];
        let string = if raw.starts_with('"') { Some(self.string(&token)?) } else { None };
        let number = match field.kind {
            Kind::Text => match string {
                Some(text) => {
                    self.at = token.end;
                    if explicit || !text.is_empty() {
                        push_bytes(out, field.number, text.as_bytes());
                    }
                    return Ok(());
                }
                None => return Err(refused(self)),
            },
            Kind::Bytes => match string.and_then(|text| decoded(&text)) {
                Some(bytes) => {
                    self.at = token.end;
                    if explicit || !bytes.is_empty() {
                        push_bytes(out, field.number, &bytes);
                    }
                    return Ok(());
                }
                None => return Err(refused(self)),
            },
            Kind::Bool => match raw {
                "true" => Some(1),
                "false" => Some(0),
                _ => None,
            },
            Kind::Enum(values) => match string {
                Some(name) => match self.shapes.value_number(values, &name) {
                    Some(number) => Some(i64::from(number).cast_unsigned()),
                    None => {
                        self.at = token.end;
                        return Ok(());
                    }
                },
                None => signed(raw, i64::from(i32::MIN), i64::from(i32::MAX)),
            },
            kind => whole(kind, string.as_deref().unwrap_or(raw)),
        };
        let number = number.ok_or_else(|| refused(self))?;
        self.at = token.end;
        if explicit || number != 0 {
            encode_key(field.number, WireType::Varint, out);
            encode_varint(number, out);
        }
        Ok(())
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while b" \t\r\n".contains(&bytes[self.at]) {
            self.at += 1;
        }
        bytes[self.at]
    }

    /// Where the token is that begins here.
    fn token(&self) -> Range<usize> {
        let bytes = &self.text.as_bytes()[self.at..];
        let length = match bytes[0] {
            b'"' => {
                let mut end = 1;
                while bytes[end] != b'"' {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                end + 1
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => bytes.iter().position(|byte| b" \t\r\n,]}".contains(byte)).unwrap_or(bytes.len()),
        };
        self.at..self.at + length
    }

    /// Skips a value of any depth.
    fn skip(&mut self) {
        let mut open = 0_usize;
        loop {
            let byte = self.peek();
            self.at = self.token().end;
            match byte {
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                b',' | b':' => continue,
                _ => {}
            }
            if open == 0 {
                return;
            }
        }
    }

    /// The text of a string.
    fn string(&self, token: &Range<usize>) -> Result<String, Refused> {
        let raw = &self.text[token.clone()];
        let inner = &raw[1..raw.len() - 1];
        if !inner.contains('\\') {
            return Ok(inner.to_owned());
        }
        // What is left to refuse is half of a surrogate pair.
        serde_json::from_str(raw).map_err(|_| {
            let (line, column) = position(&self.text[..token.start]);
            format!("proto: syntax error (line {line}:{column}): invalid escape code in string")
        })
    }

    fn unexpected(&self) -> Refused {
        let (line, column) = position(&self.text[..self.at]);
        format!("proto: syntax error (line {line}:{column}): unexpected token {}", &self.text[self.token()])
    }

    fn refused(&self, at: usize, text: &str) -> Refused {
        let (line, column) = position(&self.text[..at]);
        format!("proto: (line {line}:{column}): {text}")
    }
}

fn push_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// An integer of a kind, as its varint.
fn whole(kind: Kind, text: &str) -> Option<u64> {
    match kind {
        Kind::Int32 => signed(text, i64::from(i32::MIN), i64::from(i32::MAX)),
        Kind::Int64 => signed(text, i64::MIN, i64::MAX),
        Kind::Uint32 => digits(text)?.parse::<u32>().ok().map(u64::from),
        Kind::Uint64 => digits(text)?.parse().ok(),
        Kind::Bool | Kind::Text | Kind::Bytes | Kind::Enum(_) | Kind::Message(_) => None,
    }
}

fn signed(text: &str, min: i64, max: i64) -> Option<u64> {
    let number: i64 = digits(text)?.parse().ok()?;
    (min..=max).contains(&number).then_some(number.cast_unsigned())
}

/// The digits of a JSON number if it is whole, however it is written.
fn digits(text: &str) -> Option<String> {
    /// Of the largest integer; more are not written out.
    const DIGITS_MAX: i64 = 20;
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_dotted = mantissa.contains('.');
    if whole.is_empty() || (is_dotted && fraction.is_empty()) || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.is_empty() && fraction.is_empty() {
        return Some("0".to_owned());
    }
    let shift = i64::from(exponent) - fraction.len() as i64;
    let all = format!("{whole}{fraction}");
    if shift >= 0 {
        if whole.len() as i64 + i64::from(exponent) > DIGITS_MAX {
            return None;
        }
        return Some(format!("{sign}{all}{}", "0".repeat(shift as usize)));
    }
    let kept = usize::try_from(all.len() as i64 + shift).ok()?;
    let (kept, dropped) = all.split_at(kept);
    if fraction.is_empty() && dropped.bytes().all(|byte| byte == b'0') {
        return Some(format!("{sign}{}", if kept.is_empty() { "0" } else { kept }));
    }
    None
}

/// Base64 as Go takes it: the alphabet by the characters, padding by the length, line ends anywhere.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const PADDED: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    const BARE: GeneralPurposeConfig = PADDED.with_decode_padding_mode(DecodePaddingMode::RequireNone);
    const ENGINES: [GeneralPurpose; 4] = [
        GeneralPurpose::new(&alphabet::STANDARD, PADDED),
        GeneralPurpose::new(&alphabet::STANDARD, BARE),
        GeneralPurpose::new(&alphabet::URL_SAFE, PADDED),
        GeneralPurpose::new(&alphabet::URL_SAFE, BARE),
    ];
    let is_for_urls = text.contains(['-', '_']);
    let is_bare = !text.len().is_multiple_of(4);
    let engine = &ENGINES[2 * usize::from(is_for_urls) + usize::from(is_bare)];
    if text.contains(['\r', '\n']) {
        return engine.decode(text.replace(['\r', '\n'], "")).ok();
    }
    engine.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_in_any_form() {
        for (text, number) in [
            ("0", Some("0")),
            ("-0", Some("0")),
            ("12", Some("12")),
            ("-12", Some("-12")),
            ("1e3", Some("1000")),
            ("1.5e1", Some("15")),
            ("1.50", None),
            ("1.0", Some("1")),
            ("100e-2", Some("1")),
            ("150e-2", None),
            ("1e21", None),
            ("18446744073709551615", Some("18446744073709551615")),
            ("01", None),
            ("1.", None),
            (".5", None),
            ("", None),
            (" 1", None),
            ("x", None),
            ("+1", None),
        ] {
            assert_eq!(digits(text).as_deref(), number, "{text}");
        }
    }

    #[test]
    fn base64_of_both_alphabets() {
        for (text, bytes) in [
            ("+/8=", Some(&[0xfb, 0xff][..])),
            ("-_8=", Some(&[0xfb, 0xff])),
            ("-_8", Some(&[0xfb, 0xff])),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg", Some(b"foob")),
            // A line end counts for the length and is skipped then, as in Go.
            ("Zm\n9v", Some(b"foo")),
            ("Zm9v\nYg==", None),
            ("Z", None),
            ("+_8=", None),
            ("", Some(b"")),
        ] {
            assert_eq!(decoded(text).as_deref(), bytes, "{text}");
        }
    }
}
