//! The signals that a member handles, as etcd does.
//!
//! | signal | while the member starts | once it serves |
//! |---|---|---|
//! | SIGTERM, SIGINT | ends the process, also as pid 1 | remembered; the shell looks at it each tick and stops. A second one changes nothing |
//! | SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGXCPU, SIGXFSZ | nothing | nothing |
//! | SIGPIPE | nothing: std ignores it from the start | nothing |
//! | SIGHUP, SIGQUIT and the rest | the kernel's default | the kernel's default |

use std::{
    io,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use signal_hook::{
    consts::{SIGALRM, SIGINT, SIGIO, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ},
    flag, low_level,
};

const STOPPING: [i32; 2] = [SIGTERM, SIGINT];
const WITHOUT_EFFECT: [i32; 9] = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, libc::SIGPWR, SIGXCPU, SIGXFSZ];
/// The exit code of a Go program that is terminated as pid 1, where the kernel's default action does not apply.
const EXIT_AS_FIRST_PROCESS: i32 = 2;

static STARTING: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));
static RECEIVED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Handles signals as of a member that starts.
///
/// # Errors
/// The kernel refuses a handler.
pub fn install() -> io::Result<()> {
    for signal in STOPPING {
        // In this order, because a process that ends at the signal needs no record of it.
        if is_first_process() {
            flag::register_conditional_shutdown(signal, EXIT_AS_FIRST_PROCESS, Arc::clone(&STARTING))?;
        } else {
            flag::register_conditional_default(signal, Arc::clone(&STARTING))?;
        }
        let number = usize::try_from(signal).expect("signals are positive");
        flag::register_usize(signal, Arc::clone(&RECEIVED), number)?;
    }
    for signal in WITHOUT_EFFECT {
        flag::register(signal, Arc::default())?;
    }
    Ok(())
}

/// From now on SIGTERM and SIGINT are remembered instead of ending the process.
pub fn remember() {
    STARTING.store(false, Ordering::SeqCst);
}

/// The signal received so far, if any.
#[must_use]
pub fn received() -> Option<i32> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => None,
        signal => i32::try_from(signal).ok(),
    }
}

/// etcd's name of a signal in its log line.
#[must_use]
pub fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "interrupt",
        _ => "terminated",
    }
}

/// Ends the process by the same signal, as etcd does, so that a supervisor sees "killed by signal". As pid 1, where the
/// default action does not apply, returns.
pub fn raise_again(signal: i32) {
    if !is_first_process() {
        // A signal that was handled has a default action.
        let _ended = low_level::emulate_default_handler(signal);
    }
}

fn is_first_process() -> bool {
    std::process::id() == 1
}
