//! TCP sockets of one core.
//!
//! A [`Socket`] offers polls, not futures: one `poll_receive` is at most one `recv`, one `poll_send` is at most one
//! `send`. Neither asks the kernel again while glommio already waits for it to say "ready", so a caller may poll at will.
//!
//! [`bind`] makes one listening socket per front core on the same address (SO_REUSEPORT: the kernel spreads new
//! connections over them). SO_REUSEPORT alone would let a second server join silently, so the address is first taken
//! without it.

#![allow(unsafe_code)]

use std::{
    future::poll_fn,
    io, mem,
    net::{Shutdown, SocketAddr, TcpListener},
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd},
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::{GlommioError, net as glommio_net};

/// Connections the kernel keeps for us until we accept them.
const BACKLOG: libc::c_int = 1024;

/// A process that was just killed keeps its port until the kernel has taken its rings apart: so often, and so long
/// between two attempts, a port that is in use is tried again.
const BIND_ATTEMPTS: usize = 50;
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// Takes `address` for this process: `count` listening sockets, to be handed to one core each.
/// Port 0 takes a free port, the same for all of them.
///
/// Errors: the kernel's, `AddrInUse` also when the other listener shares its port. Blocks for up to half a second
/// before it says so; for use at start.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut attempts = 1;
    let probe = loop {
        match open_bound(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts < BIND_ATTEMPTS => {
                attempts += 1;
                thread::sleep(BIND_PAUSE);
            }
            result => break result?,
        }
    };
    let address = probe.local_addr()?;
    drop(probe);
    (0..count)
        .map(|_| {
            let listener = open_bound(address, true)?;
            // SAFETY: listen takes no pointers; the descriptor is open.
            check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
            Ok(listener)
        })
        .collect()
}

/// A listening socket on the core that calls [`Listener::new`].
pub struct Listener {
    inner: glommio_net::TcpListener,
}

impl Listener {
    /// Must be called on the executor that will accept.
    pub fn new(listener: TcpListener) -> Listener {
        // SAFETY: the descriptor is open, listening and owned by nobody else after `into_raw_fd`.
        let inner = unsafe { glommio_net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
        Listener { inner }
    }

    /// The next connection. Errors of the kernel (no descriptor left, client gone already) leave the listener usable.
    pub async fn accept(&self) -> io::Result<Socket> {
        let inner = self.inner.accept().await.map_err(into_io)?;
        let peer = inner.peer_addr().map_err(into_io)?;
        inner.set_nodelay(true).map_err(into_io)?;
        Ok(Socket { inner, peer })
    }
}

/// A connected TCP socket of this core. Closed when dropped.
pub struct Socket {
    inner: glommio_net::TcpStream,
    peer: SocketAddr,
}

impl Socket {
    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
        let inner = glommio_net::TcpStream::connect(address).await.map_err(into_io)?;
        inner.set_nodelay(true).map_err(into_io)?;
        Ok(Socket { inner, peer: address })
    }

    /// The other side's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Unacknowledged data older than this ends the connection (TCP_USER_TIMEOUT).
    pub fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        let value = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        set_option(self.inner.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, value as libc::c_int)
    }

    /// Up to `buffer.len()` bytes; 0 is the end. A result shorter than the buffer means the socket was empty after it.
    pub fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }

    /// Sends what the kernel takes of `bytes` now.
    pub fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    /// [`Socket::poll_receive`] as a future.
    pub async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_receive(context, buffer)).await
    }

    /// Sends all of `bytes`.
    pub async fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|context| self.poll_send(context, bytes)).await?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Tells the other side that nothing more will come.
    pub fn shutdown_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match Pin::new(&mut self.inner).poll_close(context) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Ends both directions; receives from now on see the end.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.inner.shutdown(Shutdown::Both).await.map_err(into_io)
    }
}

fn into_io(error: GlommioError<()>) -> io::Error {
    error.into()
}

/// A socket bound to `address`; with `shared`, others may bind to it with us.
fn open_bound(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: socket takes no pointers.
    let descriptor = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor was just opened and has no other owner; it is closed with the listener.
    let listener = unsafe { TcpListener::from_raw_fd(descriptor) };
    set_option(descriptor, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if shared {
        set_option(descriptor, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    bind_to(descriptor, address)?;
    if !shared {
        // Only a listening socket collides with another one when both allow SO_REUSEADDR.
        // SAFETY: listen takes no pointers; the descriptor is open.
        check(unsafe { libc::listen(descriptor, 1) })?;
    }
    Ok(listener)
}

fn bind_to(descriptor: RawFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(address) => {
            let native = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            let size = mem::size_of_val(&native) as libc::socklen_t;
            // SAFETY: the pointer and size describe `native`, which lives through the call.
            check(unsafe { libc::bind(descriptor, (&raw const native).cast(), size) })?;
        }
        SocketAddr::V6(address) => {
            let native = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            let size = mem::size_of_val(&native) as libc::socklen_t;
            // SAFETY: the pointer and size describe `native`, which lives through the call.
            check(unsafe { libc::bind(descriptor, (&raw const native).cast(), size) })?;
        }
    }
    Ok(())
}

fn set_option(descriptor: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer and size describe `value`, which lives through the call.
    check(unsafe { libc::setsockopt(descriptor, level, name, (&raw const value).cast(), size) })?;
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_many_listeners_but_no_second_server() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listeners);
        assert!(bind(address, 1).is_ok());
    }
}
