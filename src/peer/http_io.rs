//! Connections of peers as hyper wants them.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::{
    base::limits::PEER_READ_BYTES,
    os::{
        self, Alarm, clock,
        net::Socket,
        offload,
        tls::{Secrets, Stream},
    },
};

/// A stream that gives up when the other side takes nothing for too long.
pub(super) struct PeerIo {
    stream: Stream,
    buffer: BytesMut,
    /// Since when nothing could be sent, and how long that may last.
    blocked: Option<Instant>,
    patience: Duration,
    alarm: Alarm,
}

impl PeerIo {
    pub(super) fn new(stream: Stream, patience: Duration) -> Self {
        Self { stream, buffer: BytesMut::zeroed(PEER_READ_BYTES), blocked: None, patience, alarm: Alarm::default() }
    }

    /// Nothing can be sent now: the task is woken when that lasts too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let now = clock::now();
        let due = *self.blocked.get_or_insert(now) + self.patience;
        if now >= due {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "write: i/o timeout")));
        }
        self.alarm.arm(context, now, due);
        Poll::Pending
    }
}

/// How connections are made.
#[derive(Clone, Default)]
pub(super) struct Dialing {
    /// How long one may take to come up.
    pub(super) timeout: Duration,
    /// For `https`.
    pub(super) secrets: Option<Arc<Secrets>>,
}

/// Connects to the host of `url`, whose name is looked up anew. The connection ends when it cannot send for `patience`.
///
/// # Errors
/// The resolver's, the kernel's, those of TLS, or `TimedOut`.
pub(super) async fn connect(url: &Uri, dialing: &Dialing, patience: Duration) -> io::Result<PeerIo> {
    let authority =
        url.authority().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a URL without a host"))?;
    let is_path = matches!(url.scheme_str(), Some("unix" | "unixs"));
    let connecting = async {
        if is_path {
            // As in etcd, the host and the port of such a URL are the name of the socket.
            let failed =
                |error: io::Error| io::Error::new(error.kind(), format!("dial unix {authority}: connect: {error}"));
            return Socket::connect_path(Path::new(authority.as_str())).map_err(failed);
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("lookup {authority}: no address"));
        for address in offload::addresses(authority.as_str()).await? {
            match Socket::connect(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = io::Error::new(error.kind(), format!("dial tcp {address}: connect: {error}")),
            }
        }
        Err(last)
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("dial tcp {authority}: i/o timeout"));
    let secured = async {
        let socket = connecting.await?;
        socket.keep_alive()?;
        let is_secure = matches!(url.scheme_str(), Some("https" | "unixs"));
        match (is_secure, &dialing.secrets) {
            (false, _) => Ok(Stream::from(socket)),
            (true, Some(secrets)) => {
                secrets.connect(socket, url.host().unwrap_or_default()).await.map_err(io::Error::other)
            }
            (true, None) => Err(io::Error::new(io::ErrorKind::Unsupported, "https without certificates")),
        }
    };
    let stream = os::timeout(dialing.timeout, secured).await.ok_or_else(late)??;
    Ok(PeerIo::new(stream, patience))
}

impl Read for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, buffer, .. } = &mut *self;
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

impl Write for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.stream.poll_send(context, bytes) {
            Poll::Pending => self.wait(context),
            ready => {
                self.blocked = None;
                ready
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.poll_flush(context) {
            Poll::Pending => self.wait(context),
            ready => {
                self.blocked = None;
                ready
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown_send(context))
    }
}
