//! The endpoints as a ring: each call takes the next one that works.
//!
//! An endpoint is dialled when a call first needs it. One that refused, or hung, is left alone for a while (1 s,
//! growing by 1.6 up to 20 s) and then dialled beside the calls, so a dead member costs one attempt, not one
//! per call. When all are down, a call waits and dials again until its deadline: like etcd's client, it
//! prefers waiting to failing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;

use super::dial::{Address, Dialled, Target, dial};
use super::error::Error;
use super::pings::Pings;
use super::tls::{Tls, TlsFiles, server_name};
use super::{Options, retry};

const DOWN_MS_MIN: u64 = 1_000;
const DOWN_MS_MAX: u64 = 20_000;

/// All endpoints of a client.
pub struct Ring {
    endpoints: Mutex<Arc<[Arc<Endpoint>]>>,
    next: AtomicUsize,
    dial_timeout: Duration,
    pings: Option<Pings>,
    tls: Option<Tls>,
    /// Largest response, in bytes.
    pub response_bytes_max: usize,
}

/// A connection that can take a request now.
pub struct Connection {
    pub requests: SendRequest<Bytes>,
    /// `host:port` for the `:authority` header.
    pub authority: String,
    pub is_secure: bool,
    /// Held as long as a call is open.
    pub in_use: Arc<()>,
}

impl Ring {
    pub fn new(options: &Options) -> Result<Self, Error> {
        let ring = Self {
            endpoints: Mutex::new(Vec::new().into()),
            next: AtomicUsize::new(0),
            dial_timeout: options.dial_timeout,
            pings: Pings::of(options),
            tls: options.tls.clone(),
            response_bytes_max: options.response_bytes_max,
        };
        ring.set(&options.endpoints)?;
        Ok(ring)
    }

    /// Other endpoints from now on. Connections to those that stay are kept; open calls are carried on.
    pub fn set(&self, names: &[String]) -> Result<(), Error> {
        let before = self.endpoints();
        let known = |name: &String| before.iter().find(|endpoint| endpoint.name == *name).cloned();
        let endpoint = |name| known(name).map_or_else(|| Endpoint::parse(name, self.tls.as_ref()).map(Arc::new), Ok);
        let endpoints = names.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = endpoints.into();
        Ok(())
    }

    /// The endpoints as they were given.
    pub fn names(&self) -> Vec<String> {
        self.endpoints().iter().map(|endpoint| endpoint.name.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.endpoints().len()
    }

    fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        // The list is replaced whole, so a poisoned lock still holds a good one.
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next endpoint that works; waits for one until the deadline.
    pub async fn pick(&self, deadline: Option<Instant>) -> Result<Connection, Error> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        loop {
            let endpoints = self.endpoints();
            let (before, after) = endpoints.split_at(start % endpoints.len());
            let turns = || after.iter().chain(before);
            // One that was down is dialled beside the calls as long as another one works.
            for endpoint in turns().filter(|endpoint| !endpoint.is_down()) {
                if let Some(connection) = endpoint.connection(self.dial_timeout, self.pings).await {
                    turns().for_each(|endpoint| endpoint.try_again(self.dial_timeout, self.pings));
                    return Ok(connection);
                }
            }
            for endpoint in turns().filter(|endpoint| endpoint.is_due()) {
                if let Some(connection) = endpoint.connection(self.dial_timeout, self.pings).await {
                    return Ok(connection);
                }
            }
            retry::pause(self.shortest_pause(), deadline).await?;
        }
    }

    /// Why each endpoint cannot be used, where none can.
    pub fn trouble(&self) -> Option<String> {
        let endpoints = self.endpoints();
        let reasons = endpoints.iter().map(|endpoint| match &*endpoint.state() {
            State::Down { reason, .. } => Some(format!("{}: {reason}", endpoint.name)),
            State::Idle | State::Up(_) => None,
        });
        reasons.collect::<Option<Vec<_>>>().map(|reasons| reasons.join(", "))
    }

    /// How long until the first endpoint may be dialled again.
    fn shortest_pause(&self) -> Duration {
        let now = Instant::now();
        let endpoints = self.endpoints();
        let waits = endpoints.iter().map(|endpoint| endpoint.state().down_until(now).saturating_duration_since(now));
        waits.min().unwrap_or_default().max(Duration::from_millis(25))
    }
}

struct Endpoint {
    /// As it was given.
    name: String,
    target: Target,
    authority: String,
    state: Mutex<State>,
}

