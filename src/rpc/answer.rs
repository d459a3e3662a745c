//! Answers, and writing them: heads, trailers, whole messages and messages in pieces.

use std::{
    mem,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use h2::{SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    encoding::Encoding,
    frame::{COMPRESSED, PLAIN, Payload, prefix},
    head::Form,
    packing::{Packer, SLICE_BYTES, pack, packs},
    status::{Code, Status, encode_code, encode_message},
};
use crate::base::limits::{ANSWER_PIECE_BYTES, SEND_BYTES_MAX};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Pieces of a large answer per turn, before other streams and tasks run.
const PIECES_PER_TURN: usize = 2;

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

/// The head of a response whose messages follow.
pub(super) fn head(form: &Form) -> Response<()> {
    let mut response = empty(&form.content_type);
    if form.encoding == Encoding::Gzip {
        response.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn empty(content_type: &HeaderValue) -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    response
}

/// The trailers after the last message.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put_status(&mut trailers, status);
    trailers
}

/// A response without messages (trailers only).
pub(super) fn send_status(
    respond: &mut SendResponse<Payload>,
    http: StatusCode,
    content_type: &HeaderValue,
    status: &Status,
) {
    let mut response = empty(content_type);
    *response.status_mut() = http;
    put_status(response.headers_mut(), status);
    // Fails only when the client has reset the stream.
    let _ = respond.send_response(response, true);
}

/// Writes the answer of a unary call. A large one is returned as a [`Sending`], which the caller drives. Without
/// `room_to_pack`, messages of more than one slice are sent uncompressed.
/// `Err` if the client has reset the stream.
pub(super) fn send(
    respond: &mut SendResponse<Payload>,
    form: &Form,
    room_to_pack: bool,
    reply: Reply,
) -> Result<Option<Sending>, h2::Error> {
    let body = match reply {
        Ok(body) => body,
        Err(status) => {
            send_status(respond, StatusCode::OK, &form.content_type, &status);
            return Ok(None);
        }
    };
    let length = body.length();
    if length > SEND_BYTES_MAX {
        let text = format!("trying to send message larger than max ({length} vs. {SEND_BYTES_MAX})");
        send_status(respond, StatusCode::OK, &form.content_type, &Status::new(Code::ResourceExhausted, text));
        return Ok(None);
    }
    let packs = packs(form.encoding, length);
    let mut stream = respond.send_response(head(form), false)?;
    let payload = match body {
        Body::Message(bytes) if packs && bytes.len() <= SLICE_BYTES => Payload::packed(pack(&bytes)),
        Body::Message(bytes) if packs && room_to_pack => {
            return Ok(Some(Sending::packing(stream, Box::new(Whole(bytes)))));
        }
        Body::Message(bytes) => Payload::message(bytes),
        Body::Large(producer) if packs && room_to_pack => return Ok(Some(Sending::packing(stream, producer))),
        Body::Large(producer) => return Ok(Some(Sending::plain(stream, producer))),
    };
    stream.send_data(payload, false)?;
    stream.send_trailers(trailers(&Status::OK))?;
    Ok(None)
}

/// How much may be queued on `stream` now: at least one byte and at most about `want`. `None` when the stream is gone.
pub(super) fn poll_room(
    stream: &mut SendStream<Payload>,
    context: &mut Context<'_>,
    want: usize,
) -> Poll<Option<usize>> {
    stream.reserve_capacity(want);
    let room = stream.capacity();
    if room > 0 {
        return Poll::Ready(Some(room));
    }
    stream.poll_capacity(context).map(|room| room.and_then(Result::ok))
}

/// A large answer under way.
pub(super) struct Sending {
    stream: SendStream<Payload>,
    source: Source,
    /// Bytes of the message that the source has not produced yet.
    missing: u64,
    /// Produced, not queued.
    piece: BytesMut,
}

enum Source {
    Plain(Box<dyn Producer>),
    Packing(Box<dyn Producer>, Packer),
    Packed(Bytes),
}

impl Sending {
    fn plain(stream: SendStream<Payload>, producer: Box<dyn Producer>) -> Sending {
        let missing = producer.length();
        let piece = BytesMut::from(&prefix(PLAIN, missing)[..]);
        Sending { stream, source: Source::Plain(producer), missing, piece }
    }

    fn packing(stream: SendStream<Payload>, producer: Box<dyn Producer>) -> Sending {
        let missing = producer.length();
        Sending { stream, source: Source::Packing(producer, Packer::new()), missing, piece: BytesMut::new() }
    }

    pub(super) fn is_packing(&self) -> bool {
        matches!(self.source, Source::Packing(..))
    }

    /// Queues a few pieces. `true` when all are queued, or the client has reset the stream.
    pub(super) fn proceed(&mut self, waker: &Waker) -> bool {
        if self.is_packing() {
            self.pack();
            waker.wake_by_ref();
            return false;
        }
        for _ in 0..PIECES_PER_TURN {
            if self.piece.is_empty() && self.missing == 0 {
                let _ = self.stream.send_trailers(trailers(&Status::OK));
                return true;
            }
            match poll_room(&mut self.stream, &mut Context::from_waker(waker), ANSWER_PIECE_BYTES) {
                Poll::Pending => return false,
                Poll::Ready(None) => return true,
                Poll::Ready(Some(room)) => {
                    self.produce(ANSWER_PIECE_BYTES);
                    let ready = self.piece.split_to(room.min(self.piece.len())).freeze();
                    if self.stream.send_data(Payload::raw(ready), false).is_err() {
                        return true;
                    }
                }
            }
        }
        waker.wake_by_ref();
        false
    }

    /// Compresses a slice; after the last the message begins.
    fn pack(&mut self) {
        self.produce(SLICE_BYTES);
        let Source::Packing(_, packer) = &mut self.source else { return };
        packer.add(&self.piece);
        self.piece.clear();
        if self.missing > 0 {
            return;
        }
        if let Source::Packing(_, packer) = mem::replace(&mut self.source, Source::Packed(Bytes::new())) {
            let packed = packer.finish();
            self.missing = packed.len() as u64;
            self.piece.extend_from_slice(&prefix(COMPRESSED, self.missing));
            self.source = Source::Packed(packed);
        }
    }

    /// Fills the piece up to `size`, unless it is nearly that long.
    fn produce(&mut self, size: usize) {
        if self.missing == 0 || self.piece.len() >= size / 2 {
            return;
        }
        let before = self.piece.len();
        let room = (size - before).min(usize::try_from(self.missing).unwrap_or(usize::MAX));
        self.piece.reserve(room);
        match &mut self.source {
            Source::Plain(producer) | Source::Packing(producer, _) => producer.fill(&mut self.piece, room),
            Source::Packed(packed) => self.piece.extend_from_slice(&packed.split_to(room)),
        }
        let produced = self.piece.len() - before;
        assert!((1..=room).contains(&produced), "a producer gives what is asked for, and some of it");
        self.missing -= produced as u64;
    }
}

/// A complete message, sent in pieces.
struct Whole(Bytes);

impl Producer for Whole {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        out.extend_from_slice(&self.0.split_to(room.min(self.0.len())));
    }
}

fn put_status(headers: &mut HeaderMap, status: &Status) {
    headers.insert(GRPC_STATUS, encode_code(status.code));
    if !status.message.is_empty() {
        headers.insert(GRPC_MESSAGE, encode_message(&status.message));
    }
}
