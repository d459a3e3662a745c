//! A stream that may be encrypted, with the polls of a socket.
//!
//! ```text
//!   socket ──recv──▶ core's scratch ──decrypt──▶ the caller's buffer          what is no whole record waits in `held`
//!   the caller's bytes ──encrypt──▶ core's scratch ──send──▶ socket           what the kernel does not take waits in `unsent`
//! ```
//!
//! One receive and one pass over all records in it, and one send of all records of a call, whatever their number. The scratch
//! belongs to the core, so an idle connection holds only the keys of its session.

use std::{
    cell::RefCell,
    future::poll_fn,
    io, mem,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::CertificateDer;

use super::{
    files::TlsError,
    session::{Session, Wish},
};
use crate::os::net::{Address, Peer, Socket};

/// Encrypted at a time; what does not fit is taken at the next poll.
const SEND_BYTES: usize = 256 * 1024;
/// Received at a time.
const RECEIVE_BYTES: usize = 128 * 1024;
/// A record on the wire, with the most that TLS 1.2 lets it grow.
const RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;
/// Received bytes that are no whole record or handshake message yet; rustls ends a connection earlier.
const HELD_BYTES_MAX: usize = 128 * 1024;

thread_local! {
    /// Where this core receives encrypted bytes.
    static RECEIVED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Where this core encrypts.
    static SEALED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connected socket, encrypted or not. Closed when dropped.
pub enum Stream {
    Plain(Socket),
    Secure(Box<SecureSocket>),
}

/// A socket with its session.
pub struct SecureSocket {
    socket: Socket,
    session: Session,
    /// Received, and not processed.
    held: Vec<u8>,
    /// Decrypted, and not taken yet because the caller's buffer was small.
    plain: BytesMut,
    /// Encrypted, and not sent.
    unsent: BytesMut,
    /// The last receive has filled all the room there was.
    was_full: bool,
    has_ended: bool,
    /// Common name of the certificate that the other side has shown and that was verified.
    common_name: Option<Rc<str>>,
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self::Plain(socket)
    }
}

impl Stream {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(secure) => &secure.socket,
        }
    }

    /// The other side's address.
    pub fn peer(&self) -> Peer {
        self.socket().peer()
    }

    /// As [`Socket::local_address`].
    pub fn local_address(&self) -> io::Result<Address> {
        self.socket().local_address()
    }

    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(_))
    }

    /// Common name of the other side's verified certificate.
    pub fn common_name(&self) -> Option<Rc<str>> {
        match self {
            Self::Plain(_) => None,
            Self::Secure(secure) => secure.common_name.clone(),
        }
    }

    /// The protocol that the handshake has agreed on; empty without one.
    pub fn protocol(&self) -> &[u8] {
        match self {
            Self::Plain(_) => &[],
            Self::Secure(secure) => secure.session.protocol(),
        }
    }

    /// As [`Socket::set_user_timeout`].
    pub fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket().set_user_timeout(timeout)
    }

    /// As [`Socket::poll_receive`], but a short result says nothing: see [`Self::may_hold_more`].
    pub fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_receive(context, buffer),
            Self::Secure(secure) => secure.poll_receive(context, buffer),
        }
    }

    /// Whether more may be there after a receive of `count` bytes into a buffer of `room`.
    pub fn may_hold_more(&self, count: usize, room: usize) -> bool {
        match self {
            Self::Plain(_) => count == room,
            Self::Secure(secure) => secure.was_full || !secure.plain.is_empty(),
        }
    }

    /// [`Self::poll_receive`] as a future.
    pub async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_receive(context, buffer)).await
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

    /// Bytes that were taken and have not left.
    pub fn unsent(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Secure(secure) => secure.unsent.len(),
        }
    }

    /// Tells the other side that nothing more will come.
    pub fn shutdown_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown_send(context),
            Self::Secure(secure) => {
                // What the kernel does not take now is not worth waiting for.
                let _sent = secure.seal(context, Wish::Close);
                secure.socket.shutdown_send(context)
            }
        }
    }
}

impl SecureSocket {
    /// A socket before its handshake, from which `first` was read already.
    pub(super) fn new(socket: Socket, session: Session, first: &Bytes) -> Self {
        Self {
            socket,
            session,
            held: first.to_vec(),
            plain: BytesMut::new(),
            unsent: BytesMut::new(),
            was_full: false,
            has_ended: false,
            common_name: None,
        }
    }

    /// Brings the session to where both sides trust it.
    pub(super) async fn handshake(&mut self) -> Result<(), TlsError> {
        self.begin().map_err(TlsError::Handshake)?;
        poll_fn(|context| self.poll_handshake(context)).await.map_err(TlsError::Handshake)
    }

