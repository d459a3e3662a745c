//! The interface that a server implements: a function for unary calls, a pair of stream ends for the others.

use bytes::Bytes;

use super::{
    answer::Reply,
    call::{Call, CallReport},
    inbox::Responder,
    method::MethodId,
    streams::{Inbound, Outbound},
};

/// The methods of a server. All run on the connection's core.
pub trait Handler: 'static {
    /// Answers a unary call. `Some` is the answer; `None` means that `responder` was kept and will be used later.
    /// Must not block: the other requests of this turn wait.
    fn unary(&self, call: &Call, message: Bytes, responder: Responder) -> Option<Reply>;

    /// Starts a streaming call; usually spawns a task that ends with [`Outbound::finish`].
    fn streaming(&self, call: Call, inbound: Inbound, outbound: Outbound);

    /// Called at the end of every call that reached the handler, for metrics.
    fn handled(&self, _report: &CallReport<'_>) {}

    /// The description of a unary call in the slow-request log, beside sizes and times.
    fn describe(&self, _method: MethodId, _request: &Bytes, _reply: &Reply) -> Description {
        Description::default()
    }
}

/// etcd's `request stats`: numbers of items requested and found, and the request as text (without values).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub request_count: i64,
    pub response_count: i64,
    pub request_content: String,
}

impl Default for Description {
    fn default() -> Description {
        Description { request_count: -1, response_count: -1, request_content: String::new() }
    }
}
