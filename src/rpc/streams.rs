//! The two ends of a streaming call, for its handler.
//!
//! They work on HTTP/2's stream directly: messages that a handler's task sends go into the connection's queue, and the
//! connection's task wakes once to send all that were queued meanwhile. Both ends report the end of the call: the
//! client cancels, its connection breaks or its deadline passes.
//!
//! Bounds: a stream holds at most STREAM_SEND_BUFFER_BYTES that the client has not made room for, beyond the one message
//! being sent; inbound, HTTP/2's window and one message.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    mem,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream, server::SendResponse};

use super::{
    answer,
    call::Traffic,
    encoding::Encoding,
    frame::{Assembler, COMPRESSED, PLAIN, PREFIX_BYTES, Payload, prefix},
    head::Form,
    inbox::unanswered,
    local_stream::LocalStream,
    messages::Messages,
    packing::{pack_in_slices, packs},
    status::{Code, Status},
};
use crate::base::limits::{SEND_BYTES_MAX, STREAM_SEND_BUFFER_BYTES};

/// The state of a stream that both ends and the connection share.
pub(super) struct StreamState {
    expired: Cell<bool>,
    wakers: RefCell<[Option<Waker>; 2]>,
    received: Cell<Traffic>,
}

const INBOUND: usize = 0;
const OUTBOUND: usize = 1;

impl StreamState {
    pub(super) fn new() -> StreamState {
        StreamState { expired: Cell::default(), wakers: RefCell::default(), received: Cell::default() }
    }

    /// The deadline passed.
    pub(super) fn expire(&self) {
        self.expired.set(true);
        for waker in self.wakers.take().into_iter().flatten() {
            waker.wake();
        }
    }

    fn check(&self) -> Result<(), Status> {
        if self.expired.get() { Err(Status::deadline_exceeded()) } else { Ok(()) }
    }

    fn wait(&self, end: usize, waker: &Waker) {
        self.wakers.borrow_mut()[end] = Some(waker.clone());
    }
}

/// Messages from the client.
pub struct Inbound {
    source: Source,
    state: Rc<StreamState>,
}

/// Where the messages come from.
enum Source {
    Wire(WireSource),
    /// A caller in this process.
    Local(Rc<LocalStream>),
}

struct WireSource {
    stream: RecvStream,
    assembler: Assembler,
    limit: usize,
    /// The last message was unpacked: other tasks run before the next.
    unpacked: bool,
}

impl Inbound {
    pub(super) fn new(stream: RecvStream, encoding: Encoding, limit: usize, state: Rc<StreamState>) -> Inbound {
        let wire = WireSource { stream, assembler: Assembler::new(encoding), limit, unpacked: false };
        Inbound { source: Source::Wire(wire), state }
    }

    pub(super) fn local(stream: Rc<LocalStream>, state: Rc<StreamState>) -> Inbound {
        Inbound { source: Source::Local(stream), state }
    }

    /// The next message; `None` once the client has finished sending.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The one message of a server-streaming call, with grpc-go's errors if there are fewer or more.
    pub async fn only(&mut self) -> Result<Bytes, Status> {
        let violation = |text: &'static str| Status::new(Code::Internal, text);
        let message = self.next().await?.ok_or_else(|| {
            violation("cardinality violation: received no request message from non-client-streaming RPC")
        })?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => {
                Err(violation("cardinality violation: received multiple request messages for non-client-streaming RPC"))
            }
        }
    }

    /// [`Inbound::next`] for hand-written futures.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        self.state.check()?;
        let next = match &mut self.source {
            Source::Wire(wire) => wire.poll_next(context),
            Source::Local(stream) => stream.poll_request(context),
        };
        match &next {
            Poll::Pending => self.state.wait(INBOUND, context.waker()),
            Poll::Ready(Ok(Some(message))) => {
                let mut received = self.state.received.get();
                received.add(message.len());
                self.state.received.set(received);
            }
            Poll::Ready(_) => {}
        }
        next
    }
}

