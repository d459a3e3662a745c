//! What this member asks of others over HTTP: at all of a member's peer URLs in turn, until one answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use crate::{
    base::{limits, refusal::Refusal},
    cluster::membership::Member,
    os::{self, clock},
    peer::client::{self, Error, Response},
    services::Services,
};

/// One request to a member.
pub struct PeerRequest<'a> {
    pub method: Method,
    /// Comes after the peer URL.
    pub path: &'a str,
    pub content_type: Option<&'static str>,
    pub body: Bytes,
    pub timeout: Duration,
}

impl<'a> PeerRequest<'a> {
    /// A page without a body.
    #[must_use]
    pub fn get(path: &'a str, timeout: Duration) -> Self {
        Self { method: Method::GET, path, content_type: None, body: Bytes::new(), timeout }
    }
}

impl Services {
    /// Asks one peer URL.
    ///
    /// # Errors
    /// There is no answer in time.
    pub async fn ask_peer(&self, url: &str, request: &PeerRequest<'_>) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = request.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let cluster_id = format!("{:x}", self.shared.view.load().membership.cluster_id);
        if let Ok(value) = HeaderValue::from_str(&cluster_id) {
            headers.insert("x-etcd-cluster-id", value);
        }
        let url = format!("{url}{}", request.path);
        client::request(request.method.clone(), &url, headers, request.body.clone(), request.timeout).await
    }

    /// Asks the peer URLs of a member until one answers.
    pub async fn ask_member(&self, member: &Member, request: &PeerRequest<'_>) -> Option<Response> {
        for url in &member.peer_urls {
            match self.ask_peer(url, request).await {
                Ok(response) => return Some(response),
                Err(error) => tracing::warn!(
                    address = format!("{url}{}", request.path),
                    remote_member_id = format!("{:x}", member.id),
                    %error,
                    "failed to reach the peer URL"
                ),
            }
        }
        None
    }

    /// The member that leads, as soon as one does. The view published last says which.
    ///
    /// # Errors
    /// None leads until `until`.
    pub(super) async fn wait_leader(&self, until: Instant) -> Result<Member, Refusal> {
        loop {
            let leader = {
                let view = self.shared.view.load();
                view.membership.member(view.raft.leader).cloned()
            };
            match leader {
                Some(leader) if leader.peer_urls.is_empty() => return Err(Refusal::NoLeader),
                Some(leader) => return Ok(leader),
                None if clock::now() >= until => return Err(Refusal::NoLeader),
                None => os::sleep(Duration::from_millis(limits::FORWARD_PAUSE_MS)).await,
            }
        }
    }

    /// Whether this member leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        let view = self.shared.view.load();
        view.raft.leader == view.membership.local_id
    }

    /// The refusal of what has taken too long since `since`: as etcd words it, a connection that was lost meanwhile is named.
    pub(super) fn timed_out(&self, since: Instant) -> Refusal {
        let view = self.shared.view.load();
        let is_connected = |id| self.connected_since(id).is_some_and(|connected| connected < since);
        let local_id = view.membership.local_id;
        let is_lost = match view.raft.leader {
            0 => false,
            leader if leader == local_id => {
                let members = view.membership.members();
                let (all, connected) = members.fold((0, 0), |(all, connected), member| {
                    (all + 1, connected + usize::from(member.id == local_id || is_connected(member.id)))
                });
                connected < all / 2 + 1
            }
            leader => !is_connected(leader),
        };
        if is_lost { Refusal::TimeoutConnectionLost } else { Refusal::Timeout }
    }

    /// Since when a member is connected to this one.
    #[must_use]
    pub fn connected_since(&self, id: u64) -> Option<Instant> {
        self.shared.activity.since(id)
    }
}
