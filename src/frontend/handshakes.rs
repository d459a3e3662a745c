//! Unfinished TLS handshakes of a core: bounded in number and time, so that silent clients do not keep others out.
//!
//! | handshakes under way | new connections | time limit of a handshake |
//! |---|---|---|
//! | below the bound | are accepted | TLS_HANDSHAKE_MS_MAX |
//! | at the bound | wait until a handshake ends | TLS_HANDSHAKE_PRESSED_MS_MAX |

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use futures_lite::future;

use crate::{
    base::limits::{TLS_HANDSHAKE_MS_MAX, TLS_HANDSHAKE_PRESSED_MS_MAX, TLS_HANDSHAKES_PER_CORE_MAX},
    os,
};

/// Shared by all listeners of a core.
#[derive(Default)]
pub(super) struct Handshakes {
    under_way: Cell<usize>,
    /// Those who wait for a change of the number.
    waiting: RefCell<Vec<Waker>>,
}

/// One handshake's place in the count.
pub(super) struct Place(Rc<Handshakes>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.change(self.0.under_way.get() - 1);
    }
}

impl Handshakes {
    fn change(&self, number: usize) {
        self.under_way.set(number);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn is_at_bound(&self) -> bool {
        self.under_way.get() >= TLS_HANDSHAKES_PER_CORE_MAX
    }

    async fn until(&self, is_at_bound: bool) {
        poll_fn(|context| {
            if self.is_at_bound() == is_at_bound {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until one more may begin.
    pub(super) async fn room(&self) {
        self.until(false).await;
    }

    pub(super) fn begin(self: &Rc<Self>) -> Place {
        self.change(self.under_way.get() + 1);
        Place(Rc::clone(self))
    }
}

impl Place {
    /// Carries a handshake out; `None` if it takes too long.
    pub(super) async fn carry_out<T>(self, handshake: impl Future<Output = T>) -> Option<T> {
        let pressed = Duration::from_millis(TLS_HANDSHAKE_PRESSED_MS_MAX);
        let patience = Duration::from_millis(TLS_HANDSHAKE_MS_MAX);
        let mut handshake = pin!(handshake);
        if let Some(outcome) = os::timeout(pressed, handshake.as_mut()).await {
            return Some(outcome);
        }
        let given_up = async {
            self.0.until(true).await;
            None
        };
        future::or(os::timeout(patience.saturating_sub(pressed), handshake), given_up).await
    }
}
