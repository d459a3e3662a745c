//! The answer of a unary call that was made in this process: one cell between its caller and its handler.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::answer::Reply;

/// Shared by the caller and the responder of one call.
#[derive(Default)]
pub(super) struct LocalReply {
    reply: Cell<Option<Reply>>,
    caller: RefCell<Option<Waker>>,
    /// The caller does not wait any more.
    is_abandoned: Cell<bool>,
    /// The task that waits for the call to end without its reply.
    watcher: RefCell<Option<Waker>>,
}

impl LocalReply {
    pub(super) fn put(&self, reply: Reply) {
        if self.is_abandoned.get() {
            return;
        }
        self.reply.set(Some(reply));
        if let Some(caller) = self.caller.take() {
            caller.wake();
        }
    }

    pub(super) fn poll_reply(&self, context: &mut Context<'_>) -> Poll<Reply> {
        if let Some(reply) = self.reply.take() {
            return Poll::Ready(reply);
        }
        *self.caller.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn poll_canceled(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_abandoned.get() {
            return Poll::Ready(());
        }
        *self.watcher.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The caller's side. Dropped before the reply, it ends the call.
pub(super) struct Caller(pub(super) Rc<LocalReply>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.is_abandoned.set(true);
        if let Some(watcher) = self.0.watcher.take() {
            watcher.wake();
        }
    }
}
