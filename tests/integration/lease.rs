//! The lease service of ringd and etcd, answer by answer: ids, lifetimes, attached keys, and their deletion.
//!
//! Not compared: the remaining lifetime (it must be plausible on each), the ids that a server chooses, the order of lists.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request,
};

use crate::harness::{
    self,
    grpc::{CallError, Connection},
    pair::Pair,
    server::Server,
    stream::Stream,
    watching::{Told, Watching, modified},
};

pub const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";

const OPERATIONS: usize = 1200;
/// Longer than any test runs.
const TTL: i64 = 5000;
/// A lease that was granted or renewed during this test has lost no more than this.
const LOST_MAX: i64 = 300;
/// Keys and leases of the random traffic: few, so that they meet.
const LEASE_IDS: i64 = 6;
const KEYS: usize = 12;
/// The lease that is kept alive while others end, and its lifetime, which is longer than the start of the other server.
const KEPT: i64 = 3;
const KEPT_TTL: i64 = 8;
/// Attempts of a check that is repeated every few milliseconds.
const ASKED_MAX: usize = 3000;

/// Every kind of grant and question, one after the other.
pub fn requests_agree() {
    const GRANTS: [(i64, i64); 16] = [
        (1, 100),
        (1, 100),
        (1, 200),
        (2, 0),
        (3, -1),
        (4, i64::MIN),
        (5, 9_000_000_000),
        (6, 9_000_000_001),
        (7, i64::MAX),
        (8, 1),
        (9, 2),
        (10, 3),
        (-1, 100),
        (i64::MAX, 60),
        (i64::MIN, 60),
        (1, 9_000_000_001),
    ];
    harness::run(async {
        let mut pair = Pair::start(&[]).await;
        let _: LeaseLeasesResponse = pair.done(LEASES, &LeaseLeasesRequest {}).await;
        let mut alive = KeepAlives::open(&pair).await;
        for (id, ttl) in GRANTS {
            let _: Result<LeaseGrantResponse, _> = pair.agree(GRANT, &LeaseGrantRequest { ttl, id }).await;
            // The short ones may end at any time.
            if ttl > 10 {
                time_to_live(&pair, id, true).await;
                alive.agree(id).await;
            }
        }
        for id in [0, 77, -77] {
            time_to_live(&pair, id, false).await;
            time_to_live(&pair, id, true).await;
            alive.agree(id).await;
            let revoked: Result<LeaseRevokeResponse, _> = pair.agree(REVOKE, &LeaseRevokeRequest { id }).await;
            revoked.expect_err("there is no such lease");
        }
        chosen_ids(&pair).await;
        pair.restart(Server::restart).await;
        let mut alive = KeepAlives::open(&pair).await;
        for (id, ttl) in GRANTS.into_iter().filter(|&(_, ttl)| ttl > 10) {
            time_to_live(&pair, id, true).await;
            alive.agree(id).await;
            let _: Result<LeaseRevokeResponse, _> = pair.agree(REVOKE, &LeaseRevokeRequest { id }).await;
            time_to_live(&pair, id, ttl % 200 == 0).await;
        }
    });
}

/// Ids that the servers choose: positive, and different each time.
async fn chosen_ids(pair: &Pair) {
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        let request = LeaseGrantRequest { ttl: TTL, id: 0 };
        for reply in pair.both(GRANT, &request).await {
            let granted: LeaseGrantResponse = reply.typed().expect("it is granted");
            assert!(granted.id > 0 && granted.ttl == TTL && granted.error.is_empty(), "{granted:?}");
            assert!(seen.insert(granted.id), "{} twice", granted.id);
        }
    }
}

/// Random traffic of leases and attached keys, with stops and kills.
pub fn traffic_agrees() {
    let seed = harness::seed("lease::traffic_agrees", 11);
    let mut random = SmallRng::seed_from_u64(seed);
    harness::run(async {
        let mut pair = Pair::start(&[]).await;
        let mut alive = KeepAlives::open(&pair).await;
        for position in 0..OPERATIONS {
            if position % (OPERATIONS / 4) == OPERATIONS / 8 {
                pair.restart(if random.random() { Server::restart } else { Server::crash }).await;
                alive = KeepAlives::open(&pair).await;
                everything_agrees(&pair).await;
            }
            step(&pair, &mut alive, &mut random).await;
        }
        everything_agrees(&pair).await;
    });
}

