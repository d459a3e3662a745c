//! Hashes of other members over HTTP, to compare with this one's.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    base::refusal::Refusal,
    cluster::membership::Member,
    peer::client::Response,
    proto::etcdserverpb::HashKvResponse,
    service::corruption::{Answer, Hash},
    services::{Services, peers::PeerRequest},
};

pub const HASH_PATH: &str = "/members/hashkv";
const JSON: &str = "application/json";

/// What is asked for, in etcd's JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HashRequest {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: i64,
}

/// The answer in etcd's JSON, which leaves out what is zero.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HashAnswer {
    header: HashHeader,
    #[serde(skip_serializing_if = "is_zero")]
    hash: i64,
    #[serde(skip_serializing_if = "is_zero")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    hash_revision: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct HashHeader {
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl HashAnswer {
    #[must_use]
    pub fn new(found: &HashKvResponse) -> Self {
        Self {
            header: HashHeader { revision: found.header.map_or(0, |header| header.revision) },
            hash: found.hash.into(),
            compact_revision: found.compact_revision,
            hash_revision: found.hash_revision,
        }
    }

    fn hash(&self) -> Option<Hash> {
        Some(Hash {
            hash: u32::try_from(self.hash).ok()?,
            compact_revision: self.compact_revision,
            revision: self.hash_revision,
            newest: self.header.revision,
        })
    }
}

impl Services {
    /// This member's hash of everything.
    ///
    /// # Errors
    /// None: the newest revision is always there.
    pub async fn own_hash(&self) -> Result<Hash, Refusal> {
        let found = self.hash_up_to(0).await?;
        Ok(Hash {
            hash: found.hash,
            compact_revision: found.compact_revision,
            revision: found.hash_revision,
            newest: found.header.map_or(found.hash_revision, |header| header.revision),
        })
    }

    /// The hashes of all other members up to a revision. They are asked one after the other.
    pub async fn hashes_of_others(&self, revision: i64) -> Vec<Answer> {
        let others: Vec<Member> = {
            let view = self.shared.view.load();
            let local_id = view.membership.local_id;
            let members = view.membership.members().cloned();
            members.filter(|member| member.id != local_id && !member.peer_urls.is_empty()).collect()
        };
        let body: Bytes = serde_json::to_vec(&HashRequest { revision }).expect("numbers serialize").into();
        let mut answers = Vec::new();
        for member in others {
            let request = PeerRequest {
                method: Method::GET,
                path: HASH_PATH,
                content_type: Some(JSON),
                body: body.clone(),
                timeout: self.shared.request_timeout,
            };
            let response = self.ask_member(&member, &request).await;
            let found = response.and_then(|response| read(&member, revision, &response));
            answers.push(Answer { id: member.id, found });
        }
        answers
    }
}

fn read(member: &Member, revision: i64, response: &Response) -> Option<Hash> {
    let answer = match response.status {
        StatusCode::OK => serde_json::from_slice::<HashAnswer>(&response.body).ok(),
        _ => None,
    };
    if answer.is_none() {
        let (remote_member_id, text) = (format!("{:x}", member.id), String::from_utf8_lossy(&response.body));
        let status = response.status.as_u16();
        let error = text.trim_end();
        tracing::warn!(remote_member_id, requested_revision = revision, status, error, "failed hash kv request");
    }
    answer?.hash()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::ResponseHeader;

    #[test]
    fn json_is_gos() {
        let header = Some(ResponseHeader { revision: 7, member_id: 3, ..ResponseHeader::default() });
        let found = HashKvResponse { header, hash: 5, compact_revision: 0, hash_revision: 6 };
        let json = serde_json::to_string(&HashAnswer::new(&found)).expect("numbers");
        assert_eq!(json, r#"{"header":{"revision":7},"hash":5,"hash_revision":6}"#);
        let read: HashAnswer = serde_json::from_str(&json).expect("reads back");
        assert_eq!(read.hash(), Some(Hash { hash: 5, compact_revision: 0, revision: 6, newest: 7 }));
        let of_nothing: HashAnswer = serde_json::from_str(r#"{"header":{}}"#).expect("zeros are left out");
        assert_eq!(of_nothing.hash(), Some(Hash::default()));
        assert_eq!(serde_json::to_string(&HashRequest { revision: 4 }).expect("a number"), r#"{"revision":4}"#);
    }
}
