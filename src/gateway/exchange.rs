//! Streaming calls: documents in, and one JSON document per chunk and line out.
//!
//! The requests are all in the body, which has come before the first of them is sent: HTTP/1 has no way back before. They are read
//! one after the other as the method takes them. The status of the answer follows from the first response.

use std::{
    future::poll_fn,
    ops::Range,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_lite::future;
use http::StatusCode;

use super::{
    calls::Gateway,
    document::{self, Fault},
    failure::{answered, http_status, json_response, refusal, stream_error},
    reader,
    routes::{Route, Routes},
    transcoder::Transcoder,
    unary,
};
use crate::{
    base::limits::{GATEWAY_DOCUMENT_PIECES_MAX, GATEWAY_REQUESTS_WAITING_MAX},
    frontend::{ClientWatch, More, WebPieces, WebRequest, WebResponse},
    rpc::{Code, LocalCall, LocalExchange, MethodKind, Status},
    services::ServiceHandler,
};

/// Begins the stream and answers when it has a first response.
pub(super) async fn answer(gateway: &Rc<Gateway>, route: &Route, request: &WebRequest) -> WebResponse {
    let call = match gateway.call(route, request) {
        Ok(call) => call,
        Err(status) => return refusal(&status),
    };
    let mut exchange = match route.kind {
        MethodKind::BidiStream => Exchange::open(gateway, route, call, request.body.clone(), true),
        MethodKind::ServerStream | MethodKind::Unary => match unary::message(gateway, route, &request.body) {
            Ok(message) => Exchange::with_one_request(gateway, route, call, message),
            Err(status) => return refusal(&status),
        },
    };
    let left = async {
        request.client.left().await;
        Err(Status::canceled())
    };
    let first = future::or(poll_fn(|context| exchange.poll_next(context)), left).await;
    match first {
        Ok(first) => {
            let mut response = answered(StatusCode::OK, Bytes::new());
            let pieces = Pieces { first: Some(first), exchange: Some(exchange), client: request.client.clone() };
            response.more = More::Pieces(Box::new(pieces));
            response
        }
        Err(Status { code: Code::Ok, .. }) => {
            let mut response = json_response(StatusCode::OK, Bytes::new());
            response.headers.clear();
            response
        }
        Err(status) => json_response(http_status(status.code), stream_error(&status)),
    }
}

/// A streaming call with its documents.
pub(super) struct Exchange {
    call: LocalExchange<ServiceHandler>,
    gateway: Rc<Gateway>,
    route: Route,
    /// Documents that are not requests yet, and where they begin.
    body: Bytes,
    at: usize,
    /// No more of the body will come.
    is_complete: bool,
    has_ended_requests: bool,
    /// The body is not what the method takes.
    fault: Option<Status>,
    /// How much of the body there was when its document was found to be incomplete last, and how often that was.
    incomplete: (usize, u32),
}

impl Exchange {
    pub(super) fn open(
        gateway: &Rc<Gateway>,
        route: &Route,
        call: LocalCall<ServiceHandler>,
        body: Bytes,
        is_complete: bool,
    ) -> Exchange {
        Exchange {
            call: call.stream(),
            gateway: Rc::clone(gateway),
            route: *route,
            body,
            at: 0,
            is_complete,
            has_ended_requests: false,
            fault: None,
            incomplete: (0, 0),
        }
    }

    pub(super) fn with_one_request(
        gateway: &Rc<Gateway>,
        route: &Route,
        call: LocalCall<ServiceHandler>,
        message: Bytes,
    ) -> Exchange {
        let mut exchange = Exchange::open(gateway, route, call, Bytes::new(), true);
        exchange.fault = exchange.call.send(message).err();
        exchange
    }

    /// More of the body.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.body = [&self.body[self.at..], bytes].concat().into();
        self.at = 0;
        self.incomplete.0 = 0;
    }

    /// Bytes of documents that the method has not taken.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.body.len() - self.at
    }

    /// The next response as a line; after the last the status.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        self.send_requests();
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Err(fault));
        }
        let next = ready!(self.call.poll_next(context));
        Poll::Ready(next.map(|message| line(&self.gateway.routes, &self.route, &message)))
    }

    /// Sends the documents for which there is room.
    fn send_requests(&mut self) {
        while !self.has_ended_requests
            && self.fault.is_none()
            && self.call.waiting_requests() < GATEWAY_REQUESTS_WAITING_MAX
        {
            if self.incomplete.0 == self.body.len() && !self.is_complete {
                return;
            }
            match document::find(&self.body, self.at) {
                Ok(Some(found)) => self.send(found),
                Ok(None) if !self.is_complete => return,
                // It is looked at from its begin each time, so not as often as the client likes.
                Err(Fault::UnexpectedEnd) if self.may_be_continued() => {
                    self.incomplete = (self.body.len(), self.incomplete.1 + 1);
                    return;
                }
                Ok(None) => {
                    self.has_ended_requests = true;
                    self.call.end_requests();
                }
                Err(fault) => self.refuse(&fault.text()),
            }
        }
    }

    fn may_be_continued(&self) -> bool {
        !self.is_complete
            && self.incomplete.1 < GATEWAY_DOCUMENT_PIECES_MAX
            && self.waiting_bytes() < self.gateway.body_bytes_max()
    }

    fn send(&mut self, found: Range<usize>) {
        self.at = found.end;
        self.incomplete = (0, 0);
        match reader::read(&self.body[found], self.route.request, &self.gateway.routes.shapes) {
            Ok(message) => self.fault = self.call.send(message.into()).err(),
            Err(text) => self.refuse(&text),
        }
    }

    fn refuse(&mut self, text: &str) {
        self.fault = Some(Status::new(Code::InvalidArgument, format!("Failed to decode request: {text}")));
    }
}

/// One response as grpc-gateway frames it.
fn line(routes: &Routes, route: &Route, message: &Bytes) -> Bytes {
    let mut out = br#"{"result":"#.to_vec();
    let mut transcoder = Transcoder::begin(&routes.shapes, route.response, message.len() as u64, &mut out);
    transcoder.feed(message, &mut out).expect("the message was encoded by this member");
    debug_assert!(transcoder.is_done(), "the message is complete");
    out.extend_from_slice(b"}\n");
    out.into()
}

/// The body of a streamed answer.
struct Pieces {
    first: Option<Bytes>,
    /// `None` after its end.
    exchange: Option<Exchange>,
    client: ClientWatch,
}

impl WebPieces for Pieces {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.client.poll_left(context).is_ready() {
            self.exchange = None;
        }
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        match ready!(exchange.poll_next(context)) {
            Ok(line) => Poll::Ready(Some(line)),
            Err(status) => {
                self.exchange = None;
                Poll::Ready((status.code != Code::Ok).then(|| stream_error(&status).into()))
            }
        }
    }
}
