//! What is known of a call before its first message: the request's head.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode, header};

use super::{
    method::MethodId,
    status::{Code, Status},
};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const CONTENT_TYPE: &str = "application/grpc";

/// One call: who asks for what, until when.
#[derive(Debug)]
pub struct Call {
    pub method: MethodId,
    pub peer: SocketAddr,
    /// When its head was read.
    pub started: Instant,
    pub deadline: Option<Instant>,
    metadata: HeaderMap,
}

impl Call {
    pub(super) fn new(
        method: MethodId,
        peer: SocketAddr,
        started: Instant,
        timeout: Option<Duration>,
        metadata: HeaderMap,
    ) -> Call {
        let deadline = timeout.and_then(|timeout| started.checked_add(timeout));
        Call { method, peer, started, deadline, metadata }
    }

    /// First value of an ASCII metadata key (lower case).
    pub fn metadata(&self, key: &str) -> Option<&[u8]> {
        self.metadata.get(key).map(HeaderValue::as_bytes)
    }

    /// The client wants an error rather than an answer from a member without a leader.
    pub fn has_leader(&self) -> bool {
        self.metadata("hasleader") == Some(b"true")
    }

    /// The version that clientv3 announces.
    pub fn client_api_version(&self) -> Option<&[u8]> {
        self.metadata("client-api-version")
    }
}

/// A head that is answered without looking at the method: an HTTP status beside the gRPC one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abort {
    pub http: StatusCode,
    pub status: Status,
}

impl Abort {
    fn new(http: StatusCode, code: Code, text: String) -> Abort {
        Abort { http, status: Status::new(code, text) }
    }
}

/// The head of a request that passed grpc-go's checks.
#[derive(Debug)]
pub(super) struct Head {
    pub timeout: Option<Duration>,
    /// What the response's content-type must be.
    pub content_type: HeaderValue,
    /// The message encoding, unless identity.
    pub encoding: Option<String>,
}

/// grpc-go's checks, in its order.
pub(super) fn check_head(method: &HttpMethod, headers: &HeaderMap) -> Result<Head, Abort> {
    let content_type = check_content_type(headers)?;
    let timeout = match headers.get(GRPC_TIMEOUT) {
        None => None,
        Some(value) => Some(parse_timeout(value.as_bytes()).map_err(|text| {
            Abort::new(StatusCode::BAD_REQUEST, Code::Internal, format!("malformed grpc-timeout: {text}"))
        })?),
    };
    check_binary(headers)?;
    if method != HttpMethod::POST {
        let text = format!("Received a HEADERS frame with :method {:?} which should be POST", method.as_str());
        return Err(Abort::new(StatusCode::METHOD_NOT_ALLOWED, Code::Internal, text));
    }
    let encoding = headers
        .get(GRPC_ENCODING)
        .filter(|value| !value.is_empty() && *value != "identity")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Ok(Head { timeout, content_type, encoding })
}

/// `application/grpc`, alone or followed by `+` or `;` and anything.
fn check_content_type(headers: &HeaderMap) -> Result<HeaderValue, Abort> {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let rest = text.strip_prefix(CONTENT_TYPE);
    match (rest, value) {
        (Some(""), _) => Ok(HeaderValue::from_static(CONTENT_TYPE)),
        (Some(rest), Some(_)) if rest.starts_with(['+', ';']) => {
            let answer = match &rest[1..] {
                "" => HeaderValue::from_static(CONTENT_TYPE),
                kind => HeaderValue::from_str(&format!("{CONTENT_TYPE}+{kind}")).expect("it came in a header"),
            };
            Ok(answer)
        }
        _ => {
            let text = format!("invalid gRPC request content-type {text:?}");
            Err(Abort::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, text))
        }
    }
}

fn check_binary(headers: &HeaderMap) -> Result<(), Abort> {
    for (name, value) in headers {
        if name.as_str().ends_with("-bin")
            && let Err(at) = decode_binary(value.as_bytes())
        {
            let text = format!(
                "malformed binary metadata {:?} in header {:?}: illegal base64 data at input byte {at}",
                String::from_utf8_lossy(value.as_bytes()),
                name.as_str()
            );
            return Err(Abort::new(StatusCode::BAD_REQUEST, Code::Internal, text));
        }
    }
    Ok(())
}

/// Base64 with or without padding. The error is the offset that Go's decoder complains about.
fn decode_binary(value: &[u8]) -> Result<Vec<u8>, usize> {
    // Like Go's, these do not mind bits behind the last byte.
    const LENIENT: GeneralPurposeConfig = general_purpose::PAD.with_decode_allow_trailing_bits(true);
    const PADDED: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    const BARE: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, general_purpose::NO_PAD.with_decode_allow_trailing_bits(true));
    let padded = value.len().is_multiple_of(4);
    let engine = if padded { PADDED } else { BARE };
    engine.decode(value).map_err(|_| illegal_base64_at(value, padded))
}

