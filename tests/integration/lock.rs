//! Locks and elections: the server's own services, the recipe in clients, and both in one queue.
//!
//! The tests expect etcd's behaviour; with etcd as `RINGD_TEST_SUBJECT` they are checked against it, and [`services_agree`] compares.

use std::{
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringd::{
    client::{Call, Client, Code, Error, Lock, Options, Session, lock, method},
    proto::{
        etcdserverpb::{PutRequest, RangeRequest, ResponseHeader},
        mvccpb::KeyValue,
        v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest},
        v3lockpb::{LockRequest, UnlockRequest},
    },
    service::queue,
};
use tokio::task::JoinHandle;

use crate::harness::{
    self,
    etcdctl::Running,
    reference,
    server::{self, Program, Server},
};

/// An event that does not happen within this time has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(5);
const CONTENDERS: usize = 20;

/// Both servers give the same answers to the same requests, without ids and revisions of leases.
pub fn services_agree() {
    let transcripts = [Program::Ringd, Program::Etcd].map(|program| with_server(program, transcript));
    assert_eq!(transcripts[0], transcripts[1], "ringd, then etcd");
}

async fn transcript(client: Client) -> Vec<String> {
    let mut lines = Vec::new();
    let lease = client.grant(60, Call::default()).await.unwrap().id;
    let mut say = |what: &str, said: String| {
        lines.push(format!(
            "{what}: {}",
            said.replace(&format!("{lease:x}"), "<lease>").replace(&lease.to_string(), "<lease>")
        ));
    };
    for (name, of) in [("a", lease), ("a", lease), ("", lease), ("a", 12_345), ("a\0b", lease)] {
        let request = LockRequest { name: Bytes::from_static(name.as_bytes()), lease: of };
        let said = client.call(&method::LOCK, &request, Call::default()).await;
        say("lock", shown(said.map(|response| (response.header, response.key))));
    }
    let unnamed =
        client.call(&method::LOCK, &LockRequest { name: "own".into(), lease: 0 }, Call::default()).await.unwrap();
    let left = client.time_to_live(lease_of(&unnamed.key), true, Call::default()).await.unwrap();
    say("lock without a lease", format!("{} {}", left.granted_ttl, left.keys == [unnamed.key.clone()]));
    for key in [Bytes::from(format!("a/{lease:x}")), "nothing".into(), Bytes::new(), unnamed.key] {
        let said = client.call(&method::UNLOCK, &UnlockRequest { key }, Call::default()).await;
        say("unlock", shown(said.map(|response| response.header)));
    }
    for (value, of) in [("v", lease), ("v", lease), ("w", lease), ("v", 12_345)] {
        let request = CampaignRequest { name: "e".into(), lease: of, value: value.into() };
        let said = client.call(&method::CAMPAIGN, &request, Call::default()).await;
        say("campaign", shown(said.map(|response| (response.header, response.leader))));
    }
    let leader = |rev, of| Some(LeaderKey { name: "e".into(), key: format!("e/{lease:x}").into(), rev, lease: of });
    let rev = create_revision(&client, &format!("e/{lease:x}")).await;
    let nobody = Some(LeaderKey::default());
    for leader in [None, nobody.clone(), leader(rev, lease), leader(rev, 12_345), leader(rev + 1, lease)] {
        let request = ProclaimRequest { leader, value: "x".into() };
        let said = client.call(&method::PROCLAIM, &request, Call::default()).await;
        say("proclaim", shown(said.map(|response| response.header)));
    }
    for name in ["e", "nothing", ""] {
        let said = client.call(&method::LEADER, &LeaderRequest { name: name.into() }, Call::default()).await;
        say("leader", shown(said.map(|response| (response.header, response.kv))));
    }
    for leader in [None, nobody, leader(rev + 1, lease), leader(rev, 12_345), leader(rev, lease)] {
        let said = client.call(&method::RESIGN, &ResignRequest { leader }, Call::default()).await;
        say("resign", shown(said.map(|response| response.header)));
    }
    let large = CampaignRequest { name: "e".into(), lease, value: vec![0; 1_600_000].into() };
    let said = client.call(&method::CAMPAIGN, &large, Call::default()).await;
    say("campaign with a large value", shown(said.map(|response| response.leader)));
    lines
}

