//! Headers of the peer protocol, and what a receiver checks in them, sans I/O.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::base::version;

pub(super) const FROM: HeaderName = HeaderName::from_static("x-server-from");
pub(super) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
pub(super) const CLUSTER_VERSION_MIN: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub(super) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub(super) const TO: HeaderName = HeaderName::from_static("x-raft-to");
pub(super) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");

/// Where whole states are fetched. Only ringd has this.
pub(super) const IMAGE_PATH: &str = "/ringd/image";
/// The number under which a state is kept.
pub(super) const IMAGE_NUMBER: HeaderName = HeaderName::from_static("x-ringd-image");
/// The last entry of a state and the members then: `raftpb.SnapshotMetadata`, in base 64.
pub(super) const IMAGE_MARK: HeaderName = HeaderName::from_static("x-ringd-image-mark");

/// Who has the state that is offered; see `snapshot_offer`.
pub(super) const SOURCES: HeaderName = HeaderName::from_static("x-ringd-sources");
/// What a ringd can do that an etcd cannot: words with commas. Nobody sends more than the others have said they understand.
pub(super) const EXTENSIONS: HeaderName = HeaderName::from_static("x-ringd-extensions");

/// What a member has said of itself in [`EXTENSIONS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// It fetches states that are offered to it.
    pub(super) states: bool,
    /// It reads the term of the commit index in votes.
    pub(super) commit_term: bool,
    /// It confirms linearizable reads by leases; unknown of an etcd.
    pub(super) leases: Option<bool>,
}

impl Extensions {
    /// What this member says of itself.
    pub(super) fn own(reads_by_leases: bool) -> String {
        let reads = if reads_by_leases { "lease" } else { "quorum" };
        format!("states,commit-term,reads={reads}")
    }

    pub(super) fn read(headers: &HeaderMap) -> Self {
        let words = || text(headers, &EXTENSIONS).split(',');
        let has = |wanted| words().any(|word| word == wanted);
        Self {
            states: has("states"),
            commit_term: has("commit-term"),
            leases: has("reads=lease").then_some(true).or(has("reads=quorum").then_some(false)),
        }
    }
}

/// The version of a sender that does not say: before etcd 2.1.
const VERSION_UNSAID: (u64, u64) = (2, 0);
/// Both kinds of streams are there since.
const VERSION_OF_STREAMS: (u64, u64) = (2, 1);

/// Texts of answers with status 412.
pub(super) const INCOMPATIBLE_VERSION: &str = "incompatible version";
pub(super) const CLUSTER_ID_MISMATCH: &str = "cluster ID mismatch";

/// An id as etcd writes it.
pub(super) fn id_text(id: u64) -> String {
    format!("{id:x}")
}

/// An id as etcd reads it.
pub(super) fn parse_id(text: &str) -> Option<u64> {
    // Rust's parser takes a sign, Go's does not.
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}

/// What a member says of itself with each request.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
    pub(super) peer_urls: String,
    pub(super) reads_by_leases: bool,
}

impl Introduction {
    /// Puts it into a request.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        let fields = [
            (FROM, id_text(self.member_id)),
            (SERVER_VERSION, version::SERVER.to_owned()),
            (CLUSTER_VERSION_MIN, version::CLUSTER_MIN.to_owned()),
            (CLUSTER_ID, id_text(self.cluster_id)),
            (PEER_URLS, self.peer_urls.clone()),
            (EXTENSIONS, Extensions::own(self.reads_by_leases)),
        ];
        for (name, text) in fields {
            // Peer URLs that no header can hold are no reason not to ask.
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }
}

/// The text of a header, empty if there is none.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A sender that does not belong here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    Version(String),
    ClusterId(String),
}

impl Misfit {
    /// What the sender is answered.
    pub(super) fn answer(&self) -> &'static str {
        match self {
            Self::Version(_) => INCOMPATIBLE_VERSION,
            Self::ClusterId(_) => CLUSTER_ID_MISMATCH,
        }
    }
}

