//! The head of one request: its fields, and grpc-go's judgement of them.
//!
//! | fault | outcome |
//! |---|---|
//! | names or values that HTTP/2 forbids, pseudo-headers that are unknown, doubled, or late; a `connection` header | the stream is reset |
//! | larger than HEADER_LIST_BYTES_MAX, several hosts or none, no gRPC, malformed time or binary metadata, not POST | a status |
//! | of them no gRPC, where pages are served beside it | a page answers |
//! | no fault; authority, scheme and path may be anything | the call continues |

use std::{cell::Cell, mem, rc::Rc, time::Duration};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use h2::Reason;
use http::{HeaderValue, StatusCode};

use super::{
    encoding::Encoding,
    hpack::ENTRY_COST_BYTES,
    quoted::quoted,
    status::{Code, Status},
};
use crate::base::limits::{HEADER_LIST_BYTES_MAX, HEADER_LISTS_PER_CONNECTION_BYTES_MAX};

const CONTENT_TYPE: &str = "application/grpc";
/// Room for the fields of a usual request.
const USUAL_BYTES: usize = 256;
const USUAL_COUNT: usize = 12;

/// A request's fields while they are decoded.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Names and values, one after the other.
    text: Vec<u8>,
    ends: Vec<Ends>,
    /// Size of all fields as HTTP/2 counts it, kept or not.
    pub size_bytes: usize,
    fault: Option<Fault>,
    has_regular: bool,
}

/// Where a field's name and value end; the name begins where the field before it ends.
#[derive(Clone, Copy, Debug)]
struct Ends {
    name: u32,
    value: u32,
}

/// Why the fields are only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Invalid,
    TooLarge,
}

impl Fields {
    /// The fields of a frame without any readable field.
    pub(super) fn invalid() -> Fields {
        Fields { fault: Some(Fault::Invalid), ..Fields::default() }
    }

    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.size_bytes += name.len() + value.len() + ENTRY_COST_BYTES;
        if self.fault.is_some() {
            return;
        }
        let is_pseudo = name.starts_with(b":");
        let name_is_valid = if is_pseudo { !self.has_regular } else { is_token(name) };
        self.has_regular |= !is_pseudo;
        if !name_is_valid || !value.iter().copied().all(is_value_byte) {
            self.fail(Fault::Invalid);
        } else if self.size_bytes > HEADER_LIST_BYTES_MAX {
            self.fail(Fault::TooLarge);
        } else {
            if self.ends.is_empty() {
                self.text.reserve(USUAL_BYTES);
                self.ends.reserve(USUAL_COUNT);
            }
            self.text.extend_from_slice(name);
            let name = self.text.len() as u32;
            self.text.extend_from_slice(value);
            self.ends.push(Ends { name, value: self.text.len() as u32 });
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        (self.text, self.ends) = (Vec::new(), Vec::new());
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |ends| {
            let (name, value) = (ends.name as usize, ends.value as usize);
            let from = mem::replace(&mut begin, value);
            (&self.text[from..name], &self.text[name..value])
        })
    }

    /// Bytes of memory, approximately.
    fn held(&self) -> usize {
        mem::size_of::<Head>() + self.text.capacity() + self.ends.capacity() * mem::size_of::<Ends>()
    }
}

/// Whether a name consists of lower case letters and other permitted characters.
fn is_token(name: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token_byte)
}

fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// A complete head.
#[derive(Debug)]
pub(super) struct Head {
    fields: Fields,
    pub outcome: Result<Accepted, Rejected>,
    held: usize,
    held_in_all: Rc<Cell<usize>>,
}

/// A head that passed grpc-go's checks.
#[derive(Debug)]
pub(super) struct Accepted {
    pub path: Box<[u8]>,
    pub timeout: Option<Duration>,
    pub form: Form,
    /// The encoding of the client's messages, or grpc-go's refusal of it.
    pub encoding: Result<Encoding, Status>,
}

/// The form of the response.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub content_type: HeaderValue,
    pub encoding: Encoding,
}

/// A head that is refused for any path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    Reset(Reason),
    /// No request of gRPC: for a page, where there are any. Such a head keeps its fields.
    Foreign(Abort),
    Abort(Abort),
}

