//! How changes reach the fronts: sent to those that watch something, in bounded number.
//!
//! No batch is missed between two cores. The engine stores the view and then looks whether the gate is open; a front opens its gate
//! and then loads the view at whose revision its first watcher begins. Both put a sequentially consistent fence between their two
//! steps, so at least one of them sees what the other did: either the engine finds the gate open and sends the batch, or the front
//! finds the view that has it and does not need it. The same holds for `lost`: the engine stores the view before it looks whether
//! the loss was told already; the front takes the flag back before it loads the view that it reads what was lost from.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    time::Duration,
};

use crate::base::limits;

/// What fronts and engine share for watching.
pub struct WatchShared {
    gates: Box<[Gate]>,
    /// `--watch-progress-notify-interval`
    pub progress: Duration,
    /// Size from which a response is sent in pieces to those who asked for it.
    pub fragment_bytes: usize,
}

/// Of one front, by its id.
#[derive(Default)]
pub struct Gate {
    is_open: AtomicBool,
    /// Bytes of changes that are on their way to the front's core.
    on_the_way: AtomicUsize,
    /// The front was told of a loss and has not looked yet.
    lost: AtomicBool,
}

/// What the engine does with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Sent,
    /// It is left out, and the front has to be told.
    Lost,
    /// Nobody watches, or the front was told already.
    Closed,
}

impl WatchShared {
    #[must_use]
    pub fn new(fronts: usize, progress: Duration, request_bytes_max: usize) -> Self {
        Self {
            gates: (0..fronts).map(|_| Gate::default()).collect(),
            progress,
            fragment_bytes: request_bytes_max + limits::REQUEST_OVERHEAD_BYTES,
        }
    }

    #[must_use]
    pub fn gates(&self) -> &[Gate] {
        &self.gates
    }
}

impl Gate {
    /// The engine's side: whether the front watches something. The view was stored before.
    #[must_use]
    pub fn is_open(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_open.load(Ordering::Relaxed)
    }

    /// The engine's side, for a front on another core: whether a batch may be sent.
    #[must_use]
    pub fn admit(&self, bytes: usize) -> Admission {
        if !self.is_open() {
            return Admission::Closed;
        }
        if self.on_the_way.load(Ordering::Relaxed) < limits::WATCH_CHANGES_BYTES_MAX {
            self.on_the_way.fetch_add(bytes, Ordering::Relaxed);
            return Admission::Sent;
        }
        if self.lost.swap(true, Ordering::SeqCst) { Admission::Closed } else { Admission::Lost }
    }

    /// The front's side, before it loads the view at which its first watcher begins.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The front has no watchers.
    pub(super) fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }

    /// A batch has arrived.
    pub(super) fn arrived(&self, bytes: usize) {
        self.on_the_way.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The front knows of the loss; it loads the view afterwards.
    pub(super) fn found(&self) {
        self.lost.swap(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_way_is_bounded_and_a_loss_is_told_once() {
        let gate = Gate::default();
        assert_eq!(gate.admit(10), Admission::Closed);
        gate.open();
        assert_eq!(gate.admit(limits::WATCH_CHANGES_BYTES_MAX), Admission::Sent);
        assert_eq!(gate.admit(10), Admission::Lost);
        assert_eq!(gate.admit(10), Admission::Closed);
        gate.arrived(limits::WATCH_CHANGES_BYTES_MAX);
        gate.found();
        assert_eq!(gate.admit(10), Admission::Sent);
        gate.close();
        assert_eq!(gate.admit(10), Admission::Closed);
    }
}
