//! One WebSocket connection: the client's messages are the documents of a call, each response is a text message.
//!
//! The frames are tungstenite's, which works on memory here: what the socket has is put in, what it writes is sent.
//!
//! | state | leaves when |
//! |---|---|
//! | `Waiting`: of a method with one request, until its document has come | it has: to `Open` or `Unary` |
//! | `Open`: responses go out, requests come in | the call ends: its error, if there is one, is the last message |
//! | `Unary`: a call under way | it is answered |
//! | `Closing`: everything is said | all is sent and the client has closed, or LINGER_MS_MAX passed |
//!
//! Bounds: the client is not read while a message of documents waits, and a call is not asked while STREAM_SEND_BUFFER_BYTES wait to be
//! sent.

use std::{
    future::{Future, poll_fn},
    io::{self, Read, Write},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::future;
use tungstenite::{
    Error, Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use super::{
    calls::Gateway,
    document::{self, Fault},
    exchange::Exchange,
    failure::{members, routing_error, stream_error},
    routes::Route,
    unary,
};
use crate::{
    base::limits::{GATEWAY_DOCUMENT_PIECES_MAX, LINGER_MS_MAX, STREAM_SEND_BUFFER_BYTES},
    frontend::WebRequest,
    os::{Alarm, tls::Stream},
    rpc::{Code, Drain, MethodKind, Stage, Status},
};

const READ_BYTES: usize = 8 * 1024;
/// Rounds of one poll before other tasks run.
const ROUNDS_PER_TURN: usize = 16;

/// Serves the connection to its end.
pub(super) async fn serve(gateway: Rc<Gateway>, request: WebRequest, stream: Stream, unread: Bytes, drain: Rc<Drain>) {
    let bytes_max = gateway.body_bytes_max();
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(bytes_max))
        .max_frame_size(Some(bytes_max));
    let memory = Memory { incoming: BytesMut::from(unread), outgoing: BytesMut::new() };
    let state = State::begin(&gateway, &request);
    let mut session = Session {
        gateway,
        request,
        stream,
        socket: WebSocket::from_raw_socket(memory, Role::Server, Some(config)),
        buffer: vec![0; READ_BYTES],
        state,
        alarm: Alarm::default(),
    };
    let aborted = drain.reached(Stage::Aborting);
    future::or(aborted, poll_fn(|context| session.poll(context))).await;
}

/// The memory between the frames and the socket.
struct Memory {
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Read for Memory {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.incoming.len().min(into.len());
        into[..count].copy_from_slice(&self.incoming[..count]);
        self.incoming.advance(count);
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Session {
    gateway: Rc<Gateway>,
    request: WebRequest,
    stream: Stream,
    socket: WebSocket<Memory>,
    buffer: Vec<u8>,
    state: State,
    alarm: Alarm,
}

enum State {
    /// With what has come of the document, in how many messages.
    Waiting(Route, BytesMut, u32),
    Open(Box<Exchange>),
    Unary(Pin<Box<dyn Future<Output = Vec<u8>>>>),
    Closing(Instant),
}

impl State {
    fn begin(gateway: &Rc<Gateway>, request: &WebRequest) -> State {
        let Some(route) = gateway.route(&request.path) else {
            let text = members(&routing_error(http::StatusCode::NOT_FOUND));
            return State::said(text.into_bytes());
        };
        match route.kind {
            MethodKind::Unary | MethodKind::ServerStream => State::Waiting(*route, BytesMut::new(), 0),
            MethodKind::BidiStream => match gateway.call(route, request) {
                Ok(call) => State::Open(Box::new(Exchange::open(gateway, route, call, Bytes::new(), false))),
                Err(status) => State::said(members(&status).into_bytes()),
            },
        }
    }

    /// One message to say, and no more.
    fn said(text: Vec<u8>) -> State {
        State::Unary(Box::pin(async { text }))
    }

    /// Bytes of documents that wait for the call.
    fn waiting_bytes(&self) -> usize {
        match self {
            State::Waiting(_, body, _) => body.len(),
            State::Open(exchange) => exchange.waiting_bytes(),
            // Not taken, and not kept.
            State::Unary(_) | State::Closing(_) => 0,
        }
    }
}

impl Session {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS_PER_TURN {
            let Ok(mut has_moved) = self.send(context) else { return Poll::Ready(()) };
            has_moved |= self.respond(context);
            let Ok(received) = self.receive(context) else { return Poll::Ready(()) };
            has_moved |= received;
            if let State::Closing(until) = self.state {
                let is_closed = !self.socket.can_read() && self.socket.get_ref().outgoing.is_empty();
                let now = Instant::now();
                if is_closed || now >= until {
                    return Poll::Ready(());
                }
                self.alarm.arm(context, now, until);
            }
            if !has_moved {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what waits. `Err` if the client is gone.
    fn send(&mut self, context: &mut Context<'_>) -> Result<bool, ()> {
        // Fails when the connection is closed, and then there is nothing to flush.
        let _ = self.socket.flush();
        let outgoing = &mut self.socket.get_mut().outgoing;
        let mut has_moved = false;
        while !outgoing.is_empty() {
            match self.stream.poll_send(context, outgoing) {
                Poll::Ready(Ok(count)) => outgoing.advance(count),
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => break,
            }
            has_moved = true;
        }
        match self.stream.poll_flush(context) {
            Poll::Ready(Err(_)) => Err(()),
            _ => Ok(has_moved),
        }
    }

    /// Takes responses, as long as there is room.
    fn respond(&mut self, context: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        while self.socket.get_ref().outgoing.len() < STREAM_SEND_BUFFER_BYTES {
            let Poll::Ready((text, is_last)) = self.poll_text(context) else { break };
            has_moved = true;
            if !text.is_empty() {
                let text = String::from_utf8_lossy(text.trim_ascii_end()).into_owned();
                // Fails when the client has closed, which the next receive sees.
                let _ = self.socket.write(Message::text(text));
            }
            if is_last {
                let _ = self.socket.close(None);
                self.state = State::Closing(Instant::now() + Duration::from_millis(LINGER_MS_MAX));
                break;
            }
        }
        has_moved
    }

    /// The next message to the client, and whether it is the last.
    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<(Bytes, bool)> {
        match &mut self.state {
            State::Waiting(..) | State::Closing(_) => Poll::Pending,
            State::Unary(answer) => answer.as_mut().poll(context).map(|text| (text.into(), true)),
            State::Open(exchange) => Poll::Ready(match ready!(exchange.poll_next(context)) {
                Ok(line) => (line, false),
                Err(Status { code: Code::Ok, .. }) => (Bytes::new(), true),
                Err(status) => (stream_error(&status).into(), true),
            }),
        }
    }

    /// Reads from the client, unless a document waits. `Err` if it is gone.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<bool, ()> {
        if self.state.waiting_bytes() >= self.gateway.body_bytes_max() {
            return Ok(false);
        }
        let mut has_moved = self.take_messages()?;
        if has_moved {
            return Ok(true);
        }
        match self.stream.poll_receive(context, &mut self.buffer) {
            Poll::Pending => {}
            Poll::Ready(Ok(count)) if count > 0 => {
                self.socket.get_mut().incoming.extend_from_slice(&self.buffer[..count]);
                has_moved = true;
                self.take_messages()?;
            }
            Poll::Ready(_) => return Err(()),
        }
        Ok(has_moved)
    }

    /// Takes one message that has come, if there is one.
    fn take_messages(&mut self) -> Result<bool, ()> {
        let message = match self.socket.read() {
            Ok(message) => message,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                self.state = State::Closing(Instant::now());
                return Ok(false);
            }
            Err(error) => {
                tracing::warn!(%error, "error reading websocket message");
                return Err(());
            }
        };
        match message {
            Message::Text(text) => self.take(text.as_bytes()),
            Message::Binary(bytes) => self.take(&bytes),
            // Answered by the protocol.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(_) => {
                self.state = State::Closing(Instant::now() + Duration::from_millis(LINGER_MS_MAX));
            }
        }
        Ok(true)
    }

    /// A part of the request's body, which ends a line.
    fn take(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Open(exchange) => exchange.extend(&[bytes, b"\n"].concat()),
            State::Waiting(route, body, count) => {
                body.extend_from_slice(bytes);
                body.extend_from_slice(b"\n");
                *count += 1;
                // A message that ends within its document is continued by the next.
                let is_torn = matches!(document::find(body, 0), Ok(None) | Err(Fault::UnexpectedEnd));
                let may_go_on = *count < GATEWAY_DOCUMENT_PIECES_MAX && body.len() < self.gateway.body_bytes_max();
                if !is_torn || !may_go_on {
                    let (route, body) = (*route, body.split().freeze());
                    self.state = self.begin_with_one_request(&route, &body);
                }
            }
            State::Unary(_) | State::Closing(_) => {}
        }
    }

    /// The call of a method that takes one request.
    fn begin_with_one_request(&self, route: &Route, body: &[u8]) -> State {
        let call = self.gateway.call(route, &self.request);
        let made = call.and_then(|call| Ok((call, unary::message(&self.gateway, route, body)?)));
        let (call, message) = match made {
            Ok(made) => made,
            Err(status) => return State::said(members(&status).into_bytes()),
        };
        if route.kind == MethodKind::ServerStream {
            return State::Open(Box::new(Exchange::with_one_request(&self.gateway, route, call, message)));
        }
        let (gateway, response) = (Rc::clone(&self.gateway), route.response);
        State::Unary(Box::pin(async move {
            let reply = call.unary(message).await;
            unary::whole_text(&gateway, response, reply).unwrap_or_else(|status| members(&status).into_bytes())
        }))
    }
}
