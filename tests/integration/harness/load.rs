//! Clients that put, swap and read while a test breaks things, and keep a [`history`](super::history) of what they saw.
//!
//! ```text
//!   Load::start ── thread ── client 0, 1, 2 ...   one request in flight each, to one member, until that member fails
//!                        ├── one watch of everything, from the first revision, by the client library over all endpoints
//!                        └── two leases: one is kept alive, the other is not
//!   Load::finish ── Story::check(cluster)   all that was seen fits what is stored
//! ```

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use ringd::{
    client::{Call, Client, Options, method},
    proto::{
        etcdserverpb::{
            Compare, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
            RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest,
            compare::{CompareResult, CompareTarget, TargetUnion},
            request_op::Request,
            response_op::Response,
        },
        mvccpb::{Event, KeyValue, event::EventType},
    },
};
use tokio::{sync::watch, task::JoinSet};

use super::{
    child::PATIENCE,
    cluster::Cluster,
    grpc::{CallError, Connection},
    history::{Action, Log, NOTHING, Operation, Outcome, check_linearizable},
    watching::Watching,
};

const CLIENTS: usize = 6;
const KEYS: usize = 4;
/// A request that takes longer is given up; the client turns to the next member.
const CALL: Duration = Duration::from_millis(1500);
/// Between a client's requests: the load is there to be right, not to be high.
const THINK_MS_MAX: u64 = 6;
const LEASE_SECONDS: i64 = 15;
const SHORT_LEASE_SECONDS: i64 = 2;
const PREFIX: &str = "load/";
const KEPT: &str = "load/lease/kept";
const LEFT: &str = "load/lease/left";

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Story>>,
}

struct Shared {
    /// Where clients find members.
    ports: Mutex<Vec<u16>>,
    /// The client of watch and leases, once it has begun.
    client: Mutex<Option<Client>>,
    /// Acknowledged writes.
    written: Mutex<u64>,
    wrote: Condvar,
    /// One number for each call and each return, and for each connection and value.
    clock: AtomicU64,
}

/// All that clients saw.
pub struct Story {
    pub history: Vec<Operation>,
    /// What the watch over all endpoints was told.
    watched: Vec<Event>,
    kept: i64,
    left: i64,
}

impl Load {
    /// Starts clients on all members that run.
    pub fn start(cluster: &Cluster, seed: u64) -> Load {
        let shared = Arc::new(Shared {
            ports: Mutex::new(cluster.client_ports()),
            client: Mutex::new(None),
            written: Mutex::new(0),
            wrote: Condvar::new(),
            clock: AtomicU64::new(1),
        });
        let (stop, stopped) = watch::channel(false);
        let (ours, endpoints) = (Arc::clone(&shared), cluster.endpoints());
        let thread = thread::spawn(move || super::run(work(ours, endpoints, stopped, seed)));
        Load { shared, stop, thread: Some(thread) }
    }

    /// Members have come or gone. Clients turn to the next one when theirs fails.
    pub fn members_changed(&self, cluster: &Cluster) {
        if let Some(client) = &*self.shared.client.lock().expect("no panic under the lock") {
            client.set_endpoints(&cluster.endpoints()).expect("endpoints are well formed");
        }
        *self.shared.ports.lock().expect("no panic under the lock") = cluster.client_ports();
    }

    /// Waits until so many more writes have been acknowledged.
    pub fn wait_for_writes(&self, more: u64) {
        let written = self.shared.written.lock().expect("no panic under the lock");
        let enough = *written + more;
        let waited = self.shared.wrote.wait_timeout_while(written, PATIENCE, |written| *written < enough);
        let (written, timeout) = waited.expect("no panic under the lock");
        assert!(!timeout.timed_out(), "no writes any more: {} of {enough}", *written);
    }

    /// Lets clients end what they do. All members that run must serve.
    pub fn finish(mut self) -> Story {
        self.stop.send_replace(true);
        let thread = self.thread.take().expect("only finish takes it");
        thread.join().unwrap_or_else(|_| panic!("a client failed"))
    }

