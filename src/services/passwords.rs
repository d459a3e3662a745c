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

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{
    base::{limits, refusal::Refusal},
    os::{net::Peer, offload, stop},
    proto::etcdserverpb::AuthenticateRequest,
    rpc::Responder,
    services::Services,
};

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
