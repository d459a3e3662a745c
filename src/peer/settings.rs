//! What the links are made with, and what they tell the member.

use std::{path::PathBuf, rc::Rc, sync::Arc, time::Duration};

use super::images::ImageSource;
use crate::{meters::Meters, os::tls::Secrets, proto::raftpb};

/// What does not change while the member runs.
pub struct Settings {
    pub cluster_id: u64,
    pub member_id: u64,
    /// This member's own peer URLs, for those who do not know it yet.
    pub advertised: Vec<String>,
    /// Heartbeat interval of Raft.
    pub tick: Duration,
    /// Election timeout of Raft. A connection has this and one second to come up.
    pub election: Duration,
    /// Where received states are put: the directory of the page file.
    pub snap_dir: PathBuf,
    pub meters: Arc<Meters>,
    /// What `https` peer URLs are served and dialed with.
    pub tls: Option<Arc<Secrets>>,
    /// Whether linearizable reads are confirmed by leases here.
    pub reads_by_leases: bool,
    /// The states that other members fetch from this one.
    pub images: ImageSource,
}

impl Settings {
    /// How long a connection may take to come up, as in etcd.
    #[must_use]
    pub fn dial_timeout(&self) -> Duration {
        Duration::from_secs(1) + self.election
    }
}

/// What the links tell the member. Always from a task of their own, never from inside a call of the member.
#[derive(Debug)]
pub enum Event {
    /// A message has arrived.
    Message(raftpb::Message),
    /// A `MsgSnap` has arrived, and its database stands whole and durable under [`received_name`](crate::base::received_state::received_name).
    SnapshotReceived(raftpb::Message),
    /// A message to this member was lost.
    Unreachable { to: u64 },
    /// The state sent to this member has arrived there, or has not.
    SnapshotSent { to: u64, arrived: bool },
    /// A forwarded proposal that has not left this process, because nobody took the connection.
    Unsent(raftpb::Message),
    /// Another member says that this one was removed from the cluster.
    Removed,
}

/// Where events go; called on the member's core.
pub type Sink = Rc<dyn Fn(Event)>;
