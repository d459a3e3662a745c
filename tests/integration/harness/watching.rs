//! One watch stream, and the responses to each of its watchers, in a form in which two servers can be compared.
//!
//! How events are cut into responses is flow control and left open: the events of responses that follow each other are put
//! together. What is promised is checked on the way, for each server by itself:
//!
//! 1. Events come in the order of their revisions, none before the watcher's start and none twice.
//! 2. All events of a revision come in one response, unless it is marked as a fragment.
//! 3. The header's revision is not below that of any event of the response.
//! 4. Nothing comes for an id that has not been created, or after it was canceled.
//! 5. After a progress response no event comes that it has covered.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use ringd::proto::{
    etcdserverpb::{
        PutRequest, PutResponse, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
        WatchResponse, watch_request::RequestUnion,
    },
    mvccpb::Event,
};

use super::{grpc::Connection, stream::Stream};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// The id of answers that are about no watcher, or about all.
pub const NO_ID: i64 = -1;
/// How often a test asks again whether everything has arrived.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Some seconds of asking.
const ASKED_MAX: usize = 500;

/// A response to a watcher, with consecutive events joined.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Created(WatchResponse),
    Events(Vec<Event>),
    Canceled(WatchResponse),
}

/// A watch stream of one server.
pub struct Watching {
    stream: Stream,
    /// By id, in the order of arrival; what failed to become a watcher is under [`NO_ID`].
    pub told: BTreeMap<i64, Vec<Told>>,
    /// The revisions of all responses with [`NO_ID`] and nothing but a revision.
    pub progress: Vec<i64>,
    /// Of such responses for one watcher.
    pub progress_of: BTreeMap<i64, Vec<i64>>,
    /// Responses that were marked as fragments.
    pub fragments: usize,
    /// The size in bytes of the largest response to each id, of those with more than one event.
    pub largest: BTreeMap<i64, usize>,
    /// Create requests answered.
    created: usize,
    /// The last response of this id was a fragment.
    fragmented: BTreeMap<i64, bool>,
    /// All watchers that existed then have got everything up to this revision.
    covered: i64,
    /// The same for one id.
    covered_of: BTreeMap<i64, i64>,
    requested: usize,
}

impl Watching {
    pub async fn open(connection: &Connection) -> Watching {
        Watching::open_with(connection, &[]).await
    }

