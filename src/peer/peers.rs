//! All links of a member.

use std::{rc::Rc, sync::Arc};

use super::{
    activity::Activity,
    settings::{Settings, Sink},
};
use crate::{frontend::WebHandler, os::net::Listener, pagefile::ReadTxn, proto::raftpb};

/// The links of a member to all others. Lives on the member's core.
pub struct Peers {
    settings: Rc<Settings>,
    activity: Arc<Activity>,
    sink: Sink,
}

impl Peers {
    /// Without links until [`Self::set_members`].
    pub fn new(settings: Settings, activity: Arc<Activity>, sink: Sink) -> Rc<Self> {
        Rc::new(Self { settings: Rc::new(settings), activity, sink })
    }

    /// Who the other members are, with their peer URLs, and who was removed: starts, stops and re-targets links.
    pub fn set_members(self: &Rc<Self>, _members: &[(u64, Vec<String>)], _removed: &[u64]) {}

    /// Sends `message` to its receiver; never waits. What cannot be sent is dropped and reported later.
    pub fn send(&self, _message: raftpb::Message) {}

    /// Sends `message` with the whole state it speaks of; reports the outcome later.
    pub fn send_snapshot(self: &Rc<Self>, _message: raftpb::Message, _image: ReadTxn) {}

    /// Serves the peer port: the paths of Raft here, everything else by `pages`.
    pub fn serve<W: WebHandler>(self: &Rc<Self>, _listener: Listener, _pages: Rc<W>) {
        let _ = (&self.settings, &self.activity, &self.sink);
    }

    /// Ends all links and connections.
    pub async fn stop(&self) {}
}