/// A response without the parts that differ between clusters, or the error.
fn shown(said: Result<impl std::fmt::Debug, Error>) -> String {
    match said {
        Ok(response) => {
            let text = format!("{response:?}");
            let mut pieces =
                text.split(", ").filter(|piece| !piece.contains("member_id") && !piece.contains("raft_term"));
            let first = pieces.next().unwrap_or_default().split("cluster_id").next().unwrap_or_default().to_owned();
            pieces.fold(first, |all, piece| all + ", " + piece)
        }
        Err(error) => format!("{:?} {}", error.code(), error.message()),
    }
}

fn lease_of(key: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(key);
    i64::from_str_radix(text.rsplit('/').next().unwrap(), 16).unwrap()
}

/// Twenty contenders hold the lock one after the other, in the order in which they came.
pub fn order_of_twenty() {
    with_server(Program::Ringd, async |client| {
        let mut contenders = Vec::new();
        for number in 0..CONTENDERS {
            let lease = client.grant(60, Call::default()).await.unwrap().id;
            contenders.push((lease, start_lock(&client, "name", lease)));
            wait_for_keys(&client, "name/", number + 1).await;
        }
        let mut revision = 0;
        for (number, (lease, locking)) in contenders.into_iter().enumerate() {
            let (header, key) = locking.await.unwrap().unwrap();
            assert_eq!(key, format!("name/{lease:x}"), "contender {number}");
            assert!(header.revision > revision || number == 0, "the revision grows from holder to holder");
            revision = header.revision;
            // By the lock's own call, by a delete, or with the lease: each deletes the key.
            match number % 3 {
                0 => drop(client.call(&method::UNLOCK, &UnlockRequest { key }, Call::default()).await.unwrap()),
                1 => drop(client.call(&method::DELETE_RANGE, &queue::delete(&key), Call::default()).await.unwrap()),
                _ => drop(client.revoke(lease, Call::default()).await.unwrap()),
            }
        }
        wait_for_keys(&client, "name/", 0).await;
    });
}

/// The next waiter gets the lock when the holder's lease is revoked or expires. A waiter that lost its own lease gets an error in its
/// turn.
pub fn lost_sessions() {
    with_server(Program::Ringd, async |client| {
        let lease = async |ttl: i64| client.grant(ttl, Call::default()).await.unwrap().id;
        let (short, first, second, third) = (lease(1).await, lease(60).await, lease(60).await, lease(60).await);
        start_lock(&client, "name", short).await.unwrap().unwrap();
        let waiting = start_lock(&client, "name", first);
        wait_for_keys(&client, "name/", 2).await;
        let lost = start_lock(&client, "name", second);
        wait_for_keys(&client, "name/", 3).await;
        let last = start_lock(&client, "name", third);
        wait_for_keys(&client, "name/", 4).await;
        // This lease is not kept alive.
        let (_, key) = waiting.await.unwrap().unwrap();
        client.revoke(second, Call::default()).await.unwrap();
        wait_for_keys(&client, "name/", 2).await;
        assert!(!last.is_finished(), "the lock is held");
        client.call(&method::UNLOCK, &UnlockRequest { key }, Call::default()).await.unwrap();
        let error = lost.await.unwrap().unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, "mutex: session is expired"));
        last.await.unwrap().unwrap();
    });
}

