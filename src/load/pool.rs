//! Connections on one thread: ppoll, read, handle, write.
//!
//! One thread, because the server needs the cores. ppoll, because its timeout is in nanoseconds: a load of a fixed rate
//! must send on time.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use prost::Message as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    AnyError,
    wire::{Event, Windows, Wire, WireError},
};
use crate::{
    client::tls::{Tls, TlsSocket, server_name},
    proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse},
};

const READ_BYTES: usize = 128 * 1024;
const CONNECT: Duration = Duration::from_secs(5);
/// A server that does not answer a greeting for so long does not speak HTTP/2. A token has to come in that time, too.
const GREETING: Duration = Duration::from_secs(5);
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
const GRPC_PREFIX_BYTES: usize = 5;

/// Called by a step with the number of a connection, the connection, and an event on it.
pub type Handler<'a> = dyn FnMut(usize, &mut Wire, Event<'_>) -> Result<(), AnyError> + 'a;

/// How connections are secured, and for whom.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// And the names that certificates must have, by server.
    pub tls: Option<(Tls, Vec<String>)>,
    /// Name and password.
    pub user: Option<(String, String)>,
}

pub struct Pool {
    pub connections: Vec<Connection>,
    input: Vec<u8>,
}

pub struct Connection {
    pub wire: Wire,
    /// Off for a client that does not read its socket.
    pub reading: bool,
    socket: Socket,
    /// An incomplete frame.
    unread: Vec<u8>,
    open: bool,
}

enum Socket {
    Plain(TcpStream),
    Secure(Box<TlsSocket>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(secure) => secure.socket(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(secure) => secure.write(bytes),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Secure(secure) => secure.read(into),
        }
    }

    /// Sends what is encrypted already.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Secure(secure) if secure.wants_write() => secure.flush(),
            _ => Ok(()),
        }
    }

    fn wants_write(&self) -> bool {
        matches!(self, Self::Secure(secure) if secure.wants_write())
    }
}

impl Pool {
    /// Plain connections, for no user.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open(addresses: &[SocketAddr], count: usize, windows: Windows) -> Result<Pool, AnyError> {
        Self::open_with(&Access::default(), addresses, count, windows)
    }

    /// Returns when the server has sent its settings on every connection, and has given the user a token.
    ///
    /// # Errors
    /// A server cannot be reached, speaks something else, or refuses the user.
    pub fn open_with(
        access: &Access,
        addresses: &[SocketAddr],
        count: usize,
        windows: Windows,
    ) -> Result<Pool, AnyError> {
        let mut pool = Pool { connections: Vec::with_capacity(count), input: vec![0; READ_BYTES] };
        for (number, address) in addresses.iter().enumerate().cycle().take(count) {
            let failed = |error: &dyn std::fmt::Display| AnyError::from(format!("{address}: {error}"));
            let socket = TcpStream::connect_timeout(address, CONNECT).map_err(|error| failed(&error))?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let socket = match &access.tls {
                None => Socket::Plain(socket),
                Some((tls, names)) => {
                    let name = server_name(&names[number]).map_err(|error| failed(&error))?;
                    Socket::Secure(Box::new(tls.wrap(socket, name).map_err(|error| failed(&error))?))
                }
            };
            let (wire, unread) = (Wire::new(windows), Vec::new());
            pool.connections.push(Connection { wire, reading: true, socket, unread, open: true });
        }
        let end = Instant::now() + GREETING;
        while !pool.connections.iter().all(|connection| connection.wire.settled()) {
            if Instant::now() >= end {
                return Err(format!("no server answers as one of HTTP/2 within {} s", GREETING.as_secs()).into());
            }
            pool.step(Some(end), &mut or_closed(|_, _, _| Ok(())))?;
        }
        if let Some((name, password)) = &access.user {
            pool.authenticate(name, password)?;
        }
        Ok(pool)
    }

    /// Asks the first server for a token, which all later requests carry.
    fn authenticate(&mut self, name: &str, password: &str) -> Result<(), AnyError> {
        let request = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let Some(first) = self.connections.first_mut() else { return Ok(()) };
        first.wire.call(AUTHENTICATE, &request, true);
        let (mut body, mut is_over) = (Vec::new(), false);
        let end = Instant::now() + GREETING;
        while !is_over {
            if Instant::now() >= end {
                return Err(format!("the server gives no token within {} s", GREETING.as_secs()).into());
            }
            let mut handler = or_closed(|_, _, event| {
                match event {
                    Event::Data { bytes, .. } => body.extend_from_slice(bytes),
                    _ => is_over = true,
                }
                Ok(())
            });
            self.step(Some(end), &mut handler)?;
        }
        // A refusal has no message.
        let message = body
            .get(GRPC_PREFIX_BYTES..)
            .ok_or("the server refuses this name and password, or serves without users")?;
        let token = AuthenticateResponse::decode(message)?.token;
        self.connections.iter_mut().for_each(|connection| connection.wire.set_token(&token));
        Ok(())
    }

    /// Writes output, waits for input until the given time, and passes events to `handler`.
    ///
    /// # Errors
    /// Those of the handler.
    pub fn step(&mut self, until: Option<Instant>, handler: &mut Handler<'_>) -> Result<(), AnyError> {
        for (number, connection) in self.connections.iter_mut().enumerate() {
            connection.write().or_else(|error| connection.close(number, &error.to_string(), handler))?;
        }
        let ready = self.wait(until)?;
        for number in ready {
            let connection = &mut self.connections[number];
            if let Err(error) = connection.read(number, &mut self.input, handler) {
                // An error of the handler ends the program; the end of a connection is an event for the handler.
                if !error.is::<io::Error>() && !error.is::<WireError>() {
                    return Err(error);
                }
                connection.close(number, &error.to_string(), handler)?;
            }
        }
        Ok(())
    }

    /// The connections that can be read.
    fn wait(&self, until: Option<Instant>) -> io::Result<Vec<usize>> {
        let mut numbers = Vec::with_capacity(self.connections.len());
        let mut set = Vec::with_capacity(self.connections.len());
        for (number, connection) in self.connections.iter().enumerate().filter(|(_, connection)| connection.open) {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, connection.reading);
            let is_sending = !connection.wire.output.is_empty() || connection.socket.wants_write();
            flags.set(PollFlags::OUT, is_sending);
            numbers.push(number);
            set.push(PollFd::new(connection.socket.tcp(), flags));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut set, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let ready = set.iter().zip(numbers).filter(|(entry, _)| entry.revents().intersects(readable));
        Ok(ready.map(|(_, number)| number).collect())
    }
}

