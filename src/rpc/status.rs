//! The status of a call: one of gRPC's codes and a message.

use std::{borrow::Cow, fmt::Write};

use http::HeaderValue;

pub use crate::base::code::Code;

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

    /// The status of a call whose deadline has passed.
    pub fn deadline_exceeded() -> Status {
        Status::new(Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// The status of a call whose client has ended it.
    pub fn canceled() -> Status {
        Status::new(Code::Canceled, "context canceled")
    }
}

/// The `grpc-status` header.
pub(super) fn encode_code(code: Code) -> HeaderValue {
    const DIGITS: [&str; Code::ALL.len()] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    HeaderValue::from_static(DIGITS[code as usize])
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
    fn codes_are_their_numbers() {
        for code in Code::ALL {
            assert_eq!(encode_code(code), (code as u8).to_string());
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
