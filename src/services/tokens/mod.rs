//! Tokens: what a client shows instead of its password.
//!
//! | `--auth-token` | a token is | known to | ends |
//! |---|---|---|---|
//! | `simple` | random letters and the index of the entry that assigned it | every member that applied that entry, in memory | unused for `--auth-token-ttl`; at a restart; with its user's password; when authentication is switched off |
//! | `jwt,...` | a signed JSON Web Token | nobody: its signature tells | at the time in it |
//! | empty | none: nobody can authenticate | | |
//!
//! All cores share one table of simple tokens under a lock, and each core keeps the tokens that it has seen. So a request with a
//! token that its core knows takes no lock and allocates nothing: a lookup, and two loads.

mod identity;
mod jwt;
mod jwt_keys;
mod ring_provider;
mod simple;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::simple::SimpleTokens;
pub use self::{
    identity::Identity,
    jwt::{Jwt, JwtError, JwtOptions},
};
use crate::{auth::TokenChange, base::refusal::Refusal, os::clock};

/// The tokens of a member.
pub struct Tokens {
    provider: Provider,
    started: Instant,
}

enum Provider {
    Simple(SimpleTokens),
    Jwt(Box<Jwt>),
    None,
}

/// Which tokens a member gives.
pub enum TokenSettings {
    Simple { ttl: Duration },
    Jwt(Box<Jwt>),
    None,
}

impl Tokens {
    #[must_use]
    pub fn new(settings: TokenSettings) -> Self {
        let provider = match settings {
            TokenSettings::Simple { ttl } => Provider::Simple(SimpleTokens::new(ttl)),
            TokenSettings::Jwt(jwt) => Provider::Jwt(jwt),
            TokenSettings::None => Provider::None,
        };
        Self { provider, started: clock::now() }
    }

    /// Takes over what the log says of tokens.
    pub fn change(&self, changes: Vec<TokenChange>) {
        let Provider::Simple(tokens) = &self.provider else { return };
        let now_ms = self.ms(clock::now());
        for change in changes {
            match change {
                TokenChange::Assigned { token, user } => tokens.assign(token, &user, now_ms),
                TokenChange::UserEnded { user } => tokens.end_user(&user),
                TokenChange::AllEnded => tokens.end_all(),
            }
        }
    }

    /// Drops tokens that have been unused for too long.
    pub fn sweep(&self, now: Instant) {
        if let Provider::Simple(tokens) = &self.provider {
            tokens.sweep(self.ms(now));
        }
    }

    /// Who shows this token.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<Identity>> {
        match &self.provider {
            Provider::Simple(tokens) => tokens.find(token),
            Provider::Jwt(jwt) => jwt.verify(token).map(Arc::new),
            Provider::None => None,
        }
    }

    /// Uses a token that was found before.
    #[must_use]
    pub fn use_again(&self, identity: &Identity, now: Instant) -> bool {
        identity.use_at(self.ms(now))
    }

    /// The index of the log behind which this token is known; nothing for one that is no such token.
    #[must_use]
    pub fn index_of(&self, token: &str) -> Option<u64> {
        match &self.provider {
            Provider::Simple(_) => simple::index_of(token),
            Provider::Jwt(_) | Provider::None => None,
        }
    }

    /// Random letters for the next token.
    #[must_use]
    pub fn prefix(&self) -> String {
        match &self.provider {
            Provider::Simple(_) => simple::prefix(),
            Provider::Jwt(_) | Provider::None => String::new(),
        }
    }

    /// The token for a client whose entry was applied, where that entry does not name it.
    ///
    /// # Errors
    /// This member gives no tokens.
    pub fn signed(&self, user: &str, revision: u64) -> Result<Option<String>, Refusal> {
        match &self.provider {
            Provider::Simple(_) => Ok(None),
            Provider::Jwt(jwt) => jwt.sign(user, revision).map(Some),
            Provider::None => Err(Refusal::AuthFailed),
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}
