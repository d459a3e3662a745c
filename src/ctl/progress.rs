//! A progress line on stderr for a long check, only if stderr is a terminal.

use std::future::Future;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::session::Session;

const REDRAW_EVERY: Duration = Duration::from_millis(200);
const LOOK: &str = "{pos} / {len} [{bar:40}] {percent}%";

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

/// Only the process itself has a terminal; the library draws on no other stderr.
fn bar(session: &Session, total: u64) -> ProgressBar {
    if !session.io.shares_streams {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(LOOK).expect("the template is well formed").progress_chars("#>.");
    ProgressBar::new(total).with_style(style)
}
