//! From a method's id to the function that serves it.

use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future;
use prost::Message;

use crate::{
    apply::request::Kind,
    os,
    proto::etcdserverpb::{AlarmRequest, RangeRequest},
    rpc::{Call, CallReport, Code, Description, Handler, Inbound, MethodId, Outbound, Reply, Responder, Status},
    service::status,
    services::{Services, decode, encoded, methods, refuse, request_log},
};

/// The handler that the gRPC server of one core calls.
pub struct ServiceHandler(pub Rc<Services>);

impl Handler for ServiceHandler {
    fn unary(&self, call: &Call, message: Bytes, responder: Responder) -> Option<Reply> {
        let front = &self.0;
        let view = front.shared.view.load();
        if let Err(refusal) = front.admit(call, "unary", &view, || learner_serves(call.method, &message)) {
            return Some(Err(refuse(refusal)));
        }
        match call.method {
            methods::RANGE => front.range(call, &view, message, responder),
            methods::PUT => front.put(call, &view, message, responder),
            methods::DELETE_RANGE => front.delete_range(call, &message, responder),
            methods::TXN => front.txn(call, &view, &message, responder),
            methods::COMPACT => front.compact(call, &message, responder),
            methods::LEASE_GRANT => front.lease_grant(call, &view, message, responder),
            methods::LEASE_REVOKE => front.lease_revoke(call, &message, responder),
            methods::LEASE_TIME_TO_LIVE => front.lease_time_to_live(call, message, responder),
            methods::LEASES => front.lease_leases(message, responder),
            methods::ALARM => {
                let checked = decode::<AlarmRequest>(message.clone()).map(|_| ());
                front.propose_if(checked, call, Kind::Alarm, &message, responder)
            }
            methods::STATUS => {
                let complaint = front.shared.health.disk_complaint();
                Some(encoded(&status::status(&view, front.shared.quota_bytes, complaint)))
            }
            methods::HASH => front.hash(message, responder),
            methods::HASH_KV => front.hash_kv(message, responder),
            methods::DEFRAGMENT => front.defragment(message, responder),
            methods::MOVE_LEADER => front.move_leader(message, responder),
            methods::DOWNGRADE => front.downgrade(message, responder),
            methods::MEMBER_LIST => front.member_list(call, &view, message, responder),
            methods::MEMBER_ADD => front.member_add(message, responder),
            methods::MEMBER_REMOVE => front.member_remove(message, responder),
            methods::MEMBER_UPDATE => front.member_update(message, responder),
            methods::MEMBER_PROMOTE => front.member_promote(message, responder),
            methods::LOCK => front.lock(message, responder),
            methods::UNLOCK => front.unlock(message, responder),
            methods::CAMPAIGN => front.campaign(message, responder),
            methods::PROCLAIM => front.proclaim(message, responder),
            methods::LEADER => front.leader(message, responder),
            methods::RESIGN => front.resign(message, responder),
            method if methods::is_auth(method) => front.auth(call, message, responder),
            methods::HEALTH_CHECK => Some(front.check_health(message)),
            methods::HEALTH_LIST => Some(front.list_health(message)),
            other => Some(Err(not_served(other))),
        }
    }

    fn streaming(&self, call: Call, mut inbound: Inbound, mut outbound: Outbound) {
        let front = Rc::clone(&self.0);
        if let Err(refusal) =
            front.admit(&call, "stream", &front.shared.view.load(), || call.method == methods::SNAPSHOT)
        {
            outbound.finish(Err(refuse(refusal)));
            return;
        }
        os::spawn_local(async move {
            let result = match call.has_leader() && ends_without_leader(call.method) {
                true => future::or(front.leader_lost(), front.stream(&call, &mut inbound, &mut outbound)).await,
                false => front.stream(&call, &mut inbound, &mut outbound).await,
            };
            outbound.finish(result);
        });
    }

    fn handled(&self, report: &CallReport<'_>) {
        self.0.meter().handled(report);
    }

    fn describe(&self, method: MethodId, request: &Bytes, reply: &Reply) -> Description {
        request_log::describe(method, request, reply)
    }
}

impl Services {
    async fn stream(
        self: &Rc<Self>,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        match call.method {
            methods::RANGE_STREAM => self.range_stream(call, inbound, outbound).await,
            methods::OBSERVE => self.observe(inbound, outbound).await,
            methods::WATCH => self.watch(inbound, outbound).await,
            methods::SNAPSHOT => self.snapshot(inbound, outbound).await,
            methods::HEALTH_WATCH => self.watch_health(inbound, outbound).await,
            methods::LEASE_KEEP_ALIVE => self.keep_alive(inbound, outbound).await,
            other => Err(not_served(other)),
        }
    }
}

/// Which unary calls a learner serves, as in etcd: what needs nothing but its own state.
fn learner_serves(method: MethodId, message: &Bytes) -> bool {
    match method {
        methods::STATUS => true,
        methods::RANGE => RangeRequest::decode(message.clone()).is_ok_and(|request| request.serializable),
        _ => false,
    }
}

/// Which streams end when the leader that they ask for is lost. The others end by themselves, or tell of it.
fn ends_without_leader(method: MethodId) -> bool {
    matches!(method, methods::WATCH | methods::LEASE_KEEP_ALIVE | methods::OBSERVE | methods::RANGE_STREAM)
}

/// As the router answers for a method that is not in the table.
fn not_served(method: MethodId) -> Status {
    let service = methods::METHODS[usize::from(method.0)].service;
    Status::new(Code::Unimplemented, format!("unknown service {service}"))
}
