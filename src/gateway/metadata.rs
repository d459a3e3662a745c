//! From HTTP's headers to what a gRPC client would have sent, by grpc-gateway's rules.
//!
//! | header | metadata |
//! |---|---|
//! | `Authorization` | `authorization`, and as below |
//! | one of IANA's permanent ones | the same name after `grpcgateway-` |
//! | `Grpc-Metadata-<name>` | `<name>` |
//! | `Grpc-Timeout` | the call's deadline |
//! | any other | none |

use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};

use crate::{
    frontend::WebRequest,
    rpc::{Code, Status},
};

const PERMANENT_PREFIX: &str = "grpcgateway-";
const OWN_PREFIX: &str = "grpc-metadata-";
const TIMEOUT: &str = "grpc-timeout";
const METHOD_OVERRIDE: &str = "x-http-method-override";
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Headers of IANA's register that grpc-gateway passes on.
const PERMANENT: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-language",
    "accept-ranges",
    "authorization",
    "cache-control",
    "content-type",
    "cookie",
    "date",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-schedule-tag-match",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "warning",
];

/// Metadata of a call: names in lower case, and values.
pub(super) type Fields = Vec<(String, Bytes)>;

/// The metadata of a request, and how long its call may take.
///
/// # Errors
/// The time is malformed.
pub(super) fn of(request: &WebRequest) -> Result<(Fields, Option<Duration>), Status> {
    let mut timeout = None;
    if let Some(value) = request.headers.get(TIMEOUT).filter(|value| !value.is_empty()) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let refused = || Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {text}"));
        // As there, none and no time at all are the same.
        timeout = Some(parse_timeout(&text).ok_or_else(refused)?).filter(|timeout| !timeout.is_zero());
    }
    let mut fields = Fields::new();
    for (name, value) in &request.headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        if name == "authorization" {
            fields.push((name.to_owned(), Bytes::copy_from_slice(value)));
        }
        let own = name.strip_prefix(OWN_PREFIX);
        let name = match own {
            Some(own) => own.to_owned(),
            None if PERMANENT.contains(&name) => format!("{PERMANENT_PREFIX}{name}"),
            None => continue,
        };
        if is_key(&name) && value.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            fields.push((name, Bytes::copy_from_slice(value)));
        }
    }
    Ok((fields, timeout))
}

fn is_key(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// A number and a unit, as Go's `strconv.ParseInt` reads the number.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = digits.parse::<u32>().ok()?;
    let count = u64::from(number);
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The method that a form wants to count as, for clients that can only post.
pub(super) fn overridden_method(request: &WebRequest) -> Option<Method> {
    let wanted = request.headers.get(METHOD_OVERRIDE).filter(|wanted| !wanted.is_empty())?;
    let is_form = request.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == FORM);
    if request.method != Method::POST || !is_form {
        return None;
    }
    Method::from_bytes(&wanted.as_bytes().to_ascii_uppercase()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_by_grpc_gateway() {
        for (text, time) in [
            ("1S", Some(Duration::from_secs(1))),
            ("100m", Some(Duration::from_millis(100))),
            ("2H", Some(Duration::from_secs(7200))),
            ("S", None),
            ("", None),
            ("5", None),
            ("xS", None),
            ("1x", None),
            ("1ü", None),
        ] {
            assert_eq!(parse_timeout(text), time, "{text}");
        }
    }
}