    /// Ends the load and checks everything.
    pub fn judge(self, cluster: &Cluster) {
        self.finish().check(cluster);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A test that fails does not wait for its clients, which have nobody to answer them.
        self.stop.send_replace(true);
    }
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn count_write(&self) {
        *self.written.lock().expect("no panic under the lock") += 1;
        self.wrote.notify_all();
    }

    /// The member that this client uses after so many have failed it.
    fn port(&self, turn: usize) -> u16 {
        let ports = self.ports.lock().expect("no panic under the lock");
        ports[turn % ports.len()]
    }
}

async fn work(shared: Arc<Shared>, endpoints: Vec<String>, stopped: watch::Receiver<bool>, seed: u64) -> Story {
    let client = Client::connect(Options { endpoints, ..Options::default() }).await.expect("endpoints are well formed");
    *shared.client.lock().expect("no panic under the lock") = Some(client.clone());
    let [kept, left] = [grant(&client, LEASE_SECONDS, KEPT).await, grant(&client, SHORT_LEASE_SECONDS, LEFT).await];
    let mut random = SmallRng::seed_from_u64(seed);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let worker = Worker {
            shared: Arc::clone(&shared),
            random: SmallRng::seed_from_u64(random.random()),
            turn: number,
            connection: None,
            seen: BTreeMap::new(),
            history: Vec::new(),
        };
        clients.spawn(worker.run(stopped.clone()));
    }
    let mut beats = client.keep_alive(kept);
    let beating = tokio::spawn(async move { while let Ok(Some(_)) = beats.next().await {} });
    let watching = tokio::spawn(watch(client.clone(), stopped));
    let history = clients.join_all().await.into_iter().flatten().collect();
    let watched = watching.await.expect("the watch does not fail");
    assert!(!beating.is_finished(), "the lease that is kept alive is lost");
    Story { history, watched, kept, left }
}

