//! What a replica is in the middle of, in few values: the simulator counts the different ones, and checks that queues stay short.

use super::{
    Replica,
    progress::{CommitState, CompactionState, Install},
};
use crate::consensus::Role;

/// A coarse view of a replica's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posture {
    pub role: Role,
    pub is_learner: bool,
    /// Appends that are not durable; 2 stands for more.
    pub appends: u8,
    /// 0: none; 1 to 3: a received state is being marked, installed, restored.
    pub install: u8,
    /// 0: none; 1, 2: a commit of the page file is being built, written.
    pub commit: u8,
    /// A compaction is under way.
    pub is_compacting: bool,
    /// An entry is applied in part.
    pub is_midway: bool,
    /// Entries are committed and not applied.
    pub is_behind: bool,
    /// Leadership is being handed over.
    pub is_transferring: bool,
    /// States are on their way to other members.
    pub is_sending: bool,
}

/// How much waits in a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub proposals: usize,
    pub reads: bool,
    pub settling: usize,
    pub transfers: usize,
    pub unapplied: usize,
    pub leases: usize,
}

impl Replica {
    /// What it is in the middle of.
    #[must_use]
    pub fn posture(&self) -> Posture {
        Posture {
            role: self.consensus.role(),
            is_learner: self.applier.membership().local_is_learner(),
            appends: self.log.in_flight().min(2) as u8,
            install: match self.snapshots.install {
                Install::None => 0,
                Install::Marking { .. } => 1,
                Install::Installing { .. } => 2,
                Install::Restoring { .. } => 3,
            },
            commit: match self.commits.state {
                CommitState::Idle => 0,
                CommitState::Building { .. } => 1,
                CommitState::Writing { .. } => 2,
            },
            is_compacting: self.compaction.state != CompactionState::Idle,
            is_midway: self.is_midway(),
            is_behind: !self.committed.is_empty(),
            is_transferring: self.consensus.transferee().is_some(),
            is_sending: !self.snapshots.sent.is_empty(),
        }
    }

    /// How much waits.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        Backlog {
            proposals: self.proposals.len(),
            reads: !self.reads.is_empty(),
            settling: self.settling.len(),
            transfers: self.transfers.len(),
            unapplied: self.committed.len(),
            leases: self.applier.leases(),
        }
    }
}
