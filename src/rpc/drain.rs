//! Stopping a core's connections: calls that run may end first, then all connections are closed.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use slab::Slab;

/// Shared by a core's listeners and connections.
#[derive(Default)]
pub struct Drain {
    stage: Cell<Stage>,
    members: RefCell<Slab<Option<Waker>>>,
    waiters: RefCell<Slab<Waker>>,
}

/// The stage of stopping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Open,
    /// No new connections or streams; running calls may end.
    Draining,
    /// All connections are closed.
    Aborting,
}

impl Drain {
    pub fn new() -> Rc<Drain> {
        Rc::new(Drain::default())
    }

    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Open connections.
    pub fn members(&self) -> usize {
        self.members.borrow().len()
    }

    /// Changes to `stage` and wakes all waiters.
    pub fn advance(&self, stage: Stage) {
        if stage <= self.stage.get() {
            return;
        }
        self.stage.set(stage);
        let members: Vec<Waker> = self.members.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        members.into_iter().for_each(Waker::wake);
        self.wake_waiters();
    }

    /// Resolves once `stage` is reached.
    pub async fn reached(&self, stage: Stage) {
        self.wait(|drain| drain.stage.get() >= stage).await;
    }

    /// Resolves once no connection is left.
    pub async fn empty(&self) {
        self.wait(|drain| drain.members.borrow().is_empty()).await;
    }

    async fn wait(&self, done: impl Fn(&Drain) -> bool) {
        let mut place = Place { drain: self, number: None };
        poll_fn(|context| {
            if done(self) {
                return Poll::Ready(());
            }
            place.take(context.waker());
            Poll::Pending
        })
        .await;
    }

    fn wake_waiters(&self) {
        self.waiters.borrow().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// Counts a connection until the membership is dropped.
    pub fn join(self: &Rc<Drain>) -> Membership {
        let number = self.members.borrow_mut().insert(None);
        Membership { drain: self.clone(), number }
    }
}

/// A waiter's place in the list, removed when it stops waiting.
struct Place<'a> {
    drain: &'a Drain,
    number: Option<usize>,
}

impl Place<'_> {
    fn take(&mut self, waker: &Waker) {
        let mut waiters = self.drain.waiters.borrow_mut();
        match self.number {
            Some(number) => waiters[number].clone_from(waker),
            None => self.number = Some(waiters.insert(waker.clone())),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.drain.waiters.borrow_mut().remove(number);
        }
    }
}

/// One connection's part in a [`Drain`].
pub struct Membership {
    drain: Rc<Drain>,
    number: usize,
}

impl Membership {
    /// The stage. Registers `waker` for its next change.
    pub fn watch(&self, waker: &Waker) -> Stage {
        let stage = self.drain.stage();
        let mut members = self.drain.members.borrow_mut();
        let slot = &mut members[self.number];
        if slot.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        stage
    }

    pub fn drain(&self) -> &Rc<Drain> {
        &self.drain
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.drain.members.borrow_mut().remove(self.number);
        if self.drain.members() == 0 {
            self.drain.wake_waiters();
        }
    }
}
