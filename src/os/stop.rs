//! The ends of a member: it cannot go on, or it was told to stop.

use crate::os::signal;

/// Logs why and ends the process with exit code 1. What is acknowledged is durable, so ending here loses nothing; going on after
/// a failed write or over a damaged page might.
pub fn fatal(reason: &str) -> ! {
    tracing::error!(reason, "the member cannot go on and stops");
    eprintln!("ringd: fatal: {reason}");
    std::process::exit(1);
}

/// Ends the process by the signal that stopped it. Everything is on disk, so nothing is taken apart: freeing an index of a million
/// keys piece by piece would take longer than the whole stop.
pub fn by_signal(signal: i32) -> ! {
    signal::raise_again(signal);
    std::process::exit(0);
}

/// Ends the process with exit code 0. Everything is on disk, as for [`by_signal`].
pub fn normal() -> ! {
    std::process::exit(0);
}
