//! A span's place in its trace, and its form in the headers of W3C Trace Context.
//!
//! | part of `traceparent` | digits | |
//! |---|---|---|
//! | version | 2 | `ff` is invalid; what follows the flags in a version after 00 is ignored |
//! | trace id | 32 | not 0 |
//! | parent id | 16 | not 0 |
//! | flags | 2 | 1: sampled, 2: the trace id is random; version 00 has no others |
//!
//! Hexadecimal digits in lower case, with `-` between the parts. Judged as OpenTelemetry's propagator for Go does.

use std::sync::Arc;

/// <https://www.w3.org/TR/trace-context/>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub flags: u8,
    /// The caller's `tracestate`, copied into each span of the call.
    pub state: Option<Arc<str>>,
}

const MEMBERS_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 256;

impl SpanContext {
    pub const SAMPLED: u8 = 1;
    const RANDOM: u8 = 2;

    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// The place of a caller's span; `None` if the caller names none that is valid.
    #[must_use]
    pub fn parse(traceparent: &[u8], tracestate: Option<&[u8]>) -> Option<Self> {
        let mut parts = std::str::from_utf8(traceparent).ok()?.splitn(5, '-');
        let version = hexadecimal(parts.next()?, 2)?;
        let trace_id = hexadecimal(parts.next()?, 32)?;
        let span_id = u64::try_from(hexadecimal(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hexadecimal(parts.next()?, 2)?).ok()?;
        let known = Self::SAMPLED | Self::RANDOM;
        // An empty part after the flags counts as none, as in Go.
        let has_more = parts.next().is_some_and(|rest| !rest.is_empty());
        let is_valid = match version {
            0 => !has_more && flags <= known,
            version => version != 0xff,
        };
        if !is_valid || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, flags: flags & known, state: tracestate.and_then(parse_state) })
    }
}

fn hexadecimal(part: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (part.len() == digits && part.bytes().all(is_digit)).then(|| u128::from_str_radix(part, 16).ok()).flatten()
}

/// A valid list of members, without empty ones and spaces around; an invalid one is dropped as a whole.
fn parse_state(text: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut members: Vec<(&str, &str)> = Vec::new();
    for member in text.split(',').filter(|member| !member.is_empty()) {
        let (key, value) = member.split_once('=')?;
        let (key, value) = (key.trim_start_matches([' ', '\t']), value.trim_end_matches([' ', '\t']));
        let is_new = members.iter().all(|(other, _)| *other != key);
        if !is_key(key) || !is_value(value) || !is_new || members.len() == MEMBERS_MAX {
            return None;
        }
        members.push((key, value));
    }
    let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!members.is_empty()).then(|| members.join(",").into())
}

/// `name`, or `tenant@system`.
fn is_key(key: &str) -> bool {
    match key.split_once('@') {
        None => is_key_part(key, 256, false),
        Some((tenant, system)) => is_key_part(tenant, 241, true) && is_key_part(system, 14, false),
    }
}

fn is_key_part(part: &str, bytes_max: usize, may_begin_with_digit: bool) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_inner = |byte: u8| is_letter(byte) || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let Some(first) = part.bytes().next() else { return false };
    let begins_well = is_letter(first) || may_begin_with_digit && first.is_ascii_digit();
    begins_well && part.len() <= bytes_max && part.bytes().all(is_inner)
}

fn is_value(value: &str) -> bool {
    let is_inner = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b'=';
    (1..=VALUE_BYTES_MAX).contains(&value.len()) && !value.ends_with(' ') && value.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn parse(text: &str) -> Option<SpanContext> {
        SpanContext::parse(text.as_bytes(), None)
    }

    #[test]
    fn a_parent_is_read_or_ignored_as_in_go() {
        let parent = parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!(format!("{:032x} {:016x}", parent.trace_id, parent.span_id), format!("{TRACE} {SPAN}"));
        assert!(parent.is_sampled());
        assert!(!parse(&format!("00-{TRACE}-{SPAN}-02")).unwrap().is_sampled());
        // A later version may say more; bits that nobody knows are not passed on.
        assert_eq!(parse(&format!("01-{TRACE}-{SPAN}-ff-more-of-it")).unwrap().flags, 3);
        assert_eq!(parse(&format!("00-{TRACE}-{SPAN}-01-")).unwrap().flags, 1);
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-04"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}1-01"),
            format!("00-{TRACE}-+7ad6b7169203331-01"),
            format!("00-{TRACE}-{SPAN}-1"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_state_is_passed_on_or_dropped_as_a_whole() {
        let state = |text: &str| {
            let parent = SpanContext::parse(format!("00-{TRACE}-{SPAN}-01").as_bytes(), Some(text.as_bytes()));
            parent.unwrap().state.map(|state| state.to_string())
        };
        assert_eq!(
            state("rojo=00f067aa0ba902b7,, congo@w1=t 1 ").as_deref(),
            Some("rojo=00f067aa0ba902b7,congo@w1=t 1")
        );
        assert_eq!(state("1a@b=1").as_deref(), Some("1a@b=1"));
        for bad in ["", "a", "a=", "=1", "A=1", "1a=1", "a=1,a=2", "a=b=c", "a@1b=1", "a=\u{e4}", "a b=1"] {
            assert_eq!(state(bad), None, "{bad}");
        }
        let many = |count: usize| (0..count).map(|at| format!("k{at}=1")).collect::<Vec<_>>().join(",");
        assert_eq!((state(&many(32)).is_some(), state(&many(33))), (true, None));
    }
}
