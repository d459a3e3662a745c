//! Tasks and time on one executor.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use glommio::timer::Timer;

use crate::base::limits;

/// Starts `future` as a task of this core that no other task waits for.
pub fn spawn_local(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    Timer::new(duration).await;
}

thread_local! {
    /// When a task of this core last became ready after I/O was polled.
    static LAST_LOOK: Cell<Instant> = Cell::new(Instant::now());
}

/// Goes to the back of this core's run queue once.
///
/// The executor does not poll sockets, disks and timers while tasks are ready. So when the last poll is some time ago, every task
/// that yields waits for the shortest timer instead: all are ready again after the poll.
pub async fn yield_now() {
    let is_due = LAST_LOOK.get().elapsed() >= Duration::from_millis(limits::IO_LOOK_MS);
    let mut look = is_due.then(|| Timer::new(Duration::from_micros(1)));
    let mut yielded = false;
    poll_fn(|context| {
        if let Some(timer) = &mut look {
            match Pin::new(timer).poll(context) {
                Poll::Ready(_) => look = None,
                Poll::Pending => {
                    yielded = true;
                    return Poll::Pending;
                }
            }
        }
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    if is_due {
        LAST_LOOK.set(Instant::now());
    }
}

/// The result of `future`, or `None` if it takes longer than `duration`.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = Timer::new(duration);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut timer).poll(context).map(|_| None)
    })
    .await
}

/// One timer for all deadlines of a task. It is reset only for a nearer deadline, so it may wake the task early, but never late.
#[derive(Default)]
pub struct Alarm {
    armed: Option<(Instant, Timer)>,
}

impl Alarm {
    /// Makes sure that the task of `context` is polled at `due` or before.
    pub fn arm(&mut self, context: &mut Context<'_>, now: Instant, due: Instant) {
        if self.armed.as_ref().is_some_and(|(at, _)| now < *at && *at <= due) {
            return;
        }
        let mut timer = Timer::new(due.saturating_duration_since(now));
        if Pin::new(&mut timer).poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.armed = Some((due, timer));
    }
}
