//! A whole state for a member that is a ringd: it is offered, and the member fetches it where it is best to be had.
//!
//! ```text
//!   leader ── the message of the state, and who has it ──▶ member ── GET /ringd/image ──▶ a follower that has caught up, else the leader
//!          ◀── 204 once it is whole and durable there ────
//! ```
//!
//! The members that have the state are in a header of the post: `<id>=<url>,<url> <id>=<url>`, the leader last. What the member fetches
//! may go further than the leader's message says; it never ends before that, and the leader keeps the entries after it meanwhile.
//! To an etcd the leader sends the state itself (`snapshot_sender`).

use std::{rc::Rc, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method};

use super::{
    bodies::WholeBody,
    client,
    codec::put_message,
    headers::{self, SOURCES, id_text, parse_id},
    link::Link,
    pipeline::{PostError, check_answer},
};
use crate::{
    base::limits::{PEER_ANSWER_BYTES_MAX, PEER_SNAPSHOT_BYTES_PER_SECOND, PEER_SNAPSHOT_STALL_MS_MAX},
    os,
    proto::raftpb::Message,
};

/// A member that has a state, and its URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) id: u64,
    pub(super) urls: Vec<String>,
}

/// The header that names them.
fn written(sources: &[Source]) -> String {
    let one = |source: &Source| format!("{}={}", id_text(source.id), source.urls.join(","));
    sources.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The sources that a post names; `None` if it is no offer.
pub(super) fn read(fields: &HeaderMap) -> Option<Vec<Source>> {
    let one = |text: &str| {
        let (id, urls) = text.split_once('=')?;
        Some(Source { id: parse_id(id)?, urls: urls.split(',').map(str::to_owned).collect() })
    };
    let text = fields.get(&SOURCES)?.to_str().ok()?;
    Some(text.split(' ').filter_map(one).collect())
}

/// Offers a state of so many bytes and waits until the member has it.
pub(super) async fn post(link: &Rc<Link>, message: &Message, bytes: u64, sources: &[Source]) -> Result<(), PostError> {
    let url = link.picker.pick().ok_or(PostError::NoUrl)?;
    // A tenth of the rate at which states leave a member, and what a fetch may stand still.
    let patience = Duration::from_millis(PEER_SNAPSHOT_STALL_MS_MAX)
        + Duration::from_secs(bytes / (PEER_SNAPSHOT_BYTES_PER_SECOND / 10));
    let late = PostError::Client(client::Error::Late(patience));
    let posted = os::timeout(patience, post_to(link, &url, message, sources)).await.unwrap_or(Err(late));
    if posted.is_err() {
        link.picker.unreachable(&url);
    }
    posted
}

async fn post_to(link: &Rc<Link>, url: &http::Uri, message: &Message, sources: &[Source]) -> Result<(), PostError> {
    const PATH: &str = "/raft/snapshot";
    let mut body = BytesMut::new();
    put_message(message, &mut body);
    let mut fields = headers::of_post(&link.introduction, "application/octet-stream");
    fields.insert(SOURCES, HeaderValue::from_str(&written(sources)).map_err(|_| PostError::NoUrl)?);
    let body = WholeBody(Some(body.freeze()));
    let request = client::prepare(url, Method::POST, PATH, fields, body).ok_or(PostError::NoUrl)?;
    let silence = Duration::from_millis(PEER_SNAPSHOT_STALL_MS_MAX);
    let mut sender = client::open(url, &link.dialing, silence).await?;
    let response = sender.send_request(request).await.map_err(client::Error::Http)?;
    let answer = client::answer(response, PEER_ANSWER_BYTES_MAX).await?;
    check_answer(link, &answer, url, PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_their_header() {
        let source = |id, urls: &[&str]| Source { id, urls: urls.iter().map(|&url| url.to_owned()).collect() };
        let sources = [source(0xa1, &["http://a:1", "https://b:2"]), source(2, &["http://c:3"])];
        let text = written(&sources);
        assert_eq!(text, "a1=http://a:1,https://b:2 2=http://c:3");
        let fields = HeaderMap::from_iter([(SOURCES, HeaderValue::from_str(&text).unwrap())]);
        assert_eq!(read(&fields), Some(sources.to_vec()));
        assert_eq!(read(&HeaderMap::new()), None);
    }
}
