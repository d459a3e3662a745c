//! JSON as Go's `encoding/json` writes structs: no spaces, `<`, `>` and `&` escaped, bytes in base64,
//! 64-bit integers as numbers, and zero values left out where the struct says so.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A value being written.
#[derive(Default)]
pub struct Json {
    text: String,
}

impl Json {
    /// The text of one object.
    pub fn object(fill: impl FnOnce(&mut Object)) -> String {
        let mut json = Self::default();
        json.write_object(fill);
        json.text
    }

    /// The text of an array of objects; Go writes an empty slice that was never made as `null`.
    pub fn array<T>(items: &[T], fill: impl Fn(&T, &mut Object)) -> String {
        if items.is_empty() {
            return "null".to_owned();
        }
        let mut json = Self::default();
        json.write_objects(items, fill);
        json.text
    }

    fn write_object(&mut self, fill: impl FnOnce(&mut Object)) {
        self.text.push('{');
        fill(&mut Object { json: self, first: true });
        self.text.push('}');
    }

    fn write_objects<T>(&mut self, items: &[T], fill: impl Fn(&T, &mut Object)) {
        self.write_array(items, |json, item| json.write_object(|object| fill(item, object)));
    }

    fn write_array<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.text.push('[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.text.push(',');
            }
            write(self, item);
        }
        self.text.push(']');
    }

    fn write_text(&mut self, text: &str) {
        self.text.push('"');
        for char in text.chars() {
            match char {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\x08' => self.text.push_str("\\b"),
                '\x0c' => self.text.push_str("\\f"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                    self.text.push_str(&format!("\\u{:04x}", char as u32));
                }
                char => self.text.push(char),
            }
        }
        self.text.push('"');
    }
}

/// An object being written. Methods ending in `_or_skip` leave zero values out.
pub struct Object<'a> {
    json: &'a mut Json,
    first: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> &mut Json {
        if !self.first {
            self.json.text.push(',');
        }
        self.first = false;
        self.json.write_text(name);
        self.json.text.push(':');
        self.json
    }

    pub fn number(&mut self, name: &str, value: impl Into<i128>) {
        let text = value.into().to_string();
        self.name(name).text.push_str(&text);
    }

    pub fn number_or_skip(&mut self, name: &str, value: impl Into<i128>) {
        let value = value.into();
        if value != 0 {
            self.number(name, value);
        }
    }

    pub fn bool(&mut self, name: &str, value: bool) {
        self.name(name).text.push_str(if value { "true" } else { "false" });
    }

    pub fn bool_or_skip(&mut self, name: &str, value: bool) {
        if value {
            self.bool(name, value);
        }
    }

    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name).write_text(value);
    }

    pub fn text_or_skip(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.text(name, value);
        }
    }

    pub fn bytes_or_skip(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.text(name, &STANDARD.encode(value));
        }
    }

    pub fn texts_or_skip(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.name(name).write_array(values, |json, value| json.write_text(value));
        }
    }

    /// An array of byte strings; `null` if empty.
    pub fn byte_strings(&mut self, name: &str, values: &[bytes::Bytes]) {
        let json = self.name(name);
        if values.is_empty() {
            json.text.push_str("null");
        } else {
            json.write_array(values, |json, value| json.write_text(&STANDARD.encode(value)));
        }
    }

    pub fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object)) {
        self.name(name).write_object(fill);
    }

    /// An object that may be absent.
    pub fn object_or_skip<T>(&mut self, name: &str, value: Option<&T>, fill: impl FnOnce(&T, &mut Object)) {
        if let Some(value) = value {
            self.object(name, |object| fill(value, object));
        }
    }

    /// An array of objects.
    pub fn objects<T>(&mut self, name: &str, values: &[T], fill: impl Fn(&T, &mut Object)) {
        self.name(name).write_objects(values, fill);
    }

    pub fn objects_or_skip<T>(&mut self, name: &str, values: &[T], fill: impl Fn(&T, &mut Object)) {
        if !values.is_empty() {
            self.objects(name, values, fill);
        }
    }

    /// An array of objects; `null` if empty.
    pub fn objects_or_null<T>(&mut self, name: &str, values: &[T], fill: impl Fn(&T, &mut Object)) {
        if values.is_empty() {
            self.name(name).text.push_str("null");
        } else {
            self.objects(name, values, fill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_written_without_spaces_and_without_zeros() {
        let text = Json::object(|object| {
            object.number("n", u64::MAX);
            object.number_or_skip("zero", 0);
            object.text("t", "a<b>\"\u{1}\n");
            object.bytes_or_skip("b", b"foo");
            object.object("o", |_| {});
            object.byte_strings("k", &[]);
        });
        let expected = r#"{"n":18446744073709551615,"t":"a\u003cb\u003e\"\u0001\n","b":"Zm9v","o":{},"k":null}"#;
        assert_eq!(text, expected);
    }
}