    /// The other side's certificates, its own first; none if it showed none.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.session.certificates()
    }

    pub(super) fn set_common_name(&mut self, name: Option<String>) {
        self.common_name = name.map(Rc::from);
    }

    /// Processes what was received before there was a session; a client has its first message to send.
    fn begin(&mut self) -> io::Result<()> {
        let mut held = mem::take(&mut self.held);
        self.decrypt(&mut held, &mut []).map(drop)
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(context))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            let received = ready!(self.poll_records(context, &mut []));
            if let Err(error) = received {
                // The other side is told what is wrong with it.
                let _told = self.poll_flush(context);
                return Poll::Ready(Err(error));
            }
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.plain.is_empty() {
            let count = self.plain.len().min(buffer.len());
            self.plain.copy_to_slice(&mut buffer[..count]);
            return Poll::Ready(Ok(count));
        }
        while !self.has_ended {
            let received = ready!(self.poll_records(context, buffer));
            if !self.unsent.is_empty() {
                // What the protocol itself has to say. The rest leaves with the next poll.
                let _sent = self.poll_flush(context);
            }
            match received? {
                0 => {}
                count => return Poll::Ready(Ok(count)),
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Receives once, and decrypts what is whole. Returns what has come into `buffer`; the rest of it is in `plain`.
    fn poll_records(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut received = RECEIVED.take();
        let outcome = self.poll_records_in(context, &mut received, buffer);
        RECEIVED.set(received);
        outcome
    }

    fn poll_records_in(
        &mut self,
        context: &mut Context<'_>,
        received: &mut Vec<u8>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if received.is_empty() {
            received.resize(HELD_BYTES_MAX + RECEIVE_BYTES, 0);
        }
        let held = self.held.len();
        if held > HELD_BYTES_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "tls: oversized message received")));
        }
        // A buffer that is filled to its end leaves no more than a record in `plain`.
        let room = buffer.len().clamp(RECORD_BYTES_MAX, RECEIVE_BYTES);
        let count = ready!(self.socket.poll_receive(context, &mut received[held..held + room]))?;
        if count == 0 {
            self.has_ended = true;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF")));
        }
        self.was_full = count == room;
        received[..held].copy_from_slice(&self.held);
        Poll::Ready(self.decrypt(&mut received[..held + count], buffer))
    }

    /// Decrypts all whole records of `received` into `buffer` and `plain`, and keeps the rest.
    fn decrypt(&mut self, received: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let Self { session, plain, .. } = self;
        let (mut filled, mut sealed) = (0, Vec::new());
        let passed = session.pass(received, &mut sealed, Wish::Nothing, |content| {
            let count = if plain.is_empty() { content.len().min(buffer.len() - filled) } else { 0 };
            buffer[filled..filled + count].copy_from_slice(&content[..count]);
            plain.extend_from_slice(&content[count..]);
            filled += count;
        });
        self.unsent.extend_from_slice(&sealed);
        let passed = passed?;
        self.has_ended |= passed.has_ended;
        self.held.clear();
        self.held.extend_from_slice(&received[passed.used..]);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        Ok(filled)
    }

    fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(context))?;
        let bytes = &bytes[..bytes.len().min(SEND_BYTES)];
        self.seal(context, Wish::Send(bytes))?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Encrypts and sends; keeps what the kernel does not take.
    fn seal(&mut self, context: &mut Context<'_>, wish: Wish<'_>) -> io::Result<()> {
        let mut sealed = SEALED.take();
        let outcome = self.seal_in(context, wish, &mut sealed);
        sealed.clear();
        SEALED.set(sealed);
        outcome
    }

    fn seal_in(&mut self, context: &mut Context<'_>, wish: Wish<'_>, sealed: &mut Vec<u8>) -> io::Result<()> {
        let Self { session, plain, held, .. } = self;
        // What is held is no whole record, but the session counts on its being there.
        let passed = session.pass(held, sealed, wish, |content| plain.extend_from_slice(content))?;
        held.drain(..passed.used);
        self.has_ended |= passed.has_ended;
        let mut sent = 0;
        while self.unsent.is_empty() && sent < sealed.len() {
            match self.socket.poll_send(context, &sealed[sent..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => sent += count?,
            }
        }
        self.unsent.extend_from_slice(&sealed[sent..]);
        Ok(())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(self.socket.poll_send(context, &self.unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.unsent.advance(count),
            }
        }
        // An idle connection holds no memory for what it has sent.
        self.unsent = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}
