//! The end of a command: its status and its message.

use std::io;

use crate::client::Error;

pub const ERROR: i32 = 1;
pub const BAD_CONNECTION: i32 = 2;
pub const INVALID_INPUT: i32 = 3;
pub const BAD_FEATURE: i32 = 4;
pub const INTERRUPTED: i32 = 5;
pub const BAD_ARGUMENTS: i32 = 128;
/// etcdctl's `os.Exit(-1)`, when the input of a password was interrupted.
pub const INTERRUPTED_PROMPT: i32 = 255;

/// The end of a command: its status, and what to print as `Error: ...`.
#[derive(Debug)]
pub struct Exit {
    pub code: i32,
    pub message: Option<String>,
}

impl Exit {
    pub fn new(code: i32, message: impl ToString) -> Self {
        Self { code, message: Some(message.to_string()) }
    }

    /// An end without a further message.
    pub fn silent(code: i32) -> Self {
        Self { code, message: None }
    }

    pub fn arguments(message: impl ToString) -> Self {
        Self::new(BAD_ARGUMENTS, message)
    }
}

impl From<io::Error> for Exit {
    /// The reader of the output has closed it, so no message is printed.
    fn from(_: io::Error) -> Self {
        Self::silent(ERROR)
    }
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        Self::new(ERROR, error)
    }
}
