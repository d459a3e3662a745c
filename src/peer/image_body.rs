//! The pages of a whole state as the body of a request or an answer, no faster than all of them together may leave.
//!
//! They are read from the mapped file in slices, and after each slice the other tasks of the core run. As long as the body lives,
//! the pages are not reused.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};

use crate::{
    base::limits::{PEER_SNAPSHOT_BYTES_PER_SECOND, PEER_SNAPSHOT_SLICE_BYTES},
    os::{self, clock},
    pagefile::ReadTxn,
};

/// SHA-256, raw, after the pages of an answer.
pub(super) const DIGEST_BYTES: usize = 32;

/// How fast the states of a member leave it, all together.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// When the next slice may leave.
    free_at: Cell<Option<Instant>>,
}

impl Throttle {
    /// Books the transmission time of the next slice at the rate limit, and returns the delay before it may be sent.
    fn reserve(&self, bytes: usize) -> Duration {
        let now = clock::now();
        let begins = self.free_at.get().map_or(now, |free_at| free_at.max(now));
        let takes = Duration::from_secs_f64(bytes as f64 / PEER_SNAPSHOT_BYTES_PER_SECOND as f64);
        self.free_at.set(Some(begins + takes));
        begins - now
    }
}

/// The digest of a state that several answers give one after the other: of all bytes up to the furthest that one of them has reached.
#[derive(Debug, Default)]
pub(super) struct RunningDigest {
    hasher: RefCell<Sha256>,
    reached: Cell<u64>,
}

impl RunningDigest {
    /// Up to where the digest goes.
    pub(super) fn reached(&self) -> u64 {
        self.reached.get()
    }

    fn pass(&self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.reached.get().saturating_sub(offset)).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
            self.hasher.borrow_mut().update(new);
            self.reached.set(offset + bytes.len() as u64);
        }
    }

    fn finish(&self) -> Bytes {
        Bytes::copy_from_slice(&self.hasher.borrow().clone().finalize())
    }
}

/// What comes after the pages.
enum Tail {
    Nothing,
    Digest(Rc<RunningDigest>),
}

pub(super) struct ImageBody {
    head: Option<Bytes>,
    image: ReadTxn,
    sent: u64,
    tail: Tail,
    throttle: Rc<Throttle>,
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// When the connection last took a slice.
    progress: Rc<Cell<Instant>>,
}

impl ImageBody {
    /// A message, and all pages after it.
    pub(super) fn after(head: Bytes, image: ReadTxn, throttle: Rc<Throttle>) -> Self {
        let progress = Rc::new(Cell::new(clock::now()));
        Self { head: Some(head), image, sent: 0, tail: Tail::Nothing, throttle, pause: None, progress }
    }

    /// The pages from an offset on, and the digest of all of them. The digest must have reached the offset.
    pub(super) fn from(offset: u64, image: ReadTxn, digest: Rc<RunningDigest>, throttle: Rc<Throttle>) -> Self {
        assert!(offset <= digest.reached(), "an answer leaves no gap in the digest");
        let progress = Rc::new(Cell::new(clock::now()));
        Self { head: None, image, sent: offset, tail: Tail::Digest(digest), throttle, pause: None, progress }
    }

    /// When the connection last took a slice.
    pub(super) fn progress(&self) -> Rc<Cell<Instant>> {
        Rc::clone(&self.progress)
    }

    fn left(&self) -> u64 {
        let head = self.head.as_ref().map_or(0, |head| head.len() as u64);
        let tail = match self.tail {
            Tail::Nothing => 0,
            Tail::Digest(_) => DIGEST_BYTES as u64,
        };
        head + self.image.size_bytes() - self.sent + tail
    }

    fn slice(&mut self) -> Bytes {
        let mut slice = Vec::with_capacity(PEER_SNAPSHOT_SLICE_BYTES);
        self.image.copy_image(self.sent, PEER_SNAPSHOT_SLICE_BYTES, &mut slice);
        if let Tail::Digest(digest) = &self.tail {
            digest.pass(self.sent, &slice);
        }
        self.sent += slice.len() as u64;
        let wait = self.throttle.reserve(slice.len());
        self.pause = Some(match wait.is_zero() {
            true => Box::pin(os::yield_now()),
            false => Box::pin(os::sleep(wait)),
        });
        slice.into()
    }
}

impl Body for ImageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        self.progress.set(clock::now());
        let next = match self.head.take() {
            Some(head) => Some(head),
            None if self.sent < self.image.size_bytes() => Some(self.slice()),
            None => match std::mem::replace(&mut self.tail, Tail::Nothing) {
                Tail::Nothing => None,
                Tail::Digest(digest) => Some(digest.finish()),
            },
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_counts_every_byte_once() {
        let digest = RunningDigest::default();
        digest.pass(0, b"abc");
        digest.pass(1, b"bcde");
        digest.pass(0, b"ab");
        assert_eq!(digest.reached(), 5);
        assert_eq!(digest.finish()[..], Sha256::digest(b"abcde")[..]);
    }

    #[test]
    fn slices_wait_for_those_before_them() {
        let throttle = Throttle::default();
        let second = usize::try_from(PEER_SNAPSHOT_BYTES_PER_SECOND).expect("it fits");
        assert!(throttle.reserve(second).is_zero());
        assert!(throttle.reserve(1) > Duration::from_millis(500));
        assert!(throttle.reserve(1) > Duration::from_millis(500), "two streams share the rate");
    }
}
