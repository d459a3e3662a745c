//! The end of a member that cannot go on.

/// Logs why and ends the process with exit code 1. What is acknowledged is durable, so ending here loses nothing; going on after
/// a failed write or over a damaged page might.
pub fn fatal(reason: &str) -> ! {
    tracing::error!(reason, "the member cannot go on and stops");
    eprintln!("ringd: fatal: {reason}");
    std::process::exit(1);
}
