//! The effects of the replica: one closed enum.
//!
//! An effect may be started as soon as it is returned, in the order given. An effect that must wait (a batch for its segment,
//! a vote for its append, the installation of a snapshot for the commit in flight) is held in the replica until its condition is met,
//! so neither the shell nor the simulator repeats any order.

use std::sync::Arc;

use super::{Answer, CoreId, Timer};
use crate::{
    apply::View,
    auth::TokenChange,
    base::log_entry::LogEntry,
    base::refusal::Refusal,
    consensus,
    lease::LeaseTally,
    mvcc::{Change, CompactionReport},
    pagefile::{Commit, ReadTxn},
    proto::raftpb,
    wal::{Action, IssuedBatch},
};

/// One thing to do.
pub enum Effect {
    /// Tokens of clients begin and end. Comes before the view in which they do.
    Tokens(Vec<TokenChange>),
    /// Readers see this state from now on. Comes before every answer and announcement that depends on it.
    Publish(Arc<View>),
    /// These changes are in the view published last.
    Announce(Vec<Change>),
    /// The view published last is of a received state: watchers read the changes that they miss from it.
    HistoryReplaced,
    /// For a core, or for the member itself.
    Answer { core: CoreId, answer: Answer },
    /// Write this, make it durable, then say `LogWritten`. Several may be in flight, in any order.
    WriteLog(IssuedBatch),
    /// Background work on the log's files, one task after the other; `SegmentPrepared` after a preparation.
    LogTask(Action),
    /// Carry out the steps of this commit in order, then say `PagesCommitted`.
    CommitPages(Commit),
    /// Shorten the page file to this length; no reader needs more.
    CutPages { length: u64 },
    /// A message to another member. It may be lost; `PeerUnreachable` if that is known.
    Send(raftpb::Message),
    /// A message to another member with a whole state, which other members have as well; `SnapshotSent` at the end.
    SendSnapshot { message: raftpb::Message, image: ReadTxn, caught_up: Vec<u64> },
    /// The received state of this index takes the place of the page file: rename, sync, map; then `SnapshotInstalled`.
    InstallSnapshot { index: u64 },
    /// The received state of this index is not needed.
    DiscardSnapshot { index: u64 },
    /// Say `Timer` after so many milliseconds.
    SetTimer { timer: Timer, after_ms: u64 },
    /// There is more to do: send `Turn` again after other tasks have run.
    Again,
    /// For the log of the process.
    Note(Note),
    /// For the metrics.
    Count(Count),
    /// The last commit of the page file is durable; no effect follows.
    Stopped,
    /// This member was removed from the cluster and ends.
    Removed,
}

/// Effects in the order in which they may be started. The caller drains it.
pub type Effects = Vec<Effect>;

/// A line for the log of the process.
#[derive(Debug)]
pub enum Note {
    LeaderElected {
        local: u64,
        leader: u64,
        term: u64,
    },
    LeaderLost {
        local: u64,
        term: u64,
    },
    /// This leader's log has not become durable for so long; it hands leadership to this member.
    LogStalled {
        local: u64,
        waits_ms: u64,
        to: u64,
    },
    /// This leader's heartbeat to a member comes later than expected.
    HeartbeatLate {
        to: u64,
        expected_ms: u64,
        exceeded_ms: u64,
    },
    MessageRefused {
        from: u64,
        refusal: consensus::Refusal,
    },
    ConfChangeRefused {
        index: u64,
        reason: String,
    },
    /// Applying took longer than the limit, or was refused.
    Applied(SlowApply),
    RevokeFailed {
        lease: i64,
        refusal: Refusal,
    },
    Defragmenting(Sizes),
    Defragmented {
        before: Sizes,
        after: Sizes,
        took_ms: u64,
    },
    Compacted {
        report: CompactionReport,
        took_ms: u64,
        sizes: Sizes,
    },
    SnapshotSending {
        to: u64,
        index: u64,
        bytes: u64,
    },
    SnapshotInstalling {
        index: u64,
        applied: u64,
    },
    SnapshotRestored {
        index: u64,
        revision: i64,
    },
}

/// An entry whose application is logged.
#[derive(Debug)]
pub struct SlowApply {
    pub entry: LogEntry,
    pub took_ns: u64,
    pub is_slow: bool,
    /// Length of the response, if it was not refused and a caller of this member waits for it.
    pub response_bytes: Option<usize>,
    pub refusal: Option<Refusal>,
    /// The refusal is logged as a failure.
    pub failed: bool,
}

/// Length of the database, and its bytes in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    pub bytes: u64,
    pub in_use_bytes: u64,
}

/// Something counted or measured.
#[derive(Debug)]
pub enum Count {
    /// Requests of the log were applied.
    Applied(Vec<AppliedEntry>),
    Leases(LeaseTally),
    LeaderChanged,
    /// Expired leases were revoked.
    LeasesExpired(u64),
    ReadIndexSlow,
    ReadIndexFailed,
    /// A slice of a compaction, of the index or of the page file.
    CompactionSlice {
        of_index: bool,
        took_ns: u64,
    },
    /// Number of committed states of the page file with readers.
    OpenReadTransactions(usize),
    /// A commit was built, in slices of this total time.
    CommitBuilt {
        took_ns: u64,
    },
    DefragmentStarted,
    DefragmentEnded {
        took_ms: u64,
    },
}

/// One request of the log.
#[derive(Clone, Copy, Debug)]
pub struct AppliedEntry {
    /// Field number of the request in `InternalRaftRequest`.
    pub operation: u32,
    pub is_ok: bool,
    pub took_ns: u64,
}
