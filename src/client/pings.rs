//! Finds out that the other end of a connection is gone although nobody said so, as etcd's client does with `--keepalive-time` and
//! `--keepalive-timeout`: while calls are open, a ping; no answer in time, and the connection is over.
//!
//! A connection without calls is left alone: servers take pings on it for an attack.

use std::sync::Weak;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use super::Options;
use crate::base::limits::CLIENT_PING_MS_MIN;

/// When to ping, and how long to wait for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    after: Duration,
    timeout: Duration,
}

impl Pings {
    /// `None`: never.
    pub fn of(options: &Options) -> Option<Self> {
        let after = options.ping_after.max(Duration::from_millis(CLIENT_PING_MS_MIN));
        (!options.ping_after.is_zero()).then_some(Self { after, timeout: options.ping_timeout })
    }

    /// Returns when the other end is gone. Every open call holds the token once more than its connection does.
    pub async fn watch(self, mut pings: PingPong, token: Weak<()>) {
        const OF_THE_CONNECTION: usize = 1;
        loop {
            sleep(self.after).await;
            if token.strong_count() > OF_THE_CONNECTION
                && !matches!(timeout(self.timeout, pings.ping(Ping::opaque())).await, Ok(Ok(_)))
            {
                return;
            }
        }
    }
}
