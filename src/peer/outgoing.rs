//! A stream that a member has opened here, and what is sent on it.
//!
//! | state | a message | the member opens a stream | the stream breaks |
//! |---|---|---|---|
//! | no stream | goes another way | its body is attached | |
//! | a stream | waits; dropped when too much waits | the older one ends, what waits is lost | what waits is lost |
//!
//! The connection's task encodes them when it can send. All messages of one turn are in one buffer by then, so they leave in one send.
//! Where many bytes wait, for a member that lags, they leave in slices, and after each slice the other tasks of the core run.

use std::{
    cell::RefCell,
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use prost::Message as _;

use super::{
    codec::{Encoder, Framing, link_heartbeat},
    link::Link,
};
use crate::{
    base::limits::{PEER_HEARTBEAT_MS, PEER_STREAM_BYTES_MAX, PEER_STREAM_MESSAGES_MAX, PEER_STREAM_SLICE_BYTES},
    os::{self, Alarm, clock},
    proto::raftpb::Message,
};

/// The sending end of one kind of stream to one member.
pub(super) struct Outgoing {
    link: Rc<Link>,
    framing: Framing,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Counts streams; the last one is the one in use.
    streams: u64,
    encoder: Option<Encoder>,
    /// Not yet with the connection.
    waiting: VecDeque<Message>,
    /// Protobuf length of what waits.
    waiting_bytes: usize,
    waker: Option<Waker>,
}

impl State {
    /// The next messages as bytes: all that wait, or as many as fill a slice.
    fn slice(&mut self, encoder: &mut Encoder, out: &mut BytesMut) -> u64 {
        let mut bytes = 0;
        while bytes < PEER_STREAM_SLICE_BYTES {
            let Some(message) = self.waiting.pop_front() else { break };
            let length = message.encoded_len();
            encoder.encode(&message, out);
            self.waiting_bytes -= length;
            bytes += length;
        }
        bytes as u64
    }
}

/// Why a message does not go onto a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// The member has opened no stream of this kind.
    Closed,
    /// Too much waits.
    Full,
}

impl Outgoing {
    pub(super) fn new(link: Rc<Link>, framing: Framing) -> Rc<Self> {
        Rc::new(Self { link, framing, state: RefCell::default() })
    }

    /// Puts `message` onto the stream, or gives it back.
    // An error is moved; a box would cost an allocation per lost message.
    #[allow(clippy::result_large_err)]
    pub(super) fn send(&self, message: Message) -> Result<(), (NotSent, Message)> {
        let state = &mut *self.state.borrow_mut();
        if state.encoder.is_none() {
            return Err((NotSent::Closed, message));
        }
        if state.waiting.len() >= PEER_STREAM_MESSAGES_MAX || state.waiting_bytes >= PEER_STREAM_BYTES_MAX {
            return Err((NotSent::Full, message));
        }
        state.waiting_bytes += message.encoded_len();
        state.waiting.push_back(message);
        state.waker.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The member opened a stream: the body of its answer. An older stream ends.
    pub(super) fn attach(self: &Rc<Self>) -> StreamBody {
        let had_one = self.reset(Some(Encoder::new(self.framing)));
        let (writer, local) = (self.framing.title(), self.link.local());
        if had_one {
            tracing::warn!(
                stream_writer_type = writer,
                local_member_id = local,
                remote_peer_id = self.link.name,
                "closed TCP streaming connection with remote peer"
            );
        }
        tracing::info!(
            stream_writer_type = writer,
            local_member_id = local,
            remote_peer_id = self.link.name,
            "established TCP streaming connection with remote peer"
        );
        self.link.activate();
        StreamBody {
            stream: self.state.borrow().streams,
            outgoing: Rc::clone(self),
            beat_due: clock::now() + Duration::from_millis(PEER_HEARTBEAT_MS),
            alarm: Alarm::default(),
            pause: None,
        }
    }

    /// Ends the stream in use, if there is one.
    pub(super) fn close(&self) {
        self.reset(None);
    }

    /// Another stream, or none, takes the place of the one in use, whose waiting messages are lost. Says whether there was one.
    fn reset(&self, encoder: Option<Encoder>) -> bool {
        let old = {
            let state = &mut *self.state.borrow_mut();
            let streams = state.streams + 1;
            std::mem::replace(state, State { streams, encoder, ..State::default() })
        };
        old.waker.into_iter().for_each(Waker::wake);
        if !old.waiting.is_empty() {
            self.link.lost();
        }
        old.encoder.is_some()
    }

    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.state.borrow().encoder.is_some()
    }

    fn is_in_use(&self, stream: u64) -> bool {
        let state = self.state.borrow();
        state.streams == stream && state.encoder.is_some()
    }
}

/// The endless body of the answer to a stream request. Dropped with its connection.
pub(super) struct StreamBody {
    outgoing: Rc<Outgoing>,
    stream: u64,
    beat_due: Instant,
    alarm: Alarm,
    /// After a full slice.
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { outgoing, stream, beat_due, alarm, pause } = &mut *self;
        if let Some(yielding) = pause {
            ready!(yielding.as_mut().poll(context));
            *pause = None;
        }
        let state = &mut *outgoing.state.borrow_mut();
        if state.streams != *stream {
            return Poll::Ready(None);
        }
        let Some(mut encoder) = state.encoder.take() else { return Poll::Ready(None) };
        let now = clock::now();
        let (mut out, mut sent) = (BytesMut::new(), 0);
        if now >= *beat_due {
            let heartbeat = link_heartbeat();
            encoder.encode(&heartbeat, &mut out);
            sent += heartbeat.encoded_len() as u64;
            *beat_due = now + Duration::from_millis(PEER_HEARTBEAT_MS);
        }
        sent += state.slice(&mut encoder, &mut out);
        if !state.waiting.is_empty() {
            *pause = Some(Box::pin(os::yield_now()));
        }
        state.encoder = Some(encoder);
        if out.is_empty() {
            alarm.arm(context, now, *beat_due);
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        outgoing.link.meter.sent_bytes.add(sent);
        Poll::Ready(Some(Ok(Frame::data(out.freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if !self.outgoing.is_in_use(self.stream) {
            return;
        }
        let outgoing = &self.outgoing;
        outgoing.close();
        tracing::warn!(
            stream_writer_type = outgoing.framing.title(),
            local_member_id = outgoing.link.local(),
            remote_peer_id = outgoing.link.name,
            "lost TCP streaming connection with remote peer"
        );
        outgoing.link.deactivate("write", outgoing.framing.title(), &"the connection ended");
    }
}
