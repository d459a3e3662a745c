//! Finished spans on their way to the exporter: bounded in number and bytes, filled by all cores, emptied by one thread.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::finished::Finished;
use crate::base::limits::{SPANS_PER_BATCH, SPANS_WAITING_BYTES_MAX, SPANS_WAITING_MAX};

#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    /// There is a whole batch, or the server stops.
    due: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    spans: Vec<Finished>,
    bytes: usize,
    counts: Counts,
    is_closed: bool,
}

/// Spans since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken by the collector.
    pub exported: u64,
    /// The queue was full, or the collector did not take them.
    pub lost: u64,
}

impl Queue {
    /// Never waits for the exporter.
    pub(super) fn push(&self, span: Finished) {
        let bytes = span.bytes();
        let mut state = self.state();
        let is_full = state.spans.len() >= SPANS_WAITING_MAX || state.bytes + bytes > SPANS_WAITING_BYTES_MAX;
        if is_full || state.is_closed {
            state.counts.lost += 1;
            return;
        }
        state.spans.push(span);
        state.bytes += bytes;
        let is_due = state.spans.len() == SPANS_PER_BATCH;
        drop(state);
        if is_due {
            self.due.notify_one();
        }
    }

    /// Waits until a batch is due: because there are enough spans, or `delay` is over. `false` once the queue is closed.
    pub async fn wait(&self, delay: Duration) -> bool {
        // Either way there may be something to take.
        let _elapsed = tokio::time::timeout(delay, self.due.notified()).await;
        !self.state().is_closed
    }

    /// All that wait.
    #[must_use]
    pub fn take(&self) -> Vec<Finished> {
        let mut state = self.state();
        state.bytes = 0;
        mem::take(&mut state.spans)
    }

    /// There will be no more spans.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.due.notify_one();
        self.closed.notify_one();
    }

    /// Resolves once the queue is closed, for one who waits.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }

    /// What became of spans that were taken.
    pub fn count(&self, exported: u64, lost: u64) {
        let counts = &mut self.state().counts;
        counts.exported += exported;
        counts.lost += lost;
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
