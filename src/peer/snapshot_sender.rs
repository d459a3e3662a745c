//! A whole state on its way to a member that lags: 8 bytes length, the message, the database.
//!
//! The database is read from the mapped file in slices, and after each slice the other tasks of the core run. While it is sent
//! its pages are not reused.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_lite::future;
use http::Method;
use hyper::body::{Body, Frame, SizeHint};
use prost::Message as _;

use super::{
    client,
    codec::put_message,
    headers,
    link::Link,
    pipeline::{PostError, check_answer},
    settings::Event,
};
use crate::{
    base::{
        human_size::human_size,
        limits::{PEER_ANSWER_BYTES_MAX, PEER_SNAPSHOT_SLICE_BYTES, PEER_SNAPSHOT_STALL_MS_MAX},
    },
    metrics::{Name, Series},
    os::{self, clock},
    pagefile::ReadTxn,
    proto::raftpb::Message,
};

const PATH: &str = "/raft/snapshot";

/// The body of the request.
struct ImageBody {
    head: Option<Bytes>,
    image: ReadTxn,
    sent: u64,
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// When the connection last took a slice.
    progress: Rc<Cell<Instant>>,
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
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        if self.sent >= self.image.size_bytes() {
            return Poll::Ready(None);
        }
        let mut slice = Vec::with_capacity(PEER_SNAPSHOT_SLICE_BYTES);
        self.image.copy_image(self.sent, PEER_SNAPSHOT_SLICE_BYTES, &mut slice);
        self.sent += slice.len() as u64;
        self.pause = Some(Box::pin(os::yield_now()));
        Poll::Ready(Some(Ok(Frame::data(slice.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_none() && self.sent >= self.image.size_bytes()
    }

    fn size_hint(&self) -> SizeHint {
        let head = self.head.as_ref().map_or(0, |head| head.len() as u64);
        SizeHint::with_exact(head + self.image.size_bytes() - self.sent)
    }
}

/// One more of something, while it lasts.
pub(super) struct Inflight(Series);

impl Inflight {
    pub(super) fn new(series: Series) -> Self {
        series.change(1);
        Self(series)
    }
}

impl Drop for Inflight {
    fn drop(&mut self) {
        self.0.change(-1);
    }
}

/// Sends `message` and its database, and tells the member how that went.
pub(super) async fn send(link: Rc<Link>, message: Message, image: ReadTxn) {
    let started = clock::now();
    let series = |name| link.settings.meters.engine.sheet.series(name, &[&link.name]);
    let bytes = message.encoded_len() as u64 + image.size_bytes();
    let index = index_of(&message);
    let size = human_size(bytes);
    tracing::info!(snapshot_index = index, remote_peer_id = link.name, bytes, size, "sending database snapshot");
    let inflight = Inflight::new(series(Name::NetworkSnapshotSendInflightsTotal));
    let posted = post(&link, &message, image).await;
    drop(inflight);
    if let Err(error) = &posted {
        tracing::warn!(
            snapshot_index = index,
            remote_peer_id = link.name,
            bytes,
            size,
            %error,
            "failed to send database snapshot"
        );
        series(Name::NetworkSnapshotSendFailures).add(1);
        link.deactivate("post", "sendMsgSnap", error);
        link.lost();
    } else {
        tracing::info!(snapshot_index = index, remote_peer_id = link.name, bytes, size, "sent database snapshot");
        link.activate();
        link.meter.sent_bytes.add(bytes);
        series(Name::NetworkSnapshotSendSuccess).add(1);
        series(Name::NetworkSnapshotSendTotalDurationSeconds).observe(started.elapsed().as_secs_f64());
    }
    link.reports.say_later(Event::SnapshotSent { to: link.id, arrived: posted.is_ok() });
}

/// The index of the state that a message speaks of.
pub(super) fn index_of(message: &Message) -> u64 {
    message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref()).map_or(0, |metadata| metadata.index())
}

async fn post(link: &Link, message: &Message, image: ReadTxn) -> Result<(), PostError> {
    let url = link.picker.pick().ok_or(PostError::NoUrl)?;
    let posted = post_to(link, &url, message, image).await;
    if posted.is_err() {
        link.picker.unreachable(&url);
    }
    posted
}

async fn post_to(link: &Link, url: &http::Uri, message: &Message, image: ReadTxn) -> Result<(), PostError> {
    let mut head = BytesMut::new();
    put_message(message, &mut head);
    let progress = Rc::new(Cell::new(clock::now()));
    let body = ImageBody { head: Some(head.freeze()), image, sent: 0, pause: None, progress: Rc::clone(&progress) };
    let fields = headers::of_post(&link.introduction, "application/octet-stream");
    let request = client::prepare(url, Method::POST, PATH, fields, body).ok_or(PostError::NoUrl)?;
    let patience = Duration::from_millis(PEER_SNAPSHOT_STALL_MS_MAX);
    let mut sender = client::open(url, &link.dialing, patience).await?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(client::Error::Http)?;
        client::answer(response, PEER_ANSWER_BYTES_MAX).await
    };
    let stalled = async {
        loop {
            let left = (progress.get() + patience).saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(client::Error::Late(patience));
            }
            os::sleep(left).await;
        }
    };
    let answer = future::or(asking, stalled).await?;
    check_answer(link, &answer, url, PATH)
}
