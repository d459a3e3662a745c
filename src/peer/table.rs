//! Who there is to talk to.
//!
//! | a member is | because | has |
//! |---|---|---|
//! | a peer | the membership names it | streams, posts, probes |
//! | a remote | only its own requests name it | posts: it may be new, and this member too far behind to know |
//! | removed | the membership says so | nothing, and is told so |

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use super::{
    activity::Activity,
    codec::Framing,
    headers::id_text,
    image_body::Throttle,
    images::Images,
    incoming,
    link::Link,
    outgoing::{NotSent, Outgoing},
    pipeline::Pipeline,
    prober,
    reports::Reports,
    settings::{Event, Settings},
    snapshot_offer::Source,
    snapshot_sender::{self, State},
};
use crate::{
    base::limits::PEER_REMOTES_MAX,
    metrics::Name,
    pagefile::ReadTxn,
    proto::raftpb::{Message, MessageType},
};

/// A member of the cluster.
pub(super) struct Peer {
    pub(super) link: Rc<Link>,
    appends: Rc<Outgoing>,
    messages: Rc<Outgoing>,
    pipeline: Rc<Pipeline>,
    urls: RefCell<Vec<String>>,
}

impl Peer {
    fn start(link: Rc<Link>, urls: &[String]) -> Rc<Self> {
        tracing::info!(remote_peer_id = link.name, "starting remote peer");
        for framing in [Framing::Appends, Framing::Messages] {
            link.spawn(incoming::run(Rc::clone(&link), framing));
        }
        link.spawn(prober::run(Rc::clone(&link)));
        tracing::info!(
            local_member_id = link.local(),
            remote_peer_id = link.name,
            remote_peer_urls = ?urls,
            "added remote peer"
        );
        Rc::new(Self {
            appends: Outgoing::new(Rc::clone(&link), Framing::Appends),
            messages: Outgoing::new(Rc::clone(&link), Framing::Messages),
            pipeline: Pipeline::new(Rc::clone(&link)),
            urls: RefCell::new(urls.to_vec()),
            link,
        })
    }

    /// The stream that this member sends on, of this kind.
    pub(super) fn outgoing(&self, framing: Framing) -> &Rc<Outgoing> {
        match framing {
            Framing::Appends => &self.appends,
            Framing::Messages => &self.messages,
        }
    }

    #[cfg(test)]
    pub(super) fn has_streams(&self) -> bool {
        self.appends.is_open() && self.messages.is_open()
    }

    fn update(&self, urls: &[String]) {
        if *self.urls.borrow() == urls {
            return;
        }
        urls.clone_into(&mut self.urls.borrow_mut());
        self.link.picker.update(urls);
        tracing::info!(
            local_member_id = self.link.local(),
            updated_remote_peer_id = self.link.name,
            updated_remote_peer_urls = ?urls,
            "updated remote peer"
        );
    }

