//! A progress line on stderr for a long command, only if stderr is a terminal.

use std::future::Future;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::session::Session;

const REDRAW_EVERY: Duration = Duration::from_millis(200);
const LOOK: &str = "{pos} / {len} [{bar:40}] {percent}%";
const LOOK_OF_BYTES: &str = "{bytes} / {total_bytes} [{bar:40}] {percent}% {bytes_per_sec}";

/// A progress line and its number of steps.
pub struct Progress {
    bar: ProgressBar,
    counts_seconds: bool,
}

impl Progress {
    pub fn seconds(session: &Session, total: u64) -> Self {
        Self { bar: bar(session, total), counts_seconds: true }
    }

    pub fn steps(session: &Session, total: u64) -> Self {
        Self { bar: bar(session, total), counts_seconds: false }
    }

    /// Carries out `work` and draws beside it; `done` counts steps.
    pub async fn beside<T>(self, work: impl Future<Output = T>, done: &watch::Sender<u64>) -> T {
        let mut work = std::pin::pin!(work);
        let started = Instant::now();
        let total = self.bar.length().unwrap_or_default();
        loop {
            let outcome = tokio::time::timeout(REDRAW_EVERY, &mut work).await;
            let count = if self.counts_seconds { started.elapsed().as_secs() } else { *done.borrow() };
            self.bar.set_position(count.min(total));
            if let Ok(outcome) = outcome {
                self.bar.abandon();
                return outcome;
            }
        }
    }
}

fn bar(session: &Session, total: u64) -> ProgressBar {
    styled(session.io.shares_streams, LOOK, total)
}

/// A progress line that counts bytes. It disappears when it is dropped, so that the output of the command stays as it is.
pub struct ByteProgress(ProgressBar);

impl ByteProgress {
    /// `owns_stderr`: the caller is the program itself, and not a test, whose stderr may be a terminal too.
    pub fn new(owns_stderr: bool, total: u64) -> Self {
        Self(styled(owns_stderr, LOOK_OF_BYTES, total))
    }

    /// The bytes that are done, and how many are left.
    pub fn set(&self, done: u64, left: u64) {
        self.0.set_length(done + left);
        self.0.set_position(done);
    }
}

impl Drop for ByteProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Only the process itself has a terminal; the library draws on no other stderr.
fn styled(owns_stderr: bool, look: &str, total: u64) -> ProgressBar {
    if !owns_stderr {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(look).expect("the template is well formed").progress_chars("#>.");
    ProgressBar::new(total).with_style(style)
}
