//! Time: monotonic for measuring, wall for names and logs.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, for identifiers that must not repeat across restarts.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since the machine was started, the time that it slept included.
#[must_use]
pub fn boot_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of this frame.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(failed, 0, "Linux has this clock since 2.6.39");
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Monotonic now.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: i64,
    pub month: i64,
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

/// The date of a time since the Unix epoch, in UTC or in this machine's zone.
#[must_use]
pub fn date(unix_seconds: u64, is_local: bool) -> Date {
    let time = libc::time_t::try_from(unix_seconds).unwrap_or(libc::time_t::MAX);
    // SAFETY: all fields are integers or a pointer that may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values of this frame; the functions keep neither.
    let _same = unsafe {
        match is_local {
            true => libc::localtime_r(&raw const time, &raw mut parts),
            false => libc::gmtime_r(&raw const time, &raw mut parts),
        }
    };
    Date {
        year: i64::from(parts.tm_year) + 1900,
        month: i64::from(parts.tm_mon) + 1,
        day: i64::from(parts.tm_mday),
        hour: i64::from(parts.tm_hour),
        minute: i64::from(parts.tm_min),
        second: i64::from(parts.tm_sec),
    }
}