    /// Sends on the way that etcd takes: appends on their stream, the rest on the other one, and posts where there is none.
    fn send(&self, message: Message) {
        let message = match self.link.extensions().commit_term {
            true => message,
            false => without_commit_term(message),
        };
        let (kind, is_snapshot) = (message.r#type(), message.r#type() == MessageType::MsgSnap);
        let (message, way) = match self.send_on_stream(message, kind) {
            Ok(()) => return,
            Err((NotSent::Full, message, way)) => (message, way),
            Err((NotSent::Closed, message, _)) => match self.pipeline.send(message) {
                Ok(()) => return,
                Err(message) => (message, "pipeline"),
            },
        };
        if kind == MessageType::MsgProp {
            self.link.lost();
            self.link.reports.say_later(Event::Unsent(message));
            return;
        }
        tracing::warn!(
            message_type = kind.as_str_name(),
            local_member_id = self.link.local(),
            from = self.link.local(),
            remote_peer_id = self.link.name,
            remote_peer_name = way,
            remote_peer_active = self.link.is_active(),
            "dropped internal Raft message since sending buffer is full"
        );
        self.link.lost();
        if is_snapshot {
            self.link.reports.say_later(Event::SnapshotSent { to: self.link.id, arrived: false });
        }
    }

    #[allow(clippy::result_large_err)]
    fn send_on_stream(&self, message: Message, kind: MessageType) -> Result<(), (NotSent, Message, &'static str)> {
        // A state without its database, which etcd posts because it may be large.
        if kind == MessageType::MsgSnap {
            return Err((NotSent::Closed, message, "pipeline"));
        }
        let message = match kind {
            MessageType::MsgApp => match self.appends.send(message) {
                Ok(()) => return Ok(()),
                Err((NotSent::Full, message)) => return Err((NotSent::Full, message, "streamMsgAppV2")),
                Err((NotSent::Closed, message)) => message,
            },
            _ => message,
        };
        self.messages.send(message).map_err(|(error, message)| (error, message, "streamMsg"))
    }

    fn stop(&self) {
        tracing::info!(remote_peer_id = self.link.name, "stopping remote peer");
        self.link.stop();
        self.appends.close();
        self.messages.close();
        tracing::info!(
            local_member_id = self.link.local(),
            removed_remote_peer_id = self.link.name,
            "removed remote peer"
        );
    }
}

/// A member known from its own requests only.
struct Remote {
    link: Rc<Link>,
    pipeline: Rc<Pipeline>,
}

/// All members that this one talks to.
pub(super) struct Table {
    pub(super) settings: Rc<Settings>,
    activity: Arc<Activity>,
    pub(super) reports: Rc<Reports>,
    peers: RefCell<BTreeMap<u64, Rc<Peer>>>,
    remotes: RefCell<BTreeMap<u64, Remote>>,
    /// Members that are sending a state here.
    receiving: RefCell<BTreeSet<u64>>,
    /// States that others fetch from here.
    pub(super) images: Rc<Images>,
    pub(super) throttle: Rc<Throttle>,
}

/// A state is being received of a member, until this is dropped.
pub(super) struct Receiving {
    table: Rc<Table>,
    from: u64,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.table.receiving.borrow_mut().remove(&self.from);
    }
}

impl Table {
    pub(super) fn new(settings: Settings, activity: Arc<Activity>, reports: Rc<Reports>) -> Rc<Self> {
        Rc::new(Self {
            settings: Rc::new(settings),
            activity,
            reports,
            peers: RefCell::default(),
            remotes: RefCell::default(),
            receiving: RefCell::default(),
            images: Rc::default(),
            throttle: Rc::default(),
        })
    }

    pub(super) fn peer(&self, id: u64) -> Option<Rc<Peer>> {
        self.peers.borrow().get(&id).cloned()
    }

    /// Makes the peers those of `members`.
    pub(super) fn set_members(&self, members: &[(u64, Vec<String>)], removed: &[u64]) {
        self.reports.set_removed(removed);
        let is_member = |id: &u64| members.iter().any(|(other, _)| other == id);
        let gone: Vec<_> = self.peers.borrow_mut().extract_if(.., |id, _| !is_member(id)).collect();
        for (_, peer) in gone {
            peer.stop();
            self.show_known(&peer.link.name, 0);
        }
        for id in removed {
            self.remove_remote(*id);
        }
        for (id, urls) in members {
            if let Some(peer) = self.peer(*id) {
                peer.update(urls);
                continue;
            }
            let peer = Peer::start(self.link(*id, urls), urls);
            self.show_known(&peer.link.name, 1);
            self.peers.borrow_mut().insert(*id, peer);
            self.remove_remote(*id);
        }
    }

    fn remove_remote(&self, id: u64) {
        let remote = self.remotes.borrow_mut().remove(&id);
        remote.into_iter().for_each(|remote| remote.link.stop());
    }

    /// A member that is no peer says where it can be reached.
    pub(super) fn add_remote(&self, id: u64, urls: &[String]) {
        let is_known = id == self.settings.member_id || self.peer(id).is_some() || self.reports.is_removed(id);
        let mut remotes = self.remotes.borrow_mut();
        if is_known || remotes.contains_key(&id) || remotes.len() >= PEER_REMOTES_MAX {
            return;
        }
        let link = self.link(id, urls);
        if link.picker.is_empty() {
            return;
        }
        tracing::info!(
            local_member_id = id_text(self.settings.member_id),
            remote_peer_id = link.name,
            remote_peer_urls = ?urls,
            "added new remote peer"
        );
        let pipeline = Pipeline::new(Rc::clone(&link));
        remotes.insert(id, Remote { link, pipeline });
    }

