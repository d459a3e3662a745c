//! Fetches a whole state from another ringd: onto the disk, over as many connections as it takes, and compared with its digest.
//!
//! | what goes wrong | then |
//! |---|---|
//! | the connection breaks | another connection resumes at the offset that was reached |
//! | so often in a row that no byte comes | given up |
//! | the other side does not keep the state any more | given up |
//! | the digest differs, or the pages are no sound database | given up; nothing stays on the disk |

use std::{path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use hyper::body::Incoming;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    bodies::{BodyError, Pieces, WholeBody},
    client,
    headers::{self, IMAGE_MARK, IMAGE_NUMBER, IMAGE_PATH, Introduction, id_text, parse_id},
    http_io::Dialing,
    image_body::DIGEST_BYTES,
    picker::Picker,
    received_file::{KeepError, ReceivedFile},
};
use crate::{
    base::limits::{
        PEER_ANSWER_BYTES_MAX, PEER_FETCH_ATTEMPTS_MAX, PEER_FETCH_PAUSE_MS, PEER_IMAGE_WAIT_MS_MAX,
        PEER_SILENCE_MS_MAX,
    },
    os::{self, tls::Secrets},
    proto::raftpb::SnapshotMetadata,
};

/// Who asks.
#[derive(Clone)]
pub struct Asking {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Its peer URLs.
    pub advertised: Vec<String>,
    /// For `https`.
    pub secrets: Option<Arc<Secrets>>,
    /// How long a connection may take to come up.
    pub dial_timeout: Duration,
}

/// Why a state was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no URL of a member")]
    NoUrl,
    #[error("{0}")]
    Client(#[from] client::Error),
    #[error("{status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("the answer says nothing of the state that it is")]
    NoMark,
    #[error("the connection broke too often: {0}")]
    Broken(String),
    #[error("the state that came is another one than the one that was sent: the digests differ")]
    Digest,
    #[error("{0}")]
    Keep(#[from] KeepError),
}

/// A state that is being fetched.
struct Fetch<'a> {
    asking: &'a Asking,
    picker: Picker,
    mark: SnapshotMetadata,
    number: u64,
    file: ReceivedFile,
    hasher: Sha256,
    /// Bytes of the pages.
    length: u64,
    /// What has come of the digest.
    digest: Vec<u8>,
}

/// Fetches a state that goes up to entry `index_min` at least, from the ringd with these URLs, and puts it into `directory` under its
/// name as a received state: its last entry, and its length.
///
/// # Errors
/// See the head of this file.
pub async fn fetch(
    asking: &Asking,
    urls: &[String],
    index_min: u64,
    directory: &Path,
) -> Result<(SnapshotMetadata, u64), FetchError> {
    let picker = Picker::new(urls);
    let asked = ask(asking, &picker, &format!("{IMAGE_PATH}?index={index_min}")).await?;
    let (mark, number, length) = description(asked.headers()).ok_or(FetchError::NoMark)?;
    let from = format!("fetched.{}", id_text(number));
    let file = ReceivedFile::create(directory, mark.index(), &from).await?;
    let (hasher, digest) = (Sha256::new(), Vec::with_capacity(DIGEST_BYTES));
    let mut fetch = Fetch { asking, picker, mark, number, file, hasher, length, digest };
    let mut body = Ok(Pieces::new(asked.into_body()));
    let mut broken = 0;
    loop {
        let before = fetch.file.length();
        let ended = match body {
            Ok(pieces) => fetch.read(pieces).await?,
            Err(error) => Some(error),
        };
        let Some(why) = ended else { break };
        broken = if fetch.file.length() > before { 1 } else { broken + 1 };
        if broken > PEER_FETCH_ATTEMPTS_MAX {
            return Err(FetchError::Broken(why));
        }
        tracing::warn!(
            snapshot_index = fetch.mark.index(),
            bytes = fetch.file.length(),
            error = why,
            "the connection that brings the database broke; resuming at the offset that was reached"
        );
        os::sleep(Duration::from_millis(PEER_FETCH_PAUSE_MS)).await;
        body = fetch.resume().await?;
    }
    fetch.end().await
}