async fn step(pair: &Pair, alive: &mut KeepAlives, random: &mut SmallRng) {
    let id = random.random_range(1..=LEASE_IDS);
    match random.random_range(0..100) {
        0..12 => drop(pair.agree::<_, LeaseGrantResponse>(GRANT, &LeaseGrantRequest { ttl: TTL, id }).await),
        12..18 => drop(pair.agree::<_, LeaseRevokeResponse>(REVOKE, &LeaseRevokeRequest { id }).await),
        18..24 => alive.agree(id).await,
        24..32 => time_to_live(pair, id, random.random()).await,
        32..36 => leases(pair).await,
        36..64 => drop(pair.agree::<_, PutResponse>(PUT, &put(random)).await),
        64..74 => drop(pair.agree::<_, DeleteRangeResponse>(DELETE_RANGE, &delete(random)).await),
        74..92 => drop(pair.agree::<_, TxnResponse>(TXN, &txn(random)).await),
        _ => drop(pair.agree::<_, RangeResponse>(RANGE, &everything()).await),
    }
}

fn put(random: &mut SmallRng) -> PutRequest {
    PutRequest {
        key: key(random),
        value: format!("{}", random.random_range(0..5)).into(),
        lease: lease(random),
        prev_kv: random.random_bool(0.2),
        ignore_value: random.random_bool(0.05),
        ignore_lease: random.random_bool(0.1),
    }
}

fn lease(random: &mut SmallRng) -> i64 {
    if random.random_bool(0.3) { 0 } else { random.random_range(1..=LEASE_IDS) }
}

fn key(random: &mut SmallRng) -> Bytes {
    format!("k{:02}", random.random_range(0..KEYS)).into()
}

fn delete(random: &mut SmallRng) -> DeleteRangeRequest {
    let range_end = if random.random_bool(0.3) { key(random) } else { Bytes::new() };
    DeleteRangeRequest { key: key(random), range_end, prev_kv: true }
}

/// A comparison by lease, then puts and deletes: several keys change hands in one revision.
fn txn(random: &mut SmallRng) -> TxnRequest {
    let compare = Compare {
        result: random.random_range(0..4),
        target: 4,
        key: key(random),
        target_union: Some(TargetUnion::Lease(lease(random))),
        range_end: if random.random_bool(0.3) { key(random) } else { Bytes::new() },
    };
    let mut branch = || {
        let length = random.random_range(0..4);
        let request = |random: &mut SmallRng| match random.random_range(0..3) {
            0 => Request::RequestDeleteRange(delete(random)),
            1 => Request::RequestRange(everything()),
            _ => Request::RequestPut(PutRequest { ignore_value: false, ignore_lease: false, ..put(random) }),
        };
        (0..length).map(|_| RequestOp { request: Some(request(random)) }).collect()
    };
    TxnRequest { success: branch(), failure: branch(), compare: vec![compare] }
}

fn everything() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() }
}

async fn everything_agrees(pair: &Pair) {
    leases(pair).await;
    for id in 1..=LEASE_IDS {
        time_to_live(pair, id, true).await;
    }
    let _: RangeResponse = pair.done(RANGE, &everything()).await;
}

/// The list of leases, as a set.
async fn leases(pair: &Pair) {
    let sort = |response: &mut LeaseLeasesResponse| response.leases.sort_by_key(|lease| lease.id);
    pair.agree_after(LEASES, &LeaseLeasesRequest {}, sort).await.expect("it is never refused");
}

/// The remaining time is checked and replaced by the expected value.
async fn time_to_live(pair: &Pair, id: i64, keys: bool) {
    let level = |response: &mut LeaseTimeToLiveResponse| {
        if response.ttl != -1 {
            let lost = response.granted_ttl - response.ttl;
            assert!((-LOST_MAX..=LOST_MAX).contains(&lost), "{response:?}");
            response.ttl = response.granted_ttl;
        }
        response.keys.sort();
    };
    pair.agree_after(TIME_TO_LIVE, &LeaseTimeToLiveRequest { id, keys }, level).await.expect("it is never refused");
}

