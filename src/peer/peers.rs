//! All links of a member.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures_lite::future;

use super::{
    activity::Activity,
    reports::Reports,
    server::{self, Door},
    settings::{Settings, Sink},
    table::Table,
};
use crate::{
    base::limits::PEER_SILENCE_MS_MAX,
    frontend::WebHandler,
    os::{self, net::Listener},
    pagefile::ReadTxn,
    proto::raftpb,
    rpc::{Drain, Stage},
};

/// An `https` URL without certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("https needs a certificate and a key")]
pub struct NoSecrets;

/// The links of a member to all others. Lives on the member's core.
pub struct Peers {
    table: Rc<Table>,
    /// Of the connections that others have made.
    drain: Rc<Drain>,
}

impl Peers {
    /// Without links until [`Self::set_members`].
    pub fn new(settings: Settings, activity: Arc<Activity>, sink: Sink) -> Rc<Self> {
        let reports = Reports::new(settings.member_id, sink);
        let drain = Drain::new();
        let (saying, ending) = (Rc::clone(&reports), Rc::clone(&drain));
        os::spawn_local(async move { future::or(ending.reached(Stage::Aborting), saying.run()).await });
        Rc::new(Self { table: Table::new(settings, activity, reports), drain })
    }

    /// Who the other members are, with their peer URLs, and who was removed: starts, stops and re-targets links.
    pub fn set_members(self: &Rc<Self>, members: &[(u64, Vec<String>)], removed: &[u64]) {
        self.table.set_members(members, removed);
    }

    /// A member that the membership does not name yet, and where it can be reached: what it is sent goes by posts.
    pub fn add_remote(&self, id: u64, urls: &[String]) {
        self.table.add_remote(id, urls);
    }

    /// Sends `message` to its receiver; never waits. What cannot be sent is dropped and reported later.
    pub fn send(&self, message: raftpb::Message) {
        // Receiver 0 is a message that Raft has withdrawn.
        if message.to() != 0 {
            self.table.send(message);
        }
    }

    /// Sends `message` with the whole state it speaks of, which these members have as well; reports the outcome later.
    pub fn send_snapshot(self: &Rc<Self>, message: raftpb::Message, image: ReadTxn, caught_up: &[u64]) {
        self.table.send_snapshot(message, image, caught_up);
    }

    /// Serves the peer port: the paths of Raft here, everything else by `pages`. May be called for several listeners.
    pub fn serve<W: WebHandler>(self: &Rc<Self>, listener: Listener, pages: Rc<W>) {
        self.serve_door(Door { listener, secrets: None, pages });
    }

    /// As [`Self::serve`], encrypted.
    ///
    /// # Errors
    /// The settings have nothing to encrypt with.
    pub fn serve_secure<W: WebHandler>(self: &Rc<Self>, listener: Listener, pages: Rc<W>) -> Result<(), NoSecrets> {
        let secrets = Some(self.table.settings.tls.clone().ok_or(NoSecrets)?);
        self.serve_door(Door { listener, secrets, pages });
        Ok(())
    }

    fn serve_door<W: WebHandler>(&self, door: Door<W>) {
        os::spawn_local(server::run(Rc::clone(&self.table), door, Rc::clone(&self.drain)));
    }

    /// Whether this member has opened both its streams here.
    #[cfg(test)]
    pub(super) fn has_streams(&self, id: u64) -> bool {
        self.table.peer(id).is_some_and(|peer| peer.has_streams())
    }

    /// Ends all links and connections.
    pub async fn stop(&self) {
        self.drain.advance(Stage::Draining);
        let ending = async {
            self.table.stop().await;
            self.drain.empty().await;
        };
        if os::timeout(Duration::from_millis(PEER_SILENCE_MS_MAX), ending).await.is_none() {
            tracing::warn!("links to peers did not end in time");
        }
        self.drain.advance(Stage::Aborting);
    }
}
