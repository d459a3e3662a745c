//! JSON as Go's `encoding/json` writes structs: `<`, `>` and `&` escaped, bytes in base64, fields in the order of the struct, and zero
//! values left out where the struct says so. serde_json does the rest.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Map, Number, Serializer, Value};

/// The text of one object.
pub fn object(fill: impl FnOnce(&mut Object)) -> String {
    text(&object_value(fill))
}

/// The text of an array of objects; Go writes an empty slice that was never made as `null`.
pub fn array<T>(items: &[T], fill: impl Fn(&T, &mut Object)) -> String {
    text(&if items.is_empty() { Value::Null } else { array_value(items, fill) })
}

fn object_value(fill: impl FnOnce(&mut Object)) -> Value {
    let mut object = Object::default();
    fill(&mut object);
    object.fields.into()
}

fn array_value<T>(items: &[T], fill: impl Fn(&T, &mut Object)) -> Value {
    items.iter().map(|item| object_value(|object| fill(item, object))).collect()
}

fn text(value: &Value) -> String {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Go)).expect("values serialize");
    String::from_utf8(bytes).expect("JSON is text")
}

/// Escapes the characters that Go escapes for HTML.
struct Go;

impl Formatter for Go {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for piece in fragment.split_inclusive(is_escaped_by_go) {
            let plain = piece.trim_end_matches(is_escaped_by_go);
            writer.write_all(plain.as_bytes())?;
            if let Some(escaped) = piece[plain.len()..].chars().next() {
                write!(writer, "\\u{:04x}", escaped as u32)?;
            }
        }
        Ok(())
    }
}

fn is_escaped_by_go(char: char) -> bool {
    matches!(char, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

/// An object being written. Methods ending in `_or_skip` leave zero values out.
#[derive(Default)]
pub struct Object {
    fields: Map<String, Value>,
}

impl Object {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    pub fn number(&mut self, name: &str, value: impl Into<Number>) {
        let value: Number = value.into();
        self.set(name, value);
    }

    pub fn number_or_skip(&mut self, name: &str, value: impl Into<Number>) {
        let value: Number = value.into();
        if value != Number::from(0) {
            self.set(name, value);
        }
    }

    pub fn bool(&mut self, name: &str, value: bool) {
        self.set(name, value);
    }

    pub fn bool_or_skip(&mut self, name: &str, value: bool) {
        if value {
            self.set(name, value);
        }
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.set(name, value);
    }

    pub fn text_or_skip(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.set(name, value);
        }
    }

    pub fn bytes_or_skip(&mut self, name: &str, value: &[u8]) {
        self.text_or_skip(name, &STANDARD.encode(value));
    }

    pub fn texts_or_skip(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.set(name, values);
        }
    }

    /// An array of byte strings; `null` if empty.
    pub fn byte_strings(&mut self, name: &str, values: &[bytes::Bytes]) {
        let encoded = values.iter().map(|value| Value::from(STANDARD.encode(value)));
        self.set(name, if values.is_empty() { Value::Null } else { encoded.collect() });
    }

    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object)) {
        self.set(name, object_value(fill));
    }

    /// An object that may be absent.
    pub fn object_or_skip<T>(&mut self, name: &str, value: Option<&T>, fill: impl FnOnce(&T, &mut Object)) {
        if let Some(value) = value {
            self.object(name, |object| fill(value, object));
        }
    }

    /// An array of objects.
    pub fn objects<T>(&mut self, name: &str, values: &[T], fill: impl Fn(&T, &mut Object)) {
        self.set(name, array_value(values, fill));
    }

    pub fn objects_or_skip<T>(&mut self, name: &str, values: &[T], fill: impl Fn(&T, &mut Object)) {
        if !values.is_empty() {
            self.objects(name, values, fill);
        }
    }

    /// An array of objects; `null` if empty.
    pub fn objects_or_null<T>(&mut self, name: &str, values: &[T], fill: impl Fn(&T, &mut Object)) {
        self.set(name, if values.is_empty() { Value::Null } else { array_value(values, fill) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_written_without_spaces_and_without_zeros() {
        let text = object(|object| {
            object.number("n", u64::MAX);
            object.number_or_skip("zero", 0);
            object.text("t", "a<b>&&\u{2028}\"\u{1}\n");
            object.bytes_or_skip("b", b"foo");
            object.object("o", |_| {});
            object.byte_strings("k", &[]);
        });
        let expected =
            r#"{"n":18446744073709551615,"t":"a\u003cb\u003e\u0026\u0026\u2028\"\u0001\n","b":"Zm9v","o":{},"k":null}"#;
        assert_eq!(text, expected);
    }
}