/// A keepalive stream to each server.
struct KeepAlives([Stream; 2]);

impl KeepAlives {
    async fn open(pair: &Pair) -> KeepAlives {
        let [ringd, etcd] = &pair.connections;
        KeepAlives([ringd.stream(KEEP_ALIVE, &[]).await, etcd.stream(KEEP_ALIVE, &[]).await])
    }

    /// Renews a lease on both; the answers must be equal.
    async fn agree(&mut self, id: i64) {
        let mut answers = Vec::new();
        for stream in &mut self.0 {
            stream.send(&LeaseKeepAliveRequest { id });
            answers.push(renewed(stream).await);
        }
        assert_eq!(answers[0], answers[1], "keepalive of {id}: ringd, then etcd");
    }
}

async fn renewed(stream: &mut Stream) -> LeaseKeepAliveResponse {
    let answer = stream.next::<LeaseKeepAliveResponse>().await;
    let mut answer = answer.unwrap_or_else(|end| panic!("the keepalive stream ends: {end}"));
    let header = answer.header.as_mut().expect("every response has a header");
    (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    answer
}

/// Many requests before the first answer is read, known and unknown leases mixed: one answer each, in order; then the
/// client half-closes, and the server ends the call.
pub fn keepalives_are_answered_in_order() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        for id in [2, 3] {
            let _: LeaseGrantResponse = pair.done(GRANT, &LeaseGrantRequest { ttl: TTL + id, id }).await;
        }
        let KeepAlives(mut streams) = KeepAlives::open(&pair).await;
        let ids: Vec<i64> = (0..500).map(|number| number % 5).collect();
        let mut sides = Vec::new();
        for stream in &mut streams {
            ids.iter().for_each(|&id| stream.send(&LeaseKeepAliveRequest { id }));
            stream.half_close();
            let mut answers = Vec::new();
            for _ in &ids {
                answers.push(renewed(stream).await);
            }
            sides.push((answers, stream.end().await));
        }
        assert_eq!(sides[0], sides[1], "ringd, then etcd");
        let answered: Vec<i64> = sides[0].0.iter().map(|answer| answer.id).collect();
        assert_eq!(answered, ids);
    });
}

/// A revoked lease deletes all its keys, in one revision, in the order of the keys, and watchers get these events.
pub fn revoked_keys_are_watched() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        for id in [1, 2] {
            let _: LeaseGrantResponse = pair.done(GRANT, &LeaseGrantRequest { ttl: TTL, id }).await;
        }
        let mut revision = 0;
        for number in (0..40).rev() {
            let request = PutRequest { key: format!("k{number:02}").into(), lease: 1, ..PutRequest::default() };
            let _: PutResponse = pair.done(PUT, &request).await;
            // A few move to the other lease, a few to none.
            let lease = i64::from(number % 3) * 2 % 3;
            if number % 4 == 0 && lease != 1 {
                let response: PutResponse = pair.done(PUT, &PutRequest { lease, ..request }).await;
                revision = response.header.expect("every response has a header").revision;
            }
        }
        for id in [1, 2] {
            let revoked: LeaseRevokeResponse = pair.done(REVOKE, &LeaseRevokeRequest { id }).await;
            assert_eq!(revoked.header.expect("every response has a header").revision, revision + id);
        }
        let _: RangeResponse = pair.done(RANGE, &everything()).await;
        let mut sides = Vec::new();
        for connection in &pair.connections {
            sides.push(told_from_the_start(connection, revision + 2).await);
            assert_eq!(sides.last(), sides.first(), "ringd, then etcd");
        }
    });
}