    /// The same with metadata.
    pub async fn open_with(connection: &Connection, metadata: &[(&'static str, &str)]) -> Watching {
        Watching {
            stream: connection.stream(WATCH, metadata).await,
            told: BTreeMap::new(),
            progress: Vec::new(),
            progress_of: BTreeMap::new(),
            fragments: 0,
            largest: BTreeMap::new(),
            created: 0,
            fragmented: BTreeMap::new(),
            covered: 0,
            covered_of: BTreeMap::new(),
            requested: 0,
        }
    }

    pub fn create(&mut self, request: WatchCreateRequest) {
        self.requested += 1;
        self.send(Some(RequestUnion::CreateRequest(request)));
    }

    pub fn cancel(&mut self, watch_id: i64) {
        self.send(Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })));
    }

    pub fn ask_progress(&mut self) {
        self.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {})));
    }

    pub fn send(&mut self, request_union: Option<RequestUnion>) {
        self.stream.send(&WatchRequest { request_union });
    }

    pub fn half_close(&mut self) {
        self.stream.half_close();
    }

    /// Reads until each create request has been answered.
    pub async fn all_created(&mut self) {
        while self.created < self.requested {
            self.read().await;
        }
    }

    /// Reads until `done`.
    pub async fn read_until(&mut self, done: impl Fn(&Watching) -> bool) {
        while !done(self) {
            self.read().await;
        }
    }

    /// Writes a [`fence`] and reads until everything up to it has arrived; returns its revision.
    pub async fn settle(&mut self, connection: &Connection) -> i64 {
        self.all_created().await;
        let revision = fence(connection).await;
        self.told_up_to(revision).await;
        revision
    }

    /// Reads until the server reports progress up to a fence. The fence must have been written after all watchers were created, which
    /// distinguishes the response from one to an earlier request. Needs a watcher, and none may start later.
    pub async fn told_up_to(&mut self, revision: i64) {
        for _ in 0..ASKED_MAX {
            self.ask_progress();
            let answered = self.read_until(|watching| watching.covered >= revision);
            // No answer means: not yet.
            if tokio::time::timeout(ASK_AGAIN, answered).await.is_ok() {
                return;
            }
        }
        panic!("revision {revision} is not reached: progress {:?}", self.progress);
    }

    /// Reads one response.
    pub async fn read(&mut self) {
        let response = self.stream.next::<WatchResponse>().await;
        self.take(response.unwrap_or_else(|end| panic!("the watch stream ends: {end}")));
    }

    pub fn cancel_stream(self) {
        self.stream.cancel();
    }

    /// All events of one watcher.
    pub fn events(&self, id: i64) -> Vec<Event> {
        let told = self.told.get(&id).into_iter().flatten();
        told.flat_map(|told| if let Told::Events(events) = told { events.clone() } else { Vec::new() }).collect()
    }

    /// The response that canceled this watcher.
    pub fn canceled(&self, id: i64) -> Option<&WatchResponse> {
        self.told
            .get(&id)?
            .iter()
            .find_map(|told| if let Told::Canceled(response) = told { Some(response) } else { None })
    }

    fn take(&mut self, mut response: WatchResponse) {
        let id = response.watch_id;
        if response.events.len() > 1 {
            let largest = self.largest.entry(id).or_default();
            *largest = response.encoded_len().max(*largest);
        }
        let header = response.header.as_mut().expect("every response has a header");
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        let revision = header.revision;
        if response.created {
            assert!(response.events.is_empty(), "events in the answer to a create request: {response:?}");
            self.created += 1;
            self.covered_of.remove(&id);
            self.told.entry(id).or_default().push(Told::Created(response));
            return;
        }
        if response.canceled {
            assert!(response.events.is_empty(), "events with a cancellation: {response:?}");
            let told = self.told.entry(id).or_default();
            // etcd may say several times that a watcher is too late.
            let again = response.compact_revision > 0 && told.last() == Some(&Told::Canceled(response.clone()));
            if !again {
                told.push(Told::Canceled(response));
            }
            return;
        }
        if response.events.is_empty() {
            self.take_progress(id, revision);
            return;
        }
        self.take_events(response, revision);
    }

    fn take_progress(&mut self, id: i64, revision: i64) {
        if id == NO_ID {
            assert!(revision >= self.covered, "progress goes back from {} to {revision}", self.covered);
            self.covered = revision;
            self.covered_of.extend(self.told.keys().map(|&id| (id, revision)));
            self.progress.push(revision);
            return;
        }
        let covered = self.covered_of.insert(id, revision).unwrap_or_default();
        assert!(revision >= covered, "progress of {id} goes back from {covered} to {revision}");
        self.progress_of.entry(id).or_default().push(revision);
    }

    fn take_events(&mut self, response: WatchResponse, revision: i64) {
        let id = response.watch_id;
        let told = self.told.get_mut(&id).unwrap_or_else(|| panic!("events for {id}, which was never created"));
        assert!(!matches!(told.last(), Some(Told::Canceled(_))), "events for {id} after it was canceled");
        let continues = self.fragmented.insert(id, response.fragment).unwrap_or_default();
        self.fragments += usize::from(response.fragment);
        let covered = self.covered_of.get(&id).copied().unwrap_or_default();
        let mut last = match told.last() {
            Some(Told::Events(events)) => events.last().map_or(0, modified),
            _ => 0,
        };
        for (position, event) in response.events.iter().enumerate() {
            let at = modified(event);
            assert!(at >= last, "{id}: revision {at} after {last}");
            let split = position == 0 && at == last && !continues;
            assert!(!split, "{id}: revision {at} is split between responses");
            assert!(at <= revision, "{id}: an event of {at} under a header of {revision}");
            assert!(at > covered, "{id}: revision {at} was said to be told at {covered}");
            last = at;
        }
        match told.last_mut() {
            Some(Told::Events(events)) => events.extend(response.events),
            _ => told.push(Told::Events(response.events)),
        }
    }
}

/// Writes a key that no test uses otherwise; the revision of that.
pub async fn fence(connection: &Connection) -> i64 {
    let request = PutRequest { key: "fence".into(), ..PutRequest::default() };
    let put = connection.unary::<_, PutResponse>("/etcdserverpb.KV/Put", &request).await;
    put.unwrap_or_else(|error| panic!("{error}")).header.expect("every response has a header").revision
}

/// The revision of an event.
pub fn modified(event: &Event) -> i64 {
    event.kv.as_ref().expect("every event has a key").mod_revision
}
