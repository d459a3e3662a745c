//! The protocol of a connection, by its first bytes or by its TLS handshake.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_lite::future;

use super::{
    handshakes::Place,
    http1::{self, WebHandler, WebIdentity},
    http2::Http2Pages,
};
use crate::{
    base::limits::FIRST_BYTES_MS_MAX,
    os::{
        self,
        net::Socket,
        tls::{Rejected, Secrets, Stream, TlsError},
    },
    rpc::{Connection, Handler, Membership, Pages, Server, Stage},
};

/// The first bytes of every HTTP/2 client; no HTTP/1 request begins with them.
const HTTP2_MARK: &[u8] = b"PRI * HTTP/2.0";

/// What TLS agrees on.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// The first byte of a TLS connection; neither HTTP/1 nor HTTP/2 begins with it.
const TLS_MARK: u8 = 0x16;

/// Enough for the client preface and its settings.
const FIRST_READ_BYTES: usize = 1024;

/// The protocols of a listener.
pub enum Traffic<W> {
    /// gRPC, and these pages over HTTP/1 and, with TLS, over HTTP/2.
    Both(Rc<W>),
    Grpc,
    Pages(Rc<W>),
}

impl<W> Clone for Traffic<W> {
    fn clone(&self) -> Traffic<W> {
        match self {
            Traffic::Both(web) => Traffic::Both(Rc::clone(web)),
            Traffic::Grpc => Traffic::Grpc,
            Traffic::Pages(web) => Traffic::Pages(Rc::clone(web)),
        }
    }
}

/// How a listener is served.
pub struct Door<W> {
    pub traffic: Traffic<W>,
    /// Connections are encrypted with these.
    pub secrets: Option<Arc<Secrets>>,
    /// Beside secrets: connections that do not begin with a TLS handshake are served without one.
    pub is_plain_too: bool,
}

impl<W> Clone for Door<W> {
    fn clone(&self) -> Self {
        Self { traffic: self.traffic.clone(), secrets: self.secrets.clone(), is_plain_too: self.is_plain_too }
    }
}

impl<W> Traffic<W> {
    /// What a TLS handshake may agree on, in order of preference.
    fn protocols(&self) -> &'static [&'static [u8]] {
        match self {
            Traffic::Both(_) => &[HTTP2, HTTP1],
            Traffic::Grpc => &[HTTP2],
            Traffic::Pages(_) => &[HTTP1],
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler, W: WebHandler>(
    server: Rc<Server<H>>,
    socket: Socket,
    membership: Membership,
    door: Door<W>,
    place: Option<Place>,
) {
    // If this fails, a dead client is detected later.
    let _ = socket.set_user_timeout(server.settings().keepalive_timeout);
    let Door { traffic, secrets, is_plain_too } = door;
    let begun = async {
        let (stream, first) = match secrets {
            None => (Stream::from(socket), Bytes::new()),
            Some(secrets) => {
                let remote = socket.peer();
                // In a box, so that connections without TLS hold no room for a handshake.
                let handshake = Box::pin(secure(secrets, is_plain_too, &traffic, socket));
                let secured = place?.carry_out(handshake).await;
                #[expect(clippy::result_large_err, reason = "made once per connection")]
                let secured = secured.unwrap_or_else(|| Err(TlsError::Late.into()));
                secured.inspect_err(|rejected| rejected.log("client", remote)).ok()?
            }
        };
        let is_known = !stream.protocol().is_empty();
        Some(if is_known { (stream, first) } else { sniffed(stream, first).await? })
    };
    let stopped = async {
        membership.drain().reached(Stage::Draining).await;
        None
    };
    // The client closed the connection, was rejected, or sent nothing in time.
    let Some((stream, first)) = future::or(stopped, begun).await else { return };
    if first.first() == Some(&TLS_MARK) {
        // TLS where none is: nothing that could be said would be understood.
        return;
    }
    let is_http2 = stream.protocol() == HTTP2 || first.starts_with(HTTP2_MARK);
    match (is_http2, traffic) {
        (true, Traffic::Both(web)) => {
            let pages = stream.is_secure().then(|| pages(web, &stream));
            Connection::new(server, pages, stream, first, membership).await;
        }
        (_, Traffic::Grpc) => Connection::new(server, None, stream, first, membership).await,
        (false, Traffic::Both(web) | Traffic::Pages(web)) => {
            http1::serve(web, stream, first, membership.drain()).await;
        }
        // As in etcd: a connection that no handler claims is closed.
        (true, Traffic::Pages(_)) => {}
    }
}

/// As in etcd, pages are served over HTTP/2 only with TLS.
fn pages<W: WebHandler>(web: Rc<W>, stream: &Stream) -> Rc<dyn Pages> {
    Rc::new(Http2Pages { web, identity: Rc::new(WebIdentity::of(stream)) })
}

/// Makes a connection secure, if it is to be. One that is not comes with the bytes that were read.
async fn secure<W>(
    secrets: Arc<Secrets>,
    is_plain_too: bool,
    traffic: &Traffic<W>,
    mut socket: Socket,
) -> Result<(Stream, Bytes), Rejected> {
    let mut first = Bytes::new();
    if is_plain_too {
        let mut buffer = [0; FIRST_READ_BYTES];
        let count = socket.receive(&mut buffer).await.map_err(TlsError::Handshake)?;
        first = Bytes::copy_from_slice(&buffer[..count]);
        if first.first() != Some(&TLS_MARK) {
            return Ok((socket.into(), first));
        }
    }
    Ok((secrets.accept(socket, first, traffic.protocols()).await?, Bytes::new()))
}

/// Waits for the first bytes, of which some may be there; `None` if they do not come in time.
async fn sniffed(mut stream: Stream, first: Bytes) -> Option<(Stream, Bytes)> {
    let first = os::timeout(Duration::from_millis(FIRST_BYTES_MS_MAX), sniff(&mut stream, first)).await?.ok()?;
    Some((stream, first))
}

/// Reads until the first bytes differ from HTTP/2's or are HTTP/2's.
async fn sniff(stream: &mut Stream, first: Bytes) -> io::Result<Bytes> {
    let mut first = BytesMut::from(first);
    let mut buffer = [0; FIRST_READ_BYTES];
    loop {
        let seen = first.len().min(HTTP2_MARK.len());
        if first[..seen] != HTTP2_MARK[..seen] || seen == HTTP2_MARK.len() {
            return Ok(first.freeze());
        }
        let count = stream.receive(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.extend_from_slice(&buffer[..count]);
    }
}
