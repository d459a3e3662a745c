//! A line on stderr that tells how far a long check has come, for people only: nothing is drawn where stderr is no terminal.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::session::Session;

const REDRAW_EVERY: Duration = Duration::from_millis(200);
const CELLS: u64 = 40;

/// What is counted towards the end.
pub struct Progress {
    total: u64,
    counts_seconds: bool,
    visible: bool,
}

impl Progress {
    pub fn seconds(session: &Session, total: u64) -> Self {
        Self { total, counts_seconds: true, visible: is_visible(session) }
    }

    pub fn steps(session: &Session, total: u64) -> Self {
        Self { total, counts_seconds: false, visible: is_visible(session) }
    }

    /// Carries out `work` and draws beside it; `done` counts steps.
    pub async fn beside<T>(self, work: impl Future<Output = T>, done: &watch::Sender<u64>) -> T {
        let mut work = std::pin::pin!(work);
        let started = Instant::now();
        loop {
            let outcome = tokio::time::timeout(REDRAW_EVERY, &mut work).await;
            let count = if self.counts_seconds { started.elapsed().as_secs() } else { *done.borrow() };
            self.draw(count.min(self.total), outcome.is_ok());
            if let Ok(outcome) = outcome {
                return outcome;
            }
        }
    }

    fn draw(&self, count: u64, is_last: bool) {
        if !self.visible {
            return;
        }
        let filled = (count * CELLS).checked_div(self.total).unwrap_or(CELLS);
        let percent = (count * 100).checked_div(self.total).unwrap_or(100);
        let bar: String = (0..CELLS).map(|cell| if cell < filled { '#' } else { '.' }).collect();
        let end = if is_last { "\n" } else { "" };
        // A terminal that is gone needs no picture.
        let _gone = write!(std::io::stderr(), "\r{count} / {} [{bar}] {percent}%{end}", self.total);
    }
}

/// Only the process itself has a terminal.
fn is_visible(session: &Session) -> bool {
    session.io.shares_streams && std::io::stderr().is_terminal()
}
