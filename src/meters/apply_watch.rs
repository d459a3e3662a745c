//! How long applying took: the metric for every entry, a line in the log for slow and refused ones.
//!
//! The clock is read once per entry, and only here: the engine and everything below it have no clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    apply::{Applied, request::RaftRequest},
    base::{
        log_entry::{EntryKind, LogEntry},
        refusal::Refusal,
    },
    lease::LeaseTally,
    meters::Meters,
    metrics::{Name, Sheet},
    os::clock,
    service::request_text,
};

/// Watches the engine apply.
pub struct ApplyWatch {
    meters: Arc<Meters>,
    /// When the entry before was done.
    last: Instant,
}

impl ApplyWatch {
    #[must_use]
    pub fn new(meters: Arc<Meters>) -> Self {
        Self { meters, last: clock::now() }
    }

    /// Entries are going to be applied.
    pub fn begin(&mut self) {
        self.last = clock::now();
    }

    /// One was.
    pub fn applied(&mut self, entry: &LogEntry, applied: &Applied) {
        let now = clock::now();
        let took = now.saturating_duration_since(self.last);
        self.last = now;
        if entry.kind != EntryKind::Normal || entry.data.is_empty() {
            return;
        }
        let refusal = match applied {
            Applied::Answered { outcome: Err(refusal), .. } => Some(*refusal),
            _ => None,
        };
        // A compaction that came too late is nobody's fault.
        let failed = refusal.filter(|refusal| *refusal != Refusal::Compacted);
        self.meters.engine.applied(entry, failed.is_none(), took);
        if took <= self.meters.slow_apply && failed.is_none() {
            return;
        }
        let Ok(request) = RaftRequest::parse(entry.data.clone()) else { return };
        let response = match applied {
            Applied::Answered { outcome: Ok(bytes), .. } => format!("size:{}", bytes.len()),
            _ => String::new(),
        };
        let request = request_text::entry(&request);
        if took > self.meters.slow_apply {
            let slow = Slow { took, expected: self.meters.slow_apply, prefix: "" };
            slow.warn(&self.meters.engine.sheet, &request, &response, refusal);
        }
        if let Some(error) = failed {
            tracing::warn!(?took, request, response, %error, "failed to apply request");
        }
    }

    /// What happened to leases.
    pub fn leases(&self, tally: &LeaseTally) {
        let sheet = &self.meters.engine.sheet;
        for ttl_s in &tally.granted {
            sheet.observe(Name::LeaseTtlTotal, *ttl_s as f64);
        }
        for (name, count) in [
            (Name::LeaseGrantedTotal, tally.granted.len() as u64),
            (Name::LeaseRevokedTotal, tally.revoked),
            (Name::LeaseRenewedTotal, tally.renewed),
        ] {
            if count > 0 {
                sheet.add(name, count);
            }
        }
    }

    /// The leader is another one now.
    pub fn leader_changed(&self) {
        self.meters.engine.sheet.add(Name::ServerLeaderChangesSeenTotal, 1);
    }
}

/// Something took longer than it should.
pub struct Slow {
    pub took: Duration,
    pub expected: Duration,
    /// What it was, unless an entry of the log.
    pub prefix: &'static str,
}

impl Slow {
    /// etcd's line, and its count.
    pub fn warn(&self, sheet: &Sheet, request: &str, response: &str, error: Option<Refusal>) {
        let (took, expected, prefix) = (self.took, self.expected, self.prefix);
        let text = "apply request took too long";
        match error {
            None => tracing::warn!(?took, expected_duration = ?expected, prefix, request, response, "{text}"),
            Some(error) => {
                tracing::warn!(?took, expected_duration = ?expected, prefix, request, response, %error, "{text}");
            }
        }
        sheet.add(Name::ServerSlowApplyTotal, 1);
    }
}
