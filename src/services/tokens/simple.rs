//! Simple tokens: 16 random letters, a point, and an index of the log.
//!
//! The member that compared the password chooses the letters; the entry assigns the token on every member. A client may show it
//! to a member that has not applied that entry yet, so the index tells which entry to wait for.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ahash::{HashMap, HashMapExt};

use super::identity::{Identity, Life};
use crate::os::random;

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PREFIX_LENGTH: usize = 16;
/// etcd's, for a TTL that is none.
const TTL_MS_DEFAULT: u64 = 300_000;

/// The tokens that this member knows.
pub(super) struct SimpleTokens {
    by_token: Mutex<HashMap<Box<str>, Arc<Identity>>>,
    ttl_ms: u64,
}

impl SimpleTokens {
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let ttl_ms = if ttl_ms == 0 { TTL_MS_DEFAULT } else { ttl_ms };
        Self { by_token: Mutex::new(HashMap::new()), ttl_ms }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Identity>>> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn assign(&self, token: String, user: &str, now_ms: u64) {
        let life = Life::Unused { used_ms: AtomicU64::new(now_ms), ttl_ms: self.ttl_ms };
        let identity = Identity { user: user.into(), revision: None, life, is_ended: AtomicBool::new(false) };
        self.lock().insert(token.into(), Arc::new(identity));
    }

    pub(super) fn find(&self, token: &str) -> Option<Arc<Identity>> {
        self.lock().get(token).cloned()
    }

    pub(super) fn end_user(&self, user: &str) {
        self.end_if(|identity| *identity.user == *user);
    }

    pub(super) fn end_all(&self) {
        self.end_if(|_| true);
    }

    pub(super) fn sweep(&self, now_ms: u64) {
        self.end_if(|identity| match &identity.life {
            Life::Unused { used_ms, ttl_ms } => now_ms.saturating_sub(used_ms.load(Ordering::Relaxed)) > *ttl_ms,
            Life::Unlimited | Life::Until(_) => false,
        });
    }

    fn end_if(&self, is_over: impl Fn(&Identity) -> bool) {
        self.lock().retain(|_, identity| {
            let ends = is_over(identity) || !identity.is_valid();
            if ends {
                identity.end();
            }
            !ends
        });
    }
}

/// The index in a token, if it has the form of one.
pub(super) fn index_of(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    let is_number = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { index.parse().ok() } else { None }
}

/// Letters that nobody can guess.
pub(super) fn prefix() -> String {
    let mut letters = String::with_capacity(PREFIX_LENGTH);
    // Numbers beyond the last whole multiple would make some letters likelier.
    let limit = 256 - 256 % LETTERS.len();
    while letters.len() < PREFIX_LENGTH {
        for byte in random::number().to_ne_bytes() {
            if usize::from(byte) < limit && letters.len() < PREFIX_LENGTH {
                letters.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            }
        }
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_with_their_user_and_by_their_age() {
        let tokens = SimpleTokens::new(Duration::from_secs(10));
        tokens.assign("a.1".to_owned(), "alice", 0);
        tokens.assign("b.2".to_owned(), "bob", 0);
        let (alice, bob) = (tokens.find("a.1").unwrap(), tokens.find("b.2").unwrap());
        assert!(tokens.find("a.2").is_none());
        tokens.end_user("alice");
        assert!(!alice.is_valid() && tokens.find("a.1").is_none(), "also where it is kept");
        assert!(bob.use_at(9_000));
        tokens.sweep(19_000);
        assert!(tokens.find("b.2").is_some(), "it was used in between");
        assert!(!bob.use_at(19_001));
        tokens.sweep(19_001);
        assert!(tokens.find("b.2").is_none());
    }

    #[test]
    fn a_ttl_of_zero_is_the_default() {
        let tokens = SimpleTokens::new(Duration::ZERO);
        tokens.assign("a.1".to_owned(), "alice", 0);
        let alice = tokens.find("a.1").unwrap();
        assert!(alice.use_at(TTL_MS_DEFAULT));
        assert!(!alice.use_at(2 * TTL_MS_DEFAULT + 1));
    }

    #[test]
    fn only_what_looks_like_a_token_has_an_index() {
        assert_eq!(index_of("abc.17"), Some(17));
        for other in ["", "abc", "abc.", "abc.1.2", "abc.-1", "abc.+1", "abc.99999999999999999999"] {
            assert_eq!(index_of(other), None, "{other}");
        }
    }

    #[test]
    fn prefixes_are_letters_and_differ() {
        let (one, other) = (prefix(), prefix());
        assert!(one != other && one.len() == PREFIX_LENGTH && one.bytes().all(|byte| byte.is_ascii_alphabetic()));
    }
}