impl WireSource {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        if mem::take(&mut self.unpacked) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let decompressed = self.assembler.decompressed();
            if let Some(message) = self.assembler.next(self.limit)? {
                self.unpacked = self.assembler.decompressed() > decompressed;
                return Poll::Ready(Ok(Some(message)));
            }
            match self.stream.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) if self.assembler.is_torn() => {
                    return Poll::Ready(Err(Status::new(Code::Internal, "unexpected EOF")));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Status::canceled())),
                Poll::Ready(Some(Ok(data))) => {
                    // Fails only when the stream has ended, which the next poll reports.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.assembler.push(data);
                }
            }
        }
    }
}

/// Called once when a stream ends: how, and the traffic in and out.
pub(super) type StreamEnd = Box<dyn FnOnce(&Status, Traffic, Traffic)>;

/// Messages to the client. Dropped without [`Outbound::finish`], the call ends as `Unavailable`.
pub struct Outbound {
    sink: Sink,
    state: Rc<StreamState>,
    sent: Traffic,
    /// `None` once the call has ended.
    on_end: Option<StreamEnd>,
}

/// Where the messages go.
enum Sink {
    Wire(WireSink),
    /// A caller in this process.
    Local(Rc<LocalStream>),
}

struct WireSink {
    respond: SendResponse<Payload>,
    /// `None` before the first message.
    stream: Option<SendStream<Payload>>,
    form: Form,
}

impl Outbound {
    pub(super) fn new(
        respond: SendResponse<Payload>,
        form: Form,
        state: Rc<StreamState>,
        on_end: StreamEnd,
    ) -> Outbound {
        let sink = Sink::Wire(WireSink { respond, stream: None, form });
        Outbound { sink, state, sent: Traffic::default(), on_end: Some(on_end) }
    }

    pub(super) fn local(stream: Rc<LocalStream>, state: Rc<StreamState>, on_end: StreamEnd) -> Outbound {
        Outbound { sink: Sink::Local(stream), state, sent: Traffic::default(), on_end: Some(on_end) }
    }

    /// Sends one message; returns when all of it is queued, for which it may wait until the client reads.
    pub async fn send(&mut self, message: Bytes) -> Result<(), Status> {
        let length = message.len();
        if length as u64 > SEND_BYTES_MAX {
            let text = format!("trying to send message larger than max ({length} vs. {SEND_BYTES_MAX})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        match &mut self.sink {
            Sink::Wire(wire) => wire.send_one(&self.state, message).await?,
            Sink::Local(stream) => send_local(stream, &self.state, message).await?,
        }
        self.sent.add(length);
        Ok(())
    }

    /// Sends several messages as one; returns when all of them are queued, for which it may wait until the client reads.
    pub async fn send_all(&mut self, messages: Messages) -> Result<(), Status> {
        let sent = messages.traffic;
        let pieces = messages.into_pieces()?;
        match &mut self.sink {
            Sink::Wire(wire) => wire.send_framed(&self.state, pieces).await?,
            Sink::Local(stream) => {
                let mut assembler = Assembler::default();
                for piece in pieces {
                    assembler.push(piece);
                    while let Some(message) = assembler.next(SEND_BYTES_MAX as usize)? {
                        send_local(stream, &self.state, message).await?;
                    }
                }
            }
        }
        self.sent.messages += sent.messages;
        self.sent.bytes += sent.bytes;
        Ok(())
    }

    /// Ends the call.
    pub fn finish(mut self, result: Result<(), Status>) {
        self.end(result);
    }

    /// Resolves with the reason when the call has ended.
    pub async fn closed(&mut self) -> Status {
        poll_fn(|context| self.poll_closed(context)).await
    }

    /// [`Outbound::closed`] for hand-written futures.
    pub fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if let Err(status) = self.state.check() {
            return Poll::Ready(status);
        }
        let closed = match &mut self.sink {
            Sink::Wire(wire) => wire.poll_reset(context),
            Sink::Local(stream) => stream.poll_abandoned(context),
        };
        if closed.is_pending() {
            self.state.wait(OUTBOUND, context.waker());
        }
        closed
    }

