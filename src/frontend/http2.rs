//! Pages over HTTP/2, beside gRPC on one connection: the same requests and answers as over HTTP/1.
//!
//! | differs from HTTP/1 | |
//! |---|---|
//! | the host | is `:authority`, and `host` only without it |
//! | a client that leaves | resets its stream: the page's task ends |
//! | another protocol on the connection (WebSocket) | is never asked for, because its headers are those of a connection |

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::SystemTime,
};

use bytes::Bytes;
use futures_lite::future;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};

use super::{
    http1::{More, WebHandler, WebIdentity, WebPieces, WebRequest, WebResponse},
    http1_io::ClientWatch,
};
use crate::rpc::{Exchange, Gone, Pages};

/// Fields that are about a connection of HTTP/1.
const OF_CONNECTIONS: [HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, HeaderName::from_static("keep-alive")];

/// The pages of one connection.
pub(super) struct Http2Pages<W> {
    pub(super) web: Rc<W>,
    pub(super) identity: Rc<WebIdentity>,
}

impl<W: WebHandler> Pages for Http2Pages<W> {
    fn serve(&self, exchange: Exchange) -> Pin<Box<dyn Future<Output = ()>>> {
        let (web, identity) = (Rc::clone(&self.web), Rc::clone(&self.identity));
        Box::pin(async move {
            // A client that has left needs no answer.
            let _left = answer(&*web, identity, exchange).await;
        })
    }
}

async fn answer<W: WebHandler>(web: &W, identity: Rc<WebIdentity>, mut exchange: Exchange) -> Result<(), Gone> {
    let Some(Asked { method, uri, headers }) = Asked::read(&exchange) else {
        let refusal = WebResponse::new(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", "400 Bad Request");
        return send(&mut exchange, refusal, true).await;
    };
    let has_body = method != Method::HEAD;
    let path = uri.path().to_owned();
    let response = match exchange.body(web.body_bytes_max(&path)).await? {
        None => web.too_large(&path),
        Some(body) => {
            let query = uri.query().unwrap_or_default().to_owned();
            let request = WebRequest { method, path, query, headers, body, identity, client: ClientWatch::default() };
            let answered = web.http(request);
            let left = async {
                exchange.gone().await;
                Err(Gone)
            };
            future::or(async { Ok(answered.await) }, left).await?
        }
    };
    send(&mut exchange, response, has_body).await
}

/// The head of a request.
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Asked {
    /// `None` if it is malformed.
    fn read(exchange: &Exchange) -> Option<Asked> {
        let (mut method, mut uri, mut authority, mut headers) = (None, None, None, HeaderMap::new());
        for (name, value) in exchange.fields() {
            match name {
                b":method" => method = Some(Method::from_bytes(value).ok()?),
                b":path" => uri = Some(Uri::try_from(value).ok()?),
                b":authority" => authority = Some(HeaderValue::from_bytes(value).ok()?),
                [b':', ..] => {}
                name => {
                    let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
                    if !OF_CONNECTIONS.contains(&name) {
                        headers.try_append(name, value).ok()?;
                    }
                }
            }
        }
        if let Some(authority) = authority {
            headers.insert(header::HOST, authority);
        }
        let uri = uri.filter(|uri: &Uri| uri.path().starts_with('/'))?;
        Some(Asked { method: method?, uri, headers })
    }
}

/// Sends a response, of which a request of HEAD gets the head alone.
async fn send(exchange: &mut Exchange, response: WebResponse, has_body: bool) -> Result<(), Gone> {
    let WebResponse { status, headers, body, more } = response;
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    let fields = head.headers_mut();
    OF_CONNECTIONS.iter().for_each(|name| drop(fields.remove(name)));
    let date = httpdate::fmt_http_date(SystemTime::now());
    fields.insert(header::DATE, HeaderValue::try_from(date).expect("a date is text"));
    match more {
        More::Pieces(pieces) => {
            exchange.begin(head, !has_body)?;
            if has_body { send_pieces(exchange, pieces).await } else { Ok(()) }
        }
        More::Nothing => {
            if !fields.contains_key(header::CONTENT_LENGTH) && status != StatusCode::NO_CONTENT {
                fields.insert(header::CONTENT_LENGTH, body.len().into());
            }
            let is_whole = !has_body || body.is_empty();
            exchange.begin(head, is_whole)?;
            if !is_whole {
                exchange.send(body).await?;
                exchange.end();
            }
            Ok(())
        }
        // Nobody has asked for it; the stream is reset when the exchange is dropped.
        More::Takeover(_) => Ok(()),
    }
}

async fn send_pieces(exchange: &mut Exchange, mut pieces: Box<dyn WebPieces>) -> Result<(), Gone> {
    while let Some(piece) = next_piece(exchange, &mut *pieces).await? {
        exchange.send(piece).await?;
    }
    exchange.end();
    Ok(())
}

/// The next piece, unless the client leaves before it is there.
async fn next_piece(exchange: &mut Exchange, pieces: &mut dyn WebPieces) -> Result<Option<Bytes>, Gone> {
    poll_fn(|context| match pieces.poll_piece(context) {
        Poll::Ready(piece) => Poll::Ready(Ok(piece)),
        Poll::Pending => exchange.poll_gone(context).map(|()| Err(Gone)),
    })
    .await
}