/// An HTTP status beside the gRPC one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Abort {
    pub http: StatusCode,
    pub content_type: HeaderValue,
    pub status: Status,
}

impl Head {
    /// `held_in_all` counts the bytes of all heads of one connection.
    pub(super) fn new(fields: Fields, held_in_all: &Rc<Cell<usize>>) -> Head {
        let mut fields = fields;
        let mut outcome = judge(&fields);
        let is_kept = matches!(outcome, Ok(_) | Err(Rejected::Foreign(_)));
        if is_kept && held_in_all.get() + fields.held() > HEADER_LISTS_PER_CONNECTION_BYTES_MAX {
            outcome = Err(exhausted("too many header bytes on this connection"));
        }
        if matches!(outcome, Err(Rejected::Reset(_) | Rejected::Abort(_))) {
            fields = Fields::default();
        }
        let held = fields.held();
        held_in_all.set(held_in_all.get() + held);
        Head { fields, outcome, held, held_in_all: held_in_all.clone() }
    }

    /// All fields, in their order.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter()
    }

    /// First value of a field.
    pub(super) fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1)
    }

    /// Bytes of all fields, as HTTP/2 counts them.
    pub(super) fn size_bytes(&self) -> usize {
        self.fields.size_bytes
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.held_in_all.set(self.held_in_all.get() - self.held);
    }
}

/// The fields that grpc-go checks.
#[derive(Default)]
struct Seen<'a> {
    method: &'a [u8],
    path: &'a [u8],
    /// The part of the last gRPC content type after its name.
    kind: Option<&'a [u8]>,
    /// The last content type that is not gRPC's.
    other_type: &'a [u8],
    encoding: &'a [u8],
    timeout: Option<Duration>,
    authorities: usize,
    hosts: usize,
    has_connection: bool,
    malformed: Option<String>,
}

/// grpc-go's checks, in its order.
fn judge(fields: &Fields) -> Result<Accepted, Rejected> {
    if fields.fault == Some(Fault::Invalid) || !has_valid_pseudo_headers(fields) {
        return Err(Rejected::Reset(Reason::PROTOCOL_ERROR));
    }
    if fields.fault == Some(Fault::TooLarge) {
        return Err(exhausted("the request's headers are too large"));
    }
    let mut seen = Seen::default();
    fields.iter().for_each(|(name, value)| seen.add(name, value));
    let content_type = answered_type(seen.kind.unwrap_or_default());
    let abort = |http, code, text: String| {
        let status = Status::new(code, text);
        Err(Rejected::Abort(Abort { http, content_type: content_type.clone(), status }))
    };
    if seen.authorities > 1 || seen.hosts > 1 {
        let (authorities, hosts) = (seen.authorities, seen.hosts);
        let text = format!(
            "num values of :authority: {authorities}, num values of host: {hosts}, both must only have 1 value as per HTTP/2 spec"
        );
        return abort(StatusCode::BAD_REQUEST, Code::Internal, text);
    }
    if seen.has_connection {
        return Err(Rejected::Reset(Reason::PROTOCOL_ERROR));
    }
    if seen.kind.is_none() {
        let text = format!("invalid gRPC request content-type {}", quoted(seen.other_type));
        let (http, status) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, Status::new(Code::InvalidArgument, text));
        return Err(Rejected::Foreign(Abort { http, content_type, status }));
    }
    if let Some(text) = seen.malformed {
        return abort(StatusCode::BAD_REQUEST, Code::Internal, text);
    }
    if seen.authorities == 0 && seen.hosts == 0 {
        let text = "no host or :authority header present".to_owned();
        return abort(StatusCode::BAD_REQUEST, Code::Internal, text);
    }
    if seen.method != b"POST" {
        let text = format!("Received a HEADERS frame with :method {} which should be POST", quoted(seen.method));
        return abort(StatusCode::METHOD_NOT_ALLOWED, Code::Internal, text);
    }
    let encoding = Encoding::find(seen.encoding);
    let form = Form { content_type, encoding: encoding.as_ref().copied().unwrap_or_default() };
    Ok(Accepted { path: seen.path.into(), timeout: seen.timeout, form, encoding })
}

