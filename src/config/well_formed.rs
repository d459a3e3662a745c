//! Which text is a value of a kind, by the rules of Go.

use super::flags::Kind;
use crate::base::{go_duration, go_url};

impl Kind {
    /// What is wrong with a value, in Go's words.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        let well_formed = match self {
            Kind::Text => true,
            Kind::Boolean => go_boolean(text).is_some(),
            Kind::Duration => go_duration::parse(text).is_ok(),
            Kind::Integer => return in_range(text, i128::from(i64::MIN), i128::from(i64::MAX)),
            Kind::Natural if text.starts_with(['+', '-']) => false,
            Kind::Natural => return in_range(text, 0, i128::from(u64::MAX)),
            Kind::Urls if text.is_empty() => true,
            Kind::Origins if text == "*" => true,
            Kind::Urls | Kind::Origins => {
                return go_url::parse_list(text).map(|_| ()).map_err(|why| why.to_string());
            }
            Kind::Choice(words) if words.contains(&text) => true,
            Kind::Choice(_) => return Err("invalid value".to_owned()),
            Kind::Choices(words) => {
                let unknown = text.split(',').find(|word| !words.contains(word));
                return unknown.map_or(Ok(()), |word| Err(format!("invalid value {word:?}")));
            }
        };
        if well_formed { Ok(()) } else { Err("parse error".to_owned()) }
    }

    pub(super) fn means_the_same(self, one: &str, other: &str) -> bool {
        match self {
            Kind::Boolean => go_boolean(one) == go_boolean(other),
            Kind::Integer | Kind::Natural => go_integer(one) == go_integer(other),
            Kind::Duration => go_duration::parse(one) == go_duration::parse(other),
            _ => one == other,
        }
    }
}

fn in_range(text: &str, least: i128, most: i128) -> Result<(), String> {
    match go_integer(text) {
        None => Err("parse error".to_owned()),
        Some(number) if number < least || number > most => Err("value out of range".to_owned()),
        Some(_) => Ok(()),
    }
}

/// What Go's `strconv.ParseInt` takes without a base: `0x`, `0o`, `0b`, a leading 0 for octal, and `_` between digits.
pub(super) fn go_integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text),
    };
    let prefix = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (base, digits) = match prefix.as_str() {
        "0x" => (16, &digits[2..]),
        "0o" => (8, &digits[2..]),
        "0b" => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    Some(sign * i128::from_str_radix(&digits.replace('_', ""), base).ok()?)
}

/// What Go's `strconv.ParseBool` takes.
pub(super) fn go_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_gos() {
        for (text, number) in
            [("10", 10), ("+5", 5), ("-5", -5), ("0x10", 16), ("0b11", 3), ("010", 8), ("1_000", 1000), ("0", 0)]
        {
            assert_eq!(go_integer(text), Some(number), "{text}");
        }
        for text in ["", "x", "1__0", "1_", "0x", "--1", "1.5", "08"] {
            assert_eq!(go_integer(text), None, "{text}");
        }
        assert_eq!(Kind::Natural.check("-1"), Err("parse error".to_owned()));
        assert_eq!(Kind::Integer.check("9223372036854775808"), Err("value out of range".to_owned()));
    }
}
