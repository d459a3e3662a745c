//! A call before its first message, and the report of a finished one.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{head::Head, method::MethodId, spans::CallSpan, status::Code};
use crate::os::net::Peer;

/// One call: its method, peer and deadline.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: MethodId,
    pub peer: Peer,
    /// Common name of the client's certificate, which an authority of `--trusted-ca-file` has signed. `None` without one.
    pub common_name: Option<Rc<str>>,
    /// When its head was read.
    pub started: Instant,
    pub deadline: Option<Instant>,
    /// `None` unless it is traced.
    pub span: Option<Rc<CallSpan>>,
    head: Rc<Head>,
}

/// The other side of a connection.
pub(super) struct Caller {
    pub(super) peer: Peer,
    pub(super) common_name: Option<Rc<str>>,
}

impl Call {
    pub(super) fn new(
        method: MethodId,
        caller: Caller,
        started: Instant,
        timeout: Option<Duration>,
        head: Rc<Head>,
    ) -> Call {
        let deadline = timeout.and_then(|timeout| started.checked_add(timeout));
        let Caller { peer, common_name } = caller;
        Call { method, peer, common_name, started, deadline, span: None, head }
    }

    /// The same call, traced.
    pub(super) fn with_span(self, begin: impl FnOnce(&Head) -> Option<Rc<CallSpan>>) -> Call {
        let span = begin(&self.head);
        Call { span, ..self }
    }

    /// First value of an ASCII metadata key (lower case).
    pub fn metadata(&self, key: &str) -> Option<&[u8]> {
        self.head.field(key.as_bytes())
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

/// A finished call.
#[derive(Debug)]
pub struct CallReport<'a> {
    pub method: MethodId,
    pub path: &'a str,
    pub peer: Peer,
    pub code: Code,
    pub started: Instant,
    pub finished: Instant,
    /// Messages and their bytes (unary: one request, at most one response).
    pub received: Traffic,
    pub sent: Traffic,
    pub(super) span: Option<&'a CallSpan>,
}

impl CallReport<'_> {
    pub fn duration(&self) -> Duration {
        self.finished.saturating_duration_since(self.started)
    }
}

/// Messages in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub messages: u64,
    pub bytes: u64,
}

impl Traffic {
    /// One message.
    pub fn one(bytes: u64) -> Traffic {
        Traffic { messages: 1, bytes }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}
