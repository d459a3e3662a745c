//! HTTP/1 on the gRPC port, through hyper. Requests come complete; answers may be streams, or hand the connection to another protocol.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_lite::future;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    ext::ReasonPhrase,
    server::conn::http1::Builder,
    service::service_fn,
};

use super::http1_io::{ClientWatch, WebIo};
use crate::{
    base::limits::{HTTP1_BODY_BYTES_MAX, HTTP1_HEAD_BYTES_MAX, HTTP1_IDLE_MS_MAX, LINGER_MS_MAX},
    os::{self, net::Peer, tls::Stream},
    rpc::{Drain, Stage},
};

/// Size of the reads that discard a client's last bytes while its connection is closed.
const LAST_READ_BYTES: usize = 1024;

/// What a [`WebHandler`] returns.
pub type WebFuture = Pin<Box<dyn Future<Output = WebResponse>>>;

/// Answers the requests of a core that are not gRPC's.
pub trait WebHandler: 'static {
    fn http(&self, request: WebRequest) -> WebFuture;

    /// The longest body of a request for `path`.
    fn body_bytes_max(&self, _path: &str) -> usize {
        HTTP1_BODY_BYTES_MAX
    }

    /// The answer to a longer one.
    fn too_large(&self, _path: &str) -> WebResponse {
        WebResponse::new(StatusCode::PAYLOAD_TOO_LARGE, "text/plain; charset=utf-8", "request body too large\n")
    }
}

/// A request, its body complete.
pub struct WebRequest {
    pub method: Method,
    pub path: String,
    /// Without the question mark; empty if there is none.
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub identity: Rc<WebIdentity>,
    pub client: ClientWatch,
}

/// What is known of the connection that a request came on.
#[derive(Debug, Default)]
pub struct WebIdentity {
    pub is_secure: bool,
    /// `None` if it is not known.
    pub peer: Option<Peer>,
    /// Of the client's verified certificate.
    pub common_name: Option<Rc<str>>,
}

impl WebIdentity {
    pub(super) fn of(stream: &Stream) -> WebIdentity {
        WebIdentity { is_secure: stream.is_secure(), peer: Some(stream.peer()), common_name: stream.common_name() }
    }
}

/// A response.
#[derive(Debug)]
pub struct WebResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub more: More,
}

/// What follows the body that a response has at once.
pub enum More {
    Nothing,
    /// A body in pieces, instead of the one at once.
    Pieces(Box<dyn WebPieces>),
    /// Another protocol, after a response of status 101.
    Takeover(Takeover),
}

/// A body that is made while the client reads. Each piece is a chunk of its own, sent at once.
pub trait WebPieces {
    /// The next piece, not empty; `None` after the last. Not called while the connection has no room.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// Serves a connection in another protocol to its end, from the bytes on that were read already.
pub type Takeover = Box<dyn FnOnce(Stream, Bytes, Rc<Drain>) -> Pin<Box<dyn Future<Output = ()>>>>;

impl fmt::Debug for More {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            More::Nothing => "nothing",
            More::Pieces(_) => "pieces",
            More::Takeover(_) => "another protocol",
        })
    }
}

impl WebResponse {
    /// A body with its content type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> WebResponse {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        WebResponse { status, headers, body: body.into(), more: More::Nothing }
    }
}

/// What the requests of one connection share.
struct Shared<W> {
    web: Rc<W>,
    activity: Rc<Activity>,
    identity: Rc<WebIdentity>,
    client: ClientWatch,
    /// Set by the last request.
    takeover: RefCell<Option<Takeover>>,
}

/// Serves requests until the client leaves, is silent for too long, or the core drains.
pub(super) async fn serve<W: WebHandler>(web: Rc<W>, stream: Stream, first: Bytes, drain: &Rc<Drain>) {
    let activity = Rc::new(Activity { last: Cell::new(Instant::now()), busy: Cell::new(false) });
    let identity = WebIdentity::of(&stream);
    let io = WebIo::new(stream, first);
    let shared = Rc::new(Shared {
        web,
        activity: Rc::clone(&activity),
        identity: Rc::new(identity),
        client: io.watch(),
        takeover: RefCell::new(None),
    });
    let service = service_fn(|request| answer(Rc::clone(&shared), request));
    let mut builder = Builder::new();
    builder.max_buf_size(HTTP1_HEAD_BYTES_MAX).half_close(true);
    let mut served = pin!(builder.serve_connection(io, service).without_shutdown());
    let watch = async {
        future::or(drain.reached(Stage::Draining), activity.silence()).await;
        while activity.busy.get() && drain.stage() < Stage::Aborting {
            os::sleep(Duration::from_millis(20)).await;
        }
        None
    };
    // hyper's errors need no handling: it has answered a malformed request with 400, and a broken connection has no reader.
    let Some(Ok(parts)) = future::or(async { Some(served.as_mut().await) }, watch).await else { return };
    let Some((stream, unread)) = parts.io.into_stream() else { return };
    match shared.takeover.take() {
        Some(takeover) => {
            // What hyper has read comes before what it has not taken.
            let unread = [parts.read_buf, unread].concat();
            takeover(stream, unread.into(), Rc::clone(drain)).await;
        }
        None => close(stream).await,
    }
}

