//! Unary calls: one document in, one document out. A large answer becomes text while the client reads it.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_lite::future;
use http::StatusCode;

use super::{
    calls::Gateway,
    document,
    failure::{answered, refusal},
    reader,
    routes::Route,
    shapes::MessageId,
    transcoder::Transcoder,
};
use crate::{
    base::limits::ANSWER_PIECE_BYTES,
    frontend::{More, WebPieces, WebRequest, WebResponse},
    rpc::{Body, Code, Producer, Reply, Status},
};

/// Calls the method, unless the client leaves first.
pub(super) async fn answer(gateway: &Rc<Gateway>, route: &Route, request: &WebRequest) -> WebResponse {
    let call = gateway.call(route, request).and_then(|call| Ok((call, message(gateway, route, &request.body)?)));
    let (call, message) = match call {
        Ok(call) => call,
        Err(status) => return refusal(&status),
    };
    let left = async {
        request.client.left().await;
        Err(Status::canceled())
    };
    match future::or(call.unary(message), left).await {
        Ok(body) => text_of(gateway, route.response, body),
        Err(status) => refusal(&status),
    }
}

/// The message in the first document of a body; the empty one if there is none.
pub(super) fn message(gateway: &Gateway, route: &Route, body: &[u8]) -> Result<Bytes, Status> {
    let refused = |text: String| Status::new(Code::InvalidArgument, text);
    match document::find(body, 0) {
        Ok(None) => Ok(Bytes::new()),
        Ok(Some(found)) => {
            let read = reader::read(&body[found], route.request, &gateway.routes.shapes);
            read.map(Bytes::from).map_err(refused)
        }
        Err(fault) => Err(refused(fault.text())),
    }
}

/// A reply as one document.
pub(super) fn whole_text(gateway: &Gateway, message: MessageId, reply: Reply) -> Result<Vec<u8>, Status> {
    let mut text = Text::begin(gateway, message, reply?);
    let mut out = std::mem::take(&mut text.first);
    while let Some(piece) = text.next_piece() {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

fn text_of(gateway: &Gateway, message: MessageId, body: Body) -> WebResponse {
    let is_small = body.length() <= ANSWER_PIECE_BYTES as u64;
    let mut text = Text::begin(gateway, message, body);
    if is_small {
        let mut whole = std::mem::take(&mut text.first);
        while let Some(piece) = text.next_piece() {
            whole.extend_from_slice(&piece);
        }
        return answered(StatusCode::OK, whole);
    }
    let mut response = answered(StatusCode::OK, Bytes::new());
    response.more = More::Pieces(Box::new(text));
    response
}

/// A message that becomes text.
struct Text {
    source: Box<dyn Producer>,
    missing: u64,
    transcoder: Transcoder,
    /// What was written at the begin.
    first: Vec<u8>,
    buffer: BytesMut,
}

impl Text {
    fn begin(gateway: &Gateway, message: MessageId, body: Body) -> Text {
        let missing = body.length();
        let source: Box<dyn Producer> = match body {
            Body::Message(bytes) => Box::new(Whole(bytes)),
            Body::Large(producer) => producer,
        };
        let mut first = Vec::new();
        let transcoder = Transcoder::begin(&gateway.routes.shapes, message, missing, &mut first);
        Text { source, missing, transcoder, first, buffer: BytesMut::new() }
    }

    /// The text of the next bytes that complete any; `None` after the last.
    fn next_piece(&mut self) -> Option<Bytes> {
        let mut out = std::mem::take(&mut self.first);
        while self.missing > 0 {
            let room =
                usize::try_from(self.missing).map_or(ANSWER_PIECE_BYTES, |missing| missing.min(ANSWER_PIECE_BYTES));
            self.buffer.clear();
            self.source.fill(&mut self.buffer, room);
            self.missing -= self.buffer.len() as u64;
            self.transcoder.feed(&self.buffer, &mut out).expect("the message was encoded by this member");
            if !out.is_empty() {
                break;
            }
        }
        debug_assert!(self.missing > 0 || self.transcoder.is_done(), "the message is complete");
        (!out.is_empty()).then(|| out.into())
    }
}

impl WebPieces for Text {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Poll::Ready(self.next_piece())
    }
}

/// A message that is there already.
struct Whole(Bytes);

impl Producer for Whole {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        out.extend_from_slice(&self.0.split_to(room.min(self.0.len())));
    }
}
