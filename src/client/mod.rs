//! A small etcd client: the one behind `ringctl`, the load generator and the integration tests.
//!
//! ```text
//! Client::call(&KV_RANGE, &request, call)       one typed method table        method.rs
//!    -> again while the rules say so            who may repeat what, and when retry.rs
//!       -> the next endpoint in the ring        dials lazily, skips the dead  balance.rs dial.rs tls.rs
//!          -> one HTTP/2 stream                 gRPC frames, metadata, status transport.rs
//!             over a connection that pings       ends one that is dead       pings.rs
//!
//! Client::watch       opened again behind the last revision seen              watch.rs
//! Client::keep_alive  a lease for as long as it is asked for                  lease.rs
//!    Session          the lease of an owner, kept by a task                   session.rs
//!       Lock, Election, Leaders                                               lock.rs election.rs
//! ```
//!
//! Invariants:
//! 1. A call that may have reached a server is sent again only if its method is marked repeatable; a
//!    write is repeated only when no byte of it left this process.
//! 2. An error keeps the gRPC code and the server's exact text ([`Error`]).
//! 3. A call with a deadline ends at the deadline, whatever the network does.
//! 4. Nothing is dialled before the first call, and an idle client costs nothing.
//!
//! It runs on any tokio runtime (the programs use `current_thread`).

pub mod balance;
mod dial;
pub mod election;
pub mod error;
pub mod lease;
pub mod lock;
pub mod method;
mod options;
mod pings;
mod queue;
pub mod retry;
pub mod session;
pub mod tls;
pub mod transport;
pub mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse, MemberListRequest};
pub use election::Election;
pub use error::{Code, Error};
pub use lease::KeepAlive;
pub use lock::Lock;
pub use method::Method;
pub use options::{Call, Options};
pub use session::Session;
pub use tls::{Tls, TlsFiles};
pub use transport::{Receiver, Stream};
pub use watch::Watch;

use balance::Ring;
use retry::{After, Backoff};

/// A cluster as seen through its endpoints. Cheap to clone; clones share connections and token.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    ring: Ring,
    token: Mutex<String>,
}

impl Client {
    /// Checks the endpoints and, if there is a user, fetches a token (within the dial timeout).
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let ring = Ring::new(&options)?;
        let token = Mutex::new(options.token.clone().unwrap_or_default());
        let client = Self { shared: Arc::new(Shared { options, ring, token }) };
        client.authenticate(Call::within(client.shared.options.dial_timeout)).await?;
        Ok(client)
    }

    /// The endpoints as they were given last.
    pub fn endpoints(&self) -> Vec<String> {
        self.shared.ring.names()
    }

    /// Other endpoints from now on, for all clones.
    pub fn set_endpoints(&self, endpoints: &[String]) -> Result<(), Error> {
        self.shared.ring.set(endpoints)
    }

    /// Takes the client URLs of all members that vote and have started as endpoints, as the cluster knows them now.
    pub async fn sync(&self, call: Call) -> Result<(), Error> {
        let request = MemberListRequest { linearizable: true };
        let list = self.call(&method::MEMBER_LIST, &request, call).await?;
        let voting = list.members.into_iter().filter(|member| !member.name.is_empty() && !member.is_learner);
        self.set_endpoints(&voting.flat_map(|member| member.client_ur_ls).collect::<Vec<_>>())
    }

    /// Why nothing can be sent now: what the last attempts to connect ended with, where all endpoints refused.
    pub fn trouble(&self) -> Option<String> {
        self.shared.ring.trouble()
    }

    /// One request, one response; retried by the rules of [`retry`].
    pub async fn call<Q, A>(&self, method: &Method<Q, A>, request: &Q, call: Call) -> Result<A, Error>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let body = transport::frame(request, self.shared.options.request_bytes_max)?;
        let mut backoff = Backoff::new(self.shared.ring.count());
        loop {
            let token = self.token().clone();
            let outcome = transport::unary(&self.shared.ring, method.path, body.clone(), &token, call).await;
            let error = match outcome {
                Ok(payload) => return transport::decode(&payload),
                Err(error) => error,
            };
            match retry::decide(
                &error,
                method.repeatable,
                self.shared.ring.count(),
                self.can_renew(),
                backoff.attempt(),
            ) {
                After::GiveUp => return Err(error),
                After::Renew => Box::pin(self.authenticate(call)).await?,
                After::Repeat => {}
            }
            backoff.wait(call.deadline).await?;
        }
    }

    /// Opens a stream: one request goes out at once, more may follow; responses are read one by one.
    /// A server stream ends its sending side with [`Stream::finish`].
    pub async fn open<Q, A>(&self, method: &Method<Q, A>, request: &Q, call: Call) -> Result<Stream<Q, A>, Error>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        // Tokens expire under long streams: a new stream starts with a new token.
        self.authenticate(call).await?;
        let body = transport::frame(request, self.shared.options.request_bytes_max)?;
        let token = self.token().clone();
        transport::stream(&self.shared.ring, method.path, body, &token, call).await
    }

    /// A server stream: `request` and nothing more goes out.
    pub async fn server_stream<Q, A>(
        &self,
        method: &Method<Q, A>,
        request: &Q,
        call: Call,
    ) -> Result<Stream<Q, A>, Error>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let mut stream = self.open(method, request, call).await?;
        stream.finish()?;
        Ok(stream)
    }

    /// Fetches a token for the configured user. Without one, and while the server has no
    /// authentication, there is nothing to do.
    async fn authenticate(&self, call: Call) -> Result<(), Error> {
        let Some((name, password)) = &self.shared.options.user else {
            return Ok(());
        };
        if self.shared.options.token.is_some() || name.is_empty() || password.is_empty() {
            return Ok(());
        }
        let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
        let body = transport::frame(&request, self.shared.options.request_bytes_max)?;
        let outcome = transport::unary(&self.shared.ring, method::AUTHENTICATE.path, body, "", call).await;
        let token = match outcome {
            Ok(payload) => transport::decode::<AuthenticateResponse>(&payload)?.token,
            Err(error) if error.message() == "etcdserver: authentication is not enabled" => String::new(),
            Err(error) => return Err(error),
        };
        *self.token() = token;
        Ok(())
    }

    fn can_renew(&self) -> bool {
        self.shared.options.token.is_none() && self.shared.options.user.is_some()
    }

    fn token(&self) -> MutexGuard<'_, String> {
        // A token is replaced whole, so a poisoned lock still holds a good one.
        self.shared.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
