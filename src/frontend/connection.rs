//! The protocol of a connection, by its first bytes.

use std::{io, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_lite::future;

use super::http1::{self, WebHandler};
use crate::{
    base::limits::FIRST_BYTES_MS_MAX,
    os::{self, net::Socket},
    rpc::{Connection, Handler, Membership, Server, Stage},
};

/// The first bytes of every HTTP/2 client; no HTTP/1 request begins with them.
const HTTP2_MARK: &[u8] = b"PRI * HTTP/2.0";

/// Enough for the client preface and its settings.
const FIRST_READ_BYTES: usize = 1024;

/// The protocols of a listener.
pub enum Traffic<W> {
    /// gRPC, and these pages over HTTP/1.
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

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler, W: WebHandler>(
    server: Rc<Server<H>>,
    mut socket: Socket,
    membership: Membership,
    traffic: Traffic<W>,
) {
    // If this fails, a dead client is detected later.
    let _ = socket.set_user_timeout(server.settings().keepalive_timeout);
    let sniffed = future::or(
        async {
            membership.drain().reached(Stage::Draining).await;
            None
        },
        os::timeout(Duration::from_millis(FIRST_BYTES_MS_MAX), sniff(&mut socket)),
    )
    .await;
    // The client closed the connection or sent nothing in time.
    let Some(Ok(first)) = sniffed else { return };
    match (first.starts_with(HTTP2_MARK), traffic) {
        (true, Traffic::Both(_)) | (_, Traffic::Grpc) => {
            Connection::new(server, socket, first, membership).await;
        }
        (false, Traffic::Both(web) | Traffic::Pages(web)) => {
            http1::serve(web, socket, first, membership.drain()).await;
        }
        // As in etcd: a connection that no handler claims is closed.
        (true, Traffic::Pages(_)) => {}
    }
}

/// Reads until the first bytes differ from HTTP/2's or are HTTP/2's.
async fn sniff(socket: &mut Socket) -> io::Result<Bytes> {
    let mut first = BytesMut::new();
    let mut buffer = [0; FIRST_READ_BYTES];
    loop {
        let count = socket.receive(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.extend_from_slice(&buffer[..count]);
        let seen = first.len().min(HTTP2_MARK.len());
        if first[..seen] != HTTP2_MARK[..seen] || seen == HTTP2_MARK.len() {
            return Ok(first.freeze());
        }
    }
}