/// Closes an HTTP/1 socket without losing its last answer: closes the sending direction, then waits briefly for the client's end.
async fn close(mut stream: Stream) {
    let mut buffer = [0; LAST_READ_BYTES];
    let discard = async {
        if std::future::poll_fn(|context| std::task::Poll::Ready(stream.shutdown_send(context))).await.is_err() {
            return;
        }
        while stream.receive(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    os::timeout(Duration::from_millis(LINGER_MS_MAX), discard).await;
}

/// When the connection last finished a request, and whether one runs.
struct Activity {
    last: Cell<Instant>,
    busy: Cell<bool>,
}

impl Activity {
    /// Resolves when no request was completed for HTTP1_IDLE_MS_MAX; a byte now and then does not count.
    async fn silence(&self) {
        loop {
            let due = self.last.get() + Duration::from_millis(HTTP1_IDLE_MS_MAX);
            let now = Instant::now();
            if now >= due && !self.busy.get() {
                return;
            }
            os::sleep(due.saturating_duration_since(now).max(Duration::from_secs(1))).await;
        }
    }
}

async fn answer<W: WebHandler>(
    shared: Rc<Shared<W>>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, hyper::Error> {
    let (parts, body) = request.into_parts();
    if let Some(reason) = host_fault(parts.version, &parts.method, &parts.headers) {
        return Ok(bad_request(reason));
    }
    let path = parts.uri.path().to_owned();
    let body = collect(body, shared.web.body_bytes_max(&path)).await?;
    let busy = Busy::begin(&shared.activity);
    let response = match body {
        None => shared.web.too_large(&path),
        Some(body) => {
            let request = WebRequest {
                method: parts.method,
                path,
                query: parts.uri.query().unwrap_or_default().to_owned(),
                headers: parts.headers,
                body,
                identity: Rc::clone(&shared.identity),
                client: shared.client.clone(),
            };
            shared.web.http(request).await
        }
    };
    let body = match response.more {
        More::Nothing => AnswerBody::Whole(Some(response.body)),
        More::Pieces(pieces) => AnswerBody::Pieces { pieces, _busy: busy },
        More::Takeover(takeover) => {
            *shared.takeover.borrow_mut() = Some(takeover);
            AnswerBody::Whole(None)
        }
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    Ok(answer)
}

/// A request is being answered while this lives.
struct Busy(Rc<Activity>);

impl Busy {
    fn begin(activity: &Rc<Activity>) -> Busy {
        activity.busy.set(true);
        Busy(Rc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.last.set(Instant::now());
    }
}

/// The fault of a request's `Host`, in the words of Go's server.
fn host_fault(version: Version, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(byte);
    match (hosts.next(), hosts.next()) {
        (None, _) if version >= Version::HTTP_11 && method != Method::CONNECT => {
            Some("Bad Request: missing required Host header")
        }
        (Some(_), Some(_)) => Some("Bad Request"),
        (Some(host), None) if !host.as_bytes().iter().all(is_host_byte) => Some("Bad Request: malformed Host header"),
        _ => None,
    }
}

/// A refusal after which the connection ends.
fn bad_request(reason: &'static str) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::Whole(Some(format!("400 {reason}").into())));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    let fields = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CONNECTION, "close")];
    answer.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

/// The whole body, or `None` if it is too large.
async fn collect(mut body: Incoming, bytes_max: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut collected = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if collected.len() + data.len() > bytes_max {
                return Ok(None);
            }
            collected.extend_from_slice(&data);
        }
    }
    Ok(Some(collected.freeze()))
}

/// The body of a response.
enum AnswerBody {
    Whole(Option<Bytes>),
    Pieces { pieces: Box<dyn WebPieces>, _busy: Busy },
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = match &mut *self {
            AnswerBody::Whole(body) => Poll::Ready(body.take()),
            AnswerBody::Pieces { pieces, .. } => pieces.poll_piece(context),
        };
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole(body) if body.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            AnswerBody::Pieces { .. } => SizeHint::default(),
        }
    }
}
