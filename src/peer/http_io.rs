//! Connections of peers as hyper wants them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::{
    base::limits::PEER_READ_BYTES,
    os::{self, Alarm, clock, net::Socket, offload},
};

/// A socket that gives up when the other side takes nothing for too long.
pub(super) struct PeerIo {
    socket: Socket,
    buffer: BytesMut,
    /// Since when nothing could be sent, and how long that may last.
    blocked: Option<Instant>,
    patience: Duration,
    alarm: Alarm,
}

impl PeerIo {
    pub(super) fn new(socket: Socket, patience: Duration) -> Self {
        Self { socket, buffer: BytesMut::zeroed(PEER_READ_BYTES), blocked: None, patience, alarm: Alarm::default() }
    }
}

/// Connects to the host of `url`, whose name is looked up anew. The connection ends when it cannot send for `patience`.
///
/// # Errors
/// The resolver's or the kernel's, or `TimedOut`.
pub(super) async fn connect(url: &Uri, timeout: Duration, patience: Duration) -> io::Result<PeerIo> {
    let authority =
        url.authority().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a URL without a host"))?;
    let connecting = async {
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
    let socket = os::timeout(timeout, connecting).await.ok_or_else(late)??;
    socket.keep_alive()?;
    Ok(PeerIo::new(socket, patience))
}

impl Read for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, buffer, .. } = &mut *self;
        let room = buffer.len().min(into.remaining());
        match socket.poll_receive(context, &mut buffer[..room]) {
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
        if let Poll::Ready(result) = self.socket.poll_send(context, bytes) {
            self.blocked = None;
            return Poll::Ready(result);
        }
        let now = clock::now();
        let due = *self.blocked.get_or_insert(now) + self.patience;
        if now >= due {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "write: i/o timeout")));
        }
        self.alarm.arm(context, now, due);
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown_send(context))
    }
}
