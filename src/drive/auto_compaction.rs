//! Automatic compaction: the policy's decisions become proposals. One task, on the first front.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use prost::Message;

use crate::{
    apply::request::Kind,
    base::refusal::Refusal,
    os::{self, clock},
    proto::etcdserverpb::CompactionRequest,
    service::retention::{Policy, Retention},
    services::Services,
};

/// Compacts for as long as the member lives.
pub async fn run(front: Rc<Services>, policy: Policy) {
    let began = clock::now();
    let mut retention = Retention::new(policy, 0);
    loop {
        retention.sample(front.shared().view.load().kv.revision());
        os::sleep(Duration::from_nanos(retention.interval_ns())).await;
        let (current, leads) = {
            let view = front.shared().view.load();
            (view.kv.revision(), view.raft.leader == view.membership.local_id)
        };
        if let Some(revision) = retention.due(nanoseconds_since(began), current, leads)
            && compact(&front, &retention, revision).await
        {
            retention.compacted(nanoseconds_since(began), revision);
        }
    }
}

/// Says whether the history before `revision` is gone, by us or by somebody else.
async fn compact(front: &Services, retention: &Retention, revision: i64) -> bool {
    let started = clock::now();
    match retention.policy() {
        Policy::Periodic { period_ns } => {
            let compact_period = Duration::from_nanos(period_ns);
            tracing::info!(revision, ?compact_period, "starting auto periodic compaction");
        }
        Policy::Revision { keep } => {
            tracing::info!(revision, revision_compaction_retention = keep, "starting auto revision compaction");
        }
    }
    let request = CompactionRequest { revision, physical: false };
    let done = front.propose(Kind::Compaction, &request.encode_to_vec()).await;
    let failure = done.err().filter(|refusal| *refusal != Refusal::Compacted);
    log_end(retention, revision, started.elapsed(), failure);
    failure.is_none()
}

fn log_end(retention: &Retention, revision: i64, took: Duration, failure: Option<Refusal>) {
    let retry_interval = Duration::from_nanos(retention.interval_ns());
    match (retention.policy(), failure) {
        (Policy::Periodic { period_ns }, None) => {
            let compact_period = Duration::from_nanos(period_ns);
            tracing::info!(revision, ?compact_period, ?took, "completed auto periodic compaction");
        }
        (Policy::Periodic { period_ns }, Some(error)) => {
            let compact_period = Duration::from_nanos(period_ns);
            tracing::warn!(revision, ?compact_period, ?retry_interval, %error, "failed auto periodic compaction");
        }
        (Policy::Revision { keep }, None) => {
            tracing::info!(revision, revision_compaction_retention = keep, ?took, "completed auto revision compaction");
        }
        (Policy::Revision { keep }, Some(error)) => tracing::warn!(
            revision,
            revision_compaction_retention = keep,
            ?retry_interval,
            %error,
            "failed auto revision compaction"
        ),
    }
}

fn nanoseconds_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
