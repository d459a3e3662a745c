//! Passwords: bcrypt on helper threads, a few at a time.
//!
//! One hash takes tens of milliseconds of a CPU, so it must not run on a core that serves, and clients must not be able to
//! queue any number of them. The threads run on any CPU with a lower priority than the cores.
//!
//! | bound | limit | beyond it |
//! |---|---|---|
//! | at once, per core | `PASSWORDS_AT_ONCE` | they wait in turn |
//! | waiting, per core | `PASSWORDS_WAITING_MAX` | refused: too many requests |
//! | of one source address | `PASSWORDS_PER_SOURCE_MAX` | the same |

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use ahash::HashMap;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{
    base::{limits, refusal::Refusal},
    os::{net::Peer, notify::Notify, offload, stop},
    proto::etcdserverpb::AuthenticateRequest,
    rpc::Responder,
    services::Services,
};

/// The queue of one core.
#[derive(Default)]
pub(super) struct Passwords {
    running: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Notify>>>,
    /// Of each source address; nobody's for a UNIX socket.
    by_source: RefCell<HashMap<Option<IpAddr>, usize>>,
}

/// A place in the queue, from its begin to the end of the work.
struct Place<'q> {
    queue: &'q Passwords,
    source: Option<IpAddr>,
    runs: bool,
}

impl Services {
    /// Compares a password with what is stored, and signs the token of its user if tokens are signed. Both take long.
    ///
    /// # Errors
    /// It is the wrong password; no token is given here; too many wait; or the client has gone.
    pub(super) async fn log_in(
        &self,
        responder: &Responder,
        peer: Peer,
        request: AuthenticateRequest,
        revision: u64,
        hashed: Bytes,
    ) -> Result<Option<String>, Refusal> {
        let shared = Arc::clone(&self.shared);
        self.on_helper(responder, peer, move || {
            let hashed = std::str::from_utf8(&hashed).unwrap_or_default();
            // What is stored may be no hash; then no password is right.
            match bcrypt::verify(&request.password, hashed) {
                Ok(true) => shared.tokens.signed(&request.name, revision),
                Ok(false) | Err(_) => Err(Refusal::AuthFailed),
            }
        })
        .await?
    }

    /// The hash of a password, in base64 as requests carry it.
    ///
    /// # Errors
    /// The password is too long; too many wait; or the client has gone.
    pub(super) async fn hash_password(
        &self,
        responder: &Responder,
        peer: Peer,
        password: String,
    ) -> Result<String, Refusal> {
        if password.len() > limits::PASSWORD_BYTES_MAX {
            return Err(Refusal::PasswordTooLong);
        }
        let cost = self.shared.auth.bcrypt_cost;
        let hashed = self.on_helper(responder, peer, move || bcrypt::hash_with_result(password, cost)).await?;
        let parts = hashed.unwrap_or_else(|error| stop::fatal(&format!("bcrypt: {error}")));
        Ok(STANDARD.encode(parts.format_for_version(bcrypt::Version::TwoA)))
    }

    async fn on_helper<T: Send + 'static>(
        &self,
        responder: &Responder,
        peer: Peer,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let mut place = self.passwords.enter(peer)?;
        place.wait().await;
        if responder.is_canceled() {
            return Err(Refusal::Canceled);
        }
        offload::compute("password", work).await.map_err(|error| {
            tracing::error!(%error, "no thread for a password");
            Refusal::TooManyRequests
        })
    }
}

impl Passwords {
    fn enter(&self, peer: Peer) -> Result<Place<'_>, Refusal> {
        let source = match peer {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix => None,
        };
        let by_source = &mut *self.by_source.borrow_mut();
        let count = by_source.entry(source).or_default();
        if *count >= limits::PASSWORDS_PER_SOURCE_MAX || self.waiting.borrow().len() >= limits::PASSWORDS_WAITING_MAX {
            return Err(Refusal::TooManyRequests);
        }
        *count += 1;
        Ok(Place { queue: self, source, runs: false })
    }
}

impl Place<'_> {
    async fn wait(&mut self) {
        if self.queue.running.get() >= limits::PASSWORDS_AT_ONCE {
            let turn = Rc::new(Notify::default());
            self.queue.waiting.borrow_mut().push_back(Rc::clone(&turn));
            // Whoever ends hands its place over, so the number of those that run stays the same.
            turn.wait().await;
        } else {
            self.queue.running.set(self.queue.running.get() + 1);
        }
        self.runs = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let by_source = &mut *self.queue.by_source.borrow_mut();
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
        if !self.runs {
            return;
        }
        match self.queue.waiting.borrow_mut().pop_front() {
            Some(next) => next.notify(),
            None => self.queue.running.set(self.queue.running.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::Tcp(([10, 0, 0, last], 1).into())
    }

    #[test]
    fn one_source_cannot_take_all_places() {
        let queue = Passwords::default();
        let held: Vec<_> = (0..limits::PASSWORDS_PER_SOURCE_MAX).map(|_| queue.enter(peer(1)).unwrap()).collect();
        assert!(matches!(queue.enter(peer(1)), Err(Refusal::TooManyRequests)));
        assert!(queue.enter(peer(2)).is_ok());
        drop(held);
        assert!(queue.enter(peer(1)).is_ok());
        assert!(queue.by_source.borrow().is_empty());
    }

    #[test]
    fn places_are_handed_over_in_turn() {
        let queue = Passwords::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut places: Vec<_> = (0..limits::PASSWORDS_AT_ONCE + 2).map(|_| queue.enter(peer(1)).unwrap()).collect();
        let (second, first) = (places.pop().unwrap(), places.pop().unwrap());
        for place in &mut places {
            assert!(std::pin::pin!(place.wait()).as_mut().poll(&mut context).is_ready());
        }
        let (mut first, mut second) = (first, second);
        {
            let (mut one, mut other) = (std::pin::pin!(first.wait()), std::pin::pin!(second.wait()));
            assert!(one.as_mut().poll(&mut context).is_pending());
            assert!(other.as_mut().poll(&mut context).is_pending());
            places.pop();
            assert!(other.as_mut().poll(&mut context).is_pending());
            assert!(one.as_mut().poll(&mut context).is_ready());
            places.pop();
            assert!(other.as_mut().poll(&mut context).is_ready());
        }
        drop((first, second, places));
        assert_eq!(queue.running.get(), 0);
    }
}
