//! Leases between members: only the leader knows when a lease ends, so the others ask it over HTTP, as in etcd.
//!
//! | page of the leader | asks for | no such lease | not the leader | state not applied in a second |
//! |---|---|---|---|---|
//! | `/leases` | a renewal | 404 | 400 | 408 |
//! | `/leases/internal` | what is left of it, its keys | 404 | 500 | 408 |

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use crate::{
    base::{limits, refusal::Refusal},
    lease::Renewal,
    os::{self, clock},
    peer::client::Response,
    proto::{
        etcdserverpb::{
            LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
            ResponseHeader,
        },
        leasepb::{LeaseInternalRequest, LeaseInternalResponse},
    },
    replica::lease_questions::{LeaseAnswer, LeaseQuestion},
    services::{Services, peers::PeerRequest},
};

pub const RENEWALS_PATH: &str = "/leases";
pub const INTERNAL_PATH: &str = "/leases/internal";
const PROTOBUF: &str = "application/protobuf";
/// The field of a LeaseInternalResponse.
const TIME_TO_LIVE_FIELD: u32 = 1;

impl Services {
    /// Renews a lease at the leader: its TTL, 0 if there is no such lease. Nothing if this member has come to lead.
    ///
    /// # Errors
    /// No leader has answered within the request timeout.
    pub(super) async fn renew_at_leader(&self, id: i64) -> Result<Option<i64>, Refusal> {
        let body = LeaseKeepAliveRequest { id }.encode_to_vec().into();
        self.ask_leader(RENEWALS_PATH, body, clock::now(), |response| match response.status {
            StatusCode::OK => {
                let answer = LeaseKeepAliveResponse::decode(response.body.clone()).ok()?;
                (answer.id == id).then_some(answer.ttl)
            }
            StatusCode::NOT_FOUND => Some(0),
            _ => None,
        })
        .await
    }

    /// Asks the leader for a lease: its answer without a header. Nothing if this member has come to lead.
    ///
    /// # Errors
    /// No leader has answered within the request timeout.
    pub(super) async fn time_to_live_at_leader(
        &self,
        request: &LeaseTimeToLiveRequest,
        since: Instant,
    ) -> Result<Option<LeaseTimeToLiveResponse>, Refusal> {
        let inner = LeaseInternalRequest { lease_time_to_live_request: Some(*request) };
        self.ask_leader(INTERNAL_PATH, inner.encode_to_vec().into(), since, |response| match response.status {
            StatusCode::OK => {
                let answer = LeaseInternalResponse::decode(response.body.clone()).ok()?;
                answer.lease_time_to_live_response.filter(|found| found.id == request.id)
            }
            StatusCode::NOT_FOUND => {
                Some(LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..LeaseTimeToLiveResponse::default() })
            }
            _ => None,
        })
        .await
    }

    /// Repeats a request to the present leader until `read` accepts an answer.
    async fn ask_leader<T>(
        &self,
        path: &str,
        body: Bytes,
        since: Instant,
        read: impl Fn(&Response) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let until = since + self.shared.request_timeout;
        loop {
            let leader = self.wait_leader(until).await?;
            if self.leads() {
                return Ok(None);
            }
            let timeout = until.saturating_duration_since(clock::now());
            if timeout.is_zero() {
                return Err(Refusal::Timeout);
            }
            let content_type = Some(PROTOBUF);
            let request = PeerRequest { method: Method::POST, path, content_type, body: body.clone(), timeout };
            let answer = self.ask_member(&leader, &request).await;
            if let Some(answer) = answer.as_ref().and_then(&read) {
                return Ok(Some(answer));
            }
            os::sleep(Duration::from_millis(limits::FORWARD_PAUSE_MS)).await;
        }
    }

    /// Renews a lease for another member: its TTL.
    ///
    /// # Errors
    /// There is no such lease, this member does not lead, or its state is not applied in time.
    pub async fn renew_for_member(&self, id: i64) -> Result<i64, Refusal> {
        self.settled().await?;
        let since = clock::now();
        loop {
            let LeaseAnswer::Renewed { ttls, stopped } = self.ask(LeaseQuestion::Renew { ids: vec![id] }).await else {
                unreachable!("the answer to a renewal");
            };
            match stopped {
                None => return Ok(ttls[0]),
                Some(Renewal::Unknown) => return Err(Refusal::LeaseNotFound),
                Some(Renewal::Unsure) => self.confirmed(since).await.map_err(|_| Refusal::NotPrimaryLessor)?,
                // It is about to be revoked.
                Some(Renewal::Expired) if !self.is_late(clock::now(), since) => {
                    os::sleep(Duration::from_millis(limits::KEEP_ALIVE_PAUSE_MS)).await;
                }
                Some(_) => return Err(Refusal::NotPrimaryLessor),
            }
        }
    }

    /// Looks a lease up for another member: the encoded `LeaseInternalResponse`.
    ///
    /// # Errors
    /// There is no such lease, this member does not lead, or its state is not applied in time.
    pub async fn time_to_live_for_member(&self, request: &LeaseTimeToLiveRequest) -> Result<Bytes, Refusal> {
        self.settled().await?;
        let question = LeaseQuestion::TimeToLive { id: request.id, with_keys: request.keys };
        match self.ask(question).await {
            LeaseAnswer::TimeToLive(Some((found, keys))) => {
                let response = LeaseTimeToLiveResponse {
                    header: Some(ResponseHeader::default()),
                    id: request.id,
                    ttl: found.remaining_s,
                    granted_ttl: found.granted_s,
                    keys: Vec::new(),
                };
                Ok(internal_response(&response, &keys))
            }
            LeaseAnswer::TimeToLive(None) => Err(Refusal::LeaseNotFound),
            _ => Err(Refusal::NotPrimaryLessor),
        }
    }
}

/// `keys` are encoded as the response's last field.
fn internal_response(response: &LeaseTimeToLiveResponse, keys: &Bytes) -> Bytes {
    let length = response.encoded_len() + keys.len();
    let mut out = BytesMut::with_capacity(length + 12);
    encode_key(TIME_TO_LIVE_FIELD, WireType::LengthDelimited, &mut out);
    encode_varint(length as u64, &mut out);
    response.encode_raw(&mut out);
    out.extend_from_slice(keys);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_inside_the_response() {
        let whole = LeaseTimeToLiveResponse {
            header: Some(ResponseHeader::default()),
            id: 7,
            ttl: 5,
            granted_ttl: 6,
            keys: vec!["a".into(), "b".into()],
        };
        let keys = LeaseTimeToLiveResponse { keys: whole.keys.clone(), ..LeaseTimeToLiveResponse::default() };
        let rest = LeaseTimeToLiveResponse { keys: Vec::new(), ..whole.clone() };
        let encoded = internal_response(&rest, &keys.encode_to_vec().into());
        assert_eq!(encoded, LeaseInternalResponse { lease_time_to_live_response: Some(whole) }.encode_to_vec());
    }
}
