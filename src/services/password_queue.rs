//! The queue of passwords of one core, with its bounds.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::IpAddr,
    rc::Rc,
};

use ahash::HashMap;

use crate::{
    base::{limits, refusal::Refusal},
    os::{net::Peer, notify::Notify},
};

/// The queue of one core.
#[derive(Default)]
pub(super) struct Passwords {
    running: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Notify>>>,
    /// Of each source address; nobody's for a UNIX socket.
    by_source: RefCell<HashMap<Option<IpAddr>, usize>>,
}

/// A place in the queue, from its begin to the end of the work.
pub(super) struct Place<'q> {
    queue: &'q Passwords,
    source: Option<IpAddr>,
    runs: bool,
}

impl Passwords {
    pub(super) fn enter(&self, peer: Peer) -> Result<Place<'_>, Refusal> {
        let source = match peer {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix => None,
        };
        let by_source = &mut *self.by_source.borrow_mut();
        let count = by_source.entry(source).or_default();
        if *count >= limits::PASSWORDS_PER_SOURCE_MAX || self.waiting.borrow().len() >= limits::PASSWORDS_WAITING_MAX {
            return Err(Refusal::TooManyRequests);
        }
        *count += 1;
        Ok(Place { queue: self, source, runs: false })
    }
}

impl Place<'_> {
    pub(super) async fn wait(&mut self) {
        if self.queue.running.get() >= limits::PASSWORDS_AT_ONCE {
            let turn = Rc::new(Notify::default());
            self.queue.waiting.borrow_mut().push_back(Rc::clone(&turn));
            // Whoever ends hands its place over, so the number of those that run stays the same.
            turn.wait().await;
        } else {
            self.queue.running.set(self.queue.running.get() + 1);
        }
        self.runs = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let by_source = &mut *self.queue.by_source.borrow_mut();
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
        if !self.runs {
            return;
        }
        match self.queue.waiting.borrow_mut().pop_front() {
            Some(next) => next.notify(),
            None => self.queue.running.set(self.queue.running.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::Tcp(([10, 0, 0, last], 1).into())
    }

    #[test]
    fn one_source_cannot_take_all_places() {
        let queue = Passwords::default();
        let held: Vec<_> = (0..limits::PASSWORDS_PER_SOURCE_MAX).map(|_| queue.enter(peer(1)).unwrap()).collect();
        assert!(matches!(queue.enter(peer(1)), Err(Refusal::TooManyRequests)));
        assert!(queue.enter(peer(2)).is_ok());
        drop(held);
        assert!(queue.enter(peer(1)).is_ok());
        assert!(queue.by_source.borrow().is_empty());
    }

    #[test]
    fn places_are_handed_over_in_turn() {
        let queue = Passwords::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut places: Vec<_> = (0..limits::PASSWORDS_AT_ONCE + 2).map(|_| queue.enter(peer(1)).unwrap()).collect();
        let (second, first) = (places.pop().unwrap(), places.pop().unwrap());
        for place in &mut places {
            assert!(std::pin::pin!(place.wait()).as_mut().poll(&mut context).is_ready());
        }
        let (mut first, mut second) = (first, second);
        {
            let (mut one, mut other) = (std::pin::pin!(first.wait()), std::pin::pin!(second.wait()));
            assert!(one.as_mut().poll(&mut context).is_pending());
            assert!(other.as_mut().poll(&mut context).is_pending());
            places.pop();
            assert!(other.as_mut().poll(&mut context).is_pending());
            assert!(one.as_mut().poll(&mut context).is_ready());
            places.pop();
            assert!(other.as_mut().poll(&mut context).is_ready());
        }
        drop((first, second, places));
        assert_eq!(queue.running.get(), 0);
    }
}
