//! The spans of requests inside their calls, with etcd's names and attributes.
//!
//! | span | begins | ends |
//! |---|---|---|
//! | range, put, delete_range, txn, compact, lease_grant, lease_revoke | the request has passed the checks that need no consensus | with its call |
//! | range_streaming | as above | with its call |
//! | lease_renew | the request has come | its answer is on its way |
//! | watch | the watcher is created | it is cancelled, or its stream ends |

use crate::{
    apply::txn::is_read_only,
    proto::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
        RequestOp, TxnRequest, WatchCreateRequest, request_op::Request,
    },
    rpc::Call,
    spans::{Attribute, Scope, Span},
};

const SCOPE: Scope = Scope { name: "go.etcd.io/etcd", version: "" };

/// A request that has a span.
pub(super) trait Traced {
    const NAME: &'static str;

    fn attributes(&self) -> Vec<Attribute>;
}

/// The request of a unary call, or of a stream with one, is carried out from now on.
pub(super) fn enter<T: Traced>(call: &Call, request: &T) {
    if let Some(span) = &call.span {
        span.enter(SCOPE, T::NAME, request.attributes());
    }
}

/// The span of one request of a stream, for as long as it is held.
pub(super) fn step<T: Traced>(call: &Call, request: &T) -> Option<Span> {
    call.span.as_ref()?.child(SCOPE, T::NAME, request.attributes())
}

impl Traced for RangeRequest {
    const NAME: &'static str = "range";

    fn attributes(&self) -> Vec<Attribute> {
        let mut attributes = range(self);
        attributes.push(Attribute::boolean("keys_only", self.keys_only));
        attributes
    }
}

fn range(request: &RangeRequest) -> Vec<Attribute> {
    vec![
        Attribute::key("range_begin", &request.key),
        Attribute::key("range_end", &request.range_end),
        Attribute::integer("rev", request.revision),
        Attribute::integer("limit", request.limit),
        Attribute::boolean("count_only", request.count_only),
    ]
}

/// The request of RangeStream.
pub(super) struct Streamed<'a>(pub(super) &'a RangeRequest);

impl Traced for Streamed<'_> {
    const NAME: &'static str = "range_streaming";

    fn attributes(&self) -> Vec<Attribute> {
        range(self.0)
    }
}

impl Traced for PutRequest {
    const NAME: &'static str = "put";

    fn attributes(&self) -> Vec<Attribute> {
        vec![Attribute::key("key", &self.key)]
    }
}

impl Traced for DeleteRangeRequest {
    const NAME: &'static str = "delete_range";

    fn attributes(&self) -> Vec<Attribute> {
        vec![Attribute::key("range_begin", &self.key), Attribute::key("range_end", &self.range_end)]
    }
}

impl Traced for TxnRequest {
    const NAME: &'static str = "txn";

    fn attributes(&self) -> Vec<Attribute> {
        let first_compared = self.compare.iter().map(|compare| &compare.key).find(|key| !key.is_empty());
        let first_key = self.success.iter().filter_map(key).find(|key| !key.is_empty());
        let first_kind = self.success.iter().find_map(kind);
        let first_lease = self.success.iter().find_map(|op| match &op.request {
            Some(Request::RequestPut(put)) => Some(put.lease),
            _ => None,
        });
        let count = |list: usize| i64::try_from(list).unwrap_or(i64::MAX);
        vec![
            Attribute::key("compare_first_key", first_compared.map_or(&[], |key| &key[..])),
            Attribute::key("success_first_key", first_key.unwrap_or_default()),
            Attribute::text("success_first_type", first_kind.unwrap_or_default()),
            Attribute::integer("success_first_lease", first_lease.unwrap_or(-1)),
            Attribute::integer("compare_len", count(self.compare.len())),
            Attribute::integer("success_len", count(self.success.len())),
            Attribute::integer("failure_len", count(self.failure.len())),
            Attribute::boolean("read_only", is_read_only(self)),
        ]
    }
}

fn key(op: &RequestOp) -> Option<&[u8]> {
    match op.request.as_ref()? {
        Request::RequestRange(range) => Some(&range.key),
        Request::RequestPut(put) => Some(&put.key),
        Request::RequestDeleteRange(delete) => Some(&delete.key),
        Request::RequestTxn(_) => None,
    }
}

fn kind(op: &RequestOp) -> Option<&'static str> {
    Some(match op.request.as_ref()? {
        Request::RequestRange(_) => "range",
        Request::RequestPut(_) => "put",
        Request::RequestDeleteRange(_) => "delete_range",
        Request::RequestTxn(_) => "txn",
    })
}

impl Traced for CompactionRequest {
    const NAME: &'static str = "compact";

    fn attributes(&self) -> Vec<Attribute> {
        vec![Attribute::boolean("is_physical", self.physical), Attribute::integer("rev", self.revision)]
    }
}

impl Traced for LeaseGrantRequest {
    const NAME: &'static str = "lease_grant";

    fn attributes(&self) -> Vec<Attribute> {
        vec![Attribute::integer("id", self.id), Attribute::integer("ttl", self.ttl)]
    }
}

impl Traced for LeaseRevokeRequest {
    const NAME: &'static str = "lease_revoke";

    fn attributes(&self) -> Vec<Attribute> {
        vec![Attribute::integer("id", self.id)]
    }
}

/// The lease that a keepalive renews.
pub(super) struct Renewed(pub(super) i64);

impl Traced for Renewed {
    const NAME: &'static str = "lease_renew";

    fn attributes(&self) -> Vec<Attribute> {
        vec![Attribute::integer("id", self.0)]
    }
}

impl Traced for WatchCreateRequest {
    const NAME: &'static str = "watch";

    /// As etcd understands the request: no key is the least one, and an end of zero stands for all keys that follow.
    fn attributes(&self) -> Vec<Attribute> {
        let key = if self.key.is_empty() { b"\0" } else { &self.key[..] };
        let end = if self.range_end[..] == *b"\0" { &[] } else { &self.range_end[..] };
        vec![
            Attribute::key("key", key),
            Attribute::key("range_end", end),
            Attribute::integer("start_rev", self.start_revision),
            Attribute::boolean("progress_notify", self.progress_notify),
            Attribute::boolean("prev_kv", self.prev_kv),
            Attribute::boolean("fragment", self.fragment),
        ]
    }
}
