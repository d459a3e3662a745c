//! A watch that survives its stream: when the connection or the member goes away, it is opened again behind
//! the last revision seen.
//!
//! state | transition | by
//! ---|---|---
//! closed | created on a stream: open | `next`
//! open | stream broke, server unavailable: closed | `next`
//! any | canceled by the server, or a refusal: ended | `next`
//!
//! The server stops a watch whose next revision has been compacted, also when the watch was only away for too long: that is the last
//! response, and [`cancellation`] says so. Nothing is skipped silently.

use super::error::{Code, Error};
use super::transport::Stream;
use super::{Call, Client, method, retry};
use crate::base::limits::CLIENT_BACKOFF_MS;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};

/// Events of one key or range, in order, without gaps.
pub struct Watch {
    client: Client,
    request: WatchCreateRequest,
    call: Call,
    state: State,
    /// Progress was asked for before there was a stream to ask on.
    wants_progress: bool,
}

enum State {
    Closed,
    Open(Box<Stream<WatchRequest, WatchResponse>>),
    Ended,
}

impl Client {
    /// Starts to watch; nothing is sent before the first [`Watch::next`].
    pub fn watch(&self, request: WatchCreateRequest, call: Call) -> Watch {
        Watch { client: self.clone(), request, call, state: State::Closed, wants_progress: false }
    }
}

/// Why a response is the last one of its watch, as etcd's client says it.
#[must_use]
pub fn cancellation(response: &WatchResponse) -> Option<Error> {
    if response.compact_revision != 0 {
        return Some(Error::status(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"));
    }
    if !response.canceled {
        return None;
    }
    Some(match response.cancel_reason.as_str() {
        "" => Error::status(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
        reason => Error::status(Code::FailedPrecondition, reason),
    })
}

impl Watch {
    /// Asks for a response without events that says how far the watch has come.
    pub fn request_progress(&mut self) {
        let State::Open(stream) = &mut self.state else {
            self.wants_progress = true;
            return;
        };
        let request = WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
        // A broken stream is noticed, and opened again, by `next`.
        self.wants_progress = stream.send(&request).is_err();
    }

    /// The next response with events, progress or cancellation; `None` after the watch was canceled.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, Error> {
        loop {
            let outcome = match &mut self.state {
                State::Ended => return Ok(None),
                State::Closed => self.open().await,
                State::Open(stream) => match stream.next().await {
                    Ok(Some(response)) => {
                        if let Some(response) = self.take_in(response) {
                            return Ok(Some(response));
                        }
                        Ok(())
                    }
                    Ok(None) => Err(Error::Broken("watch stream ended".to_owned())),
                    Err(error) => Err(error),
                },
            };
            match outcome {
                Ok(()) => {}
                Err(error) if matches!(error.code(), Code::Unavailable | Code::Internal) => {
                    self.state = State::Closed;
                    retry::pause(std::time::Duration::from_millis(CLIENT_BACKOFF_MS), self.call.deadline).await?;
                }
                Err(error) => {
                    self.state = State::Ended;
                    return Err(error);
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(self.request.clone())) };
        let stream = self.client.open(&method::WATCH, &request, self.call).await?;
        self.state = State::Open(Box::new(stream));
        if self.wants_progress {
            self.request_progress();
        }
        Ok(())
    }

    /// Remembers the revision to resume from; the answer to the creation itself is not for the user.
    fn take_in(&mut self, response: WatchResponse) -> Option<WatchResponse> {
        if response.canceled {
            self.state = State::Ended;
            return Some(response);
        }
        let revision = response.header.map_or(0, |header| header.revision);
        if response.created {
            if self.request.start_revision == 0 {
                self.request.start_revision = revision + 1;
            }
            return None;
        }
        let last =
            response.events.last().and_then(|event| event.kv.as_ref()).map_or(revision, |pair| pair.mod_revision);
        self.request.start_revision = self.request.start_revision.max(last + 1);
        Some(response)
    }
}
