//! Lock: the requests by which a contender holds a name, and the meaning of their answers.
//!
//! ```text
//!   join ──▶ first of the queue? ── yes ──────────────────────────────▶ held
//!                 │ no                                                    ▲
//!                 ▼                                                       │ own key is there
//!            next_before ──▶ nobody ──────────────────────────────▶ read own key ── gone ──▶ session expired
//!                 ▲   └────▶ somebody: wait for the deletion ─┐
//!                 └───────────────────────────────────────────┘
//! ```

use bytes::Bytes;

use super::queue;
use crate::proto::{
    etcdserverpb::{RangeRequest, TxnRequest, TxnResponse, request_op::Request},
    mvccpb::KeyValue,
};

/// The refusal of a lock whose key was deleted while it waited; the code is Unknown.
pub const SESSION_EXPIRED: &str = "mutex: session is expired";

/// A contender for a name.
#[derive(Clone, Debug)]
pub struct Contender {
    pub prefix: Bytes,
    pub key: Bytes,
    lease: i64,
    /// Create revision of the key, once in the queue.
    revision: i64,
}

impl Contender {
    #[must_use]
    pub fn new(name: &[u8], lease: i64) -> Self {
        let prefix = queue::prefix(name);
        let key = queue::key(&prefix, lease);
        Self { prefix, key, lease, revision: 0 }
    }

    /// Joins the queue, or finds its earlier place in it, and reads the first key.
    #[must_use]
    pub fn join(&self) -> TxnRequest {
        let first = Request::RequestRange(queue::first(&self.prefix));
        let put = queue::put(&self.key, &Bytes::new(), self.lease);
        let own = Request::RequestRange(queue::read(&self.key));
        queue::if_created_at(&self.key, 0, vec![put, first.clone()], vec![own, first])
    }

    /// Processes the answer to [`Self::join`]. Returns whether the contender holds the name already.
    pub fn on_joined(&mut self, response: &TxnResponse) -> bool {
        self.revision = queue::joined_at(response);
        queue::found(response, 1).is_none_or(|first: &KeyValue| first.create_revision == self.revision)
    }

    /// Whether the contender has a key to delete.
    #[must_use]
    pub fn is_in_queue(&self) -> bool {
        self.revision > 0
    }

    /// The key has been deleted.
    pub fn on_left(&mut self) {
        self.revision = 0;
    }

    /// The request for the contender directly before this one.
    #[must_use]
    pub fn next_before(&self) -> RangeRequest {
        queue::last_until(&self.prefix, self.revision - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader, ResponseOp, response_op::Response};

    fn answer(succeeded: bool, revision: i64, own: Option<i64>, first: Option<i64>) -> TxnResponse {
        let range = |created: Option<i64>| {
            let pair = |create_revision| KeyValue { create_revision, ..KeyValue::default() };
            Response::ResponseRange(RangeResponse {
                kvs: created.into_iter().map(pair).collect(),
                ..RangeResponse::default()
            })
        };
        let own = if succeeded { Response::ResponsePut(PutResponse::default()) } else { range(own) };
        let operations = [own, range(first)].map(|response| ResponseOp { response: Some(response) });
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        TxnResponse { header, succeeded, responses: operations.into() }
    }

    #[test]
    fn the_first_of_the_queue_holds_the_name() {
        let mut contender = Contender::new(b"name", 7);
        assert!(!contender.is_in_queue());
        assert!(contender.on_joined(&answer(true, 5, None, Some(5))));
        assert!(!contender.on_joined(&answer(true, 6, None, Some(5))));
        assert_eq!(contender.next_before().max_create_revision, 5);
        // The same lease again: its place is the old one.
        assert!(!contender.on_joined(&answer(false, 9, Some(6), Some(5))));
        assert_eq!(contender.next_before().max_create_revision, 5);
        assert!(contender.on_joined(&answer(false, 9, Some(6), Some(6))));
        contender.on_left();
        assert!(!contender.is_in_queue());
    }
}
