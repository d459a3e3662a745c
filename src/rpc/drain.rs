//! Stopping a core's connections: first politely, then not.

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
    waiters: RefCell<Vec<Waker>>,
}

/// How far the core is with stopping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Open,
    /// No new connections or streams; what runs may end.
    Draining,
    /// Whoever is still here leaves now.
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

    /// Moves on to `stage` and tells everybody.
    pub fn advance(&self, stage: Stage) {
        if stage <= self.stage.get() {
            return;
        }
        self.stage.set(stage);
        let members: Vec<Waker> = self.members.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        members.into_iter().chain(self.waiters.take()).for_each(Waker::wake);
    }

    /// Resolves once `stage` is reached.
    pub async fn reached(&self, stage: Stage) {
        poll_fn(|context| {
            if self.stage.get() >= stage {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Resolves once no connection is left.
    pub async fn empty(&self) {
        poll_fn(|context| {
            if self.members.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Counts a connection until the membership is dropped.
    pub fn join(self: &Rc<Drain>) -> Membership {
        let number = self.members.borrow_mut().insert(None);
        Membership { drain: self.clone(), number }
    }
}

/// One connection's part in a [`Drain`].
pub struct Membership {
    drain: Rc<Drain>,
    number: usize,
}

impl Membership {
    /// The stage, and a wish to be woken when it changes.
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
        let mut members = self.drain.members.borrow_mut();
        members.remove(self.number);
        if members.is_empty() {
            self.drain.waiters.take().into_iter().for_each(Waker::wake);
        }
    }
}
