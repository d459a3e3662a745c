//! Messages between the services of a core and the replica: requests and answers.
//!
//! A message is a few words and shared bytes, never a copy of a value.

use std::sync::Arc;

use bytes::Bytes;

use super::lease_questions::{LeaseAnswer, LeaseQuestion};
use crate::{
    base::refusal::Refusal,
    consensus::{Follower, Role},
    proto::raftpb,
    watch::Batch,
};

/// The number of a core that serves connections, to which answers are sent.
pub type CoreId = u16;

/// The member itself, which only logs its answers.
pub const SELF: CoreId = CoreId::MAX;

/// From the services of a core to the replica.
#[derive(Debug)]
pub enum Request {
    /// Replicate this marshalled `InternalRaftRequest`; the outcome has the same `id`.
    Propose { id: u64, data: Bytes },
    /// Change the membership; the outcome has the same `id` and follows when the change is applied.
    ChangeMembers { id: u64, change: raftpb::ConfChange },
    /// Transfer leadership to this member; the outcome has the same `id`.
    TransferLeader { id: u64, to: u64 },
    /// Wait until everything that is committed now is applied; comes back under `id`.
    Settle { id: u64 },
    /// Confirm that this member may serve reads; the answer has the same `context`.
    ReadIndex { context: u64 },
    /// Work on the page file; the answer has the same `id`.
    Chore { id: u64, chore: Chore },
    /// Questions about leases, all of a turn together; each answer has the number of its question.
    Leases { questions: Vec<(u64, LeaseQuestion)> },
}

/// Work on the page file that is no request of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Everything applied before goes into the page file.
    Flush,
    /// The same, and the page file names the last applied entry, also if that one changed nothing.
    Image,
    /// The page file is shrunk.
    Defragment,
}

/// Where a member stands in consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub term: u64,
    /// Whom it has voted for in this term, or 0.
    pub vote: u64,
    pub role: Role,
    /// 0 if none is known.
    pub leader: u64,
    /// The member that leadership is being handed to, or 0.
    pub transferee: u64,
    /// The last entry of its log, durable or not.
    pub last_index: u64,
    /// The members as their leader sees them; none on another member.
    pub followers: Vec<Follower>,
}

/// From the replica to the services of a core.
#[derive(Debug)]
pub enum Answer {
    /// The proposal was applied (the encoded response without its gRPC frame) or refused.
    Proposal { id: u64, outcome: Result<Bytes, Refusal> },
    /// The view published last is at least as new as the read index.
    ReadConfirmed { context: u64 },
    /// The round failed.
    ReadFailed { context: u64, error: Refusal },
    /// These changes are in the view published last. They come before the answers of the proposals that made them.
    Changes(Arc<Batch>),
    /// Changes are in the view published last that were not sent, because too many are on their way.
    ChangesLost,
    /// Everything that was committed is applied.
    Settled { id: u64, outcome: Result<Standing, Refusal> },
    /// The chore is done.
    ChoreDone { id: u64 },
    /// In the order of the questions.
    Leases { answers: Vec<(u64, LeaseAnswer)> },
}
