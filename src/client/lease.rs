//! Leases: grant, revoke, time to live, and keeping one alive.
//!
//! A [`KeepAlive`] sends one beat per third of the TTL on one stream. When the stream breaks, or a beat is not answered before the next
//! one is due, it opens another one, which goes to the next endpoint. It ends when the time of the last granted TTL is over: then the
//! lease is lost, whether or not the server still has it.
//!
//! state | transition | by
//! ---|---|---
//! closed | due: opened, one beat sent | `next`
//! open | answered: due again after a third of the TTL; broke or silent: closed, tried again soon | `next`
//! any | the server has no such lease, or no answer for a whole TTL: ended | `next`

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::{Code, Error};
use super::transport::Stream;
use super::{Call, Client, method, retry};
use crate::base::limits::{CLIENT_FIRST_BEAT_MS, CLIENT_KEEP_ALIVE_PAUSE_MS};
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

impl Client {
    /// A new lease of `ttl_seconds`; the server chooses the id.
    pub async fn grant(&self, ttl_seconds: i64, call: Call) -> Result<LeaseGrantResponse, Error> {
        self.call(&method::LEASE_GRANT, &LeaseGrantRequest { ttl: ttl_seconds, id: 0 }, call).await
    }

    /// Ends a lease; its keys are deleted.
    pub async fn revoke(&self, lease: i64, call: Call) -> Result<LeaseRevokeResponse, Error> {
        self.call(&method::LEASE_REVOKE, &LeaseRevokeRequest { id: lease }, call).await
    }

    /// What is left of a lease, and its keys if they are asked for.
    pub async fn time_to_live(&self, lease: i64, keys: bool, call: Call) -> Result<LeaseTimeToLiveResponse, Error> {
        self.call(&method::LEASE_TIME_TO_LIVE, &LeaseTimeToLiveRequest { id: lease, keys }, call).await
    }

    /// All leases.
    pub async fn leases(&self, call: Call) -> Result<LeaseLeasesResponse, Error> {
        self.call(&method::LEASE_LEASES, &LeaseLeasesRequest {}, call).await
    }

    /// One renewal; `None` if the lease is gone.
    pub async fn keep_alive_once(&self, lease: i64) -> Result<Option<LeaseKeepAliveResponse>, Error> {
        let request = LeaseKeepAliveRequest { id: lease };
        let mut stream = self.server_stream(&method::LEASE_KEEP_ALIVE, &request, Call::default()).await?;
        Ok(stream.next().await?.filter(|response| response.ttl > 0))
    }

    /// Keeps a lease alive for as long as [`KeepAlive::next`] is called.
    pub fn keep_alive(&self, lease: i64) -> KeepAlive {
        let now = Instant::now();
        let expires = now + Duration::from_millis(CLIENT_FIRST_BEAT_MS);
        KeepAlive {
            client: self.clone(),
            lease,
            stream: None,
            due: now,
            expires,
            period: (expires - now) / BEATS_PER_TTL,
        }
    }
}

/// The beats of one lease.
pub struct KeepAlive {
    client: Client,
    lease: i64,
    stream: Option<Box<Stream<LeaseKeepAliveRequest, LeaseKeepAliveResponse>>>,
    due: Instant,
    /// When the lease is lost unless the server answers before.
    expires: Instant,
    /// From one beat to the next, and how long its answer may take.
    period: Duration,
}

const BEATS_PER_TTL: u32 = 3;

impl KeepAlive {
    /// The answer to the next beat; `None` when the lease is gone or has run out.
    pub async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Error> {
        sleep_until(self.due).await;
        loop {
            let pause = Duration::from_millis(CLIENT_KEEP_ALIVE_PAUSE_MS);
            let patience = self.expires.min(Instant::now() + self.period.max(pause));
            let error = match timeout_at(patience, self.beat()).await {
                Err(_elapsed) if Instant::now() >= self.expires => return Ok(None),
                Err(_elapsed) => Error::Broken("a beat was not answered".to_owned()),
                Ok(Ok(response)) => return Ok(self.take_in(response)),
                Ok(Err(error)) => error,
            };
            self.stream = None;
            if !matches!(error.code(), Code::Unavailable | Code::Internal | Code::Unknown) {
                return Err(error);
            }
            if retry::pause(pause, Some(self.expires.into_std())).await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn beat(&mut self) -> Result<LeaseKeepAliveResponse, Error> {
        let request = LeaseKeepAliveRequest { id: self.lease };
        let stream = match &mut self.stream {
            Some(stream) => {
                stream.send(&request)?;
                stream
            }
            None => {
                let call = Call::default().require_leader();
                let stream = self.client.open(&method::LEASE_KEEP_ALIVE, &request, call).await?;
                self.stream.insert(Box::new(stream))
            }
        };
        stream.next().await?.ok_or_else(|| Error::Broken("keepalive stream ended".to_owned()))
    }

    fn take_in(&mut self, response: LeaseKeepAliveResponse) -> Option<LeaseKeepAliveResponse> {
        let ttl = Duration::from_secs(u64::try_from(response.ttl).unwrap_or_default());
        if ttl.is_zero() {
            return None;
        }
        let now = Instant::now();
        self.period = ttl / BEATS_PER_TTL;
        self.due = now + self.period;
        self.expires = now + ttl;
        Some(response)
    }
}