    fn link(&self, id: u64, urls: &[String]) -> Rc<Link> {
        Link::new(id, urls, Rc::clone(&self.settings), Arc::clone(&self.activity), Rc::clone(&self.reports))
    }

    /// A state of this member begins to come; `None` while another one of it does.
    pub(super) fn begin_receiving(table: &Rc<Self>, from: u64) -> Option<Receiving> {
        let is_new = table.receiving.borrow_mut().insert(from);
        is_new.then(|| Receiving { table: Rc::clone(table), from })
    }

    /// Sends a whole state to a peer, or offers it where that is understood. `caught_up` are members that have it as well.
    pub(super) fn send_snapshot(&self, message: Message, image: ReadTxn, caught_up: &[u64]) {
        let to = message.to();
        let Some(peer) = self.peer(to) else {
            return self.reports.say_later(Event::SnapshotSent { to, arrived: false });
        };
        let state = match peer.link.extensions().states {
            true => State::Elsewhere { bytes: image.size_bytes(), sources: self.sources(caught_up) },
            false => State::Here { image, throttle: Rc::clone(&self.throttle) },
        };
        peer.link.spawn(snapshot_sender::send(Rc::clone(&peer.link), message, state));
    }

    /// Who has a state: ringds among these, and this member.
    fn sources(&self, caught_up: &[u64]) -> Vec<Source> {
        let peers = caught_up.iter().filter_map(|id| self.peer(*id));
        let ringds = peers.filter(|peer| peer.link.is_active() && peer.link.extensions().states);
        let mut sources: Vec<Source> =
            ringds.map(|peer| Source { id: peer.link.id, urls: peer.urls.borrow().clone() }).collect();
        sources.push(Source { id: self.settings.member_id, urls: self.settings.advertised.clone() });
        sources
    }

    fn show_known(&self, remote: &str, known: i64) {
        let sheet = &self.settings.meters.engine.sheet;
        sheet.series(Name::NetworkKnownPeers, &[&id_text(self.settings.member_id), remote]).set(known);
    }

    /// Sends to a peer or a remote. Nobody else is sent anything, and nobody is told.
    pub(super) fn send(&self, message: Message) {
        let to = message.to();
        if let Some(peer) = self.peer(to) {
            peer.send(message);
            return;
        }
        let remotes = self.remotes.borrow();
        let Some(remote) = remotes.get(&to) else {
            tracing::debug!(
                r#type = message.r#type().as_str_name(),
                unknown_target_peer_id = id_text(to),
                "ignored message send request; unknown remote peer target"
            );
            return;
        };
        if remote.pipeline.send(without_commit_term(message)).is_err() {
            tracing::warn!(
                local_member_id = remote.link.local(),
                remote_peer_id = remote.link.name,
                remote_peer_active = remote.link.is_active(),
                "dropped Raft message since sending buffer is full (overloaded network)"
            );
            remote.link.meter.sent_failures.add(1);
        }
    }

    /// Ends every link and waits for its tasks.
    pub(super) async fn stop(&self) {
        let peers: Vec<_> = std::mem::take(&mut *self.peers.borrow_mut()).into_values().collect();
        let remotes: Vec<_> = std::mem::take(&mut *self.remotes.borrow_mut()).into_values().collect();
        peers.iter().for_each(|peer| peer.stop());
        remotes.iter().for_each(|remote| remote.link.stop());
        for link in peers.iter().map(|peer| &peer.link).chain(remotes.iter().map(|remote| &remote.link)) {
            link.ended().await;
        }
    }
}

/// A vote as etcd sends it.
fn without_commit_term(mut message: Message) -> Message {
    if message.commit_term.take().is_some() {
        message.commit = Some(0);
    }
    message
}
