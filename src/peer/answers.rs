//! Answers of the peer port, and the checks that every request of Raft has to pass.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};

use super::{
    bodies::WholeBody,
    headers::{self, CLUSTER_ID, FROM, Misfit, PEER_URLS, SERVER_VERSION, id_text},
    image_body::ImageBody,
    images::Reading,
    outgoing::StreamBody,
    table::Table,
};
use crate::{
    base::{limits::HTTP1_IDLE_MS_MAX, version},
    os::{self, clock},
};

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

pub(super) type Answer = Response<AnswerBody>;

/// The body of an answer.
pub(super) enum AnswerBody {
    Whole(WholeBody),
    /// A whole state, which uses its connection for as long as it lasts.
    Image {
        body: ImageBody,
        _reading: Reading,
        connection_use: Option<Running>,
    },
    /// Uses its connection for as long as it lasts.
    Stream {
        body: StreamBody,
        connection_use: Option<Running>,
    },
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Image { body, .. } => Pin::new(body).poll_frame(context),
            Self::Stream { body, .. } => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Image { body, .. } => body.is_end_stream(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Image { body, .. } => body.size_hint(),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}

/// A refusal as Go's `http.Error` writes it.
pub(super) fn refuse(status: StatusCode, text: &str, mut fields: HeaderMap) -> Answer {
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer(status, format!("{text}\n"), fields)
}

pub(super) fn answer(status: StatusCode, body: impl Into<Bytes>, fields: HeaderMap) -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(WholeBody(Some(body.into()))));
    *answer.status_mut() = status;
    *answer.headers_mut() = fields;
    answer
}

pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let fields = HeaderMap::from_iter([(header::ALLOW, HeaderValue::from_static(allowed))]);
    refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", fields)
}

/// Fields of every answer after the method was found right.
pub(super) fn own_fields(table: &Table) -> HeaderMap {
    let id = HeaderValue::from_str(&id_text(table.settings.cluster_id)).expect("hexadecimal digits");
    HeaderMap::from_iter([(CLUSTER_ID, id)])
}

/// The answer to a sender whose versions or cluster are not ours.
pub(super) fn check(table: &Table, asked: &HeaderMap, fields: &HeaderMap) -> Option<Answer> {
    let misfit = headers::check(asked, table.settings.cluster_id).err()?;
    let (local, cluster) = (id_text(table.settings.member_id), id_text(table.settings.cluster_id));
    let (server, version) = (headers::text(asked, &FROM), headers::text(asked, &SERVER_VERSION));
    match &misfit {
        Misfit::Version(error) => tracing::warn!(
            local_member_id = local,
            local_member_cluster_id = cluster,
            local_member_server_version = version::SERVER,
            remote_peer_server_name = server,
            remote_peer_server_version = version,
            error,
            "failed version compatibility check"
        ),
        Misfit::ClusterId(id) => tracing::warn!(
            local_member_id = local,
            local_member_cluster_id = cluster,
            local_member_server_version = version::SERVER,
            remote_peer_server_name = server,
            remote_peer_server_version = version,
            remote_peer_cluster_id = id,
            "request cluster ID mismatch"
        ),
    }
    Some(refuse(StatusCode::PRECONDITION_FAILED, misfit.answer(), fields.clone()))
}

/// The sender of a request says where it can be reached.
pub(super) fn add_remote(table: &Table, id: Option<u64>, asked: &HeaderMap) {
    let urls = headers::text(asked, &PEER_URLS);
    if let (Some(id), false) = (id, urls.is_empty()) {
        table.add_remote(id, &urls.split(',').map(str::to_owned).collect::<Vec<_>>());
    }
}

/// A refusal of the member itself.
pub(super) fn forbid(text: &str, mut fields: HeaderMap) -> Answer {
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer(StatusCode::FORBIDDEN, format!("{{\"message\":\"{text}\"}}"), fields)
}

/// When a connection last had a request, and how many run.
pub(super) struct Use {
    last: Cell<Instant>,
    running: Cell<usize>,
}

impl Use {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { last: Cell::new(clock::now()), running: Cell::new(0) })
    }

    pub(super) fn begin(self: &Rc<Self>) -> Running {
        self.running.set(self.running.get() + 1);
        Running(Rc::clone(self))
    }

    /// Resolves when nothing was asked for long.
    pub(super) async fn silence(&self) {
        loop {
            let due = self.last.get() + Duration::from_millis(HTTP1_IDLE_MS_MAX);
            let left = due.saturating_duration_since(clock::now());
            if left.is_zero() && self.running.get() == 0 {
                return;
            }
            os::sleep(left.max(Duration::from_secs(1))).await;
        }
    }
}

/// One request, until it is answered; a stream until it ends.
pub(super) struct Running(Rc<Use>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.last.set(clock::now());
    }
}
