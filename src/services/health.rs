//! The gRPC health service on one core, and the streams that end when the leader is lost.

use std::{rc::Rc, sync::atomic::Ordering, time::Instant};

use bytes::Bytes;
use futures_lite::future;
use prost::Message;

use crate::{
    base::refusal::Refusal,
    os::{clock, notify::Notify},
    proto::grpc::health::v1::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus, health_list_response::Entry,
    },
    rpc::{Code, Inbound, Outbound, Reply, Status},
    services::{Services, decode, encoded, refuse, waiting::Leaderless},
};

impl Services {
    pub(super) fn check_health(&self, message: Bytes) -> Reply {
        let request = decode::<HealthCheckRequest>(message)?;
        match self.serving_status(&request.service) {
            ServingStatus::ServiceUnknown => Err(Status::new(Code::NotFound, "unknown service")),
            status => encoded(&HealthCheckResponse { status: status as i32 }),
        }
    }

    pub(super) fn list_health(&self, message: Bytes) -> Reply {
        decode::<HealthListRequest>(message)?;
        let whole = HealthCheckResponse { status: self.serving_status("") as i32 };
        let statuses = vec![Entry { key: Some(String::new()), value: Some(whole) }];
        encoded(&HealthListResponse { statuses })
    }

    /// Sends the status and every change of it. An unknown service may become known, so that is a status too.
    pub(super) async fn watch_health(&self, inbound: &mut Inbound, outbound: &mut Outbound) -> Result<(), Status> {
        let request = decode::<HealthCheckRequest>(inbound.only().await?)?;
        let changed = Rc::new(Notify::default());
        let key = self.health.streams.borrow_mut().insert(Rc::clone(&changed));
        let result = self.send_health(&request.service, &changed, outbound).await;
        self.health.streams.borrow_mut().remove(key);
        result
    }

    async fn send_health(&self, service: &str, changed: &Notify, outbound: &mut Outbound) -> Result<(), Status> {
        let mut sent = None;
        while !self.health.is_stopping.get() {
            let status = self.serving_status(service);
            if sent != Some(status) {
                outbound.send(HealthCheckResponse { status: status as i32 }.encode_to_vec().into()).await?;
                sent = Some(status);
            }
            let change = async {
                changed.wait().await;
                Ok(())
            };
            let closed = async { Err(outbound.closed().await) };
            future::or(change, closed).await?;
        }
        Err(refuse(Refusal::Stopped))
    }

    fn serving_status(&self, service: &str) -> ServingStatus {
        match (service, self.shared.health.complaint(self.health.leaderless.get().lasted)) {
            ("", None) => ServingStatus::Serving,
            ("", Some(_)) => ServingStatus::NotServing,
            _ => ServingStatus::ServiceUnknown,
        }
    }

    /// Looks for a change and tells the streams of it.
    pub(super) fn observe_health(&self, now: Instant) {
        let has_leader = self.shared.view.load().raft.leader != 0;
        let since = if has_leader { None } else { self.health.leaderless.get().since.or(Some(now)) };
        let lasted = since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        self.health.leaderless.set(Leaderless { since, lasted });
        if lasted >= self.shared.health.leader_patience {
            self.health.led.borrow().iter().for_each(|(_, lost)| lost.notify());
        }
        let complaint = self.shared.health.complaint(lasted);
        if self.health.complaint.replace(complaint) == complaint {
            return;
        }
        // Once per member is enough.
        if self.id == 0 {
            match complaint {
                None => tracing::info!(service = "", status = "SERVING", "grpc service status changed"),
                Some(reason) => {
                    tracing::warn!(service = "", status = "NOT_SERVING", reason, "grpc service status changed");
                }
            }
        }
        self.wake_health_watches();
    }

    /// Ends when there has been no leader for three election timeouts: the refusal of a stream that asks for one.
    pub(super) async fn leader_lost(&self) -> Result<(), Status> {
        let lost = Rc::new(Notify::default());
        let key = self.health.led.borrow_mut().insert(Rc::clone(&lost));
        let _out = Led { front: self, key };
        lost.wait().await;
        Err(refuse(Refusal::NoLeader))
    }

    /// Counts a Defragment in; the guard counts it out.
    pub(super) fn begin_defragmentation(&self) -> Defragmentation<'_> {
        self.shared.health.defragmentations.fetch_add(1, Ordering::Relaxed);
        self.observe_health(clock::now());
        Defragmentation(self)
    }

    /// The server stops: ends all streams of Health.
    pub(super) fn stop_health_watches(&self) {
        self.health.is_stopping.set(true);
        self.wake_health_watches();
    }

    fn wake_health_watches(&self) {
        self.health.streams.borrow().iter().for_each(|(_, changed)| changed.notify());
    }
}

/// A stream that waits for the loss of the leader.
struct Led<'a> {
    front: &'a Services,
    key: usize,
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        self.front.health.led.borrow_mut().remove(self.key);
    }
}

/// A Defragment that is under way.
pub(super) struct Defragmentation<'a>(&'a Services);

impl Drop for Defragmentation<'_> {
    fn drop(&mut self) {
        self.0.shared.health.defragmentations.fetch_sub(1, Ordering::Relaxed);
        self.0.observe_health(clock::now());
    }
}
