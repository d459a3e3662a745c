//! The quota of the database on one core: what would pass it is refused, and the member raises its alarm once.
//!
//! ```text
//!   a write ─ check before it is proposed ─┐                              ┌─▶ applied ─▶ the refusals that waited go out
//!   a write ─ answer of its entry ─────────┴─ full: raise NOSPACE, once ──┘
//! ```
//!
//! As in etcd the refusal waits for the alarm, so that a client that was refused finds it wherever it looks next. A write that was
//! let through and passed the quota when it was applied is carried out and answered with a refusal all the same.

use std::time::Instant;

use prost::Message;

use crate::{
    apply::{
        View,
        request::{self, Kind},
    },
    auth::Requester,
    base::{human_size::human_size, limits, refusal::Refusal},
    os::clock,
    proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction},
    replica::Request,
    services::{Services, waiting::Waiter},
};

impl Services {
    /// etcd's early check: a write that would pass the quota is refused before it is proposed.
    pub(super) fn check_quota(&self, view: &View, cost: usize) -> Result<(), Refusal> {
        let quota = self.shared.quota_bytes;
        if cost == 0 || quota < 0 {
            return Ok(());
        }
        let size = view.kv.records().size_bytes().saturating_add(cost as u64);
        if size < quota.cast_unsigned() {
            return Ok(());
        }
        self.raise_no_space(view);
        Err(Refusal::NoSpace)
    }

    /// Ends what was refused for want of space, now or when the alarm is raised.
    pub(super) fn refuse_full(&self, waiter: Waiter) {
        self.raise_no_space(&self.shared.view.load());
        match self.quota.raising.get() {
            Some(_) => self.quota.refused.borrow_mut().push(waiter),
            None => waiter.end(Err(Refusal::NoSpace)),
        }
    }

    /// Tells the cluster that this member is full, unless it was told.
    fn raise_no_space(&self, view: &View) {
        if view.alarms.is_full() || self.quota.raising.get().is_some() {
            return;
        }
        let quota = self.shared.quota_bytes;
        tracing::warn!(
            quota_size_bytes = quota,
            quota_size = human_size(quota.unsigned_abs()),
            "message exceeded backend quota; raising alarm"
        );
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: view.membership.local_id,
            alarm: AlarmType::Nospace as i32,
        };
        let id = self.take_id();
        self.quota.raising.set(Some((id, clock::now())));
        let data = request::wrap(id, Kind::Alarm, &alarm.encode_to_vec(), Requester::NOBODY);
        self.tell_engine(Request::Propose { id, data });
    }

    /// Whether proposal `id` was the alarm, which is over now, raised or not.
    pub(super) fn on_alarm_raised(&self, id: u64) -> bool {
        if self.quota.raising.get().is_none_or(|(raising, _)| raising != id) {
            return false;
        }
        self.quota.raising.set(None);
        self.quota.refused.take().into_iter().for_each(|waiter| waiter.end(Err(Refusal::NoSpace)));
        true
    }

    /// Without a leader the alarm has to be raised by a later refusal; these have waited long enough.
    pub(super) fn expire_quota(&self, now: Instant) {
        if let Some((id, since)) = self.quota.raising.get()
            && self.is_late(now, since)
        {
            self.on_alarm_raised(id);
        }
    }
}

/// What the quota is, as etcd says it at start.
pub fn log_quota(bytes: i64) {
    let quota_name = "v3-applier";
    if bytes < 0 {
        tracing::info!(quota_name, quota_size_bytes = bytes, "disabled backend quota");
        return;
    }
    let size = human_size(bytes.cast_unsigned());
    if bytes > limits::QUOTA_BYTES_SUGGESTED_MAX {
        tracing::warn!(
            quota_name,
            quota_size_bytes = bytes,
            quota_size = size,
            quota_maximum_size_bytes = limits::QUOTA_BYTES_SUGGESTED_MAX,
            quota_maximum_size = human_size(limits::QUOTA_BYTES_SUGGESTED_MAX.cast_unsigned()),
            "quota exceeds the maximum value"
        );
    }
    let is_default = bytes == limits::QUOTA_BYTES_DEFAULT;
    let text = if is_default { "enabled backend quota with default value" } else { "enabled backend quota" };
    tracing::info!(quota_name, quota_size_bytes = bytes, quota_size = size, "{text}");
}