    fn end(&mut self, result: Result<(), Status>) {
        let Some(on_end) = self.on_end.take() else { return };
        let status = result.err().unwrap_or(Status::OK);
        match &mut self.sink {
            Sink::Wire(wire) => wire.end(&status),
            Sink::Local(stream) => stream.end(status.clone()),
        }
        on_end(&status, self.state.received.get(), self.sent);
    }
}

async fn send_local(stream: &LocalStream, state: &StreamState, message: Bytes) -> Result<(), Status> {
    let mut message = Some(message);
    poll_fn(|context| {
        state.check()?;
        let sent = stream.poll_send(context, &mut message);
        if sent.is_pending() {
            state.wait(OUTBOUND, context.waker());
        }
        sent
    })
    .await
}

impl WireSink {
    fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let reset = match &mut self.stream {
            Some(stream) => stream.poll_reset(context),
            None => self.respond.poll_reset(context),
        };
        reset.map(|_| Status::canceled())
    }

    async fn send_framed(&mut self, state: &StreamState, pieces: Vec<Bytes>) -> Result<(), Status> {
        if self.form.encoding == Encoding::Gzip {
            return self.send_each(state, pieces).await;
        }
        for piece in pieces {
            self.send_pieces(state, piece).await?;
        }
        Ok(())
    }

    /// Framed messages, one by one, so that each can be compressed.
    async fn send_each(&mut self, state: &StreamState, pieces: Vec<Bytes>) -> Result<(), Status> {
        let mut assembler = Assembler::default();
        for piece in pieces {
            assembler.push(piece);
            while let Some(message) = assembler.next(SEND_BYTES_MAX as usize)? {
                self.send_one(state, message).await?;
            }
        }
        Ok(())
    }

    async fn send_one(&mut self, state: &StreamState, message: Bytes) -> Result<(), Status> {
        let (flag, message) = match packs(self.form.encoding, message.len() as u64) {
            true => (COMPRESSED, pack_in_slices(&message).await),
            false => (PLAIN, message),
        };
        let length = message.len();
        let room = self.room(state, PREFIX_BYTES + length).await?;
        if room >= PREFIX_BYTES + length {
            let payload = if flag == PLAIN { Payload::message(message) } else { Payload::packed(message) };
            return self.queue(payload);
        }
        self.send_pieces(state, Bytes::copy_from_slice(&prefix(flag, length as u64))).await?;
        self.send_pieces(state, message).await
    }

    async fn send_pieces(&mut self, state: &StreamState, mut bytes: Bytes) -> Result<(), Status> {
        while !bytes.is_empty() {
            let room = self.room(state, bytes.len()).await?;
            self.queue(Payload::raw(bytes.split_to(room.min(bytes.len()))))?;
        }
        Ok(())
    }

    /// Waits for room for at least one byte, and asks for `want`.
    async fn room(&mut self, state: &StreamState, want: usize) -> Result<usize, Status> {
        poll_fn(|context| {
            state.check()?;
            let room = answer::poll_room(self.open()?, context, want.min(STREAM_SEND_BUFFER_BYTES));
            if room.is_pending() {
                state.wait(OUTBOUND, context.waker());
            }
            room.map(|room| room.ok_or_else(Status::canceled))
        })
        .await
    }

    fn queue(&mut self, payload: Payload) -> Result<(), Status> {
        self.open()?.send_data(payload, false).map_err(|_| Status::canceled())
    }

    /// The stream, after the response's head.
    fn open(&mut self) -> Result<&mut SendStream<Payload>, Status> {
        if self.stream.is_none() {
            let stream = self.respond.send_response(answer::head(&self.form), false).map_err(|_| Status::canceled())?;
            self.stream = Some(stream);
        }
        self.stream.as_mut().ok_or_else(Status::canceled)
    }

    /// Errors here mean that the client has ended the call, and need no handling.
    fn end(&mut self, status: &Status) {
        match &mut self.stream {
            Some(stream) => {
                let _ = stream.send_trailers(answer::trailers(status));
            }
            None => answer::send_status(&mut self.respond, http::StatusCode::OK, &self.form.content_type, status),
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        if self.on_end.is_some() {
            let status = match self.poll_closed(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(status) => status,
                Poll::Pending => unanswered(),
            };
            self.end(Err(status));
        }
    }
}