async fn told_from_the_start(connection: &Connection, revision: i64) -> Vec<Told> {
    let mut watching = Watching::open(connection).await;
    watching.create(crate::watch::everything_from(1));
    watching.settle(connection).await;
    let events = watching.events(0);
    let last: Vec<&Bytes> = events
        .iter()
        .filter(|event| modified(event) == revision)
        .map(|event| &event.kv.as_ref().expect("every event has a key").key)
        .collect();
    assert!(last.len() > 1 && last.is_sorted(), "{last:?}");
    watching.told.remove(&0).expect("it was created")
}

/// Leases expire and their keys are deleted, all at once; one that is kept alive stays, also over a restart.
pub fn expiry() {
    const KEYS_PER_LEASE: usize = 20;
    harness::run(async {
        let mut pair = Pair::start(&[]).await;
        for id in 1..=4 {
            let ttl = if id == KEPT { KEPT_TTL } else { 2 };
            let _: LeaseGrantResponse = pair.done(GRANT, &LeaseGrantRequest { ttl, id }).await;
            for number in 0..KEYS_PER_LEASE {
                let key = format!("{id}/{number:02}").into();
                let _: PutResponse = pair.done(PUT, &PutRequest { key, lease: id, ..PutRequest::default() }).await;
            }
        }
        // The last lease has no keys left.
        let request = DeleteRangeRequest { key: "4/".into(), range_end: "40".into(), prev_kv: false };
        let deleted: DeleteRangeResponse = pair.done(DELETE_RANGE, &request).await;
        let complete = deleted.header.expect("every response has a header").revision;
        // A restart gives each lease its whole time again.
        pair.restart(Server::crash).await;
        let mut alive = KeepAlives::open(&pair).await;
        let ([ringd, etcd], KeepAlives([to_ringd, to_etcd])) = (&pair.connections, &mut alive);
        tokio::join!(expired(ringd, to_ringd), expired(etcd, to_etcd));
        for (number, connection) in pair.connections.iter().enumerate() {
            let sizes = sizes_over_time(connection, complete).await;
            let split = sizes.iter().find(|&&size| size != KEYS_PER_LEASE);
            assert_eq!(split, None, "server {number}: some of a lease's keys were gone before the others");
        }
        let _: RangeResponse = pair.done(RANGE, &everything()).await;
        leases(&pair).await;
        for id in 1..=4 {
            time_to_live(&pair, id, true).await;
        }
    });
}

/// All but one, and then the one that was kept alive as well.
async fn expired(connection: &Connection, stream: &mut Stream) {
    wait_for_the_end_of(connection, &[1, 2, 4], Some((stream, KEPT))).await;
    wait_for_the_end_of(connection, &[KEPT], None).await;
}

/// Waits until the leases have ended, while keeping another one alive.
async fn wait_for_the_end_of(connection: &Connection, ids: &[i64], mut kept: Option<(&mut Stream, i64)>) {
    const ASK_AGAIN: std::time::Duration = std::time::Duration::from_millis(10);
    for _ in 0..ASKED_MAX {
        if let Some((stream, id)) = &mut kept {
            stream.send(&LeaseKeepAliveRequest { id: *id });
            assert_eq!(renewed(stream).await.ttl, KEPT_TTL, "lease {id} ended while it was kept alive");
        }
        let list: Result<LeaseLeasesResponse, CallError> = connection.unary(LEASES, &LeaseLeasesRequest {}).await;
        let list = list.unwrap_or_else(|error| panic!("{error}"));
        if !list.leases.iter().any(|lease| ids.contains(&lease.id)) {
            return;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    panic!("leases {ids:?} do not end");
}

/// The number of keys of each lease, at each revision from `first` on.
async fn sizes_over_time(connection: &Connection, first: i64) -> Vec<usize> {
    let read = async |request: &RangeRequest| -> RangeResponse {
        connection.unary(RANGE, request).await.unwrap_or_else(|error| panic!("{error}"))
    };
    let last = read(&everything()).await.header.expect("every response has a header").revision;
    let mut sizes = Vec::new();
    for revision in first..=last {
        let response = read(&RangeRequest { revision, ..everything() }).await;
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        response.kvs.iter().for_each(|kv| *counts.entry(kv.key[0]).or_default() += 1);
        sizes.extend(counts.values());
    }
    sizes
}
