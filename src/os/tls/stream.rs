//! A stream that may be encrypted, with the polls of a socket.

use std::{
    future::poll_fn,
    io::{self, Read, Write},
    task::{Context, Poll},
};

use rustls::{Connection, pki_types::CertificateDer};

use super::{files::TlsError, words};
use crate::os::net::{Peer, Socket};

/// Encrypted at a time; what does not fit is taken at the next poll.
const SEND_BYTES: usize = 64 * 1024;

/// A connected socket, encrypted or not. Closed when dropped.
pub enum Stream {
    Plain(Socket),
    Secure(Box<SecureSocket>),
}

/// A socket after its handshake.
pub struct SecureSocket {
    socket: Socket,
    session: Connection,
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self::Plain(socket)
    }
}

impl Stream {
    /// The other side's address.
    pub fn peer(&self) -> Peer {
        match self {
            Self::Plain(socket) => socket.peer(),
            Self::Secure(secure) => secure.socket.peer(),
        }
    }

    /// As [`Socket::poll_receive`].
    pub fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_receive(context, buffer),
            Self::Secure(secure) => secure.poll_receive(context, buffer),
        }
    }

    /// Takes a part of `bytes`; [`Self::poll_flush`] says when all that was taken has left.
    pub fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_send(context, bytes),
            Self::Secure(secure) => secure.poll_send(context, bytes),
        }
    }

    /// Whether the kernel has all that was taken.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Secure(secure) => secure.poll_flush(context),
        }
    }

    /// Tells the other side that nothing more will come.
    pub fn shutdown_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown_send(context),
            Self::Secure(secure) => {
                secure.session.send_close_notify();
                // What the kernel does not take now is not worth waiting for.
                let _sent = secure.poll_flush(context);
                secure.socket.shutdown_send(context)
            }
        }
    }
}

impl SecureSocket {
    /// A socket before its handshake.
    pub(super) fn new(socket: Socket, session: Connection) -> Self {
        Self { socket, session }
    }

    /// Brings the session to where both sides trust it.
    pub(super) async fn handshake(&mut self) -> Result<(), TlsError> {
        poll_fn(|context| self.poll_handshake(context)).await.map_err(TlsError::Handshake)
    }

    /// The name by which the other side asks for this one; empty if by none.
    pub(super) fn server_name(&self) -> String {
        match &self.session {
            Connection::Server(session) => session.server_name().unwrap_or_default().to_owned(),
            Connection::Client(_) => String::new(),
        }
    }

    /// The other side's certificates, its own first; none if it showed none.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default()
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            match self.session.read_tls(&mut AtOnce { socket: &mut self.socket, context }) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
                // Also the end: the reader then says whether it was announced.
                Ok(_) => self.process(context)?,
            }
        }
    }

    /// Decrypts what came, and answers what the protocol itself asks.
    fn process(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let processed = self.session.process_new_packets();
        if self.session.wants_write() {
            // The rest leaves with the next poll.
            let _sent = self.poll_flush(context);
        }
        processed.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, words::of(&error)))
    }

    fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_flush(context))?;
        let count = self.session.writer().write(&bytes[..bytes.len().min(SEND_BYTES)])?;
        match self.poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut AtOnce { socket: &mut self.socket, context }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.poll_flush(context))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match self.session.read_tls(&mut AtOnce { socket: &mut self.socket, context }) {
                Ok(0) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF"))),
                Ok(_) => self.process(context)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// A socket as rustls wants it: an operation is done now, or would block and wakes the task when it will not.
struct AtOnce<'a, 'b, 'c> {
    socket: &'a mut Socket,
    context: &'b mut Context<'c>,
}

impl Read for AtOnce<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.socket.poll_receive(self.context, buffer) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for AtOnce<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.poll_send(self.context, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
