//! The endpoints as a ring: each call takes the next one that works.
//!
//! An endpoint is dialled when a call first needs it. One that refused is left alone for a while (1 s,
//! growing by 1.6 up to 20 s), so a dead member costs one attempt, not one per call. When all are down, a
//! call waits and dials again until its deadline: like etcd's client, it prefers waiting to failing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::error::Error;
use super::{Options, retry};

const WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const DOWN_MS_MIN: u64 = 1_000;
const DOWN_MS_MAX: u64 = 20_000;

/// All endpoints of a client.
pub struct Ring {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    dial_timeout: Duration,
    /// Largest response, in bytes.
    pub response_bytes_max: usize,
}

/// A connection that can take a request now.
pub struct Connection {
    pub requests: SendRequest<Bytes>,
    /// `host:port` for the `:authority` header.
    pub authority: String,
}

impl Ring {
    pub fn new(options: &Options) -> Result<Self, Error> {
        let endpoints = options.endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        Ok(Self {
            endpoints,
            next: AtomicUsize::new(0),
            dial_timeout: options.dial_timeout,
            response_bytes_max: options.response_bytes_max,
        })
    }

    /// The next endpoint that works; waits for one until the deadline.
    pub async fn pick(&self, deadline: Option<Instant>) -> Result<Connection, Error> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        loop {
            for step in 0..self.endpoints.len() {
                let endpoint = &self.endpoints[start.wrapping_add(step) % self.endpoints.len()];
                if let Some(connection) = endpoint.connection(self.dial_timeout).await {
                    return Ok(connection);
                }
            }
            retry::pause(self.shortest_pause(), deadline).await?;
        }
    }

    /// How long until the first endpoint may be dialled again.
    fn shortest_pause(&self) -> Duration {
        let now = Instant::now();
        let waits =
            self.endpoints.iter().map(|endpoint| endpoint.state().down_until(now).saturating_duration_since(now));
        waits.min().unwrap_or_default().max(Duration::from_millis(25))
    }
}

struct Endpoint {
    address: Address,
    authority: String,
    state: Mutex<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Tcp(String),
    Unix(String),
}

/// state | transition | by
/// ---|---|---
/// idle | dialled well: up; badly: down | `connection`
/// up | connection ended: idle | `connection`
/// down | time passed: dialled again | `connection`
enum State {
    Idle,
    Up(SendRequest<Bytes>),
    Down { until: Instant, pause_ms: u64 },
}

impl State {
    fn down_until(&self, now: Instant) -> Instant {
        match self {
            Self::Down { until, .. } => *until,
            Self::Idle | Self::Up(_) => now,
        }
    }
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason| Error::BadEndpoint { endpoint: text.to_owned(), reason };
        let (address, authority) = if let Some(rest) = text.strip_prefix("unix:") {
            (Address::Unix(rest.strip_prefix("//").unwrap_or(rest).to_owned()), "localhost".to_owned())
        } else if text.starts_with("https://") || text.starts_with("unixs:") {
            return Err(bad("TLS is not supported by this client"));
        } else {
            let host = text.strip_prefix("http://").unwrap_or(text);
            let host = host.split('/').next().unwrap_or_default().to_owned();
            (Address::Tcp(host.clone()), host)
        };
        Ok(Self { address, authority, state: Mutex::new(State::Idle) })
    }

    /// A connection with room for one more stream, dialling if there is none and it is time to.
    async fn connection(&self, dial_timeout: Duration) -> Option<Connection> {
        if let Some(requests) = self.open_connection()
            && let Ok(requests) = requests.ready().await
        {
            return Some(self.as_connection(requests));
        }
        if self.state().down_until(Instant::now()) > Instant::now() {
            return None;
        }
        let dialled = tokio::time::timeout(dial_timeout, dial(&self.address)).await;
        let Ok(Some(requests)) = dialled else {
            self.go_down();
            return None;
        };
        // Two calls may have dialled at once; both connections serve their call, the later one stays.
        *self.state() = State::Up(requests.clone());
        Some(self.as_connection(requests.ready().await.ok()?))
    }

    fn open_connection(&self) -> Option<SendRequest<Bytes>> {
        match &*self.state() {
            State::Up(requests) => Some(requests.clone()),
            State::Idle | State::Down { .. } => None,
        }
    }

    fn go_down(&self) {
        let mut state = self.state();
        let pause_ms = match &*state {
            State::Down { pause_ms, .. } => (pause_ms * 8 / 5).min(DOWN_MS_MAX),
            State::Idle | State::Up(_) => DOWN_MS_MIN,
        };
        *state = State::Down { until: Instant::now() + Duration::from_millis(pause_ms), pause_ms };
    }

    fn as_connection(&self, requests: SendRequest<Bytes>) -> Connection {
        Connection { requests, authority: self.authority.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced whole, so a poisoned lock still holds a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn dial(address: &Address) -> Option<SendRequest<Bytes>> {
    match address {
        Address::Tcp(host) => {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(host).await.ok()?.collect();
            let stream = TcpStream::connect(addresses.as_slice()).await.ok()?;
            // Requests are small and each one waits for its answer.
            stream.set_nodelay(true).ok()?;
            handshake(stream).await
        }
        Address::Unix(path) => handshake(UnixStream::connect(path).await.ok()?).await,
    }
}

async fn handshake<T>(stream: T) -> Option<SendRequest<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let (requests, connection) = builder.handshake(stream).await.ok()?;
    // The driver ends with the connection; what it has to say reaches the streams as their errors.
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    Some(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Endpoint::parse(text).map(|endpoint| endpoint.address).unwrap()
    }

    #[test]
    fn endpoints_are_written_in_many_ways() {
        assert_eq!(address("127.0.0.1:2379"), Address::Tcp("127.0.0.1:2379".into()));
        assert_eq!(address("http://host:2379/"), Address::Tcp("host:2379".into()));
        assert_eq!(address("unix:dir/socket"), Address::Unix("dir/socket".into()));
        assert_eq!(address("unix:///run/socket"), Address::Unix("/run/socket".into()));
        assert!(Endpoint::parse("https://host:2379").is_err());
    }

    #[test]
    fn a_dead_endpoint_is_left_alone_for_longer_each_time() {
        let endpoint = Endpoint::parse("127.0.0.1:1").unwrap();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            endpoint.go_down();
            if let State::Down { pause_ms, .. } = *endpoint.state() {
                pauses.push(pause_ms);
            }
        }
        assert_eq!(pauses, [1000, 1600, 2560, 4096, 6553, 10484, 16774, 20000]);
    }
}