/// A waiter that is canceled, or whose deadline passes, leaves the queue, and later waiters do not wait for it.
pub fn canceled_waiters() {
    with_server(Program::Ringd, async |client| {
        let held =
            client.call(&method::LOCK, &LockRequest { name: "name".into(), lease: 0 }, Call::default()).await.unwrap();
        let reset = start_lock(&client, "name", 0);
        wait_for_keys(&client, "name/", 2).await;
        let behind = start_lock(&client, "name", 0);
        wait_for_keys(&client, "name/", 3).await;
        reset.abort();
        wait_for_keys(&client, "name/", 2).await;
        let request = LockRequest { name: "name".into(), lease: 0 };
        let late = client.call(&method::LOCK, &request, Call::within(Duration::from_millis(300))).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        wait_for_keys(&client, "name/", 2).await;
        // The end of a connection cancels all its calls.
        let other = connect(client.endpoints()[0].clone()).await;
        let lost = [start_lock(&other, "name", 0), start_lock(&other, "name", 0)];
        wait_for_keys(&client, "name/", 4).await;
        lost.iter().for_each(JoinHandle::abort);
        drop(other);
        wait_for_keys(&client, "name/", 2).await;
        client.call(&method::UNLOCK, &UnlockRequest { key: held.key }, Call::default()).await.unwrap();
        let (_, key) = behind.await.unwrap().unwrap();
        client.call(&method::UNLOCK, &UnlockRequest { key }, Call::default()).await.unwrap();

        let held = campaign(&client, "vote", "first").await.unwrap().unwrap();
        let leaving = campaign(&client, "vote", "second");
        wait_for_keys(&client, "vote/", 2).await;
        leaving.abort();
        wait_for_keys(&client, "vote/", 1).await;
        let resign = ResignRequest { leader: Some(held) };
        client.call(&method::RESIGN, &resign, Call::default()).await.unwrap();
        wait_for_keys(&client, "vote/", 0).await;
    });
}

/// Observers get the present leader, then every leader and value as long as they keep up.
pub fn observers() {
    with_server(Program::Ringd, async |client| {
        let request = LeaderRequest { name: "vote".into() };
        let mut early = client.server_stream(&method::OBSERVE, &request, Call::default()).await.unwrap();
        let mut leaders = client.observe(b"vote");
        // A key that is not under the name changes nothing.
        put(&client, "votes", "x").await;
        let mut late = None;
        for number in 0..5 {
            let name = format!("leader {number}");
            let leader = campaign(&client, "vote", &name).await.unwrap().unwrap();
            assert_eq!(value(&early.next().await.unwrap().unwrap()), name);
            assert_eq!(value(&leaders.next().await.unwrap()), name);
            let said = client.call(&method::LEADER, &request, Call::default()).await.unwrap();
            assert_eq!(value(&said), name);
            let proclaimed = format!("leader {number} again");
            let proclaim = ProclaimRequest { leader: Some(leader.clone()), value: proclaimed.clone().into() };
            client.call(&method::PROCLAIM, &proclaim, Call::default()).await.unwrap();
            assert_eq!(value(&early.next().await.unwrap().unwrap()), proclaimed);
            assert_eq!(value(&leaders.next().await.unwrap()), proclaimed);
            let late = match &mut late {
                None => late.insert(client.server_stream(&method::OBSERVE, &request, Call::default()).await.unwrap()),
                Some(late) => {
                    assert_eq!(value(&late.next().await.unwrap().unwrap()), name);
                    late
                }
            };
            let seen = late.next().await.unwrap().unwrap();
            assert_eq!(value(&seen), proclaimed);
            assert_eq!(seen.kv.unwrap().create_revision, leader.rev);
            client.call(&method::RESIGN, &ResignRequest { leader: Some(leader) }, Call::default()).await.unwrap();
        }
        let error = client.call(&method::LEADER, &request, Call::default()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unknown, "election: no leader"));
    });
}

