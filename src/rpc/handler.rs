//! What a server implements: sync for unary calls, a pair of stream ends for the others.

use bytes::Bytes;

use super::{
    answer::Reply,
    call::{Call, CallReport},
    inbox::Responder,
    method::MethodId,
    streams::{Inbound, Outbound},
};

/// The meaning of the methods in a table. All of it runs on the connection's core.
pub trait Handler: 'static {
    /// Answers a unary call. `Some` is the answer; `None` means that `responder` was kept and will be used later.
    /// Must not block: the other requests of this turn wait.
    fn unary(&self, call: &Call, message: Bytes, responder: Responder) -> Option<Reply>;

    /// Starts a streaming call; usually spawns a task that ends with [`Outbound::finish`].
    fn streaming(&self, call: Call, inbound: Inbound, outbound: Outbound);

    /// Sees the end of every call that reached the handler: handling seconds, sizes per user and the like.
    fn handled(&self, _report: &CallReport<'_>) {}

    /// What the slow-request log says about a unary call beyond sizes and times.
    fn describe(&self, _method: MethodId, _request: &Bytes, _reply: &Reply) -> Description {
        Description::default()
    }
}

/// etcd's `request stats`: how many things were asked for and found, and the request in words (without values).
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
