//! HTTP/1 on the gRPC port, through hyper, for small requests and answers.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::future;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    ext::ReasonPhrase,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1::Builder,
    service::service_fn,
};

use crate::{
    base::limits::{HTTP1_BODY_BYTES_MAX, HTTP1_HEAD_BYTES_MAX, HTTP1_IDLE_MS_MAX, LINGER_MS_MAX},
    os::{self, tls::Stream},
    rpc::{Drain, Stage},
};

/// Bytes that hyper reads at a time.
const READ_BYTES: usize = 8 * 1024;

/// Size of the reads that discard a client's last bytes while its connection is closed.
const LAST_READ_BYTES: usize = 1024;

/// What a [`WebHandler`] returns.
pub type WebFuture = Pin<Box<dyn Future<Output = WebResponse>>>;

/// Answers the HTTP/1 requests of a core.
pub trait WebHandler: 'static {
    fn http(&self, request: WebRequest) -> WebFuture;
}

/// A request, its body complete.
#[derive(Debug)]
pub struct WebRequest {
    pub method: Method,
    pub path: String,
    /// Without the question mark; empty if there is none.
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub identity: Rc<WebIdentity>,
}

/// What is known of the connection that a request came on.
#[derive(Debug, Default)]
pub struct WebIdentity {
    pub is_secure: bool,
    /// Of the client's verified certificate.
    pub common_name: Option<Rc<str>>,
}

/// A response, its body complete.
#[derive(Debug)]
pub struct WebResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl WebResponse {
    /// A body with its content type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> WebResponse {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        WebResponse { status, headers, body: body.into() }
    }
}

/// Serves requests until the client leaves, is silent for too long, or the core drains.
pub(super) async fn serve<W: WebHandler>(web: Rc<W>, stream: Stream, first: Bytes, drain: &Rc<Drain>) {
    let activity = Rc::new(Activity { last: Cell::new(Instant::now()), busy: Cell::new(false) });
    let identity = Rc::new(WebIdentity { is_secure: stream.is_secure(), common_name: stream.common_name() });
    let io = WebIo { stream, first, buffer: BytesMut::zeroed(READ_BYTES) };
    let service = service_fn(|request| answer(web.clone(), activity.clone(), Rc::clone(&identity), request));
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
    if let Some(Ok(parts)) = future::or(async { Some(served.as_mut().await) }, watch).await {
        close(parts.io.stream).await;
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
    web: Rc<W>,
    activity: Rc<Activity>,
    identity: Rc<WebIdentity>,
    request: Request<Incoming>,
) -> Result<Response<WholeBody>, hyper::Error> {
    let (parts, body) = request.into_parts();
    if let Some(reason) = host_fault(parts.version, &parts.method, &parts.headers) {
        return Ok(bad_request(reason));
    }
    let response = match collect(body).await? {
        None => {
            WebResponse::new(StatusCode::PAYLOAD_TOO_LARGE, "text/plain; charset=utf-8", "request body too large\n")
        }
        Some(body) => {
            activity.busy.set(true);
            let request = WebRequest {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                headers: parts.headers,
                body,
                identity,
            };
            web.http(request).await
        }
    };
    activity.busy.set(false);
    activity.last.set(Instant::now());
    let mut answer = Response::new(WholeBody(Some(response.body)));
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;
    Ok(answer)
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
fn bad_request(reason: &'static str) -> Response<WholeBody> {
    let mut answer = Response::new(WholeBody(Some(format!("400 {reason}").into())));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    let fields = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CONNECTION, "close")];
    answer.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

/// The whole body, or `None` if it is too large.
async fn collect(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let mut collected = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if collected.len() + data.len() > HTTP1_BODY_BYTES_MAX {
                return Ok(None);
            }
            collected.extend_from_slice(&data);
        }
    }
    Ok(Some(collected.freeze()))
}

/// A response body in one piece.
struct WholeBody(Option<Bytes>);

impl Body for WholeBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// A stream as hyper wants it, with the bytes that were read already.
struct WebIo {
    stream: Stream,
    first: Bytes,
    buffer: BytesMut,
}

impl Read for WebIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let WebIo { stream, first, buffer } = &mut *self;
        if !first.is_empty() {
            let count = first.len().min(into.remaining());
            into.put_slice(&first[..count]);
            first.advance(count);
            return Poll::Ready(Ok(()));
        }
        let room = buffer.len().min(into.remaining());
        match stream.poll_receive(context, &mut buffer[..room]) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(count)) => {
                into.put_slice(&buffer[..count]);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Write for WebIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_send(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown_send(context))
    }
}
