//! The way to the member: at once from tasks of the links, later from inside its own calls.

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    rc::Rc,
};

use super::{
    headers::id_text,
    settings::{Event, Sink},
};
use crate::{os::notify::Notify, proto::raftpb::Message};

/// Carries events to the member.
pub(super) struct Reports {
    sink: Sink,
    local: u64,
    removed: RefCell<BTreeSet<u64>>,
    waiting: RefCell<VecDeque<Event>>,
    wake: Notify,
}

/// A message that the member does not take, in etcd's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("cannot process message from removed member")]
    Removed,
    #[error("cannot process message to mismatch member")]
    Mismatch,
}

impl Reports {
    pub(super) fn new(local: u64, sink: Sink) -> Rc<Self> {
        Rc::new(Self { sink, local, removed: RefCell::default(), waiting: RefCell::default(), wake: Notify::default() })
    }

    /// Who was removed from the cluster.
    pub(super) fn set_removed(&self, removed: &[u64]) {
        *self.removed.borrow_mut() = removed.iter().copied().collect();
    }

    pub(super) fn is_removed(&self, id: u64) -> bool {
        self.removed.borrow().contains(&id)
    }

    /// Whether the member takes a message, by its sender and its receiver.
    pub(super) fn check(&self, message: &Message) -> Result<(), Refused> {
        let local = id_text(self.local);
        if self.is_removed(message.from()) {
            tracing::warn!(
                local_member_id = local,
                removed_member_id = id_text(message.from()),
                "rejected Raft message from removed member"
            );
            return Err(Refused::Removed);
        }
        if message.to() != self.local {
            tracing::warn!(
                local_member_id = local,
                mismatch_member_id = id_text(message.to()),
                "rejected Raft message to mismatch member"
            );
            return Err(Refused::Mismatch);
        }
        Ok(())
    }

    /// Calls the member. Only for tasks of the links: the member must not be called from inside its own calls.
    pub(super) fn say(&self, event: Event) {
        (self.sink)(event);
    }

    /// Calls the member from [`Self::run`].
    pub(super) fn say_later(&self, event: Event) {
        let mut waiting = self.waiting.borrow_mut();
        let is_known = |known: &Event| match (known, &event) {
            (Event::Unreachable { to }, Event::Unreachable { to: other }) => to == other,
            (known, event) => matches!((known, event), (Event::Removed, Event::Removed)),
        };
        // A thousand lost messages are one piece of news, so the list stays short.
        if !waiting.iter().any(is_known) {
            waiting.push_back(event);
            self.wake.notify();
        }
    }

    /// The task that says what was to be said later.
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            self.wake.wait().await;
            while let Some(event) = self.next() {
                self.say(event);
            }
        }
    }

    fn next(&self) -> Option<Event> {
        self.waiting.borrow_mut().pop_front()
    }
}
