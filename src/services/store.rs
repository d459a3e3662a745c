//! The store as a service of this core uses it, where Lock and Election stand on: what a client would ask over the wire, with the
//! same checks, without the wire.
//!
//! Whatever goes wrong in here reaches the client as code Unknown with the plain text: etcd's services use a client inside the
//! server, and the code of its errors is lost on the way.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;

use crate::{
    apply::{alarms, request::Kind},
    base::{limits, refusal::Refusal},
    os::{self, clock, stop},
    proto::{
        etcdserverpb::{
            DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, RangeRequest, RangeResponse, ResponseHeader,
            TxnRequest, TxnResponse,
        },
        mvccpb::event::EventType,
    },
    rpc::{Code, Status},
    service::{
        check,
        kv::{self, RangeAnswer},
        queue,
    },
    services::{Services, SubscriptionEnd, credentials::Credentials, ended, kv::may_range, watch::Subscription},
};

/// TTL of the lease of a lock or candidate that brings none.
const SESSION_TTL_S: i64 = 60;

impl Services {
    /// `lease`, or a new one that nobody keeps alive.
    pub(super) async fn session(&self, who: &Credentials, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        self.check_quota(&self.shared.view.load(), alarms::LEASE_COST).map_err(unknown)?;
        who.check_identity(&self.shared.view.load().auth).map_err(unknown)?;
        let mut id = 0;
        while id == 0 {
            // Only positive ones, as LeaseGrant chooses them.
            id = (self.take_id() & i64::MAX.cast_unsigned()).cast_signed();
        }
        let request = LeaseGrantRequest { ttl: SESSION_TTL_S, id };
        self.propose_as(Kind::LeaseGrant, &request.encode_to_vec(), who).await.map_err(unknown)?;
        Ok(id)
    }

    /// A transaction that writes.
    pub(super) async fn commit(&self, who: &Credentials, request: &TxnRequest) -> Result<TxnResponse, Status> {
        self.check_quota(&self.shared.view.load(), alarms::txn_cost(request)).map_err(unknown)?;
        check::txn(request, self.shared.txn_ops_max).map_err(unknown)?;
        let response = self.propose_as(Kind::Txn, &request.encode_to_vec(), who).await.map_err(unknown)?;
        Ok(own(&response))
    }

    pub(super) async fn delete(&self, who: &Credentials, key: &Bytes) -> Result<DeleteRangeResponse, Status> {
        let request: DeleteRangeRequest = queue::delete(key);
        check::delete_range(&request).map_err(unknown)?;
        let response = self.propose_as(Kind::DeleteRange, &request.encode_to_vec(), who).await.map_err(unknown)?;
        Ok(own(&response))
    }

    /// A linearizable read.
    pub(super) async fn read(&self, who: &Credentials, request: &RangeRequest) -> Result<RangeResponse, Status> {
        check::range(request).map_err(unknown)?;
        self.confirmed(clock::now()).await.map_err(unknown)?;
        let answer = {
            let view = self.shared.view.load();
            may_range(&view, who, request).map_err(unknown)?;
            kv::range(&view, request).map_err(ended)?
        };
        let mut job = match answer {
            RangeAnswer::Whole(bytes) => return Ok(own(&bytes)),
            RangeAnswer::Job(job) => job,
        };
        while !job.measure(limits::RANGE_KEYS_PER_SLICE).map_err(ended)? {
            os::yield_now().await;
        }
        Ok(own(&job.whole().map_err(ended)?))
    }

    /// Waits until `next_before` finds nobody. Whoever it finds is waited for, one after the other.
    pub(super) async fn wait_for_turn(
        self: &Rc<Self>,
        who: &Credentials,
        next_before: &RangeRequest,
    ) -> Result<(), Status> {
        loop {
            let response = self.read(who, next_before).await?;
            let Some(ahead) = response.kvs.first() else {
                return Ok(());
            };
            self.wait_for_deletion(who, &ahead.key, queue::revision(&response)).await?;
        }
    }

    async fn wait_for_deletion(self: &Rc<Self>, who: &Credentials, key: &[u8], from: i64) -> Result<(), Status> {
        let mut events: Subscription = self.subscribe(who, key, &[], from);
        loop {
            let next = events.next().await.map_err(|end| no_events(&end))?;
            if next.iter().any(|event| event.r#type == EventType::Delete as i32) {
                return Ok(());
            }
        }
    }

    /// The header of an answer from the newest state.
    pub(super) fn newest_header(&self) -> ResponseHeader {
        let view = self.shared.view.load();
        view.header(view.kv.revision())
    }
}

/// What was encoded on this member.
fn own<M: Message + Default>(bytes: &Bytes) -> M {
    M::decode(bytes.clone()).unwrap_or_else(|error| stop::fatal(&format!("an answer of this member: {error}")))
}

/// A refusal inside a service that stands on the store.
pub(super) fn unknown(refusal: Refusal) -> Status {
    Status::new(Code::Unknown, refusal.text())
}

fn no_events(end: &SubscriptionEnd) -> Status {
    match end {
        SubscriptionEnd::Compacted(_) => unknown(Refusal::Compacted),
        SubscriptionEnd::Refused(reason) => Status::new(Code::Unknown, reason.clone()),
        SubscriptionEnd::Stopped => unknown(Refusal::Stopped),
    }
}
