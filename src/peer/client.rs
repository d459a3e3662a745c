//! A small HTTP/1.1 client for the peer ports of other members, usable on any executor of ringd.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::{Builder, SendRequest},
};

use super::{
    bodies::{BodyError, Pieces, WholeBody},
    http_io::{self, Dialing},
};
use crate::{
    base::limits::PEER_ANSWER_BYTES_MAX,
    os::{self, tls::Secrets},
};

/// The answer to a request, its body complete.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url:?} is not a URL of a member")]
    Url { url: String },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        Self::Io(error.into())
    }
}

/// What requests to `https` are made with, on every core.
static SECRETS: OnceLock<Arc<Secrets>> = OnceLock::new();

/// From now on [`request`] reaches `https`, with these. For use at start; a second call changes nothing.
pub fn secure(secrets: Arc<Secrets>) {
    SECRETS.get_or_init(|| secrets);
}

/// Sends one request over a connection of its own and waits for the whole answer. A `Host` is added.
///
/// # Errors
/// No connection, or no answer in time. Any status is an answer.
pub async fn request(
    method: Method,
    url: &str,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
) -> Result<Response, Error> {
    request_with(SECRETS.get().cloned(), method, url, headers, body, timeout).await
}

/// [`request`], also to `https` with these certificates.
///
/// # Errors
/// As [`request`].
pub async fn request_with(
    secrets: Option<Arc<Secrets>>,
    method: Method,
    url: &str,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
) -> Result<Response, Error> {
    let bad_url = || Error::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| bad_url())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = prepare(&uri, method, path, headers, WholeBody(Some(body))).ok_or_else(bad_url)?;
    let asking = async {
        let mut sender = open(&uri, &Dialing { timeout, secrets }, timeout).await?;
        answer(sender.send_request(request).await?, PEER_ANSWER_BYTES_MAX).await
    };
    os::timeout(timeout, asking).await.ok_or(Error::Late(timeout))?
}

/// A request to the host of `url`; `None` if its parts make none.
pub(super) fn prepare<B>(url: &Uri, method: Method, path: &str, headers: HeaderMap, body: B) -> Option<Request<B>> {
    let mut request = Request::builder().method(method).uri(path).body(body).ok()?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(url.authority()?.as_str()).ok()?;
    request.headers_mut().insert(header::HOST, host);
    Some(request)
}

/// A connection to the host of `url`. It ends when its requests and the sender are gone, or when nothing could be sent for
/// `patience`.
pub(super) async fn open<B>(url: &Uri, dialing: &Dialing, patience: Duration) -> Result<SendRequest<B>, Error>
where
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = http_io::connect(url, dialing, patience).await?;
    let (sender, connection) = Builder::new().title_case_headers(true).handshake(io).await?;
    os::spawn_local(async move {
        // How it ends is seen by its requests.
        let _ended = connection.await;
    });
    Ok(sender)
}

/// Waits for the body of an answer.
pub(super) async fn answer(response: http::Response<Incoming>, length_max: usize) -> Result<Response, Error> {
    let (parts, body) = response.into_parts();
    let body = Pieces::new(body).whole(length_max).await?;
    Ok(Response { status: parts.status, headers: parts.headers, body })
}
