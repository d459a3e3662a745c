//! The inputs of the replica: one closed enum.

use super::{CoreId, Request};
use crate::{pagefile::PageFile, proto::raftpb, wal::SegmentId};

/// One thing that happened.
// An input is moved once; a box would cost an allocation per request.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Input {
    /// A request of a core that serves connections, or of the member itself. It waits for the next `Turn`.
    Request { core: CoreId, request: Request },
    /// Carry all waiting requests through Raft once, and do one slice of each work under way.
    Turn,
    /// A timer that was set has run out.
    Timer(Timer),
    /// A batch of the log is on stable storage.
    LogWritten { sequence: u64 },
    /// A segment that was asked for can be written.
    SegmentPrepared { segment: SegmentId },
    /// The commit of the page file in flight is on stable storage.
    PagesCommitted,
    /// A message of another member, as decoded.
    Message(raftpb::Message),
    /// The state that belongs to this `MsgSnap` has arrived whole and is on stable storage beside the page file.
    SnapshotReceived(raftpb::Message),
    /// The received state has taken the place of the page file.
    SnapshotInstalled(PageFile),
    /// A proposal that was forwarded to the leader and has not left this member.
    Unsent(raftpb::Message),
    /// A message to this member was lost.
    PeerUnreachable { to: u64 },
    /// The state sent to this member has arrived there, or has not.
    SnapshotSent { to: u64, arrived: bool },
    /// Count so many ticks at once: the first election after a start comes sooner.
    Advance { ticks: usize },
    /// Stand for election without waiting for the timer (a member alone at its start).
    Campaign,
    /// The process ends: one last commit of the page file, then `Effect::Stopped`.
    Stop,
}

/// The timers of the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// One heartbeat interval.
    Tick,
    /// The interval between commits of the page file.
    Commit,
    /// The pause between two slices of a compaction.
    Compact,
    /// The interval between scans for expired leases.
    Expire,
}
