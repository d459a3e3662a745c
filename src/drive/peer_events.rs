//! What crosses between the replica and the links to the other members.

use std::{collections::BTreeMap, rc::Rc};

use super::Driver;
use crate::{
    peer::{Event, Peers},
    replica::Input,
};

impl Driver {
    /// Connects the member with the others; `remotes` are members that its own state does not name yet.
    pub fn link(&self, peers: Rc<Peers>, remotes: BTreeMap<u64, Vec<String>>) {
        *self.links.remotes.borrow_mut() = remotes;
        assert!(self.links.peers.set(peers).is_ok(), "a member is linked once");
        self.links.on_members(&self.shared.view.load().membership);
    }

    /// Brings what the links tell to the replica.
    pub fn on_peer_event(self: &Rc<Self>, event: Event) {
        match event {
            Event::Message(message) => self.step(Input::Message(message)),
            Event::SnapshotReceived(message) => self.step(Input::SnapshotReceived(message)),
            Event::Unreachable { to } => self.step(Input::PeerUnreachable { to }),
            Event::SnapshotSent { to, arrived } => self.step(Input::SnapshotSent { to, arrived }),
            Event::Unsent(message) => self.step(Input::Unsent(message)),
            Event::Removed => self.on_removed(),
        }
    }
}
