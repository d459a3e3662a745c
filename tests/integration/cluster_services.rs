//! What a service of one member asks of the others: leases that the leader keeps, leadership that is handed over, learners, and
//! streams without a leader. Members are ringd and etcd, and each of them leads.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ringd::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberPromoteResponse,
    MoveLeaderRequest, MoveLeaderResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse, WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};

use crate::harness::{
    self,
    cluster::Cluster,
    grpc::{CallError, Connection, Refusal},
    server::Program::{self, Etcd, Ringd},
    stream::End,
};

const MIXED: [Program; 3] = [Ringd, Etcd, Ringd];
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const TTL_S: i64 = 1000;
const FAILED_PRECONDITION: u32 = 9;
const UNAVAILABLE: u32 = 14;

/// Whoever leads, each member renews a lease and looks it up, and knows that another one is not there.
pub fn leases_are_kept_by_the_leader() {
    let cluster = Cluster::start(&MIXED, &[]);
    let granted: LeaseGrantResponse =
        cluster.ask(0, "Lease/LeaseGrant", &LeaseGrantRequest { ttl: TTL_S, ..LeaseGrantRequest::default() });
    let put = PutRequest { key: "k".into(), lease: granted.id, ..PutRequest::default() };
    let _: PutResponse = cluster.ask(1, "KV/Put", &put);
    for leader in 0..3 {
        move_leader(&cluster, leader);
        for at in 0..3 {
            assert_eq!(renewed(&cluster, at, granted.id), TTL_S, "at {at}, led by {leader}");
            assert_eq!(renewed(&cluster, at, granted.id + 1), 0, "at {at}, led by {leader}");
            let found = time_to_live(&cluster, at, granted.id);
            assert_eq!((found.granted_ttl, &found.keys[..]), (TTL_S, &[Bytes::from("k")][..]));
            assert!((1..=TTL_S).contains(&found.ttl), "{} s are left", found.ttl);
            assert_eq!(found.header.expect("answers have headers").member_id, cluster.id(at));
            assert_eq!(time_to_live(&cluster, at, granted.id + 1).ttl, -1);
        }
    }
}

fn renewed(cluster: &Cluster, at: usize, id: i64) -> i64 {
    harness::run(async {
        let connection = Connection::open(cluster.client_port(at)).await.expect("it serves");
        let mut stream = connection.stream(KEEP_ALIVE, &[]).await;
        stream.send(&LeaseKeepAliveRequest { id });
        stream.next::<LeaseKeepAliveResponse>().await.unwrap_or_else(|end| panic!("{end}")).ttl
    })
}

fn time_to_live(cluster: &Cluster, at: usize, id: i64) -> LeaseTimeToLiveResponse {
    cluster.ask(at, "Lease/LeaseTimeToLive", &LeaseTimeToLiveRequest { id, keys: true })
}

pub fn move_leader(cluster: &Cluster, to: usize) {
    let request = MoveLeaderRequest { target_id: cluster.id(to) };
    let leader = cluster.leader();
    let moved: Result<MoveLeaderResponse, _> = cluster.try_ask(leader, "Maintenance/MoveLeader", &request);
    moved.unwrap_or_else(|error| panic!("from {leader} to {to}: {error}"));
    assert_eq!(cluster.leader(), to);
}

/// Leadership goes to voters only, at the leader's word only; and a leader that is stopped hands it over, so that clients of the others
/// see no error.
pub fn leadership_is_handed_over() {
    let mut cluster = Cluster::start(&[Ringd; 3], &[]);
    move_leader(&cluster, 1);
    let moved = |at: usize, target_id| {
        let moved: Result<MoveLeaderResponse, _> =
            cluster.try_ask(at, "Maintenance/MoveLeader", &MoveLeaderRequest { target_id });
        refusal(moved)
    };
    assert_eq!(moved(0, cluster.id(2)).message, "etcdserver: not leader");
    assert_eq!(moved(1, 7).message, "etcdserver: bad leader transferee");
    let is_over = AtomicBool::new(false);
    let port = cluster.client_port(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(port, &is_over));
        cluster.stop(1);
        is_over.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer ends");
        assert!(written > 0, "nothing was written meanwhile");
    });
    assert_ne!(cluster.leader(), 1);
    cluster.assert_hashes_agree();
}

