//! The ways in which a member ends: after a failure, by a signal, or because it was removed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::os::signal;

static BEGUN: AtomicBool = AtomicBool::new(false);

/// The member begins to end, for whatever reason. Every core sees that.
pub fn begin() {
    BEGUN.store(true, Ordering::Relaxed);
}

/// Whether the member has begun to end.
#[must_use]
pub fn has_begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Logs the reason and ends the process with exit code 1. Everything acknowledged is durable, so nothing is lost. To continue after
/// a failed write or a damaged page could lose data.
pub fn fatal(reason: &str) -> ! {
    tracing::error!(reason, "the member cannot continue and stops");
    eprintln!("ringd: fatal: {reason}");
    std::process::exit(1);
}

/// Ends the process by the signal that stopped it. Everything is on disk, so no memory is freed: freeing an index of a million
/// keys would take longer than the rest of the stop.
pub fn by_signal(signal: i32) -> ! {
    signal::raise_again(signal);
    std::process::exit(0);
}

/// Ends the process with exit code 0. Everything is on disk, as for [`by_signal`].
pub fn normal() -> ! {
    std::process::exit(0);
}
