//! Bodies of requests and answers.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{
    base::limits::PEER_SILENCE_MS_MAX,
    os::{Alarm, clock},
};

/// Bytes that are there.
#[derive(Debug, Default)]
pub(super) struct WholeBody(pub(super) Option<Bytes>);

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Why a body does not come whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("read: i/o timeout")]
    Silent,
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        io::Error::other(error)
    }
}

/// The body of the other side, piece by piece, each within PEER_SILENCE_MS_MAX.
pub(super) struct Pieces {
    body: Incoming,
    alarm: Alarm,
}

impl Pieces {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, alarm: Alarm::default() }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let due = clock::now() + Duration::from_millis(PEER_SILENCE_MS_MAX);
        loop {
            match poll_fn(|context| self.poll_frame(context, due)).await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>, due: Instant) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.transpose().map_err(BodyError::Http));
        }
        let now = clock::now();
        if now >= due {
            return Poll::Ready(Err(BodyError::Silent));
        }
        self.alarm.arm(context, now, due);
        Poll::Pending
    }

    /// All of it.
    pub(super) async fn whole(mut self, length_max: usize) -> Result<Bytes, BodyError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > length_max {
                return Err(BodyError::TooLong(length_max));
            }
            if whole.is_empty() && self.body.is_end_stream() {
                return Ok(piece);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}
