//! Bytes of a client in the texts of refusals, as Go prints them.

use std::fmt::Write;

/// Go's `%q`: in quotes, with escapes for what cannot be printed.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push_escaped(&mut text, character));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

/// Go's `%v` of a string in a `grpc-message`: each byte that is not UTF-8 becomes a replacement character.
pub(super) fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| text.push(char::REPLACEMENT_CHARACTER));
    }
    text
}

fn push_escaped(text: &mut String, character: char) {
    match character {
        '"' | '\\' => text.extend(['\\', character]),
        ' '..='~' => text.push(character),
        '\t' => text.push_str("\\t"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\0'..='\x7f' => {
            let _ = write!(text, "\\x{:02x}", u32::from(character));
        }
        // Rust and Go escape unprintable characters, in different forms.
        _ if character.escape_debug().count() > 1 || character.is_whitespace() => {
            let number = u32::from(character);
            let _ = if number < 0x10000 { write!(text, "\\u{number:04x}") } else { write!(text, "\\U{number:08x}") };
        }
        _ => text.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_quotes() {
        for (bytes, text) in [
            (&b"foo"[..], r#""foo""#),
            (b"", r#""""#),
            (b"a\"b\\c\td", r#""a\"b\\c\td""#),
            ("käse".as_bytes(), "\"käse\""),
            (b"\xff\xfea", r#""\xff\xfea""#),
            ("\u{a0}\u{80}".as_bytes(), r#""\u00a0\u0080""#),
        ] {
            assert_eq!(quoted(bytes), text);
        }
        assert_eq!(lossy(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
    }
}
