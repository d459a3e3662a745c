//! A whole state on its way to a member that lags: 8 bytes length, the message, the database. A ringd gets an
//! offer instead, and fetches the database itself (`snapshot_offer`).

use std::{rc::Rc, time::Duration};

use bytes::BytesMut;
use futures_lite::future;
use http::Method;
use prost::Message as _;

use super::{
    client,
    codec::put_message,
    headers,
    image_body::{ImageBody, Throttle},
    link::Link,
    pipeline::{PostError, check_answer},
    settings::Event,
    snapshot_offer::{self, Source},
};
use crate::{
    base::{
        human_size::human_size,
        limits::{PEER_ANSWER_BYTES_MAX, PEER_SNAPSHOT_STALL_MS_MAX},
    },
    metrics::{Name, Series},
    os::{self, clock},
    pagefile::ReadTxn,
    proto::raftpb::Message,
};

const PATH: &str = "/raft/snapshot";

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

/// Where the database comes from.
pub(super) enum State {
    /// It follows the message.
    Here { image: ReadTxn, throttle: Rc<Throttle> },
    /// The member fetches it.
    Elsewhere { bytes: u64, sources: Vec<Source> },
}

/// Sends or offers `message` and its database, and tells the member how that went.
pub(super) async fn send(link: Rc<Link>, message: Message, state: State) {
    let started = clock::now();
    let series = |name| link.settings.meters.engine.sheet.series(name, &[&link.name]);
    let message_bytes = message.encoded_len() as u64;
    // What leaves by this link, and what the member gets.
    let (sent_bytes, bytes) = match &state {
        State::Here { image, .. } => (message_bytes + image.size_bytes(), message_bytes + image.size_bytes()),
        State::Elsewhere { bytes, .. } => (message_bytes, message_bytes + bytes),
    };
    let index = index_of(&message);
    let size = human_size(bytes);
    tracing::info!(snapshot_index = index, remote_peer_id = link.name, bytes, size, "sending database snapshot");
    let inflight = Inflight::new(series(Name::NetworkSnapshotSendInflightsTotal));
    let posted = match state {
        State::Here { image, throttle } => post(&link, &message, image, throttle).await,
        State::Elsewhere { bytes, sources } => snapshot_offer::post(&link, &message, bytes, &sources).await,
    };
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
        link.meter.sent_bytes.add(sent_bytes);
        series(Name::NetworkSnapshotSendSuccess).add(1);
        series(Name::NetworkSnapshotSendTotalDurationSeconds).observe(started.elapsed().as_secs_f64());
    }
    link.reports.say_later(Event::SnapshotSent { to: link.id, arrived: posted.is_ok() });
}

/// The index of the state that a message speaks of.
pub(super) fn index_of(message: &Message) -> u64 {
    message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref()).map_or(0, |metadata| metadata.index())
}

async fn post(link: &Link, message: &Message, image: ReadTxn, throttle: Rc<Throttle>) -> Result<(), PostError> {
    let url = link.picker.pick().ok_or(PostError::NoUrl)?;
    let posted = post_to(link, &url, message, image, throttle).await;
    if posted.is_err() {
        link.picker.unreachable(&url);
    }
    posted
}

async fn post_to(
    link: &Link,
    url: &http::Uri,
    message: &Message,
    image: ReadTxn,
    throttle: Rc<Throttle>,
) -> Result<(), PostError> {
    let mut head = BytesMut::new();
    put_message(message, &mut head);
    let body = ImageBody::after(head.freeze(), image, throttle);
    let progress = body.progress();
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
