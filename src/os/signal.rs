//! SIGTERM and SIGINT as a value that the shell looks at each tick.

use std::{
    io,
    sync::atomic::{AtomicI32, Ordering},
};

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn remember(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}

/// From now on SIGTERM and SIGINT are remembered instead of ending the process; SIGPIPE is ignored.
///
/// # Errors
/// The kernel refuses a handler.
pub fn install() -> io::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        set_handler(signal, remember as *const () as libc::sighandler_t)?;
    }
    set_handler(libc::SIGPIPE, libc::SIG_IGN)
}

/// The signal received so far, if any.
#[must_use]
pub fn received() -> Option<i32> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// etcd's name of a signal in its log line.
#[must_use]
pub fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGINT => "interrupt",
        _ => "terminated",
    }
}

/// Ends the process by the same signal, as etcd does, so that a supervisor sees "killed by signal". As pid 1, where the
/// default action does not apply, returns.
pub fn raise_again(signal: i32) {
    if std::process::id() != 1 && set_handler(signal, libc::SIG_DFL).is_ok() {
        // SAFETY: raising a signal on the own process has no memory effect.
        unsafe { libc::raise(signal) };
    }
}

fn set_handler(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: sigaction is plain data and valid when zeroed.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` outlives the call; the handler only stores to an atomic.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
