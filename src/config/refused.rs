//! Why a start is refused.

/// A command line that cannot be followed: the text for standard error and the exit code etcd uses.
#[derive(Debug)]
pub struct Refused {
    pub text: String,
    pub exit: i32,
}

pub(super) fn refuse(exit: i32, text: impl Into<String>) -> Refused {
    Refused { text: text.into(), exit }
}
