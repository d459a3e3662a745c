//! A stream that this member opens to another one, to receive from it: dialed again and again until the link ends.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{
    bodies::{BodyError, Pieces, WholeBody},
    client,
    codec::{BadFrame, Decoder, Framing, is_link_heartbeat},
    headers::{self, CLUSTER_ID, CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION, TO},
    link::{Link, Pace},
    settings::Event,
};
use crate::{
    base::limits::{PEER_ANSWER_BYTES_MAX, PEER_DIAL_PAUSE_MS, PEER_READ_BYTES_PER_TURN, PEER_SILENCE_MS_MAX},
    os,
};

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no peer URL")]
    NoUrl,
    #[error("{0}")]
    Client(#[from] client::Error),
    #[error("unsupported stream type")]
    NoStreams,
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("peer {peer} failed to find local node {local}")]
    NotFound { peer: String, local: String },
    #[error("{0}")]
    Misfit(&'static str),
    #[error("unhandled error {0:?} when precondition failed")]
    Precondition(String),
    #[error("unhandled http status {0}")]
    Status(u16),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("EOF")]
    End,
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("{0}")]
    Frame(#[from] BadFrame),
}

/// Dials and receives for as long as the link lasts.
pub(super) async fn run(link: Rc<Link>, framing: Framing) {
    let title = framing.title();
    let pace = Pace::new(Duration::from_millis(PEER_DIAL_PAUSE_MS));
    tracing::info!(
        stream_reader_type = title,
        local_member_id = link.local(),
        remote_peer_id = link.name,
        "started stream reader with remote peer"
    );
    loop {
        pace.wait().await;
        match dial(&link, framing).await {
            Err(DialError::NoStreams) => {}
            Err(error) => link.deactivate("dial", title, &error),
            Ok(body) => {
                let lost = on_stream(&link, framing, body).await;
                // An end that the other side wanted says nothing of whether it can be reached.
                if !matches!(lost, Lost::End) {
                    link.deactivate("read", title, &lost);
                }
            }
        }
    }
}

async fn on_stream(link: &Link, framing: Framing, body: Pieces) -> Lost {
    let (title, local) = (framing.title(), link.local());
    link.activate();
    tracing::info!(
        stream_reader_type = title,
        local_member_id = local,
        remote_peer_id = link.name,
        "established TCP streaming connection with remote peer"
    );
    let lost = match receive(link, framing, body).await {
        Ok(()) => Lost::End,
        Err(lost) => lost,
    };
    tracing::warn!(
        stream_reader_type = title,
        local_member_id = local,
        remote_peer_id = link.name,
        error = %lost,
        "lost TCP streaming connection with remote peer"
    );
    lost
}

/// Brings what comes to the member until the stream ends.
async fn receive(link: &Link, framing: Framing, mut body: Pieces) -> Result<(), Lost> {
    let mut decoder = Decoder::new(framing, link.id, link.settings.member_id);
    let mut of_turn = 0;
    while let Some(bytes) = body.next().await? {
        link.meter.received_bytes.add(bytes.len() as u64);
        of_turn += bytes.len();
        decoder.push(&bytes);
        drop(bytes);
        while let Some(message) = decoder.next_message()? {
            if !is_link_heartbeat(&message) && link.reports.check(&message).is_ok() {
                link.reports.say(Event::Message(message));
            }
        }
        if of_turn >= PEER_READ_BYTES_PER_TURN {
            of_turn = 0;
            os::yield_now().await;
        }
    }
    Ok(())
}

/// Opens a stream: the body that its messages are in.
async fn dial(link: &Link, framing: Framing) -> Result<Pieces, DialError> {
    let url = link.picker.pick().ok_or(DialError::NoUrl)?;
    let opened = dial_url(link, framing, &url).await;
    if opened.is_err() {
        link.picker.unreachable(&url);
    }
    opened
}

async fn dial_url(link: &Link, framing: Framing, url: &http::Uri) -> Result<Pieces, DialError> {
    let path = format!("{}/{}", framing.path(), link.local());
    let mut sent = HeaderMap::new();
    link.introduction.put(&mut sent);
    sent.insert(TO, HeaderValue::from_str(&link.name).map_err(|_| DialError::NoUrl)?);
    let request = client::prepare(url, Method::GET, &path, sent, WholeBody::default()).ok_or(DialError::NoUrl)?;
    let patience = Duration::from_millis(PEER_SILENCE_MS_MAX);
    let mut sender = client::open(url, &link.dialing, patience).await?;
    let response = os::timeout(patience, sender.send_request(request)).await;
    let response = response.ok_or(client::Error::Late(patience))?.map_err(client::Error::Http)?;
    if !headers::knows_streams(response.headers()) {
        return Err(DialError::NoStreams);
    }
    match response.status() {
        StatusCode::OK => Ok(Pieces::new(response.into_body())),
        StatusCode::GONE => {
            link.reports.say(Event::Removed);
            Err(DialError::Removed)
        }
        StatusCode::NOT_FOUND => Err(DialError::NotFound { peer: link.name.clone(), local: link.local() }),
        StatusCode::PRECONDITION_FAILED => Err(misfit(link, &client::answer(response, PEER_ANSWER_BYTES_MAX).await?)),
        status => Err(DialError::Status(status.as_u16())),
    }
}

/// What the other side has against this member.
fn misfit(link: &Link, answer: &client::Response) -> DialError {
    let text = String::from_utf8_lossy(&answer.body);
    match text.strip_suffix('\n').unwrap_or(&text) {
        INCOMPATIBLE_VERSION => {
            tracing::warn!(
                local_member_id = link.local(),
                remote_peer_id = link.name,
                error = INCOMPATIBLE_VERSION,
                "request sent was ignored by remote peer due to server version incompatibility"
            );
            DialError::Misfit(INCOMPATIBLE_VERSION)
        }
        CLUSTER_ID_MISMATCH => {
            tracing::warn!(
                remote_peer_id = link.name,
                remote_peer_cluster_id = headers::text(&answer.headers, &CLUSTER_ID),
                local_member_id = link.local(),
                local_member_cluster_id = headers::id_text(link.settings.cluster_id),
                error = CLUSTER_ID_MISMATCH,
                "request sent was ignored by remote peer due to cluster ID mismatch"
            );
            DialError::Misfit(CLUSTER_ID_MISMATCH)
        }
        _ => DialError::Precondition(text.into_owned()),
    }
}