/// The server's Lock, our client's recipe, etcdctl and ringctl share one queue.
pub fn one_queue_for_all() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let mut etcdctl = Running::start(reference::tool("etcdctl").as_os_str(), &server.endpoint(), &["lock", "name"]);
    expect_key(&mut etcdctl, "name/");
    let mut ringctl = Running::start(ringctl(), &server.endpoint(), &["lock", "name"]);
    harness::run(async {
        let client = connect(server.endpoint()).await;
        wait_for_keys(&client, "name/", 2).await;
        let service = start_lock(&client, "name", 0);
        wait_for_keys(&client, "name/", 3).await;
        let session = Session::open(&client, 10).await.unwrap();
        let mut own = Lock::new(&session, b"name");
        assert_eq!(own.try_acquire().await, Err(lock::Error::Locked));
        assert_eq!(own.release(Call::default()).await, Err(lock::Error::Released));
        let waiting = tokio::spawn(async move {
            own.acquire().await.unwrap();
            own
        });
        wait_for_keys(&client, "name/", 4).await;
        assert_eq!(etcdctl.interrupt(), Some(0));
        expect_key(&mut ringctl, "name/");
        assert!(!service.is_finished());
        assert_eq!(ringctl.interrupt(), Some(0));
        let (_, key) = service.await.unwrap().unwrap();
        assert!(!waiting.is_finished());
        client.call(&method::UNLOCK, &UnlockRequest { key }, Call::default()).await.unwrap();
        let mut own = waiting.await.unwrap();
        assert_eq!(own.key(), &format!("name/{:x}", session.lease()));
        own.release(Call::default()).await.unwrap();
        session.close(Call::default()).await.unwrap();
    });
}

/// etcdctl and ringctl do the same when they are interrupted while they wait, lead or observe, and when their lease is revoked.
pub fn interrupted_clients() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let ends = [reference::tool("etcdctl").as_os_str(), ringctl()].map(|program| {
        let start = |arguments: &[&str]| Running::start(program, &server.endpoint(), arguments);
        let mut observer = start(&["elect", "-l", "vote"]);
        let mut leader = start(&["elect", "vote", "first"]);
        expect_key(&mut leader, "vote/");
        assert_eq!(leader.line(), "first");
        expect_key(&mut observer, "vote/");
        assert_eq!(observer.line(), "first");
        let mut waiter = start(&["elect", "vote", "second"]);
        // The candidate and the observer. Before it watches, the candidate may not know its own key, and would not delete it.
        wait_for_watchers(&server, 2);
        let mut ends = vec![waiter.interrupt(), leader.interrupt()];
        let mut leader = start(&["elect", "vote", "third"]);
        expect_key(&mut leader, "vote/");
        expect_key(&mut observer, "vote/");
        assert_eq!(observer.line(), "third");
        ends.push(observer.interrupt());
        wait_for_watchers(&server, 0);
        let mut holder = start(&["lock", "name"]);
        let key = expect_key(&mut holder, "name/");
        let mut waiter = start(&["lock", "name"]);
        wait_for_watchers(&server, 1);
        ends.push(waiter.interrupt());
        harness::run(async {
            let client = connect(server.endpoint()).await;
            wait_for_keys(&client, "name/", 1).await;
            wait_for_keys(&client, "vote/", 1).await;
            client.revoke(lease_of(key.as_bytes()), Call::default()).await.unwrap();
        });
        ends.push(holder.wait());
        ends.push(leader.interrupt());
        let said = [&mut waiter, &mut holder, &mut leader].map(Running::errors);
        (ends, said)
    });
    assert_eq!(ends[0], ends[1], "etcdctl, then ringctl");
    assert_eq!(ends[0].0, [Some(1), Some(0), Some(0), Some(1), Some(1), Some(0)]);
}

