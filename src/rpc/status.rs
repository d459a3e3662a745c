//! How a call ended: gRPC's seventeen codes and a message.

use std::{borrow::Cow, fmt::Write};

use http::HeaderValue;

/// gRPC status codes; the numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// In the order of their numbers.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Canceled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The name in metrics and logs (grpc-go's spelling).
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "OK",
            Code::Canceled => "Canceled",
            Code::Unknown => "Unknown",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::AlreadyExists => "AlreadyExists",
            Code::PermissionDenied => "PermissionDenied",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::Aborted => "Aborted",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
            Code::Unauthenticated => "Unauthenticated",
        }
    }

    /// The value of the `grpc-status` header.
    pub(super) fn header(self) -> HeaderValue {
        const DIGITS: [&str; 17] =
            ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
        HeaderValue::from_static(DIGITS[self as usize])
    }
}

/// A refusal or failure of a call, or its plain success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Status {
    pub const OK: Status = Status { code: Code::Ok, message: Cow::Borrowed("") };

    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// What a call gets whose time ran out.
    pub fn deadline_exceeded() -> Status {
        Status::new(Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// What a call gets whose client went away.
    pub fn canceled() -> Status {
        Status::new(Code::Canceled, "context canceled")
    }
}

/// The `grpc-message` header: bytes outside `' '..='~'` and the percent sign as `%XX`.
pub(super) fn encode_message(message: &str) -> HeaderValue {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    let encoded = if message.bytes().all(plain) {
        HeaderValue::from_str(message)
    } else {
        let mut text = String::with_capacity(message.len() + 16);
        for byte in message.bytes() {
            if plain(byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
        HeaderValue::from_str(&text)
    };
    encoded.expect("only printable ASCII is left after encoding")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_order() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(code.header().to_str().unwrap(), number.to_string());
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        for (message, encoded) in [
            ("etcdserver: no leader", "etcdserver: no leader"),
            ("", ""),
            ("100%", "100%25"),
            ("a\nb", "a%0Ab"),
            ("käse", "k%C3%A4se"),
        ] {
            assert_eq!(encode_message(message), encoded);
        }
    }
}
