//! One task waits, others on the same executor wake it. A wake-up before the wait is kept, and several count as one.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// A wake-up flag for one waiting task.
#[derive(Debug, Default)]
pub struct Notify {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    /// Wakes the waiter, or lets its next wait return at once.
    pub fn notify(&self) {
        if !self.raised.replace(true)
            && let Some(waker) = self.waiter.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Waits for the next [`Self::notify`] since the last wait.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The outcome of something that one task waits for.
pub struct Ticket<T> {
    outcome: Cell<Option<T>>,
    done: Notify,
}

impl<T> Default for Ticket<T> {
    fn default() -> Self {
        Self { outcome: Cell::new(None), done: Notify::default() }
    }
}

impl<T> Ticket<T> {
    /// Sets the outcome and wakes the waiter. Called once.
    pub fn end(&self, outcome: T) {
        self.outcome.set(Some(outcome));
        self.done.notify();
    }

    /// Waits for the end.
    pub async fn outcome(&self) -> T {
        loop {
            if let Some(outcome) = self.outcome.take() {
                return outcome;
            }
            self.done.wait().await;
        }
    }
}
