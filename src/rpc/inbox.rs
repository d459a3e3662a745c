//! Later answers: the kept unary calls of one connection, and the queue of their answers.
//!
//! ```text
//! handler.unary -> None         the call moves into `calls`, the handler keeps its Responder
//! responder.send(reply)         (key, reply) into `replies`; the connection's task is woken if it was not already
//! next turn of the connection   all replies are written, one send
//! ```
//!
//! Invariants
//! 1. A key names one call for ever: slots are reused, serial numbers are not.
//! 2. A call is answered by the code that takes it out of `calls`; a later reply under its key is ignored.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::server::SendResponse;
use slab::Slab;

use super::{
    answer::Reply, call::Call, frame::Payload, head::Form, local_reply::LocalReply, status::Code, status::Status,
};

/// A call for the lifetime of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallKey {
    pub slot: usize,
    pub serial: u64,
}

/// A unary call that its handler keeps.
pub(super) struct KeptCall {
    pub serial: u64,
    pub call: Call,
    pub request: Bytes,
    pub form: Form,
    pub respond: SendResponse<Payload>,
    /// The task that waits for the call to end without its reply.
    pub abandoned: Option<Waker>,
}

impl KeptCall {
    fn wake_abandoned(&mut self) {
        if let Some(waker) = self.abandoned.take() {
            waker.wake();
        }
    }
}

/// Shared by a connection and the responders of its calls.
pub(super) struct Inbox {
    pub calls: RefCell<Slab<KeptCall>>,
    replies: RefCell<Vec<(CallKey, Reply)>>,
    waker: RefCell<Waker>,
    /// The connection's task runs or was woken.
    awake: Cell<bool>,
    /// The call whose handler runs now and that is not in `calls`.
    current: Cell<Option<CallKey>>,
    serial: Cell<u64>,
    closed: Cell<bool>,
}

impl Inbox {
    pub(super) fn new() -> Rc<Inbox> {
        Rc::new(Inbox {
            calls: RefCell::new(Slab::new()),
            replies: RefCell::new(Vec::new()),
            waker: RefCell::new(Waker::noop().clone()),
            awake: Cell::new(true),
            current: Cell::new(None),
            serial: Cell::new(0),
            closed: Cell::new(false),
        })
    }

    /// From here to [`Inbox::rest`] replies are queued without waking the task.
    pub(super) fn wake_up(&self, waker: &Waker) {
        self.waker.borrow_mut().clone_from(waker);
        self.awake.set(true);
    }

    /// The connection's task goes to sleep; there are no replies left.
    pub(super) fn rest(&self) {
        self.awake.set(false);
    }

    /// A new key for the next call, and its responder.
    pub(super) fn begin(self: &Rc<Inbox>) -> (CallKey, Responder) {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        let key = CallKey { slot: self.calls.borrow().vacant_key(), serial };
        self.current.set(Some(key));
        (key, Responder { target: Some(Target::Connection(self.clone(), key)), quiet: None })
    }

    /// The handler returned. `false` if it dropped the responder without a reply.
    pub(super) fn end(&self) -> bool {
        self.current.take().is_some()
    }

    /// Stores a call under the key that [`Inbox::begin`] returned last.
    pub(super) fn keep(&self, key: CallKey, call: KeptCall) {
        let slot = self.calls.borrow_mut().insert(call);
        debug_assert_eq!(slot, key.slot, "nothing else takes a slot while a handler runs");
    }

    /// Removes a call, unless it was removed before.
    pub(super) fn take(&self, key: CallKey) -> Option<KeptCall> {
        let mut calls = self.calls.borrow_mut();
        if calls.get(key.slot).is_none_or(|call| call.serial != key.serial) {
            return None;
        }
        let mut call = calls.remove(key.slot);
        call.wake_abandoned();
        Some(call)
    }

    /// Moves the waiting replies to the empty `into`.
    pub(super) fn drain(&self, into: &mut Vec<(CallKey, Reply)>) {
        std::mem::swap(&mut *self.replies.borrow_mut(), into);
    }

    /// Closes the inbox with its connection. Returns the calls left.
    pub(super) fn close(&self) -> Slab<KeptCall> {
        self.closed.set(true);
        self.awake.set(true);
        self.replies.borrow_mut().clear();
        let mut calls = self.calls.take();
        calls.iter_mut().for_each(|(_, call)| call.wake_abandoned());
        calls
    }

