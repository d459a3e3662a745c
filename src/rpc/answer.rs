//! Writing responses: heads, trailers, whole messages and messages in pieces.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use h2::{SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{
    frame::{Payload, prefix},
    handler::{Body, Producer, Reply},
    status::{Code, Status, encode_code, encode_message},
};
use crate::base::limits::{ANSWER_PIECE_BYTES, SEND_BYTES_MAX};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Pieces of a large answer per turn; then the other streams and tasks come first.
const PIECES_PER_TURN: usize = 2;

/// The head of a response whose messages follow.
pub(super) fn head(content_type: &HeaderValue) -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    response
}

/// What follows the last message.
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
    let mut response = head(content_type);
    *response.status_mut() = http;
    put_status(response.headers_mut(), status);
    // Fails only when the client has reset the stream.
    let _ = respond.send_response(response, true);
}

/// Writes the answer of a unary call. A large one comes back as the sending that remains to be driven.
/// `Err` if the client has reset the stream.
pub(super) fn send(
    respond: &mut SendResponse<Payload>,
    content_type: &HeaderValue,
    reply: Reply,
) -> Result<Option<Sending>, h2::Error> {
    let body = match reply {
        Ok(body) => body,
        Err(status) => {
            send_status(respond, StatusCode::OK, content_type, &status);
            return Ok(None);
        }
    };
    let length = body.length();
    if length > SEND_BYTES_MAX {
        let text = format!("trying to send message larger than max ({length} vs. {SEND_BYTES_MAX})");
        send_status(respond, StatusCode::OK, content_type, &Status::new(Code::ResourceExhausted, text));
        return Ok(None);
    }
    let mut stream = respond.send_response(head(content_type), false)?;
    match body {
        Body::Message(bytes) => {
            stream.send_data(Payload::message(bytes), false)?;
            stream.send_trailers(trailers(&Status::OK))?;
            Ok(None)
        }
        Body::Large(producer) => Ok(Some(Sending::new(stream, producer))),
    }
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
    producer: Box<dyn Producer>,
    /// Bytes of the message that the producer has not given yet.
    missing: u64,
    /// Produced, not queued.
    piece: BytesMut,
}

impl Sending {
    fn new(stream: SendStream<Payload>, producer: Box<dyn Producer>) -> Sending {
        let missing = producer.length();
        let piece = BytesMut::from(&prefix(missing)[..]);
        Sending { stream, producer, missing, piece }
    }

    /// Queues a few pieces. `true` when all is queued, or nobody wants it any more.
    pub(super) fn proceed(&mut self, waker: &Waker) -> bool {
        for _ in 0..PIECES_PER_TURN {
            if self.piece.is_empty() && self.missing == 0 {
                let _ = self.stream.send_trailers(trailers(&Status::OK));
                return true;
            }
            match poll_room(&mut self.stream, &mut Context::from_waker(waker), ANSWER_PIECE_BYTES) {
                Poll::Pending => return false,
                Poll::Ready(None) => return true,
                Poll::Ready(Some(room)) => {
                    self.produce();
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

    fn produce(&mut self) {
        if self.missing == 0 || self.piece.len() >= ANSWER_PIECE_BYTES / 2 {
            return;
        }
        let before = self.piece.len();
        let room = (ANSWER_PIECE_BYTES - before).min(usize::try_from(self.missing).unwrap_or(usize::MAX));
        self.piece.reserve(room);
        self.producer.fill(&mut self.piece, room);
        let produced = self.piece.len() - before;
        assert!((1..=room).contains(&produced), "a producer gives what is asked for, and some of it");
        self.missing -= produced as u64;
    }
}

fn put_status(headers: &mut HeaderMap, status: &Status) {
    headers.insert(GRPC_STATUS, encode_code(status.code));
    if !status.message.is_empty() {
        headers.insert(GRPC_MESSAGE, encode_message(&status.message));
    }
}
