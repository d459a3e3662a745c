//! Whether clients should use this member: the gRPC health service, and the state that it shares with the pages and Status.
//!
//! | a reason to leave | from | to |
//! |---|---|---|
//! | no leader | three election timeouts after the last, etcd's limit for streams that need one | a leader |
//! | a full disk | a write of the log waits for room, or the database cannot grow | the step that failed succeeds |
//! | Defragment | its begin, only with `StopGRPCServiceOnDefrag` | its end |
//!
//! etcd has the last only: without a leader it answers SERVING, and a full disk ends it. There is one service, the empty name: the
//! whole server. Each front looks at every tick for a change and tells its Watch streams.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_lite::future;
use prost::Message;
use slab::Slab;

use crate::{
    base::refusal::Refusal,
    os::{clock, notify::Notify},
    proto::grpc::health::v1::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus, health_list_response::Entry,
    },
    rpc::{Code, Inbound, Outbound, Reply, Status},
    services::{Services, decode, encoded, refuse},
};

/// The state of the whole member. Any core reads it; the engine's core tells of the disks.
#[derive(Debug)]
pub struct Health {
    /// How long clients stay with a member that knows no leader.
    leader_patience: Duration,
    /// `StopGRPCServiceOnDefrag`.
    leaves_on_defragment: bool,
    log_lacks_room: AtomicBool,
    database_lacks_room: AtomicBool,
    defragmentations: AtomicU32,
}

impl Health {
    #[must_use]
    pub fn new(leader_patience: Duration, leaves_on_defragment: bool) -> Self {
        Self {
            leader_patience,
            leaves_on_defragment,
            log_lacks_room: AtomicBool::new(false),
            database_lacks_room: AtomicBool::new(false),
            defragmentations: AtomicU32::new(0),
        }
    }

    /// Whether writes of the log wait for room on its disk.
    pub fn set_log_lacks_room(&self, lacks: bool) {
        self.log_lacks_room.store(lacks, Ordering::Relaxed);
    }

    /// Whether the database cannot grow for want of room on its disk.
    pub fn set_database_lacks_room(&self, lacks: bool) {
        self.database_lacks_room.store(lacks, Ordering::Relaxed);
    }

    /// What is wrong with the disks, in words for Status and the pages.
    #[must_use]
    pub fn disk_complaint(&self) -> Option<&'static str> {
        let of = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match (of(&self.log_lacks_room), of(&self.database_lacks_room)) {
            (false, false) => None,
            (true, false) => Some("no space left on the disk of the log"),
            (false, true) => Some("no space left on the disk of the database"),
            (true, true) => Some("no space left on the disks of the log and the database"),
        }
    }

    fn complaint(&self, leaderless: Duration) -> Option<&'static str> {
        if leaderless >= self.leader_patience {
            return Some("no leader");
        }
        if self.leaves_on_defragment && self.defragmentations.load(Ordering::Relaxed) > 0 {
            return Some("defrag is active");
        }
        self.disk_complaint()
    }
}

/// What one front knows and tells of it.
#[derive(Default)]
pub(super) struct HealthWatches {
    leaderless: Cell<Leaderless>,
    complaint: Cell<Option<&'static str>>,
    is_stopping: Cell<bool>,
    streams: RefCell<Slab<Rc<Notify>>>,
    /// Streams that end when the leader is lost for long.
    led: RefCell<Slab<Rc<Notify>>>,
}

/// Since when there has been no leader, as of the last tick.
#[derive(Clone, Copy, Default)]
struct Leaderless {
    since: Option<Instant>,
    lasted: Duration,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_to_leave_come_and_go() {
        let patience = Duration::from_secs(3);
        let health = Health::new(patience, false);
        assert_eq!(health.complaint(Duration::ZERO), None);
        assert_eq!(health.complaint(patience - Duration::from_millis(1)), None);
        assert_eq!(health.complaint(patience), Some("no leader"));
        health.set_database_lacks_room(true);
        assert_eq!(health.complaint(Duration::ZERO), Some("no space left on the disk of the database"));
        health.set_log_lacks_room(true);
        health.set_database_lacks_room(false);
        assert_eq!(health.complaint(Duration::ZERO), Some("no space left on the disk of the log"));
        health.set_log_lacks_room(false);
        assert_eq!(health.complaint(Duration::ZERO), None);
    }

    #[test]
    fn only_the_gate_makes_a_defragmentation_a_reason() {
        for leaves in [false, true] {
            let health = Health::new(Duration::from_secs(3), leaves);
            health.defragmentations.fetch_add(1, Ordering::Relaxed);
            assert_eq!(health.complaint(Duration::ZERO), leaves.then_some("defrag is active"));
        }
    }
}