/// Writes one after the other; each must succeed.
fn write_until(port: u16, is_over: &AtomicBool) -> u64 {
    harness::run(async {
        let connection = Connection::open(port).await.expect("it serves");
        let mut written = 0;
        while !is_over.load(Ordering::Relaxed) {
            let put = PutRequest { key: "written".into(), value: written.to_string().into(), ..PutRequest::default() };
            let _: PutResponse = connection
                .unary("/etcdserverpb.KV/Put", &put)
                .await
                .unwrap_or_else(|error| panic!("write {written}: {error}"));
            written += 1;
        }
        written
    })
}

/// A learner serves what needs nobody else, and any member takes the request to promote it.
pub fn learners_serve_little() {
    let mut cluster = Cluster::start(&MIXED, &[]);
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    let _: PutResponse = cluster.ask(0, "KV/Put", &put);
    for (leader, program) in [(0, Ringd), (1, Etcd)] {
        move_leader(&cluster, leader);
        let learner = cluster.add(program, true);
        let status: StatusResponse = cluster.ask(learner, "Maintenance/Status", &StatusRequest {});
        assert!(status.is_learner);
        assert_eq!(status.leader, cluster.id(leader));
        let read = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
        cluster.until("the learner has the key", || {
            let found: RangeResponse = cluster.ask(learner, "KV/Range", &read);
            found.count == 1
        });
        let put: Result<PutResponse, _> = cluster.try_ask(learner, "KV/Put", &put);
        let list: Result<MemberListResponse, _> =
            cluster.try_ask(learner, "Cluster/MemberList", &MemberListRequest::default());
        for refused in [refusal(put), refusal(list)] {
            let expected = "etcdserver: rpc not supported for learner";
            assert_eq!((refused.code, &*refused.message), (FAILED_PRECONDITION, expected), "{program:?}");
        }
        let id = cluster.id(learner);
        let promoted: MemberPromoteResponse = cluster.ask(2, "Cluster/MemberPromote", &MemberPromoteRequest { id });
        assert!(promoted.members.iter().any(|member| member.id == id && !member.is_learner));
        cluster.read(learner, "k");
        cluster.remove(learner);
    }
}

/// Without a leader, streams and calls that ask for one end; others go on.
pub fn lost_leader_ends_streams() {
    let mut cluster = Cluster::start(&MIXED, &[]);
    let port = cluster.client_port(0);
    harness::run(async {
        let connection = Connection::open(port).await.expect("it serves");
        let create = WatchCreateRequest { key: "k".into(), ..WatchCreateRequest::default() };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let leased = [("hasleader", "true")];
        let mut watch = connection.stream(WATCH, &leased).await;
        let mut keep_alive = connection.stream(KEEP_ALIVE, &leased).await;
        watch.send(&create);
        let created: WatchResponse = watch.next().await.unwrap_or_else(|end| panic!("{end}"));
        assert!(created.created);
        keep_alive.send(&LeaseKeepAliveRequest { id: 7 });
        let _: LeaseKeepAliveResponse = keep_alive.next().await.unwrap_or_else(|end| panic!("{end}"));
        cluster.kill(1);
        cluster.kill(2);
        let expected = End::Status { code: Some(UNAVAILABLE), message: "etcdserver: no leader".to_owned() };
        assert_eq!(watch.end().await, expected, "Watch");
        assert_eq!(keep_alive.end().await, expected, "LeaseKeepAlive");
        let mut late = connection.stream(WATCH, &leased).await;
        assert_eq!(late.end().await, expected, "a new Watch");
        let read = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
        let _: RangeResponse =
            connection.unary("/etcdserverpb.KV/Range", &read).await.expect("serializable reads need no leader");
    });
}

fn refusal<R>(outcome: Result<R, CallError>) -> Refusal {
    match outcome {
        Err(CallError::Refused(refusal)) => refusal,
        Err(CallError::Lost(reason)) => panic!("no answer: {reason}"),
        Ok(_) => panic!("it is not refused"),
    }
}
