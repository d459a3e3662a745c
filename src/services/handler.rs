//! From a method's id to the function that serves it.

use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future;
use prost::Message;

use crate::{
    apply::{View, request::Kind},
    os,
    proto::etcdserverpb::{AlarmRequest, RangeRequest},
    rpc::{Call, CallReport, Code, Description, Handler, Inbound, MethodId, Outbound, Reply, Responder, Status},
    service::status,
    services::{
        Services,
        credentials::{Credentials, Identified},
        decode, encoded, methods, refuse, request_log,
    },
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
        match front.identify(call, &view, call.started) {
            Identified::Now(who) => front.serve(call, who, &view, message, responder),
            Identified::Later => {
                os::spawn_local(serve_later(Rc::clone(front), call.clone(), message, responder));
                None
            }
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
    /// Any unary call that was admitted.
    fn serve(
        self: &Rc<Self>,
        call: &Call,
        who: Credentials,
        view: &View,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        if let Err(refusal) = who.check_method(&view.auth, call.method, &message) {
            return Some(Err(refuse(refusal)));
        }
        match call.method {
            methods::RANGE => self.range(call, who, view, message, responder),
            methods::PUT => self.put(call, who, view, message, responder),
            methods::DELETE_RANGE => self.delete_range(call, who, &message, responder),
            methods::TXN => self.txn(call, who, view, &message, responder),
            methods::COMPACT => self.compact(call, who, &message, responder),
            methods::LEASE_GRANT => self.lease_grant(call, who, view, message, responder),
            methods::LEASE_REVOKE => self.lease_revoke(call, who, &message, responder),
            methods::LEASE_TIME_TO_LIVE => self.lease_time_to_live(call, who, message, responder),
            methods::LEASES => self.lease_leases(who, message, responder),
            methods::ALARM => {
                let checked = decode::<AlarmRequest>(message.clone()).map(|_| ());
                self.propose_if(checked, call, Kind::Alarm, &message, who, responder)
            }
            methods::STATUS => {
                let complaint = self.shared.health.disk_complaint();
                Some(encoded(&status::status(view, self.shared.quota_bytes, complaint)))
            }
            methods::HASH => self.hash(message, responder),
            methods::HASH_KV => self.hash_kv(message, responder),
            methods::DEFRAGMENT => self.defragment(message, responder),
            methods::MOVE_LEADER => self.move_leader(message, responder),
            methods::DOWNGRADE => self.downgrade(message, responder),
            methods::MEMBER_LIST => self.member_list(call, who, view, message, responder),
            methods::MEMBER_ADD => self.member_add(who, message, responder),
            methods::MEMBER_REMOVE => self.member_remove(message, responder),
            methods::MEMBER_UPDATE => self.member_update(who, message, responder),
            methods::MEMBER_PROMOTE => self.member_promote(message, responder),
            methods::LOCK => self.lock(who, message, responder),
            methods::UNLOCK => self.unlock(who, message, responder),
            methods::CAMPAIGN => self.campaign(who, message, responder),
            methods::PROCLAIM => self.proclaim(who, message, responder),
            methods::LEADER => self.leader(who, message, responder),
            methods::RESIGN => self.resign(who, message, responder),
            method if methods::is_auth(method) => self.auth(call, who, message, responder),
            methods::HEALTH_CHECK => Some(self.check_health(message)),
            methods::HEALTH_LIST => Some(self.list_health(message)),
            other => Some(Err(not_served(other))),
        }
    }

    async fn stream(
        self: &Rc<Self>,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        match call.method {
            methods::RANGE_STREAM => self.range_stream(call, inbound, outbound).await,
            methods::OBSERVE => self.observe(call, inbound, outbound).await,
            methods::WATCH => self.watch(call, inbound, outbound).await,
            methods::SNAPSHOT => self.snapshot(call, inbound, outbound).await,
            methods::HEALTH_WATCH => self.watch_health(inbound, outbound).await,
            methods::LEASE_KEEP_ALIVE => self.keep_alive(call, inbound, outbound).await,
            other => Err(not_served(other)),
        }
    }
}

/// A call whose token may be of an entry that is not applied here yet.
async fn serve_later(front: Rc<Services>, call: Call, message: Bytes, responder: Responder) {
    let who = front.identify_fully(&call).await;
    let (principal, deputy) = responder.with_deputy();
    let reply = front.serve(&call, who, &front.shared.view.load(), message, deputy);
    match reply {
        Some(reply) => principal.send(reply),
        None => principal.release(),
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