/// state | transition | by
/// ---|---|---
/// idle | dialled well: up; badly: down | `connection`
/// up | connection ended: idle | `connection`
/// down | time passed: dialled again | `connection`, `try_again`
enum State {
    Idle,
    Up(Dialled),
    Down { until: Instant, pause_ms: u64, reason: String },
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
    fn parse(text: &str, tls: Option<&Tls>) -> Result<Self, Error> {
        let bad = |reason: String| Error::BadEndpoint { endpoint: text.to_owned(), reason };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ["unix", "unixs"]
                .into_iter()
                .find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?.strip_prefix(':')?)))
                .unwrap_or(("", text)),
        };
        let (address, authority) = match scheme {
            "unix" | "unixs" => (Address::Unix(rest.to_owned()), "localhost".to_owned()),
            "http" | "https" | "" => {
                let host = rest.split('/').next().unwrap_or_default().to_owned();
                (Address::Tcp(host.clone()), host)
            }
            _ => return Err(bad(format!("unknown scheme {scheme}"))),
        };
        let tls = match scheme {
            "http" => None,
            "https" | "unixs" if tls.is_none() => {
                Some(Tls::load(&TlsFiles::default()).map_err(|error| bad(error.to_string()))?)
            }
            _ => tls.cloned(),
        };
        // As with etcd's client, the certificate of a UNIX socket names the file.
        let named = match &address {
            Address::Tcp(host) => server_name(host),
            Address::Unix(path) => server_name(path.rsplit('/').next().unwrap_or_default()),
        };
        let tls = match (tls, named) {
            (None, _) => None,
            (Some(tls), Ok(name)) => Some((tls, name)),
            (Some(_), Err(error)) => return Err(bad(error.to_string())),
        };
        let target = Target { address, tls };
        Ok(Self { name: text.to_owned(), target, authority, state: Mutex::new(State::Idle) })
    }

    fn is_down(&self) -> bool {
        matches!(*self.state(), State::Down { .. })
    }

    /// Down, and for long enough to be dialled again.
    fn is_due(&self) -> bool {
        self.is_down() && self.state().down_until(Instant::now()) <= Instant::now()
    }

    /// Dials one that is due in a task of its own. Others leave it alone meanwhile.
    fn try_again(self: &Arc<Self>, dial_timeout: Duration, pings: Option<Pings>) {
        let now = Instant::now();
        match &mut *self.state() {
            State::Down { until, .. } if *until <= now => {
                *until = now.checked_add(dial_timeout).unwrap_or(now + Duration::from_millis(DOWN_MS_MAX));
            }
            _ => return,
        }
        let endpoint = Arc::clone(self);
        // Its outcome is the state of the endpoint.
        tokio::spawn(async move { drop(endpoint.dial(dial_timeout, pings).await) });
    }

    /// A connection with room for one more stream, dialling if there is none and it is time to.
    async fn connection(&self, dial_timeout: Duration, pings: Option<Pings>) -> Option<Connection> {
        if let Some(dialled) = self.open_connection()
            && let Some(connection) = self.with_room(dialled).await
        {
            return Some(connection);
        }
        if self.state().down_until(Instant::now()) > Instant::now() {
            return None;
        }
        let dialled = self.dial(dial_timeout, pings).await?;
        self.with_room(dialled).await
    }

    async fn dial(&self, dial_timeout: Duration, pings: Option<Pings>) -> Option<Dialled> {
        let dialled = match tokio::time::timeout(dial_timeout, dial(&self.target, pings)).await {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(error)) => return self.go_down(error.to_string()),
            Err(_elapsed) => return self.go_down(format!("no connection within {dial_timeout:?}")),
        };
        // Two calls may have dialled at once; both connections serve their call, the later one stays.
        *self.state() = State::Up(dialled.clone());
        Some(dialled)
    }

    fn open_connection(&self) -> Option<Dialled> {
        match &*self.state() {
            State::Up(dialled) => Some(dialled.clone()),
            State::Idle | State::Down { .. } => None,
        }
    }

    async fn with_room(&self, Dialled { requests, in_use }: Dialled) -> Option<Connection> {
        let requests = requests.ready().await.ok()?;
        let is_secure = self.target.tls.is_some();
        Some(Connection { requests, authority: self.authority.clone(), is_secure, in_use })
    }

    fn go_down<T>(&self, reason: String) -> Option<T> {
        let mut state = self.state();
        let pause_ms = match &*state {
            State::Down { pause_ms, .. } => (pause_ms * 8 / 5).min(DOWN_MS_MAX),
            State::Idle | State::Up(_) => DOWN_MS_MIN,
        };
        *state = State::Down { until: Instant::now() + Duration::from_millis(pause_ms), pause_ms, reason };
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced whole, so a poisoned lock still holds a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Endpoint::parse(text, None).map(|endpoint| endpoint.target.address).unwrap()
    }

    #[test]
    fn endpoints_are_written_in_many_ways() {
        assert_eq!(address("127.0.0.1:2379"), Address::Tcp("127.0.0.1:2379".into()));
        assert_eq!(address("http://host:2379/"), Address::Tcp("host:2379".into()));
        assert_eq!(address("unix:dir/socket"), Address::Unix("dir/socket".into()));
        assert_eq!(address("unix:///run/socket"), Address::Unix("/run/socket".into()));
        assert_eq!(address("https://host:2379/"), Address::Tcp("host:2379".into()));
        assert_eq!(address("unixs:dir/socket"), Address::Unix("dir/socket".into()));
        assert!(Endpoint::parse("ftp://host:2379", None).is_err());
    }

    #[test]
    fn the_scheme_decides_what_is_encrypted() {
        let tls = Tls::load(&TlsFiles { skips_verification: true, ..TlsFiles::default() }).unwrap();
        let is_secure = |text: &str, tls| Endpoint::parse(text, tls).unwrap().target.tls.is_some();
        for (text, without, with) in [
            ("http://host:1", false, false),
            ("https://host:1", true, true),
            ("host:1", false, true),
            ("[::1]:1", false, true),
            ("unix:socket", false, true),
            ("unixs:socket", true, true),
        ] {
            assert_eq!((is_secure(text, None), is_secure(text, Some(&tls))), (without, with), "{text}");
        }
    }

    #[test]
    fn a_dead_endpoint_is_left_alone_for_longer_each_time() {
        let endpoint = Endpoint::parse("127.0.0.1:1", None).unwrap();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let _down: Option<()> = endpoint.go_down("refused".to_owned());
            if let State::Down { pause_ms, .. } = *endpoint.state() {
                pauses.push(pause_ms);
            }
        }
        assert_eq!(pauses, [1000, 1600, 2560, 4096, 6553, 10484, 16774, 20000]);
    }
}
