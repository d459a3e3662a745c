//! Stream sockets of one core: TCP, and UNIX sockets in the file system.
//!
//! A [`Socket`] offers polls, not futures: one `poll_receive` is at most one `recv`, one `poll_send` is at most one
//! `send`. Neither asks the kernel again while glommio already waits for readiness, so a caller may poll at will.
//!
//! [`bind`] makes one listening socket per front core on the same address. On TCP these are several sockets (SO_REUSEPORT:
//! the kernel spreads new connections over them). SO_REUSEPORT alone would let a second server join silently, so the
//! address is first taken without it. On a path it is one socket, from which every core accepts.

#![allow(unsafe_code)]

use std::{
    fmt,
    future::poll_fn,
    io,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, ToSocketAddrs},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd},
        unix::{
            fs::FileTypeExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::{GlommioError, net as glommio_net};
use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};

/// Connections the kernel keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// A process that was just killed keeps its port until the kernel has released its rings. So a port in use is tried this often,
/// with this pause between two attempts.
const BIND_ATTEMPTS: usize = 50;
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// Probes of a silent connection: half a minute without a byte, as Go has it, then three within another half.
const KEEP_ALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    Tcp(SocketAddr),
    /// A socket in the file system; a relative path begins at the working directory.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(formatter),
            Address::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// The other side of a connection. Clients of a UNIX socket have no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(formatter),
            Peer::Unix => formatter.write_str("@"),
        }
    }
}

/// Whether other processes may listen on the same port (SO_REUSEPORT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Alone,
    Shared,
}

/// An address that this process has taken: a listening socket for each core.
#[derive(Debug)]
pub struct Bound {
    pub sockets: Vec<BoundSocket>,
    /// Removes the file of a UNIX socket when it is dropped.
    pub file: Option<SocketFile>,
}

impl Bound {
    /// The address as it is, with the port that a port 0 became.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        self.sockets.first()?.local_address().ok()
    }
}

/// A listening socket before it has an executor.
#[derive(Debug)]
pub struct BoundSocket(socket2::Socket);

/// The file of a listening UNIX socket; removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The file may have been removed by another process.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The first address of `host:port`, as text; `None` if there is none. Blocks; for use at start.
#[must_use]
pub fn resolve(address: &str) -> Option<String> {
    Some(address.to_socket_addrs().ok()?.next()?.to_string())
}

/// Takes `address` for this process, or a part of its connections if others take it too: `count` listening sockets, one for each
/// core. With port 0 the kernel chooses a free port, the same for all of them.
///
/// Errors: the kernel's, `AddrInUse` also when the other listener shares its port. Blocks for up to half a second
/// before that error; for use at start.
pub fn bind(address: &Address, count: usize, sharing: Sharing) -> io::Result<Bound> {
    match address {
        Address::Tcp(address) => bind_tcp(*address, count, sharing),
        Address::Unix(path) => bind_unix(path, count),
    }
}

fn bind_tcp(address: SocketAddr, count: usize, sharing: Sharing) -> io::Result<Bound> {
    let mut attempts = 1;
    let probe = loop {
        match listen_on_any_family(address, sharing) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts < BIND_ATTEMPTS => {
                attempts += 1;
                thread::sleep(BIND_PAUSE);
            }
            result => break result?,
        }
    };
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    let sockets = (0..count).map(|_| open_bound(address, true).map(BoundSocket));
    Ok(Bound { sockets: sockets.collect::<io::Result<_>>()?, file: None })
}

/// As Go listens: an address that stands for all of this host (`0.0.0.0`, `[::]`) is IPv6's, which takes IPv4 too, unless the
/// host has no IPv6.
fn listen_on_any_family(address: SocketAddr, sharing: Sharing) -> io::Result<socket2::Socket> {
    let shared = sharing == Sharing::Shared;
    if !address.ip().is_unspecified() {
        return open_bound(address, shared);
    }
    let port = address.port();
    let both = open_bound(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), shared);
    let lacks_family = |error: &io::Error| {
        let raw = error.raw_os_error();
        raw == Some(libc::EAFNOSUPPORT) || raw == Some(libc::EADDRNOTAVAIL)
    };
    match both {
        Err(error) if lacks_family(&error) => open_bound(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), shared),
        result => result,
    }
}

/// A listening socket on `address`; with `shared`, other sockets may listen there too.
fn open_bound(address: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    // The first socket listens too: with SO_REUSEADDR only listening sockets collide.
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind_unix(path: &Path, count: usize) -> io::Result<Bound> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    let file = Some(SocketFile(path.to_owned()));
    SockRef::from(&listener).listen(BACKLOG)?;
    let sockets = (0..count).map(|_| listener.try_clone().map(|clone| BoundSocket(clone.into())));
    Ok(Bound { sockets: sockets.collect::<io::Result<_>>()?, file })
}

/// Removes the socket that a dead process left at `path`. One that is served is in use, and a file that is no socket stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is there"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(_) => std::fs::remove_file(path),
    }
}

impl BoundSocket {
    /// The address that clients connect to.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(address(&self.0.local_addr()?))
    }
}

