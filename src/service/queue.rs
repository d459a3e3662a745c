//! The queue of a lock or an election: keys under one prefix, oldest first.
//!
//! ```text
//!   name/694d...01  created at 17   holds the lock, leads
//!   name/694d...07  created at 21   waits for the deletion of ...01
//!   name/694d...03  created at 22   waits for the deletion of ...07
//! ```
//!
//! 1. A contender's key is the prefix and its lease in hexadecimal, bound to the lease: one place per lease, and a lease that
//!    ends leaves the queue.
//! 2. Order is the create revision, so a contender waits for one key only, the youngest of those older than its own. When
//!    that key goes it looks again: the one before may have left early.
//!
//! The recipe is that of etcd's `client/v3/concurrency`, so our clients, our server, etcdctl and etcd's own library share the same
//! queues.

use bytes::Bytes;

use crate::proto::{
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

/// The prefix of the keys that contend for `name`.
#[must_use]
pub fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of `lease` in the queue.
#[must_use]
pub fn key(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// The end of the range of keys that start with `prefix`; `\0`, no end, if no key can follow them.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff).map_or(0, |at| at + 1);
    let mut end = prefix[..kept].to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end.into()
}

/// Reads one key.
#[must_use]
pub fn read(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

/// Reads the first of the queue.
#[must_use]
pub fn first(prefix: &Bytes) -> RangeRequest {
    by_creation(prefix, SortOrder::Ascend)
}

/// Reads the youngest key that was created at `create_revision` or before.
#[must_use]
pub fn last_until(prefix: &Bytes, create_revision: i64) -> RangeRequest {
    RangeRequest { max_create_revision: create_revision, ..by_creation(prefix, SortOrder::Descend) }
}

fn by_creation(prefix: &Bytes, order: SortOrder) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: order as i32,
        sort_target: SortTarget::Create as i32,
        ..RangeRequest::default()
    }
}

/// `then` if `key` was created at `create_revision` (0: it does not exist), else `otherwise`.
#[must_use]
pub fn if_created_at(key: &Bytes, create_revision: i64, then: Vec<Request>, otherwise: Vec<Request>) -> TxnRequest {
    let operations =
        |list: Vec<Request>| list.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::CreateRevision(create_revision)),
        }],
        success: operations(then),
        failure: operations(otherwise),
    }
}

/// Writes `value` under `key`, bound to `lease`.
#[must_use]
pub fn put(key: &Bytes, value: &Bytes, lease: i64) -> Request {
    Request::RequestPut(PutRequest { key: key.clone(), value: value.clone(), lease, ..PutRequest::default() })
}

/// Deletes one key.
#[must_use]
pub fn delete(key: &Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() }
}

/// The key-values of the range at position `at` of a transaction.
#[must_use]
pub fn found(response: &TxnResponse, at: usize) -> Option<&KeyValue> {
    match response.responses.get(at)?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}

/// The revision in the header of a response.
#[must_use]
pub fn revision(response: &RangeResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// The create revision of the own key after the transaction that joined the queue: it was put now, or it was there.
#[must_use]
pub fn joined_at(response: &TxnResponse) -> i64 {
    if response.succeeded {
        return response.header.as_ref().map_or(0, |header| header.revision);
    }
    found(response, 0).map_or(0, |own| own.create_revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_prefix_and_lease_in_hexadecimal() {
        let prefix = prefix(b"name");
        assert_eq!(&prefix[..], b"name/");
        assert_eq!(&key(&prefix, 0x694d_71dd_acfd_a227)[..], b"name/694d71ddacfda227");
        assert_eq!(&key(&prefix, 10)[..], b"name/a");
        assert_eq!(&key(&prefix, -10)[..], b"name/-a");
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(&prefix_end(b"a/")[..], b"a0");
        assert_eq!(&prefix_end(b"a\xff")[..], b"b");
        assert_eq!(&prefix_end(b"\xff\xff")[..], b"\0");
        assert_eq!(&prefix_end(b"")[..], b"\0");
    }
}
