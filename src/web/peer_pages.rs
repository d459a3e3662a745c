//! What members ask each other beside Raft, over HTTP/1 on the peer port. Codes and texts are etcd's.
//!
//! | path | method | answer |
//! |---|---|---|
//! | `/members` | GET | the members as JSON, the cluster's id in a header |
//! | `/members/promote/<id>` | POST | a learner becomes a voter: the members afterwards |
//! | `/members/hashkv` | GET | HashKV, the revision as JSON in the body |
//! | `/leases`, `/leases/internal` | POST | a renewal, what is left of a lease |
//! | `/downgrade/enabled` | GET | whether a downgrade is under way, after a confirmed read |
//! | `/version` | GET | versions as JSON |
//! | `/ringd/standing` | GET | only ringd: term, leader, last entry and members as JSON, after a confirmed read |
//!
//! The paths of Raft are served by the links themselves.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use prost::Message;
use serde::Serialize;

use super::{
    JSON,
    plain::{allow, error},
    redirect, version_page,
};
use crate::{
    base::{limits, refusal::Refusal},
    cluster::membership::Member,
    frontend::{WebFuture, WebHandler, WebRequest, WebResponse},
    os::clock,
    proto::{
        etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse},
        leasepb::LeaseInternalRequest,
    },
    services::{
        Services,
        hashes::{HASH_PATH, HashAnswer, HashRequest},
        lease_forward,
        members::PROMOTE_REFUSALS,
        standing::STANDING_PATH,
    },
};

const PROTOBUF: &str = "application/protobuf";
const CLUSTER_ID: &str = "x-etcd-cluster-id";
const PROMOTE: &str = "/members/promote/";

/// The pages of a member's peer port.
pub struct PeerPages {
    front: Rc<Services>,
}

impl PeerPages {
    #[must_use]
    pub fn new(front: Rc<Services>) -> Self {
        Self { front }
    }
}

impl WebHandler for PeerPages {
    fn http(&self, request: WebRequest) -> WebFuture {
        let front = Rc::clone(&self.front);
        Box::pin(async move { answer(&front, &request).await })
    }
}

async fn answer(front: &Services, request: &WebRequest) -> WebResponse {
    if let Some(response) = redirect(request) {
        return response;
    }
    match request.path.as_str() {
        "/members" => members(front, request),
        HASH_PATH => hash_kv(front, request).await,
        "/downgrade/enabled" => downgrade_enabled(front, request).await,
        "/version" => allow(request, &Method::GET).unwrap_or_else(|| version_page(front)),
        STANDING_PATH => standing(front, request).await,
        lease_forward::RENEWALS_PATH => renewal(front, request).await,
        lease_forward::INTERNAL_PATH => time_to_live(front, request).await,
        path => match path.strip_prefix(PROMOTE) {
            Some(id) => promotion(front, request, id).await,
            None => error(StatusCode::NOT_FOUND, "404 page not found"),
        },
    }
}

fn members(front: &Services, request: &WebRequest) -> WebResponse {
    allow(request, &Method::GET).unwrap_or_else(|| {
        let view = front.shared().view.load();
        let list: Vec<&Member> = view.membership.members().collect();
        with_cluster_id(front, WebResponse::new(StatusCode::OK, JSON, line_of_json(&list)))
    })
}

async fn promotion(front: &Services, request: &WebRequest, id: &str) -> WebResponse {
    if let Some(refused) = allow(request, &Method::POST) {
        return refused;
    }
    let Ok(number) = id.parse::<u64>() else {
        let text = format!("member {id} not found in cluster");
        return with_cluster_id(front, error(StatusCode::NOT_FOUND, &text));
    };
    let response = match front.promote(number).await {
        Ok(members) => WebResponse::new(StatusCode::OK, JSON, line_of_json(&members)),
        Err(refusal) => {
            tracing::warn!(member_id = format!("{number:x}"), error = %refusal, "failed to promote a member");
            refused_promotion(refusal)
        }
    };
    with_cluster_id(front, response)
}

fn refused_promotion(refusal: Refusal) -> WebResponse {
    match PROMOTE_REFUSALS.iter().find(|known| known.0 == refusal) {
        Some((_, status, text)) => error(*status, text),
        None => {
            let body = r#"{"message":"Internal Server Error"}"#;
            WebResponse::new(StatusCode::INTERNAL_SERVER_ERROR, JSON, body)
        }
    }
}

async fn hash_kv(front: &Services, request: &WebRequest) -> WebResponse {
    if let Some(refused) = allow(request, &Method::GET) {
        return refused;
    }
    let asked = request.headers.get(CLUSTER_ID).map(HeaderValue::as_bytes).unwrap_or_default();
    if !asked.is_empty() && asked != cluster_id(front).as_bytes() {
        return error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
    }
    let asked: HashRequest = match serde_json::from_slice(&request.body) {
        Ok(asked) => asked,
        Err(why) => {
            tracing::warn!(error = %why, "failed to unmarshal request");
            return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
        }
    };
    match front.hash_up_to(asked.revision).await {
        Ok(found) => with_cluster_id(front, WebResponse::new(StatusCode::OK, JSON, json(&HashAnswer::new(&found)))),
        Err(refusal) => {
            tracing::warn!(requested_revision = asked.revision, error = %refusal, "failed to get hashKV");
            error(StatusCode::BAD_REQUEST, inner_text(refusal))
        }
    }
}

