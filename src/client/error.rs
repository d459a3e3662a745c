//! The error of a call: gRPC code and exact text, and how etcd's own client would print it.

use std::fmt;

pub use crate::base::code::Code;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A status sent by the server, or made by this client in the server's stead (message too large).
    #[error("{}", Printed(*.code, .message))]
    Status { code: Code, message: String },
    /// The connection broke after the request may have been sent.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Broken(String),
    /// No connection took the request: nothing was sent.
    #[error("rpc error: code = Unavailable desc = {0}")]
    NotSent(String),
    /// The deadline of the call passed.
    #[error("context deadline exceeded")]
    Deadline,
    /// The options have no endpoint.
    #[error("etcdclient: no available endpoints")]
    NoEndpoints,
    /// An endpoint that this client cannot use.
    #[error("endpoint {endpoint:?}: {reason}")]
    BadEndpoint { endpoint: String, reason: String },
}

impl Error {
    /// The status `code` with `message`.
    pub fn status(code: Code, message: impl Into<String>) -> Self {
        Self::Status { code, message: message.into() }
    }

    /// The gRPC code of the failure.
    pub fn code(&self) -> Code {
        match self {
            Self::Status { code, .. } => *code,
            Self::Broken(_) | Self::NotSent(_) => Code::Unavailable,
            Self::Deadline => Code::DeadlineExceeded,
            Self::NoEndpoints => Code::Unavailable,
            Self::BadEndpoint { .. } => Code::InvalidArgument,
        }
    }

    /// The server's text, without code.
    pub fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } | Self::Broken(message) | Self::NotSent(message) => message,
            Self::Deadline => "context deadline exceeded",
            Self::NoEndpoints => "etcdclient: no available endpoints",
            Self::BadEndpoint { reason, .. } => reason,
        }
    }
}

/// etcd's client prints a text it knows bare, any other status with its code.
struct Printed<'a>(Code, &'a str);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if KNOWN_TEXTS.contains(&self.1) {
            f.write_str(self.1)
        } else {
            write!(f, "rpc error: code = {:?} desc = {}", self.0, self.1)
        }
    }
}

/// The texts that etcd's client turns back into its typed errors.
const KNOWN_TEXTS: &[&str] = &[
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid sort option",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: too large lease TTL",
    "etcdserver: member ID already exist",
    "etcdserver: Peer URLs already exists",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: given member URLs are invalid",
    "etcdserver: member not found",
    "etcdserver: can only promote a learner member",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: too many learner members in cluster",
    "etcdserver: cluster ID mismatch",
    "etcdserver: request is too large",
    "etcdserver: too many requests",
    "etcdserver: root user does not exist",
    "etcdserver: root user does not have root role",
    "etcdserver: user name already exists",
    "etcdserver: user name is empty",
    "etcdserver: user name not found",
    "etcdserver: role name already exists",
    "etcdserver: role name not found",
    "etcdserver: role name is empty",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: permission denied",
    "etcdserver: role is not granted to the user",
    "etcdserver: permission is not granted to the role",
    "etcdserver: authentication is not enabled",
    "etcdserver: invalid auth token",
    "etcdserver: invalid auth management",
    "etcdserver: revision of auth store is old",
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: leader changed",
    "etcdserver: not capable",
    "etcdserver: server stopped",
    "etcdserver: request timed out",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
    "etcdserver: unhealthy cluster",
    "etcdserver: corrupt cluster",
    "etcdserver: rpc not supported for learner",
    "etcdserver: bad leader transferee",
    "etcdserver: wrong downgrade target version format",
    "etcdserver: invalid downgrade target version",
    "etcdserver: cluster version not found during downgrade",
    "etcdserver: cluster has a downgrade job in progress",
    "etcdserver: no inflight downgrade job",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_are_printed_bare_and_others_with_their_code() {
        let known = Error::status(Code::InvalidArgument, "etcdserver: key is not provided");
        assert_eq!(known.to_string(), "etcdserver: key is not provided");
        let unknown = Error::status(Code::Canceled, "etcdserver: request canceled");
        assert_eq!(unknown.to_string(), "rpc error: code = Canceled desc = etcdserver: request canceled");
    }

    #[test]
    fn codes_have_their_numbers() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(Code::from_number(number as u32), code);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
    }
}
