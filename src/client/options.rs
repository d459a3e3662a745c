//! What a client is made from, and how one call is made.

use std::time::{Duration, Instant};

use super::tls::Tls;

/// What a client is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port`, `http://host:port`, `https://host:port`, `unix:path`, `unix://path`, `unixs:path` or `unixs://path`.
    pub endpoints: Vec<String>,
    /// For `https` and `unixs`, and for endpoints that name no scheme. Without it the former trust the authorities of this machine.
    pub tls: Option<Tls>,
    /// Bound of one connection attempt, and of the authentication at the start.
    pub dial_timeout: Duration,
    /// While calls are open, a connection is pinged this often, but not more often than every 10 seconds; zero: never.
    pub ping_after: Duration,
    /// A connection whose ping is not answered for so long is given up.
    pub ping_timeout: Duration,
    /// Name and password; a token is fetched with them and renewed when the server asks for it.
    pub user: Option<(String, String)>,
    /// A ready-made token (JWT); never renewed.
    pub token: Option<String>,
    /// Largest request this client sends, in bytes.
    pub request_bytes_max: usize,
    /// Largest response this client accepts, in bytes.
    pub response_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            tls: None,
            dial_timeout: Duration::from_secs(2),
            ping_after: Duration::ZERO,
            ping_timeout: Duration::ZERO,
            user: None,
            token: None,
            request_bytes_max: crate::base::limits::CLIENT_REQUEST_BYTES_MAX,
            response_bytes_max: crate::base::limits::CLIENT_RESPONSE_BYTES_MAX,
        }
    }
}

/// How one call is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// When to give up; `None` waits for ever.
    pub deadline: Option<Instant>,
    /// Sends `hasleader`: a member without a leader refuses at once.
    pub require_leader: bool,
}

impl Call {
    /// A call that gives up after `timeout`.
    pub fn within(timeout: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(timeout), require_leader: false }
    }

    /// The same call, refused by a member without a leader.
    pub fn require_leader(self) -> Self {
        Self { require_leader: true, ..self }
    }
}