/// Whether a sender's versions and cluster are ours.
pub(super) fn check(headers: &HeaderMap, cluster_id: u64) -> Result<(), Misfit> {
    let local = parse_version(version::SERVER).unwrap_or_default();
    let local_min = parse_version(version::CLUSTER_MIN).unwrap_or_default();
    let (remote, remote_min) = (sent_version(headers, &SERVER_VERSION)?, sent_version(headers, &CLUSTER_VERSION_MIN)?);
    let says = |what: &str| {
        let (name, remote) = (text(headers, &FROM), text(headers, &SERVER_VERSION));
        Err(Misfit::Version(format!("{what} version is too low: remote[{name}]={remote}, local={}", version::SERVER)))
    };
    if remote < local_min {
        return says("remote");
    }
    if remote_min > local {
        return says("local");
    }
    let id = text(headers, &CLUSTER_ID);
    if id == id_text(cluster_id) { Ok(()) } else { Err(Misfit::ClusterId(id.to_owned())) }
}

/// Whether the server that answered knows streams.
pub(super) fn knows_streams(headers: &HeaderMap) -> bool {
    sent_version(headers, &SERVER_VERSION).is_ok_and(|version| version >= VERSION_OF_STREAMS)
}

fn sent_version(headers: &HeaderMap, name: &HeaderName) -> Result<(u64, u64), Misfit> {
    match text(headers, name) {
        "" => Ok(VERSION_UNSAID),
        sent => parse_version(sent).ok_or_else(|| Misfit::Version(format!("{sent} is not in dotted-tri format"))),
    }
}

/// Major and minor of a version.
fn parse_version(text: &str) -> Option<(u64, u64)> {
    let (major, rest) = text.split_once('.')?;
    let (minor, _patch) = rest.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The headers of a post.
pub(super) fn of_post(introduction: &Introduction, content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    introduction.put(&mut headers);
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(changes: &[(HeaderName, Option<&'static str>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let introduction = Introduction {
            cluster_id: 0xc1,
            member_id: 0xa,
            peer_urls: "http://h:1,http://h:2".into(),
            reads_by_leases: false,
        };
        introduction.put(&mut headers);
        for (name, value) in changes {
            headers.remove(name);
            value.map(|value| headers.insert(name.clone(), HeaderValue::from_static(value)));
        }
        headers
    }

    #[test]
    fn a_member_introduces_itself() {
        let headers = headers(&[]);
        let fields = [(FROM, "a"), (SERVER_VERSION, "3.7.3"), (CLUSTER_VERSION_MIN, "3.0.0"), (CLUSTER_ID, "c1")];
        for (name, value) in fields {
            assert_eq!(text(&headers, &name), value);
        }
        assert_eq!(text(&headers, &PEER_URLS), "http://h:1,http://h:2");
        assert_eq!(check(&headers, 0xc1), Ok(()));
    }

    #[test]
    fn strangers_are_told_what_differs() {
        let fault = |name, value| check(&headers(&[(name, value)]), 0xc1).unwrap_err();
        assert_eq!(fault(CLUSTER_ID, Some("c2")), Misfit::ClusterId("c2".into()));
        assert_eq!(fault(CLUSTER_ID, None).answer(), "cluster ID mismatch");
        assert_eq!(fault(SERVER_VERSION, Some("2.3.8")).answer(), "incompatible version");
        assert_eq!(fault(SERVER_VERSION, None).answer(), "incompatible version");
        assert_eq!(fault(CLUSTER_VERSION_MIN, Some("3.8.0")).answer(), "incompatible version");
        assert_eq!(fault(CLUSTER_VERSION_MIN, Some("x")).answer(), "incompatible version");
        for version in ["3.0.0", "3.4.31", "3.7.0-alpha.1", "4.0.0"] {
            assert_eq!(check(&headers(&[(SERVER_VERSION, Some(version))]), 0xc1), Ok(()), "{version}");
        }
    }

    #[test]
    fn extensions_are_what_a_ringd_says() {
        assert_eq!(
            Extensions::read(&headers(&[])),
            Extensions { states: true, commit_term: true, leases: Some(false) }
        );
        assert_eq!(Extensions::read(&headers(&[(EXTENSIONS, None)])), Extensions::default());
        let some = Extensions { states: true, commit_term: false, leases: None };
        assert_eq!(Extensions::read(&headers(&[(EXTENSIONS, Some("later,states"))])), some);
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!(id_text(0x8e9e_05c5_2164_694d), "8e9e05c52164694d");
        assert_eq!(parse_id("8e9e05c52164694d"), Some(0x8e9e_05c5_2164_694d));
        assert!(["", "+1", "g", "10000000000000000"].iter().all(|text| parse_id(text).is_none()));
    }
}
