//! What a server implements: sync for unary calls, a pair of stream ends for the others.

use bytes::{Bytes, BytesMut};

use super::{
    call::Call,
    inbox::Responder,
    interceptors::CallReport,
    method::MethodId,
    status::Status,
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

/// The outcome of a unary call.
pub type Reply = Result<Body, Status>;

/// A response message.
pub enum Body {
    /// Encoded already.
    Message(Bytes),
    /// Encoded piece by piece while the client reads.
    Large(Box<dyn Producer>),
}

impl Body {
    /// Bytes of the message.
    pub fn length(&self) -> u64 {
        match self {
            Body::Message(bytes) => bytes.len() as u64,
            Body::Large(producer) => producer.length(),
        }
    }
}

/// Encodes one large message in pieces. Between two calls other tasks run, and as long as the client does not read,
/// `fill` is not called: the message never exists as a whole.
pub trait Producer {
    /// Exact length of the message; must not change.
    fn length(&self) -> u64;

    /// Appends the next at most `room` bytes of the message, at least one as long as any are left.
    fn fill(&mut self, out: &mut BytesMut, room: usize);
}
