//! Connections on one thread: ppoll, read, handle, write.
//!
//! One thread, because the server needs the cores. ppoll, because its timeout is in nanoseconds: a load of a fixed rate
//! must send on time.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    AnyError,
    wire::{Event, Windows, Wire, WireError},
};

const READ_BYTES: usize = 128 * 1024;
const CONNECT: Duration = Duration::from_secs(5);
/// A server that does not answer a greeting for so long does not speak HTTP/2.
const GREETING: Duration = Duration::from_secs(5);

/// Called by a step with the number of a connection, the connection, and an event on it.
pub type Handler<'a> = dyn FnMut(usize, &mut Wire, Event<'_>) -> Result<(), AnyError> + 'a;

pub struct Pool {
    pub connections: Vec<Connection>,
    input: Vec<u8>,
}

pub struct Connection {
    pub wire: Wire,
    /// Off for a client that does not read its socket.
    pub reading: bool,
    socket: TcpStream,
    /// An incomplete frame.
    unread: Vec<u8>,
    open: bool,
}

impl Pool {
    /// Returns when the server has sent its settings on every connection.
    ///
    /// # Errors
    /// A server cannot be reached, or speaks something else.
    pub fn open(addresses: &[SocketAddr], count: usize, windows: Windows) -> Result<Pool, AnyError> {
        let mut pool = Pool { connections: Vec::with_capacity(count), input: vec![0; READ_BYTES] };
        for address in addresses.iter().cycle().take(count) {
            let socket = TcpStream::connect_timeout(address, CONNECT).map_err(|error| format!("{address}: {error}"))?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
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
        Ok(pool)
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
            flags.set(PollFlags::OUT, !connection.wire.output.is_empty());
            numbers.push(number);
            set.push(PollFd::new(&connection.socket, flags));
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
        Ok(())
    }

    /// One read, so that no connection keeps the others waiting.
    fn read(&mut self, number: usize, input: &mut [u8], handler: &mut Handler<'_>) -> Result<(), AnyError> {
        let length = match self.socket.read(input) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut pass = |wire: &mut Wire, event: Event<'_>| handler(number, wire, event);
        if self.unread.is_empty() {
            let done = self.wire.receive(&input[..length], &mut pass)?;
            self.unread.extend_from_slice(&input[done..length]);
        } else {
            self.unread.extend_from_slice(&input[..length]);
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