async fn renewal(front: &Services, request: &WebRequest) -> WebResponse {
    let body = match body_of_lease_request(request) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let Ok(LeaseKeepAliveRequest { id }) = LeaseKeepAliveRequest::decode(body) else {
        return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    match front.renew_for_member(id).await {
        Ok(ttl) => {
            let response = LeaseKeepAliveResponse { header: None, id, ttl };
            WebResponse::new(StatusCode::OK, PROTOBUF, response.encode_to_vec())
        }
        Err(refusal) => refused_lease(refusal, StatusCode::BAD_REQUEST),
    }
}

async fn time_to_live(front: &Services, request: &WebRequest) -> WebResponse {
    let body = match body_of_lease_request(request) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let decoded = LeaseInternalRequest::decode(body).ok().and_then(|asked| asked.lease_time_to_live_request);
    let Some(asked) = decoded else {
        return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    match front.time_to_live_for_member(&asked).await {
        Ok(response) => WebResponse::new(StatusCode::OK, PROTOBUF, response),
        Err(refusal) => refused_lease(refusal, StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn body_of_lease_request(request: &WebRequest) -> Result<Bytes, Box<WebResponse>> {
    if request.method != Method::POST {
        return Err(Box::new(error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")));
    }
    if request.body.len() > limits::PEER_LEASE_REQUEST_BYTES_MAX {
        return Err(Box::new(error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large")));
    }
    Ok(request.body.clone())
}

fn refused_lease(refusal: Refusal, otherwise: StatusCode) -> WebResponse {
    match refusal {
        Refusal::TimeoutWaitAppliedIndex => {
            let text = "waiting for node to catch up its applied index has timed out";
            error(StatusCode::REQUEST_TIMEOUT, text)
        }
        Refusal::LeaseNotFound => error(StatusCode::NOT_FOUND, "lease not found"),
        refusal => error(otherwise, inner_text(refusal)),
    }
}

async fn downgrade_enabled(front: &Services, request: &WebRequest) -> WebResponse {
    if let Some(refused) = allow(request, &Method::GET) {
        return refused;
    }
    let response = match front.confirmed(clock::now()).await {
        Ok(()) => {
            let enabled = front.shared().view.load().membership.downgrade.enabled;
            WebResponse::new(StatusCode::OK, "text/plain", enabled.to_string())
        }
        Err(refusal) => error(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed linearized read: {refusal}")),
    };
    with_cluster_id(front, response)
}

async fn standing(front: &Services, request: &WebRequest) -> WebResponse {
    if let Some(refused) = allow(request, &Method::GET) {
        return refused;
    }
    let response = match front.standing().await {
        Ok(standing) => WebResponse::new(StatusCode::OK, JSON, line_of_json(&standing)),
        Err(refusal) => error(StatusCode::SERVICE_UNAVAILABLE, refusal.text()),
    };
    with_cluster_id(front, response)
}

/// The words of a refusal inside etcd, which its clients are told with a prefix.
fn inner_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Compacted | Refusal::FutureRevision => {
            refusal.text().strip_prefix("etcdserver: ").unwrap_or(refusal.text())
        }
        refusal => refusal.text(),
    }
}

fn cluster_id(front: &Services) -> String {
    format!("{:x}", front.shared().view.load().membership.cluster_id)
}

fn with_cluster_id(front: &Services, mut response: WebResponse) -> WebResponse {
    let value = HeaderValue::from_str(&cluster_id(front)).expect("hexadecimal digits");
    response.headers.insert(CLUSTER_ID, value);
    response
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers serialize")
}

/// JSON and a new line, as Go's encoder writes it.
fn line_of_json(value: &impl Serialize) -> Vec<u8> {
    let mut json = json(value);
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_etcds_codes() {
        let promoted = |refusal| refused_promotion(refusal).status.as_u16();
        assert_eq!(promoted(Refusal::MemberNotFound), 404);
        assert_eq!(promoted(Refusal::MemberNotLearner), 412);
        assert_eq!(promoted(Refusal::LearnerNotReady), 412);
        assert_eq!(promoted(Refusal::Timeout), 500);
        let lease = |refusal| refused_lease(refusal, StatusCode::BAD_REQUEST).status.as_u16();
        assert_eq!(lease(Refusal::LeaseNotFound), 404);
        assert_eq!(lease(Refusal::TimeoutWaitAppliedIndex), 408);
        assert_eq!(lease(Refusal::NotPrimaryLessor), 400);
    }
}