fn address(address: &SockAddr) -> Address {
    let tcp = address.as_socket().map(Address::Tcp);
    tcp.unwrap_or_else(|| Address::Unix(address.as_pathname().unwrap_or(Path::new("@")).to_owned()))
}

/// A listening socket on the core that calls [`Listener::new`].
pub struct Listener {
    /// Of either family. glommio accepts, receives, sends and shuts down both in the same way, and its own type for UNIX sockets
    /// cannot be made of a socket that several cores share.
    inner: glommio_net::TcpListener,
    is_unix: bool,
}

impl Listener {
    /// Must be called on the executor that will accept.
    pub fn new(socket: BoundSocket) -> Listener {
        let is_unix = socket.0.domain().is_ok_and(|domain| domain == Domain::UNIX);
        // SAFETY: the descriptor is open, listening and has no other owner after `into_raw_fd`.
        let inner = unsafe { glommio_net::TcpListener::from_raw_fd(socket.0.into_raw_fd()) };
        Listener { inner, is_unix }
    }

    /// The next connection. Errors of the kernel (no descriptor left, client gone already) leave the listener usable.
    pub async fn accept(&self) -> io::Result<Socket> {
        let inner = self.inner.accept().await.map_err(into_io)?;
        if self.is_unix {
            return Ok(Socket { inner, peer: Peer::Unix });
        }
        let peer = Peer::Tcp(inner.peer_addr().map_err(into_io)?);
        inner.set_nodelay(true).map_err(into_io)?;
        Ok(Socket { inner, peer })
    }
}

/// A connected socket of this core. Closed when dropped.
pub struct Socket {
    inner: glommio_net::TcpStream,
    peer: Peer,
}

impl Socket {
    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
        let inner = glommio_net::TcpStream::connect(address).await.map_err(into_io)?;
        inner.set_nodelay(true).map_err(into_io)?;
        Ok(Socket { inner, peer: Peer::Tcp(address) })
    }

    /// Connects to a socket in the file system, which never takes long.
    pub fn connect_path(path: &Path) -> io::Result<Socket> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        // SAFETY: the descriptor is open, connected and has no other owner after `into_raw_fd`.
        let inner = unsafe { glommio_net::TcpStream::from_raw_fd(socket.into_raw_fd()) };
        Ok(Socket { inner, peer: Peer::Unix })
    }

    /// The other side's address.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// This side's address.
    pub fn local_address(&self) -> io::Result<Address> {
        // SAFETY: the descriptor is open as long as `inner`, which outlives the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) };
        Ok(address(&SockRef::from(&descriptor).local_addr()?))
    }

    /// Unacknowledged data older than this ends the connection (TCP_USER_TIMEOUT). A UNIX socket has none.
    pub fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `inner`, which outlives the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) };
        match self.peer {
            Peer::Tcp(_) => SockRef::from(&descriptor).set_tcp_user_timeout(Some(timeout)),
            Peer::Unix => Ok(()),
        }
    }

    /// Probes a silent connection, so that a peer that is gone without a word is noticed. A UNIX socket needs none.
    pub fn keep_alive(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `inner`, which outlives the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) };
        match self.peer {
            Peer::Tcp(_) => SockRef::from(&descriptor).set_tcp_keepalive(&KEEP_ALIVE),
            Peer::Unix => Ok(()),
        }
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

    /// Closes the sending direction.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().unwrap())
    }

    #[test]
    fn one_address_many_listeners_but_no_second_server() {
        let bound = bind(&tcp("127.0.0.1:0"), 3, Sharing::Alone).unwrap();
        let address = bound.sockets[0].local_address().unwrap();
        assert!(bound.sockets.iter().all(|socket| socket.local_address().unwrap() == address));
        assert_eq!(bind(&address, 1, Sharing::Alone).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(bind(&address, 1, Sharing::Alone).is_ok());
    }

    #[test]
    fn a_port_is_shared_by_those_who_want_to() {
        let shared = bind(&tcp("127.0.0.1:0"), 2, Sharing::Shared).unwrap();
        let address = shared.sockets[0].local_address().unwrap();
        assert!(bind(&address, 2, Sharing::Shared).is_ok());
        assert_eq!(bind(&address, 1, Sharing::Alone).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn all_of_the_host_is_both_families() {
        let port = |bound: &Bound| match bound.sockets[0].local_address().unwrap() {
            Address::Tcp(address) => address.port(),
            Address::Unix(path) => panic!("{path:?}"),
        };
        for all in ["0.0.0.0:0", "[::]:0"] {
            let bound = bind(&tcp(all), 1, Sharing::Alone).unwrap();
            std::net::TcpStream::connect(("127.0.0.1", port(&bound))).unwrap();
            std::net::TcpStream::connect(("::1", port(&bound))).unwrap();
        }
        let one = bind(&tcp("[::1]:0"), 1, Sharing::Alone).unwrap();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port(&one))).is_err());
    }

    #[test]
    fn a_path_is_taken_from_the_dead_only_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a socket without a process");

        let bound = bind(&address, 2, Sharing::Alone).unwrap();
        assert_eq!(bound.sockets[1].local_address().unwrap(), address);
        assert_eq!(bind(&address, 1, Sharing::Alone).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());

        std::fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&address, 1, Sharing::Alone).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
