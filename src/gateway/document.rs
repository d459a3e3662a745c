//! Cuts JSON documents out of a body, in the way and the words of Go's `encoding/json`.

use std::ops::Range;

/// Go's limit on nested values.
const DEPTH_MAX: usize = 10_000;

/// A body that is not JSON, in Go's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends within a document; more of it may come.
    UnexpectedEnd,
    Syntax(String),
}

impl Fault {
    pub(super) fn text(self) -> String {
        match self {
            Fault::UnexpectedEnd => "unexpected EOF".to_owned(),
            Fault::Syntax(text) => text,
        }
    }
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    AfterValue,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// The brackets that are open.
    open: Vec<u8>,
    next: Next,
}

/// Where the first document after `from` is; `None` if there is only white space. What follows it is not looked at.
///
/// # Errors
/// It is not JSON, or not all of it.
pub(super) fn find(text: &[u8], from: usize) -> Result<Option<Range<usize>>, Fault> {
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    let Some(begin) = text.iter().skip(from).position(|byte| !is_space(byte)).map(|skipped| from + skipped) else {
        return Ok(None);
    };
    let mut scanner = Scanner { text, at: begin, open: Vec::new(), next: Next::Value };
    loop {
        let byte = scanner.take()?;
        if !is_space(&byte) {
            scanner.step(byte)?;
        }
        if scanner.open.is_empty() && scanner.next == Next::AfterValue {
            return Ok(Some(begin..scanner.at));
        }
    }
}

fn invalid(byte: u8, context: &str) -> Fault {
    Fault::Syntax(format!("invalid character {} {context}", quoted_character(byte)))
}

/// As Go's `encoding/json` shows a byte.
fn quoted_character(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => r#"'"'"#.to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..b' ' | 0x7f => format!(r"'\x{byte:02x}'"),
        // Go takes the byte for a code point.
        0x80..0xa1 | 0xad => format!(r"'\u{byte:04x}'"),
        byte => format!("'{}'", char::from(byte)),
    }
}

impl Scanner<'_> {
    fn take(&mut self) -> Result<u8, Fault> {
        let byte = *self.text.get(self.at).ok_or(Fault::UnexpectedEnd)?;
        self.at += 1;
        Ok(byte)
    }

    fn step(&mut self, byte: u8) -> Result<(), Fault> {
        let in_object = self.open.last() == Some(&b'{');
        match (self.next, byte) {
            (Next::ValueOrEnd, b']') | (Next::NameOrEnd, b'}') => self.close(),
            (Next::Value | Next::ValueOrEnd, _) => return self.value(byte),
            (Next::Name | Next::NameOrEnd, b'"') => {
                self.string()?;
                self.next = Next::Colon;
            }
            (Next::Name | Next::NameOrEnd, _) => {
                return Err(invalid(byte, "looking for beginning of object key string"));
            }
            (Next::Colon, b':') => self.next = Next::Value,
            (Next::Colon, _) => return Err(invalid(byte, "after object key")),
            (Next::AfterValue, b',') => self.next = if in_object { Next::Name } else { Next::Value },
            (Next::AfterValue, b'}') if in_object => self.close(),
            (Next::AfterValue, b']') if !in_object => self.close(),
            (Next::AfterValue, _) if in_object => return Err(invalid(byte, "after object key:value pair")),
            (Next::AfterValue, _) => return Err(invalid(byte, "after array element")),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.open.pop();
        self.next = Next::AfterValue;
    }

    fn value(&mut self, byte: u8) -> Result<(), Fault> {
        match byte {
            b'{' | b'[' => {
                if self.open.len() >= DEPTH_MAX {
                    return Err(Fault::Syntax("exceeded max depth".to_owned()));
                }
                self.open.push(byte);
                self.next = if byte == b'{' { Next::NameOrEnd } else { Next::ValueOrEnd };
                return Ok(());
            }
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number(byte)?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            _ => return Err(invalid(byte, "looking for beginning of value")),
        }
        self.next = Next::AfterValue;
        Ok(())
    }

    /// The rest of a string.
    fn string(&mut self) -> Result<(), Fault> {
        loop {
            match self.take()? {
                b'"' => return Ok(()),
                b'\\' => match self.take()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.take()?;
                            if !byte.is_ascii_hexdigit() {
                                return Err(invalid(byte, r"in \u hexadecimal character escape"));
                            }
                        }
                    }
                    byte => return Err(invalid(byte, "in string escape code")),
                },
                byte if byte < b' ' => return Err(invalid(byte, "in string literal")),
                _ => {}
            }
        }
    }

    /// The rest of a number.
    fn number(&mut self, first: u8) -> Result<(), Fault> {
        let mut first = first;
        if first == b'-' {
            first = self.take()?;
            if !first.is_ascii_digit() {
                return Err(invalid(first, "in numeric literal"));
            }
        }
        if first != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, context: &str) -> Result<(), Fault> {
        let byte = self.take()?;
        if byte.is_ascii_digit() { Ok(()) } else { Err(invalid(byte, context)) }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The rest of a word.
    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        for expected in word.bytes().skip(1) {
            let byte = self.take()?;
            if byte != expected {
                let expected = char::from(expected);
                return Err(invalid(byte, &format!("in literal {word} (expecting '{expected}')")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_out_one_after_the_other() {
        let text = b" {\"a\":[1,-2.5e+3,true,\"\\u00e9\"]} \n{}x";
        let first = find(text, 0).unwrap().unwrap();
        assert_eq!(&text[first.clone()], b"{\"a\":[1,-2.5e+3,true,\"\\u00e9\"]}");
        let second = find(text, first.end).unwrap().unwrap();
        assert_eq!(&text[second.clone()], b"{}");
        assert!(matches!(find(text, second.end), Err(Fault::Syntax(_))));
        assert_eq!(find(b" \r\n\t", 0), Ok(None));
        assert_eq!(find(b"17 ", 0), Ok(Some(0..2)));
    }

    #[test]
    fn faults_are_in_gos_words() {
        for (text, words) in [
            ("{", "unexpected EOF"),
            ("{\"a\":\"b", "unexpected EOF"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            ("{\"a\",", "invalid character ',' after object key"),
            ("{\"a\":1 \"", "invalid character '\"' after object key:value pair"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1 2", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("\"\\x", "invalid character 'x' in string escape code"),
            ("\"\\u12G", "invalid character 'G' in \\u hexadecimal character escape"),
            ("\"\n", "invalid character '\\n' in string literal"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("[1.]", "invalid character ']' after decimal point in numeric literal"),
            ("[1e]", "invalid character ']' in exponent of numeric literal"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("'", "invalid character '\\'' looking for beginning of value"),
            ("\u{1}", "invalid character '\\x01' looking for beginning of value"),
        ] {
            assert_eq!(find(text.as_bytes(), 0).unwrap_err().text(), words, "{text}");
        }
    }
}