/// The etcd-client crate.
pub fn etcd_client_crate() {
    use etcd_client::{LockOptions, ProclaimOptions, ResignOptions};
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    harness::run(async {
        let mut client = etcd_client::Client::connect([server.endpoint()], None).await.unwrap();
        let lease = client.lease_grant(30, None).await.unwrap().id();
        let held = client.lock("name", Some(LockOptions::new().with_lease(lease))).await.unwrap();
        assert_eq!(held.key(), format!("name/{lease:x}").as_bytes());
        client.unlock(held.key()).await.unwrap();
        let elected = client.campaign("vote", "first", lease).await.unwrap();
        let leader = elected.leader().unwrap().clone();
        let mut observer = client.observe("vote").await.unwrap();
        let mut next = async || observer.message().await.unwrap().unwrap().kv().unwrap().value().to_vec();
        assert_eq!(next().await, b"first");
        client.proclaim("again", Some(ProclaimOptions::new().with_leader(leader.clone()))).await.unwrap();
        assert_eq!(next().await, b"again");
        assert_eq!(client.leader("vote").await.unwrap().kv().unwrap().value(), b"again");
        client.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
        let error = client.leader("vote").await.unwrap_err().to_string();
        assert!(error.contains("election: no leader"), "{error}");
    });
}

fn with_server<T>(program: Program, test: impl AsyncFnOnce(Client) -> T) -> T {
    let directory = server::directory();
    let server = Server::start(program, directory.path());
    harness::run(async { test(connect(server.endpoint()).await).await })
}

async fn connect(endpoint: String) -> Client {
    Client::connect(Options { endpoints: vec![endpoint], ..Options::default() }).await.unwrap()
}

/// A call of Lock on a task of its own.
fn start_lock(client: &Client, name: &str, lease: i64) -> JoinHandle<Result<(ResponseHeader, Bytes), Error>> {
    let request = LockRequest { name: Bytes::copy_from_slice(name.as_bytes()), lease };
    let client = client.clone();
    tokio::spawn(async move {
        let response = client.call(&method::LOCK, &request, Call::default()).await?;
        Ok((response.header.unwrap(), response.key))
    })
}

/// A call of Campaign, with a lease of its own, on a task of its own.
fn campaign(client: &Client, name: &str, value: &str) -> JoinHandle<Result<LeaderKey, Error>> {
    let (name, value) = (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    let client = client.clone();
    tokio::spawn(async move {
        let request = CampaignRequest { name, lease: 0, value };
        let response = client.call(&method::CAMPAIGN, &request, Call::default()).await?;
        Ok(response.leader.unwrap())
    })
}

async fn wait_for_keys(client: &Client, prefix: &str, count: usize) {
    let key = Bytes::copy_from_slice(prefix.as_bytes());
    let request = RangeRequest { range_end: queue::prefix_end(&key), key, keys_only: true, ..RangeRequest::default() };
    let started = Instant::now();
    loop {
        let found = client.call(&method::RANGE, &request, Call::default()).await.unwrap().kvs;
        if found.len() == count {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{count} keys under {prefix} are expected: {found:?}");
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn wait_for_watchers(server: &Server, count: usize) {
    let started = Instant::now();
    let wanted = format!("\netcd_debugging_mvcc_watcher_total {count}\n");
    while !server.page("/metrics").contains(&wanted) {
        assert!(started.elapsed() < PATIENCE, "{count} watchers are expected");
        thread::sleep(POLL_EVERY);
    }
}

async fn create_revision(client: &Client, key: &str) -> i64 {
    let request = queue::read(&Bytes::copy_from_slice(key.as_bytes()));
    client.call(&method::RANGE, &request, Call::default()).await.unwrap().kvs[0].create_revision
}

async fn put(client: &Client, key: &str, value: &str) {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    client.call(&method::PUT, &PutRequest { key, value, ..PutRequest::default() }, Call::default()).await.unwrap();
}

fn value(leader: &LeaderResponse) -> String {
    let pair: &KeyValue = leader.kv.as_ref().unwrap();
    String::from_utf8_lossy(&pair.value).into_owned()
}

fn ringctl() -> &'static std::ffi::OsStr {
    std::ffi::OsStr::new(env!("CARGO_BIN_EXE_ringctl"))
}

/// Waits for a line with a key under `prefix`. A lock's key has an empty value, which is a line too.
fn expect_key(running: &mut Running, prefix: &str) -> String {
    let mut line = running.line();
    if line.is_empty() {
        line = running.line();
    }
    assert!(line.starts_with(prefix), "{line:?} is no key under {prefix}");
    line
}