/// A lease and a key on it. One that ran out before the key was there is granted anew.
async fn grant(client: &Client, seconds: i64, key: &'static str) -> i64 {
    loop {
        let lease = client.grant(seconds, Call::within(PATIENCE)).await.unwrap_or_else(|error| panic!("{error}")).id;
        let request = PutRequest { key: key.into(), lease, ..PutRequest::default() };
        match client.call(&method::PUT, &request, Call::within(PATIENCE)).await {
            Ok(_) => return lease,
            Err(error) if error.to_string().contains("requested lease not found") => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Watches everything until the load is over and its last write has been seen.
async fn watch(client: Client, mut stopped: watch::Receiver<bool>) -> Vec<Event> {
    let request = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: crate::traffic::prefix_end(PREFIX.as_bytes()),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let mut watch = client.watch(request, Call::default());
    let mut events = Vec::new();
    let mut last = i64::MAX;
    while events.last().is_none_or(|event| revision(event) < last) {
        tokio::select! {
            response = watch.next() => {
                let response = response.unwrap_or_else(|error| panic!("the watch ends: {error}"));
                events.extend(response.expect("nobody cancels it").events);
            }
            _ = stopped.changed(), if last == i64::MAX => {
                let request = PutRequest { key: format!("{PREFIX}end").into(), ..PutRequest::default() };
                let put = client.call(&method::PUT, &request, Call::within(PATIENCE)).await;
                let failed = |error| panic!("{error}; endpoints {:?}, {:?}", client.endpoints(), client.trouble());
                last = put.unwrap_or_else(failed).header.expect("answers have headers").revision;
            }
        }
    }
    events
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().expect("every event has a key").mod_revision
}

/// One client.
struct Worker {
    shared: Arc<Shared>,
    random: SmallRng,
    turn: usize,
    connection: Option<(u64, Connection)>,
    /// What it has seen last of each key.
    seen: BTreeMap<String, u64>,
    history: Vec<Operation>,
}

impl Worker {
    async fn run(mut self, stopped: watch::Receiver<bool>) -> Vec<Operation> {
        while !*stopped.borrow() {
            self.step().await;
            tokio::time::sleep(Duration::from_millis(self.random.random_range(0..THINK_MS_MAX))).await;
        }
        self.history
    }

    async fn step(&mut self) {
        let key = format!("{PREFIX}{}", self.random.random_range(0..KEYS));
        let new = self.shared.tick();
        let old = self.seen.get(&key).copied().unwrap_or(NOTHING);
        let choices = [Action::Put(new), Action::Swap { old, new }, Action::Read, Action::Serializable];
        let action = *choices.choose(&mut self.random).expect("there are some");
        let Some((number, connection)) = self.connection().await else { return };
        let called = self.shared.tick();
        let done = tokio::time::timeout(CALL, carry_out(&connection, &key, action)).await;
        let returned = self.shared.tick();
        let outcome = match done {
            Ok(Ok(outcome)) => {
                self.connection = Some((number, connection));
                outcome
            }
            Ok(Err(CallError::Refused(refusal))) if ![2, 4, 14].contains(&refusal.code) => {
                panic!("{action:?}: {refusal:?}")
            }
            Ok(Err(_)) | Err(_) => {
                self.turn += 1;
                Outcome::Unknown
            }
        };
        match outcome {
            Outcome::Wrote { .. } => {
                self.shared.count_write();
                self.seen.insert(key.clone(), new);
            }
            Outcome::Saw { value, .. } => drop(self.seen.insert(key.clone(), value)),
            Outcome::Unknown => {}
        }
        let returned = if outcome == Outcome::Unknown { u64::MAX } else { returned };
        self.history.push(Operation { connection: number, key, called, returned, action, outcome });
    }

    /// The one that it has, or a new one.
    async fn connection(&mut self) -> Option<(u64, Connection)> {
        if let Some((number, connection)) = self.connection.take()
            && connection.alive()
        {
            return Some((number, connection));
        }
        match tokio::time::timeout(CALL, Connection::open(self.shared.port(self.turn))).await {
            Ok(Ok(connection)) => Some((self.shared.tick(), connection)),
            _ => {
                self.turn += 1;
                None
            }
        }
    }
}

async fn carry_out(connection: &Connection, key: &str, action: Action) -> Result<Outcome, CallError> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    match action {
        Action::Put(value) => {
            let request = put(key, value);
            let response: PutResponse = connection.unary("/etcdserverpb.KV/Put", &request).await?;
            Ok(Outcome::Wrote { revision: at(response.header.map(|header| header.revision)) })
        }
        Action::Swap { old, new } => {
            let response: TxnResponse = connection.unary("/etcdserverpb.KV/Txn", &swap(key, old, new)).await?;
            let revision = at(response.header.map(|header| header.revision));
            match response.responses.into_iter().next().and_then(|response| response.response) {
                Some(Response::ResponsePut(_)) => Ok(Outcome::Wrote { revision }),
                Some(Response::ResponseRange(range)) => Ok(Outcome::Saw { value: value(&range.kvs), revision }),
                other => panic!("a swap answers {other:?}"),
            }
        }
        Action::Read | Action::Serializable => {
            let request = RangeRequest { key, serializable: action == Action::Serializable, ..RangeRequest::default() };
            let response: RangeResponse = connection.unary("/etcdserverpb.KV/Range", &request).await?;
            let revision = at(response.header.map(|header| header.revision));
            Ok(Outcome::Saw { value: value(&response.kvs), revision })
        }
    }
}

fn put(key: Bytes, value: u64) -> PutRequest {
    PutRequest { key, value: value.to_string().into(), ..PutRequest::default() }
}

fn swap(key: Bytes, old: u64, new: u64) -> TxnRequest {
    let (target, target_union) = match old {
        NOTHING => (CompareTarget::Version, TargetUnion::Version(0)),
        old => (CompareTarget::Value, TargetUnion::Value(old.to_string().into())),
    };
    let compare = Compare {
        result: CompareResult::Equal as i32,
        target: target as i32,
        key: key.clone(),
        target_union: Some(target_union),
        ..Compare::default()
    };
    let read = Request::RequestRange(RangeRequest { key: key.clone(), ..RangeRequest::default() });
    TxnRequest {
        compare: vec![compare],
        success: vec![RequestOp { request: Some(Request::RequestPut(put(key, new))) }],
        failure: vec![RequestOp { request: Some(read) }],
    }
}

fn at(revision: Option<i64>) -> u64 {
    u64::try_from(revision.expect("answers have headers")).expect("revisions are positive")
}

fn value(kvs: &[KeyValue]) -> u64 {
    kvs.first().map_or(NOTHING, |kv| number(&kv.value))
}

fn number(value: &Bytes) -> u64 {
    String::from_utf8_lossy(value).parse().expect("clients write numbers")
}

impl Story {
    /// Everything that was seen, against each other and against what the members have.
    pub fn check(&self, cluster: &Cluster) {
        self.check_leases(cluster);
        let revision = cluster.assert_hashes_agree();
        let mut logs = cluster.running().into_iter().map(|at| (at, events_of(cluster, at, revision)));
        let (_, first) = logs.next().expect("one member runs");
        for (at, events) in logs {
            assert!(events == first, "member {at} tells another history: {} and {} events", events.len(), first.len());
        }
        assert_eq!(self.watched[..], first[..self.watched.len()], "the watch over all endpoints");
        let log = log(&first);
        log.check(&self.history).unwrap_or_else(|what| panic!("{what}"));
        check_linearizable(&self.history).unwrap_or_else(|what| panic!("{what}"));
        let unknown = self.history.iter().filter(|operation| operation.outcome == Outcome::Unknown).count();
        eprintln!(
            "{} operations, {unknown} of them with an unknown outcome, {} events",
            self.history.len(),
            first.len()
        );
        assert!(unknown < self.history.len() / 2, "most operations have failed");
    }

    /// The lease that was kept alive is there with its key; the other one is gone, or will be.
    fn check_leases(&self, cluster: &Cluster) {
        let leader = cluster.leader();
        let ask = |id, keys| -> LeaseTimeToLiveResponse {
            cluster.ask(leader, "Lease/LeaseTimeToLive", &LeaseTimeToLiveRequest { id, keys })
        };
        assert_eq!(ask(self.kept, true).keys, [KEPT], "the lease that was kept alive");
        cluster.until("the lease that nobody kept alive ends", || ask(self.left, false).ttl < 0);
        assert!(cluster.read(leader, LEFT).kvs.is_empty(), "its key is there");
    }
}

/// All events that one member tells, from the first revision to this one.
fn events_of(cluster: &Cluster, at: usize, revision: i64) -> Vec<Event> {
    super::run(async {
        let connection = Connection::open(cluster.client_port(at)).await.expect("it serves");
        let mut watching = Watching::open(&connection).await;
        watching.create(WatchCreateRequest {
            key: PREFIX.into(),
            range_end: crate::traffic::prefix_end(PREFIX.as_bytes()),
            start_revision: 1,
            ..WatchCreateRequest::default()
        });
        watching.all_created().await;
        watching.told_up_to(revision).await;
        watching.events(0).into_iter().take_while(|event| self::revision(event) <= revision).collect()
    })
}

/// The values of the clients' keys.
fn log(events: &[Event]) -> Log {
    let mut log = Log::default();
    for event in events {
        let kv = event.kv.as_ref().expect("every event has a key");
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        if key.starts_with("load/lease/") || key == "load/end" {
            continue;
        }
        assert_eq!(event.r#type, EventType::Put as i32, "clients delete nothing");
        log.keys.entry(key).or_default().insert(at(Some(kv.mod_revision)), number(&kv.value));
    }
    log
}
