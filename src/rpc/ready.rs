//! The slow streams of a connection that were woken.
//!
//! HTTP/2 wakes a task per stream event. All streams of a connection are in one task, so each stream that waits
//! gets a waker with its number, and a turn polls only the woken streams.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// Numbers of the streams that were woken, for the connection's task.
#[derive(Default)]
pub(super) struct ReadySet {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: Vec<usize>,
    /// The connection's task; `None` while it runs or when it was woken already.
    sleeper: Option<Waker>,
}

impl ReadySet {
    /// A waker for the stream with this number.
    pub(super) fn waker(self: &Arc<ReadySet>, number: usize) -> Waker {
        Waker::from(Arc::new(Member { set: self.clone(), number }))
    }

    /// The connection's task runs and needs no wake-up.
    pub(super) fn wake_up(&self) {
        self.lock().sleeper = None;
    }

    /// Moves the woken numbers to the empty `into`.
    pub(super) fn drain(&self, into: &mut Vec<usize>) {
        mem::swap(&mut self.lock().ready, into);
    }

    /// The task goes to sleep. Returns `false` if a stream was woken since the last [`ReadySet::drain`].
    pub(super) fn rest(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if !state.ready.is_empty() {
            return false;
        }
        state.sleeper = Some(waker.clone());
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Member {
    set: Arc<ReadySet>,
    number: usize,
}

impl Wake for Member {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let sleeper = {
            let mut state = self.set.lock();
            state.ready.push(self.number);
            state.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}