impl Fetch<'_> {
    /// Takes what comes over one connection: why it ended too early, or `None` at the end.
    async fn read(&mut self, mut pieces: Pieces) -> Result<Option<String>, FetchError> {
        loop {
            let piece = match pieces.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) if self.digest.len() == DIGEST_BYTES => return Ok(None),
                Ok(None) => return Ok(Some("unexpected EOF".to_owned())),
                Err(error) => return Ok(Some(BodyError::to_string(&error))),
            };
            let room = usize::try_from(self.length - self.file.length()).unwrap_or(usize::MAX);
            let (pages, digest) = piece.split_at(piece.len().min(room));
            self.hasher.update(pages);
            self.file.take(pages).await?;
            self.digest.extend_from_slice(digest);
        }
    }

    /// Asks for the rest. An answer that is a refusal ends the fetch, silence does not.
    async fn resume(&mut self) -> Result<Result<Pieces, String>, FetchError> {
        self.digest.clear();
        let path = format!("{IMAGE_PATH}/{}?offset={}", id_text(self.number), self.file.length());
        match ask(self.asking, &self.picker, &path).await {
            Ok(answer) => Ok(Ok(Pieces::new(answer.into_body()))),
            Err(FetchError::Client(error)) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn end(mut self) -> Result<(SnapshotMetadata, u64), FetchError> {
        if self.hasher.finalize()[..] != self.digest[..] {
            return Err(FetchError::Digest);
        }
        let length = self.file.sync().await?;
        self.file.keep().await?;
        Ok((self.mark, length))
    }
}

/// What an answer says of the state in its body: its last entry, its number, and the length of its pages.
fn description(fields: &HeaderMap) -> Option<(SnapshotMetadata, u64, u64)> {
    let mark = BASE64.decode(headers::text(fields, &IMAGE_MARK)).ok()?;
    let mark = SnapshotMetadata::decode(&mark[..]).ok().filter(|mark| mark.index() > 0)?;
    let number = parse_id(headers::text(fields, &IMAGE_NUMBER))?;
    let length: u64 = headers::text(fields, &header::CONTENT_LENGTH).parse().ok()?;
    Some((mark, number, length.checked_sub(DIGEST_BYTES as u64)?))
}

async fn ask(asking: &Asking, picker: &Picker, path: &str) -> Result<http::Response<Incoming>, FetchError> {
    let url = picker.pick().ok_or(FetchError::NoUrl)?;
    let asked = ask_url(asking, &url, path).await;
    if matches!(asked, Err(FetchError::Client(_))) {
        picker.unreachable(&url);
    }
    asked
}

async fn ask_url(asking: &Asking, url: &Uri, path: &str) -> Result<http::Response<Incoming>, FetchError> {
    let introduction = Introduction {
        cluster_id: asking.cluster_id,
        member_id: asking.member_id,
        peer_urls: asking.advertised.join(","),
        reads_by_leases: false,
    };
    let mut fields = HeaderMap::new();
    introduction.put(&mut fields);
    let request = client::prepare(url, Method::GET, path, fields, WholeBody::default()).ok_or(FetchError::NoUrl)?;
    let dialing = Dialing { timeout: asking.dial_timeout, secrets: asking.secrets.clone() };
    let silence = Duration::from_millis(PEER_SILENCE_MS_MAX);
    let mut sender = client::open(url, &dialing, silence).await?;
    // A commit of the other side may precede the answer.
    let patience = silence + Duration::from_millis(PEER_IMAGE_WAIT_MS_MAX);
    let response = os::timeout(patience, sender.send_request(request)).await;
    let response = response.ok_or(client::Error::Late(patience))?.map_err(client::Error::Http)?;
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let answer = client::answer(response, PEER_ANSWER_BYTES_MAX).await?;
    let text = String::from_utf8_lossy(&answer.body).trim_end().to_owned();
    Err(FetchError::Refused { status: answer.status, text })
}
