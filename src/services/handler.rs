//! From a method's id to the function that serves it.

use std::rc::Rc;

use bytes::Bytes;

use crate::{
    apply::request::Kind,
    os,
    proto::etcdserverpb::AlarmRequest,
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
        if let Err(refusal) = front.admit(call, "unary", &view) {
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
            methods::MOVE_LEADER => Some(front.move_leader(&view, message)),
            methods::DOWNGRADE => front.downgrade(message, responder),
            methods::MEMBER_LIST => front.member_list(call, &view, message, responder),
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
        if let Err(refusal) = front.admit(&call, "stream", &front.shared.view.load()) {
            outbound.finish(Err(refuse(refusal)));
            return;
        }
        os::spawn_local(async move {
            let result = match call.method {
                methods::RANGE_STREAM => front.range_stream(&call, &mut inbound, &mut outbound).await,
                methods::OBSERVE => front.observe(&mut inbound, &mut outbound).await,
                methods::WATCH => front.watch(&mut inbound, &mut outbound).await,
                methods::SNAPSHOT => front.snapshot(&mut inbound, &mut outbound).await,
                methods::HEALTH_WATCH => front.watch_health(&mut inbound, &mut outbound).await,
                methods::LEASE_KEEP_ALIVE => front.keep_alive(&mut inbound, &mut outbound).await,
                other => Err(not_served(other)),
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

/// As the router answers for a method that is not in the table.
fn not_served(method: MethodId) -> Status {
    let service = methods::METHODS[usize::from(method.0)].service;
    Status::new(Code::Unimplemented, format!("unknown service {service}"))
}
