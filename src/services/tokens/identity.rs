//! The user that a token stands for, and when the token ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::os::clock;

/// How long `used_ms` may lag behind the last use.
const USE_GRAIN_MS: u64 = 500;

/// The user that a token stands for.
#[derive(Debug)]
pub struct Identity {
    pub user: Box<str>,
    /// The revision in a signed token. Any other counts as of now.
    pub revision: Option<u64>,
    pub(super) life: Life,
    pub(super) is_ended: AtomicBool,
}

/// When a token ends by itself.
#[derive(Debug)]
pub(super) enum Life {
    Unlimited,
    /// Seconds since 1970.
    Until(f64),
    /// Milliseconds from the table's start to the last use, and how long it may be unused.
    Unused {
        used_ms: AtomicU64,
        ttl_ms: u64,
    },
}

impl Identity {
    /// A user by the common name of its certificate.
    #[must_use]
    pub fn by_certificate(name: &str) -> Self {
        Self { user: name.into(), revision: None, life: Life::Unlimited, is_ended: AtomicBool::new(false) }
    }

    /// Whether the token is valid, without using it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let in_time = match self.life {
            Life::Until(end) => unix_seconds() < end,
            Life::Unlimited | Life::Unused { .. } => true,
        };
        in_time && !self.is_ended.load(Ordering::Acquire)
    }

    /// Uses the token: it is valid for another TTL. `false` if it is not valid any more.
    pub(super) fn use_at(&self, now_ms: u64) -> bool {
        if let Life::Unused { used_ms, ttl_ms } = &self.life {
            let used = used_ms.load(Ordering::Relaxed);
            let since = now_ms.saturating_sub(used);
            if since > *ttl_ms {
                self.end();
            } else if since >= USE_GRAIN_MS.min(ttl_ms / 8) {
                used_ms.fetch_max(now_ms, Ordering::Relaxed);
            }
        }
        self.is_valid()
    }

    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
    }
}

pub(super) fn unix_seconds() -> f64 {
    clock::unix_ms() as f64 / 1000.0
}