/// Where Go's decoder stops in a value that is not base64.
fn illegal_base64_at(value: &[u8], padded: bool) -> usize {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let Some(at) = value.iter().position(|byte| !is_digit(*byte)) else {
        // Digits only, so one of them is left over.
        return value.len().saturating_sub(1);
    };
    match (padded && value[at] == b'=', at % 4) {
        // The padding is in its place; what follows it is not.
        (true, 2) if value[at + 1] == b'=' => at + 2,
        (true, 3) => at + 1,
        _ => at,
    }
}

/// Up to eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Result<Duration, String> {
    let text = String::from_utf8_lossy(value);
    if value.len() < 2 {
        return Err(format!("transport: timeout string is too short: {text:?}"));
    }
    if value.len() > 9 {
        return Err(format!("transport: timeout string is too long: {text:?}"));
    }
    let (digits, unit) = value.split_at(value.len() - 1);
    let unit: fn(u64) -> Duration = match unit[0] {
        b'H' => |n| Duration::from_secs(n * 3600),
        b'M' => |n| Duration::from_secs(n * 60),
        b'S' => Duration::from_secs,
        b'm' => Duration::from_millis,
        b'u' => Duration::from_micros,
        b'n' => Duration::from_nanos,
        _ => return Err(format!("transport: timeout unit is not recognized: {text:?}")),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = String::from_utf8_lossy(digits);
        return Err(format!("strconv.ParseUint: parsing {digits:?}: invalid syntax"));
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(unit(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn content_types() {
        for (given, answer) in [
            ("application/grpc", Some("application/grpc")),
            ("application/grpc+proto", Some("application/grpc+proto")),
            ("application/grpc+", Some("application/grpc")),
            ("application/grpc;charset", Some("application/grpc+charset")),
            ("application/grpcx", None),
            ("application/json", None),
        ] {
            let result = check_head(&HttpMethod::POST, &headers(&[("content-type", given)]));
            match answer {
                Some(answer) => assert_eq!(result.unwrap().content_type, answer),
                None => {
                    let abort = result.unwrap_err();
                    assert_eq!(abort.http, StatusCode::UNSUPPORTED_MEDIA_TYPE);
                    assert_eq!(abort.status.message, format!("invalid gRPC request content-type {given:?}"));
                }
            }
        }
    }

    #[test]
    fn timeouts() {
        assert_eq!(parse_timeout(b"5S"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_timeout(b"99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout(b"12n"), Ok(Duration::from_nanos(12)));
        for (value, text) in [
            ("S", "transport: timeout string is too short: \"S\""),
            ("123456789S", "transport: timeout string is too long: \"123456789S\""),
            ("5x", "transport: timeout unit is not recognized: \"5x\""),
            ("-5S", "strconv.ParseUint: parsing \"-5\": invalid syntax"),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), Err(text.to_owned()));
        }
    }

    #[test]
    fn base64_is_judged_like_go_does() {
        // What Go's `encoding/base64` said, StdEncoding for whole quanta and RawStdEncoding for others.
        for (value, at) in [
            ("", None),
            ("A", Some(0)),
            ("AA", None),
            ("AAF", None),
            ("AAF=", None),
            ("AB==", None),
            ("AA==", None),
            ("AAAAA", Some(4)),
            ("?!", Some(0)),
            ("AA?A", Some(2)),
            ("A===", Some(1)),
            ("=AAA", Some(0)),
            ("AA=A", Some(2)),
            ("AA==AAAA", Some(4)),
            ("AAA=AAAA", Some(4)),
            ("AAAA=", Some(4)),
            ("AAAAAA=", Some(6)),
            ("AA=", Some(2)),
            ("AAAA====", Some(4)),
            ("AAAAAA=?", Some(6)),
            ("A-_A", Some(1)),
            ("AAA=====", Some(4)),
            ("AAAA A", Some(4)),
        ] {
            assert_eq!(decode_binary(value.as_bytes()).err(), at, "{value:?}");
        }
    }

    #[test]
    fn binary_metadata_and_method() {
        let base = ("content-type", "application/grpc");
        assert!(check_head(&HttpMethod::POST, &headers(&[base, ("x-bin", "AAE=")])).is_ok());
        assert!(check_head(&HttpMethod::POST, &headers(&[base, ("x-bin", "AAE")])).is_ok());
        let abort = check_head(&HttpMethod::POST, &headers(&[base, ("x-bin", "!")])).unwrap_err();
        assert_eq!((abort.http, abort.status.code), (StatusCode::BAD_REQUEST, Code::Internal));
        let text = "malformed binary metadata \"!\" in header \"x-bin\": illegal base64 data at input byte 0";
        assert_eq!(abort.status.message, text);
        let abort = check_head(&HttpMethod::GET, &headers(&[base])).unwrap_err();
        assert_eq!(abort.http, StatusCode::METHOD_NOT_ALLOWED);
        let head = check_head(&HttpMethod::POST, &headers(&[base, ("grpc-encoding", "gzip")])).unwrap();
        assert_eq!(head.encoding.as_deref(), Some("gzip"));
    }
}
