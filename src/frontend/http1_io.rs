//! The socket of an HTTP/1 connection: hyper reads and writes it, and while an answer is under way its handler may look whether the
//! client has left.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::os::tls::Stream;

/// Bytes that are read at a time, and that a client may send ahead of its answer while it is watched.
const READ_BYTES: usize = 8 * 1024;

/// A stream as hyper wants it, with the bytes that were read already.
pub(super) struct WebIo(Rc<RefCell<Socket>>);

struct Socket {
    /// `None` once another protocol has it.
    stream: Option<Stream>,
    /// Read, and not taken by hyper yet.
    unread: BytesMut,
    buffer: BytesMut,
    /// The client has closed its sending direction, or the connection is broken.
    is_at_end: bool,
}

/// Sees a client leave while its answer is under way. A client that closes its sending direction counts as gone, as it does for Go's
/// server.
#[derive(Clone, Default)]
pub struct ClientWatch(Option<Rc<RefCell<Socket>>>);

impl WebIo {
    pub(super) fn new(stream: Stream, first: Bytes) -> WebIo {
        let buffer = BytesMut::zeroed(READ_BYTES);
        WebIo(Rc::new(RefCell::new(Socket {
            stream: Some(stream),
            unread: BytesMut::from(first),
            buffer,
            is_at_end: false,
        })))
    }

    pub(super) fn watch(&self) -> ClientWatch {
        ClientWatch(Some(Rc::clone(&self.0)))
    }

    /// The stream, and what was read of it and not taken by hyper.
    pub(super) fn into_stream(self) -> Option<(Stream, Bytes)> {
        let mut socket = self.0.borrow_mut();
        let unread = socket.unread.split().freeze();
        Some((socket.stream.take()?, unread))
    }
}

impl ClientWatch {
    /// Resolves when the client has left.
    pub async fn left(&self) {
        poll_fn(|context| self.poll_left(context)).await;
    }

    /// [`ClientWatch::left`] for hand-written futures.
    pub fn poll_left(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(socket) = &self.0 else { return Poll::Pending };
        let Socket { stream, unread, buffer, is_at_end } = &mut *socket.borrow_mut();
        let Some(stream) = stream else { return Poll::Pending };
        // A client that sends its next requests already is not looked at any further; a broken connection is found by sending.
        while !*is_at_end && unread.len() < READ_BYTES {
            match stream.poll_receive(context, buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => unread.extend_from_slice(&buffer[..count]),
                Poll::Ready(_) => *is_at_end = true,
            }
        }
        if *is_at_end { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection has another protocol now")
}

impl Read for WebIo {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let Socket { stream, unread, buffer, is_at_end } = &mut *self.0.borrow_mut();
        if !unread.is_empty() {
            let count = unread.len().min(into.remaining());
            into.put_slice(&unread[..count]);
            unread.advance(count);
            return Poll::Ready(Ok(()));
        }
        if *is_at_end {
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = stream else { return Poll::Ready(Err(taken())) };
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
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0.borrow_mut().stream {
            Some(stream) => stream.poll_send(context, bytes),
            None => Poll::Ready(Err(taken())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.borrow_mut().stream {
            Some(stream) => stream.poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.borrow_mut().stream {
            Some(stream) => Poll::Ready(stream.shutdown_send(context)),
            None => Poll::Ready(Ok(())),
        }
    }
}
