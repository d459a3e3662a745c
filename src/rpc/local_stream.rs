//! The messages of a streaming call that was made in this process: a queue in each direction.
//!
//! | end | sends | waits |
//! |---|---|---|
//! | caller | requests, as it likes; it bounds what it sends | for responses and the end |
//! | handler | responses, while fewer than STREAM_SEND_BUFFER_BYTES wait, or none | for requests, and for room |

use std::{
    cell::RefCell,
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::status::Status;
use crate::base::limits::STREAM_SEND_BUFFER_BYTES;

/// Shared by both ends of one call.
#[derive(Default)]
pub(super) struct LocalStream(RefCell<Queues>);

#[derive(Default)]
struct Queues {
    requests: VecDeque<Bytes>,
    /// The caller sends no more requests.
    has_all_requests: bool,
    responses: VecDeque<Bytes>,
    response_bytes: usize,
    /// The handler has ended the call.
    end: Option<Status>,
    /// The caller is gone.
    is_abandoned: bool,
    caller: Option<Waker>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl LocalStream {
    pub(super) fn send_request(&self, message: Bytes) {
        let mut queues = self.0.borrow_mut();
        queues.requests.push_back(message);
        wake(&mut queues.reader);
    }

    pub(super) fn end_requests(&self) {
        let mut queues = self.0.borrow_mut();
        queues.has_all_requests = true;
        wake(&mut queues.reader);
    }

    /// Requests that the handler has not taken.
    pub(super) fn waiting_requests(&self) -> usize {
        self.0.borrow().requests.len()
    }

    /// The next response, or the end.
    pub(super) fn poll_response(&self, context: &mut Context<'_>) -> Poll<Result<Bytes, Status>> {
        let mut queues = self.0.borrow_mut();
        if let Some(message) = queues.responses.pop_front() {
            queues.response_bytes -= message.len();
            wake(&mut queues.writer);
            return Poll::Ready(Ok(message));
        }
        if let Some(end) = &queues.end {
            return Poll::Ready(Err(end.clone()));
        }
        queues.caller = Some(context.waker().clone());
        Poll::Pending
    }

    /// The caller leaves; the handler sees the call as canceled.
    pub(super) fn abandon(&self) {
        let mut queues = self.0.borrow_mut();
        queues.is_abandoned = true;
        queues.responses.clear();
        queues.response_bytes = 0;
        wake(&mut queues.reader);
        wake(&mut queues.writer);
    }

    /// The next request; `None` after the last.
    pub(super) fn poll_request(&self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let mut queues = self.0.borrow_mut();
        if queues.is_abandoned {
            return Poll::Ready(Err(Status::canceled()));
        }
        if let Some(message) = queues.requests.pop_front() {
            wake(&mut queues.caller);
            return Poll::Ready(Ok(Some(message)));
        }
        if queues.has_all_requests {
            return Poll::Ready(Ok(None));
        }
        queues.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits for room, then takes `message`.
    pub(super) fn poll_send(&self, context: &mut Context<'_>, message: &mut Option<Bytes>) -> Poll<Result<(), Status>> {
        let mut queues = self.0.borrow_mut();
        if queues.is_abandoned {
            return Poll::Ready(Err(Status::canceled()));
        }
        if !queues.responses.is_empty() && queues.response_bytes >= STREAM_SEND_BUFFER_BYTES {
            queues.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if let Some(message) = message.take() {
            queues.response_bytes += message.len();
            queues.responses.push_back(message);
            wake(&mut queues.caller);
        }
        Poll::Ready(Ok(()))
    }

    /// Resolves when the caller has left.
    pub(super) fn poll_abandoned(&self, context: &mut Context<'_>) -> Poll<Status> {
        let mut queues = self.0.borrow_mut();
        if queues.is_abandoned {
            return Poll::Ready(Status::canceled());
        }
        queues.writer = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn end(&self, status: Status) {
        let mut queues = self.0.borrow_mut();
        queues.end = Some(status);
        wake(&mut queues.caller);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
