//! A view: the whole state at one applied index, immutable, for readers.

use std::sync::Arc;

use crate::{
    apply::{Alarms, Tally},
    auth::Auth,
    cluster::membership::Membership,
    mvcc,
    proto::etcdserverpb::ResponseHeader,
};

/// The state of consensus when a view was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// 0 if none is known.
    pub leader: u64,
    pub term: u64,
    /// Index of the last committed entry.
    pub committed: u64,
}

/// The state at one applied index.
#[derive(Clone)]
pub struct View {
    pub kv: mvcc::View,
    /// Index of the last applied entry.
    pub applied: u64,
    pub raft: RaftStatus,
    pub membership: Arc<Membership>,
    pub alarms: Arc<Alarms>,
    pub auth: Arc<Auth>,
    /// Schema version of the page file, once it is decided.
    pub storage_version: Option<String>,
    pub tally: Tally,
}

impl View {
    /// A response header at `revision`.
    #[must_use]
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.membership.cluster_id,
            member_id: self.membership.local_id,
            revision,
            raft_term: self.raft.term,
        }
    }
}
