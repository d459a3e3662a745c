//! Whether clients should use this member, as the gRPC health service, the pages and Status tell it.
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
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

/// The state of the whole member. Any core reads it; the engine's core tells of the disks.
#[derive(Debug)]
pub struct Health {
    /// How long clients stay with a member that knows no leader.
    pub(super) leader_patience: Duration,
    /// `StopGRPCServiceOnDefrag`.
    leaves_on_defragment: bool,
    log_lacks_room: AtomicBool,
    database_lacks_room: AtomicBool,
    pub(super) defragmentations: AtomicU32,
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

    pub(super) fn complaint(&self, leaderless: Duration) -> Option<&'static str> {
        if leaderless >= self.leader_patience {
            return Some("no leader");
        }
        if self.leaves_on_defragment && self.defragmentations.load(Ordering::Relaxed) > 0 {
            return Some("defrag is active");
        }
        self.disk_complaint()
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
