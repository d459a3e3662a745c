//! A Raft log entry, as consensus gives it to the WAL and a replay returns it.

use bytes::Bytes;

/// What the data of an entry means (etcd's `raftpb.EntryType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An `InternalRaftRequest`, or nothing (the first entry of a term).
    Normal,
    /// A `raftpb.ConfChange`.
    ConfChange,
    /// A `raftpb.ConfChangeV2`.
    ConfChangeV2,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub kind: EntryKind,
    pub data: Bytes,
}

/// The part of Raft's state that must be durable before a message may claim it (etcd's `raftpb.HardState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    pub vote: u64,
    pub commit: u64,
}

/// The members that take part in consensus (etcd's `raftpb.ConfState`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    pub voters_outgoing: Vec<u64>,
    pub learners_next: Vec<u64>,
    pub auto_leave: bool,
}
