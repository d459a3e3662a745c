//! Messages posted one by one: to a member that has opened no stream here.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use http::{Method, StatusCode, Uri};
use hyper::client::conn::http1::SendRequest;
use prost::Message as _;

use super::{
    bodies::WholeBody,
    client,
    headers::{self, CLUSTER_ID, CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION},
    link::Link,
    settings::Event,
};
use crate::{
    base::limits::{PEER_ANSWER_BYTES_MAX, PEER_POSTS_RUNNING_MAX, PEER_POSTS_WAITING_MAX, PEER_SILENCE_MS_MAX},
    os,
    proto::raftpb::{Message, MessageType},
};

const PATH: &str = "/raft";

/// The posts to one member.
pub(super) struct Pipeline {
    link: Rc<Link>,
    waiting: RefCell<VecDeque<Message>>,
    running: Cell<usize>,
    /// Connections that wait for the next post, by the URL that they were opened for.
    idle: RefCell<Vec<Kept>>,
}

type Kept = (Uri, SendRequest<WholeBody>);

/// Why a post failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("no peer URL")]
    NoUrl,
    #[error("{0}")]
    Client(#[from] client::Error),
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("{0}")]
    Misfit(&'static str),
    #[error("unhandled error {0:?} when precondition failed")]
    Precondition(String),
    #[error("unexpected http status {status} while posting to {url:?}")]
    Status { status: String, url: String },
}

impl PostError {
    /// Whether there was no connection, so that nothing of the message can have arrived.
    fn is_unsent(&self) -> bool {
        matches!(self, Self::NoUrl | Self::Client(client::Error::Io(_)))
    }
}

impl Pipeline {
    pub(super) fn new(link: Rc<Link>) -> Rc<Self> {
        Rc::new(Self { link, waiting: RefCell::default(), running: Cell::new(0), idle: RefCell::default() })
    }

    /// Posts `message` as soon as fewer than four posts run. Returns it when too many wait.
    // An error is moved once; a box would cost an allocation per lost message.
    #[allow(clippy::result_large_err)]
    pub(super) fn send(self: &Rc<Self>, message: Message) -> Result<(), Message> {
        // A task that is spawned runs at once, so nothing may be borrowed then.
        if self.waiting.borrow().len() >= PEER_POSTS_WAITING_MAX {
            return Err(message);
        }
        self.waiting.borrow_mut().push_back(message);
        if self.running.get() < PEER_POSTS_RUNNING_MAX {
            self.running.set(self.running.get() + 1);
            self.link.spawn(Rc::clone(self).work());
        }
        Ok(())
    }

    /// Posts until nothing waits.
    async fn work(self: Rc<Self>) {
        while let Some(message) = self.next() {
            let is_snapshot = message.r#type() == MessageType::MsgSnap;
            let bytes = message.encode_to_vec();
            let length = bytes.len() as u64;
            let posted = self.post(bytes).await;
            let link = &self.link;
            match &posted {
                Ok(()) => {
                    link.activate();
                    link.meter.sent_bytes.add(length);
                }
                Err(error) => {
                    link.deactivate("write", "pipeline", error);
                    link.lost();
                    if message.r#type() == MessageType::MsgProp && error.is_unsent() {
                        link.reports.say_later(Event::Unsent(message));
                        continue;
                    }
                }
            }
            if is_snapshot {
                link.reports.say_later(Event::SnapshotSent { to: link.id, arrived: posted.is_ok() });
            }
        }
        self.running.set(self.running.get() - 1);
    }

    fn next(&self) -> Option<Message> {
        self.waiting.borrow_mut().pop_front()
    }

    async fn post(&self, bytes: Vec<u8>) -> Result<(), PostError> {
        let url = self.link.picker.pick().ok_or(PostError::NoUrl)?;
        let patience = Duration::from_millis(PEER_SILENCE_MS_MAX);
        let late = PostError::Client(client::Error::Late(patience));
        let posted = os::timeout(patience, self.post_to(&url, bytes)).await.unwrap_or(Err(late));
        if posted.is_err() {
            self.link.picker.unreachable(&url);
        }
        posted
    }

    async fn post_to(&self, url: &Uri, bytes: Vec<u8>) -> Result<(), PostError> {
        let link = &self.link;
        let fields = headers::of_post(&link.introduction, "application/protobuf");
        let body = WholeBody(Some(bytes.into()));
        let request = client::prepare(url, Method::POST, PATH, fields, body).ok_or(PostError::NoUrl)?;
        let mut sender = self.connection(url).await?;
        let response = sender.send_request(request).await.map_err(client::Error::Http)?;
        let answer = client::answer(response, PEER_ANSWER_BYTES_MAX).await?;
        self.idle.borrow_mut().push((url.clone(), sender));
        check_answer(link, &answer, url, PATH)
    }

    /// An idle connection that still works, or a new one.
    async fn connection(&self, url: &Uri) -> Result<SendRequest<WholeBody>, PostError> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            match idle {
                Some((of, mut sender)) if of == *url => {
                    if sender.ready().await.is_ok() {
                        return Ok(sender);
                    }
                }
                Some(_) => {}
                None => {
                    let patience = Duration::from_millis(PEER_SILENCE_MS_MAX);
                    return Ok(client::open(url, &self.link.dialing, patience).await?);
                }
            }
        }
    }
}

/// What the answer to a post means.
pub(super) fn check_answer(link: &Link, answer: &client::Response, url: &Uri, path: &str) -> Result<(), PostError> {
    match answer.status {
        StatusCode::NO_CONTENT => Ok(()),
        StatusCode::FORBIDDEN => {
            link.reports.say(Event::Removed);
            Err(PostError::Removed)
        }
        StatusCode::PRECONDITION_FAILED => {
            let text = String::from_utf8_lossy(&answer.body);
            match text.strip_suffix('\n').unwrap_or(&text) {
                INCOMPATIBLE_VERSION => {
                    tracing::error!(remote_peer_id = link.name, "request sent was ignored by peer");
                    Err(PostError::Misfit(INCOMPATIBLE_VERSION))
                }
                CLUSTER_ID_MISMATCH => {
                    tracing::error!(
                        remote_peer_id = link.name,
                        remote_peer_cluster_id = headers::text(&answer.headers, &CLUSTER_ID),
                        local_member_cluster_id = headers::id_text(link.settings.cluster_id),
                        "request sent was ignored due to cluster ID mismatch"
                    );
                    Err(PostError::Misfit(CLUSTER_ID_MISMATCH))
                }
                _ => Err(PostError::Precondition(text.into_owned())),
            }
        }
        status => Err(PostError::Status {
            status: status.canonical_reason().unwrap_or_default().to_owned(),
            url: format!("{}{path}", url.to_string().trim_end_matches('/')),
        }),
    }
}
