//! Members on one executor and their links over loopback.

mod images;
mod links;
mod port;
mod secure;
mod snapshots;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;

use super::{Activity, Event, ImageFuture, ImageSource, Peers, Settings};
use crate::{
    frontend::{WebFuture, WebHandler, WebRequest, WebResponse},
    meters::Meters,
    os::{
        executor::{self, Seat},
        net::{Address, Listener, Sharing, bind},
        notify::Notify,
        tls::{Secrets, TlsFiles},
    },
    proto::raftpb::{Entry, Message, MessageType},
};

const CLUSTER: u64 = 0xc1;

/// Runs a test on an executor.
fn on_executor(test: impl Future<Output = ()>) {
    let seat = Seat { name: "test".into(), cpu: None, spin: Duration::ZERO };
    executor::run(&seat, test).unwrap();
}

/// A member that only keeps what its links tell it.
struct Member {
    id: u64,
    url: String,
    peers: Rc<Peers>,
    activity: Arc<Activity>,
    news: Rc<News>,
    directory: tempfile::TempDir,
}

#[derive(Default)]
struct News {
    events: RefCell<VecDeque<Event>>,
    came: Notify,
    /// Raised by the test while it calls the links: no event may come then.
    is_inside: Cell<bool>,
}

impl Member {
    fn start(id: u64) -> Self {
        Self::new(id, CLUSTER, None, no_images())
    }

    fn start_secure(id: u64, files: TlsFiles) -> Self {
        Self::new(id, CLUSTER, Some(Secrets::load(files).unwrap()), no_images())
    }

    fn of_cluster(id: u64, cluster_id: u64) -> Self {
        Self::new(id, cluster_id, None, no_images())
    }

    /// One that has states to be fetched.
    fn with_images(id: u64, images: ImageSource) -> Self {
        Self::new(id, CLUSTER, None, images)
    }

    fn new(id: u64, cluster_id: u64, tls: Option<Arc<Secrets>>, images: ImageSource) -> Self {
        let listener =
            bind(&Address::Tcp("127.0.0.1:0".parse().unwrap()), 1, Sharing::Alone).unwrap().sockets.remove(0);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_address().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            cluster_id,
            member_id: id,
            advertised: vec![url.clone()],
            tick: Duration::from_millis(100),
            election: Duration::from_secs(1),
            snap_dir: directory.path().to_owned(),
            meters: Meters::new(0, &[], false, Duration::ZERO),
            tls: tls.clone(),
            reads_by_leases: false,
            images,
        };
        let (activity, news) = (Arc::new(Activity::default()), Rc::new(News::default()));
        let heard = Rc::clone(&news);
        let sink = Rc::new(move |event| {
            assert!(!heard.is_inside.get(), "an event from inside a call: {event:?}");
            heard.events.borrow_mut().push_back(event);
            heard.came.notify();
        });
        let peers = Peers::new(settings, Arc::clone(&activity), sink);
        match tls {
            Some(_) => peers.serve_secure(Listener::new(listener), Rc::new(Pages)).unwrap(),
            None => peers.serve(Listener::new(listener), Rc::new(Pages)),
        }
        Self { id, url, peers, activity, news, directory }
    }

    fn knows(&self, others: &[&Member]) {
        let members: Vec<_> = others.iter().map(|other| (other.id, vec![other.url.clone()])).collect();
        self.inside(|peers| peers.set_members(&members, &[]));
    }

    fn inside(&self, call: impl FnOnce(&Rc<Peers>)) {
        self.news.is_inside.set(true);
        call(&self.peers);
        self.news.is_inside.set(false);
    }

    fn send(&self, message: Message) {
        self.inside(|peers| peers.send(message));
    }

    /// The next event that is not of an unreachable member.
    async fn event(&self) -> Event {
        loop {
            match self.any_event().await {
                Event::Unreachable { .. } => {}
                event => return event,
            }
        }
    }

    async fn any_event(&self) -> Event {
        loop {
            let event = self.news.events.borrow_mut().pop_front();
            match event {
                Some(event) => return event,
                None => self.news.came.wait().await,
            }
        }
    }

    async fn message(&self) -> Message {
        match self.event().await {
            Event::Message(message) => message,
            event => panic!("{event:?}"),
        }
    }
}

fn no_images() -> ImageSource {
    Rc::new(|_| -> ImageFuture { Box::pin(async { Err("no state".to_owned()) }) })
}

struct Pages;

impl WebHandler for Pages {
    fn http(&self, request: WebRequest) -> WebFuture {
        let text = format!("{} {}", request.method, request.path);
        Box::pin(async move { WebResponse::new(StatusCode::OK, "text/plain", text) })
    }
}

fn heartbeat(from: u64, to: u64, commit: u64) -> Message {
    Message {
        r#type: Some(MessageType::MsgHeartbeat as i32),
        from: Some(from),
        to: Some(to),
        term: Some(3),
        commit: Some(commit),
        ..Message::default()
    }
}

fn append(from: u64, to: u64, index: u64, data: Bytes) -> Message {
    let entry = Entry { r#type: Some(0), term: Some(3), index: Some(index + 1), data: Some(data) };
    Message {
        r#type: Some(MessageType::MsgApp as i32),
        from: Some(from),
        to: Some(to),
        term: Some(3),
        log_term: Some(3),
        index: Some(index),
        commit: Some(index),
        entries: vec![entry],
        ..Message::default()
    }
}
