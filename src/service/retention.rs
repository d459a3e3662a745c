//! The policy of automatic compaction, as in etcd.
//!
//! | mode | samples every | compacts to |
//! |---|---|---|
//! | periodic, a period of at most an hour | tenth of the period | the revision of a period ago, once per period |
//! | periodic, a longer one | 6 minutes | the revision of a period ago, first after the period, then every hour |
//! | revision | 5 minutes | the current revision minus the number kept |
//!
//! ```text
//!   sample ─▶ (the shell waits for the interval) ─▶ due? ─▶ a revision: propose it, then `compacted` ─┐
//!     ▲                                                └─▶ nothing                                     │
//!     └────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! 1. The window holds the revisions of one period and no more, whether they are compacted or not.
//! 2. A follower samples too, so it can take over with a full window.
//! 3. A compaction that failed is due again at the next sample.

use std::collections::VecDeque;

const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 60 * MINUTE_NS;
/// Time between samples in mode `revision`.
const REVISION_INTERVAL_NS: u64 = 5 * MINUTE_NS;
/// Samples per period.
const LOOKS: u64 = 10;
/// A timer below this would be a busy loop.
const INTERVAL_NS_MIN: u64 = 1_000_000;

/// The history that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The revisions of this period.
    Periodic { period_ns: u64 },
    /// This number of revisions.
    Revision { keep: i64 },
}

/// The policy at work.
#[derive(Debug)]
pub struct Retention {
    policy: Policy,
    /// Revisions of the last samples, oldest first.
    window: VecDeque<i64>,
    /// The revision compacted last.
    compacted: i64,
    succeeded_ns: u64,
    /// Whether the first period is over.
    is_full: bool,
}

impl Retention {
    #[must_use]
    pub fn new(policy: Policy, now_ns: u64) -> Self {
        Self { policy, window: VecDeque::new(), compacted: 0, succeeded_ns: now_ns, is_full: false }
    }

    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Time between two samples.
    #[must_use]
    pub fn interval_ns(&self) -> u64 {
        match self.policy {
            Policy::Periodic { period_ns } => (period_ns.min(HOUR_NS) / LOOKS).max(INTERVAL_NS_MIN),
            Policy::Revision { .. } => REVISION_INTERVAL_NS,
        }
    }

    /// Before the wait: samples the store's revision.
    pub fn sample(&mut self, revision: i64) {
        let Policy::Periodic { period_ns } = self.policy else { return };
        self.window.push_back(revision);
        if self.window.len() as u64 > period_ns / self.interval_ns() + 1 {
            self.window.pop_front();
        }
    }

    /// After the wait: the revision to compact to, if it is time and this member `leads`. `current` is the store's revision.
    pub fn due(&mut self, now_ns: u64, current: i64, leads: bool) -> Option<i64> {
        if !leads {
            return None;
        }
        match self.policy {
            Policy::Revision { keep } => {
                let revision = current.saturating_sub(keep);
                (revision > 0 && revision != self.compacted).then_some(revision)
            }
            Policy::Periodic { period_ns } => {
                let revision = *self.window.front()?;
                let pause_ns = if self.is_full { period_ns.min(HOUR_NS) } else { period_ns };
                if now_ns.saturating_sub(self.succeeded_ns) < pause_ns || revision == self.compacted {
                    return None;
                }
                self.is_full = true;
                Some(revision)
            }
        }
    }

    /// The compaction to `revision` was carried out, by this member or another one.
    pub fn compacted(&mut self, now_ns: u64, revision: i64) {
        self.compacted = revision;
        self.succeeded_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of a policy that led to a compaction, as (sample, revision). The revision grows by one per sample and starts at 1;
    /// compactions fail at the samples in `fails`.
    fn compactions(policy: Policy, looks: u64, fails: &[u64]) -> Vec<(u64, i64)> {
        let mut retention = Retention::new(policy, 0);
        let (mut found, mut revision) = (Vec::new(), 1);
        for look in 1..=looks {
            retention.sample(revision);
            revision += 1;
            let now_ns = look * retention.interval_ns();
            if let Some(due) = retention.due(now_ns, revision, true)
                && !fails.contains(&look)
            {
                retention.compacted(now_ns, due);
                found.push((look, due));
            }
        }
        found
    }

    fn periodic(minutes: u64) -> Policy {
        Policy::Periodic { period_ns: minutes * MINUTE_NS }
    }

    #[test]
    fn two_hours_compact_after_two_hours_and_then_every_hour() {
        // 20 samples of 6 minutes; the window holds 21 revisions.
        assert_eq!(compactions(periodic(120), 50, &[]), [(20, 1), (30, 10), (40, 20), (50, 30)]);
    }

    #[test]
    fn five_minutes_compact_every_five_minutes() {
        assert_eq!(Retention::new(periodic(5), 0).interval_ns(), MINUTE_NS / 2);
        assert_eq!(compactions(periodic(5), 35, &[]), [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn a_failure_is_tried_again_at_the_next_look() {
        assert_eq!(compactions(periodic(5), 25, &[10, 11]), [(12, 2), (22, 12)]);
    }

    #[test]
    fn mode_revision_keeps_a_number() {
        let keep = Policy::Revision { keep: 3 };
        assert_eq!(compactions(keep, 5, &[]), [(3, 1), (4, 2), (5, 3)]);
        let mut retention = Retention::new(keep, 0);
        assert_eq!(retention.due(0, 100, true), Some(97));
        retention.compacted(0, 97);
        assert_eq!(retention.due(0, 100, true), None, "nothing was written");
    }

    #[test]
    fn who_does_not_lead_samples_only() {
        let mut retention = Retention::new(periodic(60), 0);
        for look in 1..=30 {
            retention.sample(look);
            assert_eq!(retention.due(look.cast_unsigned() * 6 * MINUTE_NS, look, false), None);
        }
        assert_eq!(retention.due(30 * 6 * MINUTE_NS, 30, true), Some(20), "an hour ago");
    }

    #[test]
    fn the_window_is_bounded_and_the_timer_never_spins() {
        let mut retention = Retention::new(Policy::Periodic { period_ns: 7 }, 0);
        assert_eq!(retention.interval_ns(), INTERVAL_NS_MIN);
        (0..100).for_each(|revision| retention.sample(revision));
        assert_eq!(retention.window.len(), 1);
    }
}
