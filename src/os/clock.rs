//! Time: monotonic for measuring, wall for names and logs.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, for identifiers that must not repeat across restarts.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Monotonic now.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