    fn put(&self, key: CallKey, reply: Reply) {
        if self.closed.get() {
            return;
        }
        self.replies.borrow_mut().push((key, reply));
        if !self.awake.replace(true) {
            self.waker.borrow().wake_by_ref();
        }
    }

    fn poll_canceled(&self, key: CallKey, context: &mut Context<'_>) -> Poll<()> {
        if self.closed.get() {
            return Poll::Ready(());
        }
        if self.current.get() == Some(key) {
            return Poll::Pending;
        }
        let mut calls = self.calls.borrow_mut();
        match calls.get_mut(key.slot) {
            Some(call) if call.serial == key.serial => {
                call.abandoned = Some(context.waker().clone());
                call.respond.poll_reset(context).map(|_| ())
            }
            _ => Poll::Ready(()),
        }
    }
}

/// The right to answer one unary call, once, from any task of the connection's core.
/// Dropping it unused answers the call with `Unavailable`.
pub struct Responder {
    /// `None` once used.
    target: Option<Target>,
    /// While it is set, dropping this responder unused does nothing.
    quiet: Option<Rc<Cell<bool>>>,
}

/// The place of the call that a responder answers.
#[derive(Clone)]
enum Target {
    Connection(Rc<Inbox>, CallKey),
    Local(Rc<LocalReply>),
}

impl Target {
    fn put(&self, reply: Reply) {
        match self {
            Target::Connection(inbox, key) => inbox.put(*key, reply),
            Target::Local(local) => local.put(reply),
        }
    }

    /// The handler drops the responder without a reply.
    fn drop_unused(&self) {
        match self {
            Target::Connection(inbox, key) if inbox.current.get() == Some(*key) => inbox.current.set(None),
            _ => self.put(Err(unanswered())),
        }
    }

    fn poll_canceled(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Target::Connection(inbox, key) => inbox.poll_canceled(*key, context),
            Target::Local(local) => local.poll_canceled(context),
        }
    }
}

/// A responder that gave its right away for the time of one attempt.
pub struct Principal {
    responder: Responder,
    quiet: Rc<Cell<bool>>,
}

impl Principal {
    /// The attempt has returned its answer instead of keeping the deputy.
    pub fn send(self, reply: Reply) {
        self.responder.send(reply);
    }

    /// The attempt has kept the deputy, which answers by itself from now on.
    pub fn release(mut self) {
        self.quiet.set(false);
        self.responder.target = None;
    }
}

impl Responder {
    /// Answers a call that was made in this process.
    pub(super) fn local(reply: Rc<LocalReply>) -> Responder {
        Responder { target: Some(Target::Local(reply)), quiet: None }
    }

    /// Splits the right to answer: a deputy for a function that either returns the answer or keeps the responder, and what sends
    /// the answer if it returns one.
    #[must_use]
    pub fn with_deputy(self) -> (Principal, Responder) {
        let quiet = Rc::new(Cell::new(true));
        let deputy = Responder { target: self.target.clone(), quiet: Some(Rc::clone(&quiet)) };
        (Principal { responder: self, quiet }, deputy)
    }

    /// Sends the answer. It has no effect after the call has ended by a reset, the end of its connection or its deadline.
    pub fn send(mut self, reply: Reply) {
        if let Some(target) = self.target.take() {
            target.put(reply);
        }
    }

    /// Whether the call has ended without the answer.
    pub fn is_canceled(&self) -> bool {
        self.poll_canceled(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Resolves when the call has ended without the answer: the client reset it, its connection is closed, or its deadline has
    /// passed. For a task of its own, not for [`super::handler::Handler::unary`] itself.
    pub async fn canceled(&self) {
        poll_fn(|context| self.poll_canceled(context)).await;
    }

    fn poll_canceled(&self, context: &mut Context<'_>) -> Poll<()> {
        match &self.target {
            Some(target) => target.poll_canceled(context),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let Some(target) = self.target.take() else { return };
        if !self.quiet.as_ref().is_some_and(|quiet| quiet.get()) {
            target.drop_unused();
        }
    }
}

/// The status of a call whose handler dropped it, as may happen while the server stops.
pub(super) fn unanswered() -> Status {
    Status::new(Code::Unavailable, "the call was dropped by the server")
}
