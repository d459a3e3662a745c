//! Inputs and effects of the machine: two closed enums.

use bytes::Bytes;

use super::validate::Refusal;
use crate::base::log_entry::{ConfState, HardState, LogEntry};
use crate::proto::raftpb;

/// One thing that happened.
// An input is moved once; a box would cost an allocation per message.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Input {
    /// One heartbeat interval went by.
    Tick,
    /// Append `data` (an `InternalRaftRequest`) to the log. `id` comes back only if the proposal is dropped
    /// here; a proposal forwarded to a leader can be lost without notice, so the caller keeps a deadline.
    Propose { id: u64, data: Bytes },
    /// Change the membership. As `Propose`; also dropped while another change is not yet applied.
    ProposeConfChange { id: u64, change: raftpb::ConfChange },
    /// Ask for an index that is at least every index committed anywhere at this moment. `context` names one
    /// batch of reads; it may be given again to send the request once more, but never for other reads.
    ReadIndex { context: u64 },
    /// A message of another member, as decoded.
    Message(raftpb::Message),
    /// This append and all before it are durable (and its snapshot, if any, has replaced the database).
    Persisted { append: u64 },
    /// All entries up to `index` are applied.
    Applied { index: u64 },
    /// Drop the log in memory up to `index`, at most the applied one. Members that lag behind it get a snapshot.
    Compact { index: u64 },
    /// Transfer leadership to this voter, if it can catch up within an election timeout.
    TransferLeader { to: u64 },
    /// Start an election now, without waiting for the timer.
    Campaign,
    /// Stop leading in the present term, as a leader does that no quorum answers. The others elect when they miss its heartbeats.
    StepDown,
    /// A message to this member was lost.
    ReportUnreachable { to: u64 },
    /// The snapshot for this member has arrived there, or has not.
    ReportSnapshot { to: u64, arrived: bool },
}

/// One thing to do, in the order given.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Write this, make it durable, then say `Persisted`.
    Append(Append),
    /// Send a message, once append `after` is durable.
    Send { after: Option<u64>, message: raftpb::Message },
    /// Send a whole state: a view applied at least up to the index in the message, whose snapshot metadata is
    /// to be replaced by the view's. Then say `ReportSnapshot`.
    SendSnapshot { after: Option<u64>, message: raftpb::Message },
    /// A snapshot message had no effect, because the present state reaches as far; the state that came with it can be deleted. Not
    /// reported for a second copy while the first is being installed.
    SnapshotIgnored { index: u64 },
    /// Apply these entries, then say `Applied`.
    Commit { entries: Vec<LogEntry> },
    /// The reads of `context` may be answered once `index` is applied.
    ReadReady { context: u64, index: u64 },
    /// The reads of `context` must be asked for again, with a new context.
    ReadDropped { context: u64, reason: DropReason },
    /// The proposal is in no log and will never be.
    ProposalDropped { id: u64, reason: DropReason },
    /// The leader or the term has changed; leader 0 is none.
    LeaderChanged { leader: u64, term: u64 },
    /// A message of this member was refused.
    MessageRefused { from: u64, refusal: Refusal },
}

/// Effects in the order in which they are to be started. The caller drains it.
pub type Effects = Vec<Effect>;

/// One durable write. On disk the entries come before the hard state, so that a torn end never leaves a commit
/// index beyond the log; the snapshot comes before both.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// Grows from append to append, with gaps.
    pub number: u64,
    /// Present if it differs from the last one. A commit index alone never causes an append.
    pub hard_state: Option<HardState>,
    /// The database is to be replaced by the state received up to this point, and the log begins after it.
    pub snapshot: Option<SnapshotMark>,
    /// Replaces what the log holds from the first one's index on.
    pub entries: Vec<LogEntry>,
}

/// The point in the log that a snapshot stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMark {
    pub index: u64,
    pub term: u64,
    pub conf_state: ConfState,
}

/// Why a read or a proposal was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No leader is known.
    NoLeader,
    /// The leader or term changed while it was under way (reads only).
    LeaderChanged,
    /// The leader is transferring leadership to another member.
    Transferring,
    /// A conf change is pending (conf changes only).
    ConfChangePending,
    /// This member is no longer in the configuration.
    Removed,
    /// Too many requests wait for the first commit of the term (reads only).
    TooMany,
}

/// The present role of this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}
