//! Text as Go's standard library reads and writes it: quoting, numbers, durations, sizes.
//! etcdctl's output consists of such text, so ringctl's does too.

use std::time::Duration;

use crate::base::go_duration;
pub use crate::base::go_quote::{quote, quote_char};

/// Why a quoted string could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnquoteError {
    #[error("expected quoted string")]
    NoQuote,
    #[error("unexpected EOF")]
    Open,
    #[error("invalid syntax")]
    Syntax,
}

/// Reads a double-quoted Go string at the start of `text`; returns its value and what follows it.
pub fn unquote(text: &[u8]) -> Result<(Vec<u8>, &[u8]), UnquoteError> {
    let Some((b'"', mut rest)) = text.split_first() else {
        return Err(UnquoteError::NoQuote);
    };
    let mut value = Vec::new();
    loop {
        let (&byte, tail) = rest.split_first().ok_or(UnquoteError::Open)?;
        rest = tail;
        match byte {
            b'"' => return Ok((value, rest)),
            b'\n' => return Err(UnquoteError::Syntax),
            b'\\' => rest = unescape(rest, &mut value)?,
            byte => value.push(byte),
        }
    }
}

fn unescape<'a>(text: &'a [u8], value: &mut Vec<u8>) -> Result<&'a [u8], UnquoteError> {
    let (&kind, rest) = text.split_first().ok_or(UnquoteError::Open)?;
    let simple = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => kind,
        b'x' => return unescape_number(rest, 2, 16, value),
        b'u' => return unescape_number(rest, 4, 16, value),
        b'U' => return unescape_number(rest, 8, 16, value),
        b'0'..=b'7' => return unescape_number(text, 3, 8, value),
        _ => return Err(UnquoteError::Syntax),
    };
    value.push(simple);
    Ok(rest)
}

fn unescape_number<'a>(
    text: &'a [u8],
    digits: usize,
    radix: u32,
    value: &mut Vec<u8>,
) -> Result<&'a [u8], UnquoteError> {
    let (number, rest) = text.split_at_checked(digits).ok_or(UnquoteError::Open)?;
    let number = std::str::from_utf8(number).ok().and_then(|digits| u32::from_str_radix(digits, radix).ok());
    let number = number.ok_or(UnquoteError::Syntax)?;
    if digits <= 3 {
        value.push(u8::try_from(number).map_err(|_| UnquoteError::Syntax)?);
    } else {
        let char = char::from_u32(number).ok_or(UnquoteError::Syntax)?;
        value.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(rest)
}

/// `strconv.ParseInt(text, base, 64)`; base 0 reads `0x`, `0o`, `0b` and `_`.
pub fn parse_int(text: &[u8], base: u32) -> Result<i64, String> {
    let mistake = |reason: &str| Err(format!("strconv.ParseInt: parsing {}: {reason}", quote(text)));
    let Some((negative, digits)) = split_sign(text) else {
        return mistake("invalid syntax");
    };
    match parse_digits(digits, base) {
        Some(Some(value)) if negative && value <= 1 << 63 => Ok((value as i64).wrapping_neg()),
        Some(Some(value)) if !negative && value < 1 << 63 => Ok(value as i64),
        Some(_) => mistake("value out of range"),
        None => mistake("invalid syntax"),
    }
}

/// `strconv.ParseUint(text, base, 64)`.
pub fn parse_uint(text: &[u8], base: u32) -> Result<u64, String> {
    let mistake = |reason: &str| Err(format!("strconv.ParseUint: parsing {}: {reason}", quote(text)));
    match parse_digits(text, base) {
        Some(Some(value)) => Ok(value),
        Some(None) => mistake("value out of range"),
        None => mistake("invalid syntax"),
    }
}

fn split_sign(text: &[u8]) -> Option<(bool, &[u8])> {
    match text {
        [] => None,
        [b'-', rest @ ..] => Some((true, rest)),
        [b'+', rest @ ..] => Some((false, rest)),
        _ => Some((false, text)),
    }
}

/// `None`: not a number; `Some(None)`: too large.
fn parse_digits(text: &[u8], base: u32) -> Option<Option<u64>> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let (digits, base) = match base {
        0 => match text.as_bytes() {
            [b'0', b'x', ..] => (text[2..].replace('_', ""), 16),
            [b'0', b'b', ..] => (text[2..].replace('_', ""), 2),
            [b'0', b'o', ..] => (text[2..].replace('_', ""), 8),
            [b'0', _, ..] => (text[1..].replace('_', ""), 8),
            _ => (text.replace('_', ""), 10),
        },
        base => (text, base),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return None;
    }
    Some(u64::from_str_radix(&digits, base).ok())
}

/// `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text.as_bytes()))),
    }
}

/// `time.ParseDuration`; a negative duration becomes zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    go_duration::parse(text).map_err(|error| error.to_string())
}

/// `time.Duration.String`: `1.5s`, `2.490521ms`, `1h0m3s`.
pub fn duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000, "ms"),
        _ => {
            let minutes = value.as_secs() / 60;
            let seconds = decimal(nanos - u128::from(minutes) * 60_000_000_000, 1_000_000_000, "s");
            match minutes {
                0 => seconds,
                1..60 => format!("{minutes}m{seconds}"),
                _ => format!("{}h{}m{seconds}", minutes / 60, minutes % 60),
            }
        }
    }
}

fn decimal(value: u128, unit: u128, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % unit);
    match fraction.trim_end_matches('0') {
        "" => format!("{}{name}", value / unit),
        fraction => format!("{}.{fraction}{name}", value / unit),
    }
}

/// The text of an operating system error: `no such file or directory`.
pub fn io_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_reversible_and_escapes_what_cannot_be_printed() {
        let cases: [(&[u8], &str); 7] = [
            (b"plain", "\"plain\""),
            (b"q\"b\\", r#""q\"b\\""#),
            (b"\x00\n\x7f", r#""\x00\n\x7f""#),
            (b"\xff\xc3\xa9", "\"\\xff\u{e9}\""),
            ("\u{a0}".as_bytes(), r#""\u00a0""#),
            ("\u{200b}".as_bytes(), r#""\u200b""#),
            ("\u{1f600}".as_bytes(), "\"\u{1f600}\""),
        ];
        for (value, quoted) in cases {
            assert_eq!(quote(value), quoted);
            assert_eq!(unquote(quoted.as_bytes()), Ok((value.to_vec(), &b""[..])));
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(parse_int(b"-9223372036854775808", 10), Ok(i64::MIN));
        assert_eq!(parse_int(b"0x1f", 0), Ok(31));
        assert_eq!(parse_int(b"zz", 10).unwrap_err(), r#"strconv.ParseInt: parsing "zz": invalid syntax"#);
        let large = parse_int(b"9223372036854775808", 10).unwrap_err();
        assert_eq!(large, r#"strconv.ParseInt: parsing "9223372036854775808": value out of range"#);
        assert_eq!(parse_uint(b"ffffffffffffffff", 16), Ok(u64::MAX));
        assert!(parse_uint(b"-1", 16).is_err());
    }

    #[test]
    fn durations_round_trip() {
        for text in ["0s", "1ns", "2.490521ms", "1.5s", "1m0s", "1h0m3s", "100µs"] {
            assert_eq!(duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("5").unwrap_err(), r#"time: missing unit in duration "5""#);
        assert_eq!(parse_duration("x").unwrap_err(), r#"time: invalid duration "x""#);
        assert_eq!(parse_duration("5q").unwrap_err(), r#"time: unknown unit "q" in duration "5q""#);
    }
}
