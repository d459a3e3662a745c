//! `strconv.Quote`: text in quotes as Go's `%q` prints it, which error texts of etcd are made of.

/// What `%q` prints of bytes.
#[must_use]
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            push_escaped(&mut text, char, '"');
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// What `%q` prints of a character.
#[must_use]
pub fn quote_char(char: char) -> String {
    let mut text = String::from("'");
    push_escaped(&mut text, char, '\'');
    text.push('\'');
    text
}

fn push_escaped(text: &mut String, char: char, quote: char) {
    match char {
        '\\' => text.push_str("\\\\"),
        char if char == quote => text.extend(['\\', quote]),
        '\x07' => text.push_str("\\a"),
        '\x08' => text.push_str("\\b"),
        '\x0c' => text.push_str("\\f"),
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\x0b' => text.push_str("\\v"),
        ' '..='~' => text.push(char),
        '\0'..='\x7f' => text.push_str(&format!("\\x{:02x}", char as u32)),
        char if is_printable(char) => text.push(char),
        char if (char as u32) < 0x10000 => text.push_str(&format!("\\u{:04x}", char as u32)),
        char => text.push_str(&format!("\\U{:08x}", char as u32)),
    }
}

fn is_printable(char: char) -> bool {
    // A combining mark after another character is printed as it is, as in Go.
    format!("x{char}").escape_debug().eq(['x', char])
}