impl<'a> Seen<'a> {
    fn add(&mut self, name: &'a [u8], value: &'a [u8]) {
        match name {
            b":method" => self.method = value,
            b":path" => self.path = value,
            b":authority" => self.authorities += 1,
            b"host" => self.hosts += 1,
            b"connection" => self.has_connection = true,
            b"content-type" => match kind(value) {
                Some(kind) => self.kind = Some(kind),
                None => self.other_type = value,
            },
            b"grpc-encoding" => self.encoding = value,
            b"grpc-timeout" => match parse_timeout(value) {
                Ok(timeout) => self.timeout = Some(timeout),
                Err(text) => self.malformed = Some(format!("malformed grpc-timeout: {text}")),
            },
            name if name.ends_with(b"-bin") => {
                if let Err(at) = decode_binary(value) {
                    self.malformed = Some(format!(
                        "malformed binary metadata {} in header {}: illegal base64 data at input byte {at}",
                        quoted(value),
                        quoted(name)
                    ));
                }
            }
            _ => {}
        }
    }
}

fn exhausted(text: &'static str) -> Rejected {
    let status = Status::new(Code::ResourceExhausted, text);
    Rejected::Abort(Abort { http: StatusCode::OK, content_type: answered_type(b""), status })
}

/// Whether all pseudo-headers are known, of a request, and there once.
fn has_valid_pseudo_headers(fields: &Fields) -> bool {
    const KNOWN: [&[u8]; 6] = [b":method", b":path", b":scheme", b":authority", b":protocol", b":status"];
    let mut seen = [false; KNOWN.len()];
    for (name, _) in fields.iter().take_while(|(name, _)| name.starts_with(b":")) {
        match KNOWN.iter().position(|known| *known == name) {
            Some(position) if !seen[position] => seen[position] = true,
            _ => return false,
        }
    }
    let [request @ .., is_response] = seen;
    !(is_response && request.contains(&true))
}

/// What follows `application/grpc`: nothing, or `+` or `;` and anything.
fn kind(content_type: &[u8]) -> Option<&[u8]> {
    match content_type.strip_prefix(CONTENT_TYPE.as_bytes())? {
        [] => Some(b""),
        [b'+' | b';', kind @ ..] => Some(kind),
        _ => None,
    }
}

/// The response's content type.
fn answered_type(kind: &[u8]) -> HeaderValue {
    if kind.is_empty() {
        return HeaderValue::from_static(CONTENT_TYPE);
    }
    let text = [CONTENT_TYPE.as_bytes(), b"+", kind].concat();
    HeaderValue::from_bytes(&text).expect("it came in a header")
}

/// Base64 with or without padding. The error is the offset that Go's decoder reports.
pub(super) fn decode_binary(value: &[u8]) -> Result<Vec<u8>, usize> {
    // Like Go's, these ignore bits after the last byte.
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
        // The padding is valid, but bytes follow it.
        (true, 2) if value[at + 1] == b'=' => at + 2,
        (true, 3) => at + 1,
        _ => at,
    }
}

/// Up to eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Result<Duration, String> {
    let text = || quoted(value);
    if value.len() < 2 {
        return Err(format!("transport: timeout string is too short: {}", text()));
    }
    if value.len() > 9 {
        return Err(format!("transport: timeout string is too long: {}", text()));
    }
    let (digits, unit) = value.split_at(value.len() - 1);
    let unit: fn(u64) -> Duration = match unit[0] {
        b'H' => |n| Duration::from_secs(n * 3600),
        b'M' => |n| Duration::from_secs(n * 60),
        b'S' => Duration::from_secs,
        b'm' => Duration::from_millis,
        b'u' => Duration::from_micros,
        b'n' => Duration::from_nanos,
        _ => return Err(format!("transport: timeout unit is not recognized: {}", text())),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        let digits = quoted(digits);
        return Err(format!("strconv.ParseUint: parsing {digits}: invalid syntax"));
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Ok(unit(number))
}

#[cfg(test)]
mod tests;
