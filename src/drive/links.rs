//! The links to the other members, and the members that they know.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
};

use crate::{cluster::membership::Membership, pagefile::ReadTxn, peer::Peers, proto::raftpb};

/// The links, once the driver has them.
#[derive(Default)]
pub(super) struct Links {
    pub(super) peers: OnceCell<Rc<Peers>>,
    /// The members that a joining member has asked for. Its log names them one by one, so each stays until the log has it.
    pub(super) remotes: RefCell<BTreeMap<u64, Vec<String>>>,
    /// The membership that the links know.
    known: RefCell<Option<Arc<Membership>>>,
}

impl Links {
    /// A message that cannot leave is lost, as on any network.
    pub fn send(&self, message: raftpb::Message) {
        if let Some(peers) = self.peers.get() {
            peers.send(message);
        }
    }

    pub fn send_snapshot(&self, message: raftpb::Message, image: ReadTxn, caught_up: &[u64]) {
        if let Some(peers) = self.peers.get() {
            peers.send_snapshot(message, image, caught_up);
        }
    }

    /// Tells the links who the members are, if that has changed.
    pub fn on_members(&self, membership: &Arc<Membership>) {
        if self.known.borrow().as_ref().is_some_and(|known| Arc::ptr_eq(known, membership)) {
            return;
        }
        *self.known.borrow_mut() = Some(Arc::clone(membership));
        let mut remotes = self.remotes.borrow_mut();
        remotes.retain(|id, _| membership.member(*id).is_none() && !membership.is_removed(*id));
        let mut members = remotes.clone();
        members.extend(membership.members().map(|member| (member.id, member.peer_urls.clone())));
        members.remove(&membership.local_id);
        let members: Vec<(u64, Vec<String>)> = members.into_iter().collect();
        let removed: Vec<u64> = membership.removed().collect();
        if let Some(peers) = self.peers.get() {
            peers.set_members(&members, &removed);
        }
    }
}
