//! Calls from inside the process, on the server's own core: another protocol's front makes them, without a connection or frames.
//!
//! They pass the same checks, counters and logs as calls over HTTP/2, and reach the same [`Handler`].
//!
//! ```text
//!   request -> Server::local (metadata as a client's head, grpc-go's checks) -> LocalCall --unary--> Reply
//!                                                                                         \-stream-> LocalExchange
//! ```

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    answer::Reply,
    call::{Call, CallReport, Caller, Traffic},
    handler::Handler,
    head::{Abort, Fields, Head, Rejected},
    inbox::Responder,
    local_reply::{self, LocalReply},
    local_stream::LocalStream,
    method::MethodId,
    server::Server,
    status::{Code, Status},
    streams::{Inbound, Outbound, StreamState},
};
use crate::os::{self, Alarm, net::Peer};

/// A call that passed the checks of its head.
pub struct LocalCall<H> {
    server: Rc<Server<H>>,
    call: Call,
}

impl<H: Handler> Server<H> {
    /// Begins a call of `method` for a client at `peer`. The names of `metadata` are in lower case.
    ///
    /// # Errors
    /// grpc-go would refuse the call by its metadata.
    pub fn local<'a>(
        self: &Rc<Self>,
        method: MethodId,
        peer: Peer,
        metadata: impl Iterator<Item = (&'a str, &'a [u8])>,
        timeout: Option<Duration>,
    ) -> Result<LocalCall<H>, Status> {
        let mut fields = Fields::default();
        fields.add(b":method", b"POST");
        fields.add(b":path", self.table.path(method).as_bytes());
        fields.add(b":authority", b"localhost");
        fields.add(b"content-type", b"application/grpc");
        for (name, value) in metadata {
            fields.add(name.as_bytes(), value);
        }
        let head = Rc::new(Head::new(fields, &Rc::default()));
        match &head.outcome {
            Ok(_) => {}
            Err(Rejected::Abort(Abort { status, .. }) | Rejected::Foreign(Abort { status, .. })) => {
                return Err(status.clone());
            }
            Err(Rejected::Reset(_)) => {
                return Err(Status::new(Code::Internal, "metadata contains names or values that HTTP/2 forbids"));
            }
        }
        if timeout == Some(Duration::ZERO) {
            return Err(Status::deadline_exceeded());
        }
        // Certificates of the caller's own clients stand for no user here.
        let caller = Caller { peer, common_name: None };
        let call = Call::new(method, caller, Instant::now(), timeout, head);
        let call = self.interceptors.trace(call, self.table.path(method), None);
        Ok(LocalCall { server: Rc::clone(self), call })
    }
}

impl<H: Handler> LocalCall<H> {
    /// Makes a unary call. Dropped before its end, the call is canceled.
    pub async fn unary(self, message: Bytes) -> Reply {
        check_size(&self.server, &message)?;
        self.server.interceptors.started(self.call.method);
        let waiting = Rc::new(LocalReply::default());
        let mut reporting = Reporting { made: self, request: message.clone(), is_open: true };
        let LocalCall { server, call } = &reporting.made;
        let caller = local_reply::Caller(Rc::clone(&waiting));
        let reply = match server.handler.unary(call, message, Responder::local(Rc::clone(&waiting))) {
            Some(reply) => reply,
            None => {
                let reply = poll_fn(|context| waiting.poll_reply(context));
                match call.deadline {
                    None => reply.await,
                    Some(due) => os::timeout(due.saturating_duration_since(Instant::now()), reply)
                        .await
                        .unwrap_or_else(|| Err(Status::deadline_exceeded())),
                }
            }
        };
        drop(caller);
        reporting.end(&reply);
        reply
    }

    /// Begins a streaming call.
    #[must_use]
    pub fn stream(self) -> LocalExchange<H> {
        let LocalCall { server, call } = self;
        let (stream, state) = (Rc::new(LocalStream::default()), Rc::new(StreamState::new()));
        server.interceptors.started(call.method);
        let (method, peer, started, deadline) = (call.method, call.peer, call.started, call.deadline);
        let (reporting, span) = (Rc::clone(&server), call.span.clone());
        let on_end = move |status: &Status, received, sent| {
            let path = reporting.table.path(method);
            let (code, finished, span) = (status.code, Instant::now(), span.as_deref());
            let report = CallReport { method, path, peer, code, started, finished, received, sent, span };
            reporting.interceptors.finished_stream(&reporting.handler, &report, status);
        };
        let inbound = Inbound::local(Rc::clone(&stream), Rc::clone(&state));
        let outbound = Outbound::local(Rc::clone(&stream), Rc::clone(&state), Box::new(on_end));
        server.handler.streaming(call, inbound, outbound);
        LocalExchange { server, stream, state, deadline, alarm: Alarm::default() }
    }
}

/// A unary call whose end is reported, also when its caller leaves.
struct Reporting<H: Handler> {
    made: LocalCall<H>,
    request: Bytes,
    is_open: bool,
}

impl<H: Handler> Reporting<H> {
    fn end(&mut self, reply: &Reply) {
        self.is_open = false;
        let LocalCall { server, call } = &self.made;
        let (code, sent) = match reply {
            Ok(body) => (Code::Ok, Traffic::one(body.length())),
            Err(status) => (status.code, Traffic::default()),
        };
        let report = CallReport {
            method: call.method,
            path: server.table.path(call.method),
            peer: call.peer,
            code,
            started: call.started,
            finished: Instant::now(),
            received: Traffic::one(self.request.len() as u64),
            sent,
            span: call.span.as_deref(),
        };
        server.interceptors.finished_unary(&server.handler, &report, &self.request, reply);
    }
}

impl<H: Handler> Drop for Reporting<H> {
    fn drop(&mut self) {
        if self.is_open {
            self.end(&Err(Status::canceled()));
        }
    }
}

/// The caller's end of a streaming call. Dropped, it cancels the call.
pub struct LocalExchange<H> {
    server: Rc<Server<H>>,
    stream: Rc<LocalStream>,
    state: Rc<StreamState>,
    deadline: Option<Instant>,
    alarm: Alarm,
}

impl<H: Handler> LocalExchange<H> {
    /// Sends a request. The caller bounds their number by [`LocalExchange::waiting_requests`].
    ///
    /// # Errors
    /// The request is too large.
    pub fn send(&self, message: Bytes) -> Result<(), Status> {
        check_size(&self.server, &message)?;
        self.stream.send_request(message);
        Ok(())
    }

    /// There are no more requests.
    pub fn end_requests(&self) {
        self.stream.end_requests();
    }

    /// Requests that the handler has not taken yet. A poll of [`LocalExchange::poll_next`] is woken when it takes one.
    #[must_use]
    pub fn waiting_requests(&self) -> usize {
        self.stream.waiting_requests()
    }

    /// The next response; after the last the status of the call.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        if let Some(due) = self.deadline {
            let now = Instant::now();
            if now >= due {
                self.state.expire();
                return Poll::Ready(Err(Status::deadline_exceeded()));
            }
            self.alarm.arm(context, now, due);
        }
        self.stream.poll_response(context)
    }
}

impl<H> Drop for LocalExchange<H> {
    fn drop(&mut self) {
        self.stream.abandon();
    }
}

/// grpc-go's limit of a message.
fn check_size<H: Handler>(server: &Server<H>, message: &Bytes) -> Result<(), Status> {
    let (length, limit) = (message.len(), server.settings().receive_bytes_max);
    if length <= limit {
        return Ok(());
    }
    let text = format!("grpc: received message larger than max ({length} vs. {limit})");
    Err(Status::new(Code::ResourceExhausted, text))
}
