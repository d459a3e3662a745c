//! What is said of a request after it: its times for the metrics, its words for the log of slow ones.

use std::time::Instant;

use bytes::Bytes;
use prost::Message;

use crate::{
    meters::{RequestKind, slow::Slow},
    os::clock,
    proto::etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
        response_op::Response,
    },
    rpc::{Body, Description, MethodId, Reply},
    service::request_text,
    services::{Services, methods},
};

/// A read of the key space under way.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When the call came.
    pub called: Instant,
    /// When its turn came to read.
    pub began: Instant,
}

impl Reading {
    /// A Range has its answer.
    pub fn count_range(&self, front: &Services, request: &RangeRequest, reply: &Reply) {
        let now = clock::now();
        let (meter, took) = (front.meter(), now.saturating_duration_since(self.began));
        meter.ranged(reply.is_ok(), took);
        meter.answered(RequestKind::Range, reply.is_ok(), now.saturating_duration_since(self.called));
        let expected = front.shared().meters.slow_apply;
        if took > expected {
            let slow = Slow { took, expected, prefix: "read-only range " };
            slow.warn(&meter.sheet, &request_text::range(request), &range_response(reply), None);
        }
    }

    /// A read-only Txn has its answer.
    pub fn count_txn(&self, front: &Services, request: &TxnRequest, reply: &Reply) {
        let now = clock::now();
        let (meter, took) = (front.meter(), now.saturating_duration_since(self.began));
        meter.read_txn(branch_taken(request, reply));
        meter.answered(RequestKind::ReadonlyTxn, reply.is_ok(), now.saturating_duration_since(self.called));
        let expected = front.shared().meters.slow_apply;
        if took > expected {
            let slow = Slow { took, expected, prefix: "read-only txn " };
            slow.warn(&meter.sheet, &request_text::txn(request), &txn_response(reply), None);
        }
    }
}

/// Operations of the branch that the answer says was taken. Decodes that one field of it.
fn branch_taken(request: &TxnRequest, reply: &Reply) -> usize {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Taken {
        #[prost(bool, tag = "2")]
        succeeded: bool,
    }
    match answer::<Taken>(reply) {
        Some(Taken { succeeded: true }) => request.success.len(),
        Some(Taken { succeeded: false }) => request.failure.len(),
        None => 0,
    }
}

/// `request stats` of the methods that etcd counts.
#[must_use]
pub fn describe(method: MethodId, request: &Bytes, reply: &Reply) -> Description {
    describe_known(method, request.clone(), reply).unwrap_or_default()
}

fn describe_known(method: MethodId, request: Bytes, reply: &Reply) -> Option<Description> {
    let (request_count, response_count, request_content) = match method {
        methods::RANGE => {
            let found = answer::<RangeResponse>(reply).map_or(0, |response| response.count);
            (0, found, request_text::range(&RangeRequest::decode(request).ok()?))
        }
        methods::PUT => (1, 0, request_text::put(&PutRequest::decode(request).ok()?)),
        methods::DELETE_RANGE => {
            let deleted = answer::<DeleteRangeResponse>(reply).map_or(0, |response| response.deleted);
            (0, deleted, request_text::delete_range(&DeleteRangeRequest::decode(request).ok()?))
        }
        methods::TXN => {
            let request = TxnRequest::decode(request).ok()?;
            match answer::<TxnResponse>(reply) {
                None => (0, 0, String::new()),
                Some(response) => {
                    let branch = if response.succeeded { &request.success } else { &request.failure };
                    (branch.len() as i64, 0, request_text::txn(&request))
                }
            }
        }
        _ => return None,
    };
    Some(Description { request_count, response_count, request_content })
}

/// The answer, unless it was refused or is too large to be looked at for a log line.
fn answer<M: Message + Default>(reply: &Reply) -> Option<M> {
    match reply {
        Ok(Body::Message(bytes)) => M::decode(bytes.clone()).ok(),
        Ok(Body::Large(_)) | Err(_) => None,
    }
}

fn length(reply: &Reply) -> u64 {
    reply.as_ref().map_or(0, Body::length)
}

fn range_response(reply: &Reply) -> String {
    match answer::<RangeResponse>(reply) {
        Some(response) => format!("range_response_count:{} size:{}", response.kvs.len(), length(reply)),
        None => format!("size:{}", length(reply)),
    }
}

fn txn_response(reply: &Reply) -> String {
    let Some(response) = answer::<TxnResponse>(reply) else { return String::new() };
    let counts: Vec<String> = response
        .responses
        .iter()
        .filter_map(|op| match &op.response {
            Some(Response::ResponseRange(range)) => Some(format!("range_response_count:{}", range.kvs.len())),
            _ => None,
        })
        .collect();
    format!("responses:<{}> size:{}", counts.join(" "), length(reply))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{Code, Status};

    fn reply(message: &impl Message) -> Reply {
        Ok(Body::Message(message.encode_to_vec().into()))
    }

    fn encoded(message: &impl Message) -> Bytes {
        message.encode_to_vec().into()
    }

    #[test]
    fn counts_and_words_are_those_of_etcd() {
        let get = RangeRequest { key: "k".into(), ..RangeRequest::default() };
        let found = RangeResponse { count: 3, ..RangeResponse::default() };
        let described = describe(methods::RANGE, &encoded(&get), &reply(&found));
        let expected = Description { request_count: 0, response_count: 3, request_content: "key:\"k\"".to_owned() };
        assert_eq!(described, expected);
        let put = PutRequest { key: "k".into(), value: "secret".into(), ..PutRequest::default() };
        let described = describe(methods::PUT, &encoded(&put), &Err(Status::new(Code::Unavailable, "")));
        let content = "key:\"k\" value_size:6 ".to_owned();
        assert_eq!(described, Description { request_count: 1, response_count: 0, request_content: content });
        assert_eq!(describe(methods::STATUS, &Bytes::new(), &reply(&found)), Description::default());
        let nonsense = Bytes::from_static(b"\xff");
        assert_eq!(describe(methods::PUT, &nonsense, &reply(&found)), Description::default());
    }
}