impl Connection {
    fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        while self.open && written < self.wire.output.len() {
            match self.socket.write(&self.wire.output[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.wire.output.drain(..written);
        match self.open.then(|| self.socket.flush()) {
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// One read, so that no connection keeps the others waiting; with TLS all that was received, which poll does not see any more.
    fn read(&mut self, number: usize, input: &mut [u8], handler: &mut Handler<'_>) -> Result<(), AnyError> {
        loop {
            let length = match self.socket.read(input) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(length) => length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            self.take(number, &input[..length], handler)?;
            if matches!(self.socket, Socket::Plain(_)) {
                return Ok(());
            }
        }
    }

    /// Passes bytes of the server on, and keeps an incomplete frame.
    fn take(&mut self, number: usize, input: &[u8], handler: &mut Handler<'_>) -> Result<(), AnyError> {
        let mut pass = |wire: &mut Wire, event: Event<'_>| handler(number, wire, event);
        if self.unread.is_empty() {
            let done = self.wire.receive(input, &mut pass)?;
            self.unread.extend_from_slice(&input[done..]);
        } else {
            self.unread.extend_from_slice(input);
            let done = self.wire.receive(&self.unread, &mut pass)?;
            self.unread.drain(..done);
        }
        Ok(())
    }

    fn close(&mut self, number: usize, reason: &str, handler: &mut Handler<'_>) -> Result<(), AnyError> {
        self.open = false;
        self.wire.output.clear();
        handler(number, &mut self.wire, Event::Closed { reason: reason.to_owned() })
    }
}

/// A handler for which the end of a connection is the end of the program.
pub fn or_closed<'a>(
    mut handler: impl FnMut(usize, &mut Wire, Event<'_>) -> Result<(), AnyError> + 'a,
) -> impl FnMut(usize, &mut Wire, Event<'_>) -> Result<(), AnyError> + 'a {
    move |number, wire, event| match event {
        Event::Closed { reason } => Err(format!("connection {number} is gone: {reason}").into()),
        event => handler(number, wire, event),
    }
}
