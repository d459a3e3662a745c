//! The maintenance service of ringd and etcd: hashes, snapshots, defragmentation, alarms, quota, automatic compaction, and
//! the answers of a single member to the other requests.

use std::time::Duration;

use bytes::Bytes;
use ringd::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse, DefragmentRequest,
    DefragmentResponse, DeleteRangeRequest, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, MoveLeaderRequest,
    MoveLeaderResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, StatusRequest, StatusResponse,
    TxnRequest, alarm_request::AlarmAction, request_op::Request,
};

use crate::{
    harness::{
        self,
        grpc::{CallError, Connection, Reply},
        pair::{NAMES, Pair},
        server::{self, Program, Server},
    },
    lease::{GRANT, REVOKE},
    traffic::{Operation, Traffic},
    watch,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
const HASH: &str = "/etcdserverpb.Maintenance/Hash";
const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";
const DOWNGRADE: &str = "/etcdserverpb.Maintenance/Downgrade";

/// Pause of repeated checks.
const ASK_AGAIN: Duration = Duration::from_millis(20);
const ASKED_MAX: usize = 2000;

/// The same history has the same hash at every revision, whatever was compacted, and after a restart.
pub fn hashes_agree() {
    const WRITES: usize = 150;
    let seed = harness::seed("maintenance::hashes_agree", 13);
    harness::run(async {
        let mut pair = Pair::start(&[]).await;
        let mut traffic = Traffic::new(seed);
        let _: LeaseGrantResponse = pair.done(GRANT, &LeaseGrantRequest { ttl: 5000, id: 7 }).await;
        every_hash(&pair, 1).await;
        for round in 0..3 {
            let leased = PutRequest { key: "leased".into(), lease: 7, ..PutRequest::default() };
            let _: PutResponse = pair.done(PUT, &leased).await;
            let revision = watch::write(&pair, &mut traffic, WRITES).await;
            every_hash(&pair, revision).await;
            watch::compact(&pair, &mut traffic, revision - 40 * (round % 2)).await;
            every_hash(&pair, revision).await;
            if round == 1 {
                pair.restart(Server::crash).await;
                every_hash(&pair, revision).await;
            }
        }
        whole_hash(&pair).await;
    });
}

async fn every_hash(pair: &Pair, revision: i64) {
    for revision in -1..=revision + 2 {
        let _: Result<HashKvResponse, _> = pair.agree(HASH_KV, &HashKvRequest { revision }).await;
    }
}

/// The hash of the whole database includes the members, so it differs between servers; but it stays without writes.
async fn whole_hash(pair: &Pair) {
    for (name, connection) in NAMES.iter().zip(&pair.connections) {
        let hash = async || {
            let response: HashResponse = connection.unary(HASH, &HashRequest {}).await.unwrap();
            assert!(response.header.is_some(), "{name}: no header");
            response.hash
        };
        let before = hash().await;
        assert_eq!(hash().await, before, "{name}");
        let _: PutResponse = connection.unary(PUT, &put("hashed", 1)).await.unwrap();
        assert_ne!(hash().await, before, "{name}");
    }
}

/// The requests that each alarm blocks, for any member, alone and together, over a restart, until it is disarmed.
pub fn alarms_agree() {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None, Nospace};
    let script = [
        (Get, 0, None),
        (Activate, 0, None),
        (Deactivate, 5, Nospace),
        (Activate, 5, Nospace),
        (Activate, 5, Nospace),
        (Get, 0, Nospace),
        (Get, 0, Corrupt),
        (Get, 77, None),
        (Deactivate, 6, Nospace),
        (Activate, 6, Nospace),
        (Activate, 6, Corrupt),
        (Get, 0, None),
        (Deactivate, 5, Nospace),
        (Deactivate, 6, Nospace),
        (Activate, 0, Nospace),
        (Deactivate, 6, Corrupt),
        (Deactivate, 0, Nospace),
        (Get, 0, None),
    ];
    harness::run(async {
        let mut pair = Pair::start(&[]).await;
        let mut blocked = 0;
        for (position, (action, member_id, alarm)) in script.into_iter().enumerate() {
            let request = AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
            sorted_alarms(&pair, &request).await;
            if position == 11 {
                pair.restart(Server::crash).await;
            }
            blocked += battery(&pair, Compared::All).await;
            let errors = status(&pair).await.errors;
            assert_eq!(errors.is_empty(), !(3..16).contains(&position), "{position}: {errors:?}");
        }
        assert!(blocked > 10, "only {blocked} requests were refused");
        if server::subject_is_ringd() {
            unknown_alarms(&pair.connections[0]).await;
        }
        battery(&pair, Compared::All).await;
    });
}

/// Kinds of alarm and of action that do not exist. They end an etcd, so they are not compared.
async fn unknown_alarms(connection: &Connection) {
    for (action, alarm) in [(9, 0), (9, 1), (0, 9), (1, 9), (2, 9), (-1, -1)] {
        let reply = connection.unary::<_, AlarmResponse>(ALARM, &AlarmRequest { action, member_id: 5, alarm }).await;
        assert!(!matches!(reply, Err(CallError::Lost(_))), "action {action}, alarm {alarm}: {reply:?}");
    }
    let alarms: AlarmResponse = connection.unary(ALARM, &AlarmRequest::default()).await.unwrap();
    assert_eq!(alarms.alarms, []);
}

/// Asks both about alarms; their order is left open.
async fn sorted_alarms(pair: &Pair, request: &AlarmRequest) {
    let sort = |response: &mut AlarmResponse| response.alarms.sort_by_key(|alarm| (alarm.member_id, alarm.alarm));
    let _ = pair.agree_after(ALARM, request, sort).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    All,
    /// The histories are not the same.
    Status,
}

/// One request of every kind that an alarm may block. Returns the number of refusals.
async fn battery(pair: &Pair, compared: Compared) -> usize {
    let put_op = |key| RequestOp { request: Some(Request::RequestPut(put(key, 1))) };
    let range_op = RequestOp { request: Some(Request::RequestRange(range("battery", false))) };
    let delete = DeleteRangeRequest { key: "battery".into(), ..DeleteRangeRequest::default() };
    let delete_op = RequestOp { request: Some(Request::RequestDeleteRange(delete.clone())) };
    let txn = |success: &[RequestOp], failure: &[RequestOp]| {
        let (success, failure) = (success.to_vec(), failure.to_vec());
        Operation::Txn(TxnRequest { success, failure, ..TxnRequest::default() })
    };
    let nested = TxnRequest { success: vec![put_op("nested")], ..TxnRequest::default() };
    let operations = [
        Operation::Put(put("battery", 1)),
        Operation::Put(PutRequest { key: Bytes::new(), ..PutRequest::default() }),
        Operation::Put(PutRequest { lease: 99, ..put("battery", 1) }),
        Operation::Range(range("battery", false)),
        Operation::Range(range("battery", true)),
        Operation::RangeStream(range("battery", false)),
        txn(std::slice::from_ref(&range_op), &[]),
        txn(&[put_op("battery")], &[]),
        txn(std::slice::from_ref(&range_op), &[put_op("battery")]),
        txn(&[RequestOp { request: Some(Request::RequestTxn(nested)) }], &[]),
        txn(&[delete_op], &[range_op]),
        txn(&[], &[]),
        Operation::DeleteRange(delete),
    ];
    let mut refused = 0;
    let mut check = |what: String, replies: [Reply; 2]| {
        let [ringd, etcd] = replies.each_ref().map(|reply| (reply.code, &reply.message));
        assert_eq!(ringd, etcd, "{what}: ringd, then etcd");
        refused += usize::from(etcd.0 != Some(0));
    };
    for operation in operations {
        check(operation.to_string(), pair.both_encoded(operation.path(), operation.encoded()).await);
    }
    check("grant".into(), pair.both(GRANT, &LeaseGrantRequest { ttl: 5000, id: 99 }).await);
    check("grant one too long".into(), pair.both(GRANT, &LeaseGrantRequest { ttl: i64::MAX, id: 98 }).await);
    check("revoke".into(), pair.both(REVOKE, &LeaseRevokeRequest { id: 99 }).await);
    check("hash".into(), pair.both(HASH_KV, &HashKvRequest { revision: 0 }).await);
    let everything = RangeRequest { range_end: "\0".into(), ..range("\0", false) };
    if compared == Compared::All {
        // So that there is always something to compact.
        let response: RangeResponse = pair.done(RANGE, &everything).await;
        let revision = response.header.expect("every response has a header").revision;
        check("compact".into(), pair.both(COMPACT, &CompactionRequest { revision, physical: true }).await);
        check("hash".into(), pair.both(HASH_KV, &HashKvRequest { revision }).await);
    }
    refused
}

fn put(key: &'static str, value_bytes: usize) -> PutRequest {
    PutRequest { key: key.into(), value: vec![b'v'; value_bytes].into(), ..PutRequest::default() }
}

fn range(key: &'static str, serializable: bool) -> RangeRequest {
    RangeRequest { key: key.into(), serializable, ..RangeRequest::default() }
}

/// A small database gets full on both: the same requests are refused, the alarm is raised once, and writes continue when there is room
/// and the alarm is disarmed.
pub fn quota_agrees() {
    const QUOTA: &str = "16777216";
    const VALUE_BYTES: usize = 200_000;
    const PUTS_MAX: usize = 400;
    harness::run(async {
        let pair = Pair::start(&["--quota-backend-bytes", QUOTA]).await;
        let mut refusals = Vec::new();
        for (name, connection) in NAMES.iter().zip(&pair.connections) {
            let mut puts = 0;
            let refusal = loop {
                // Overwritten: so there is something to compact.
                match connection.unary::<_, PutResponse>(PUT, &put("full", VALUE_BYTES)).await {
                    Ok(_) => puts += 1,
                    Err(CallError::Refused(refusal)) => break refusal,
                    Err(CallError::Lost(reason)) => panic!("{name}: {reason}"),
                }
                assert!(puts < PUTS_MAX, "{name}: the quota does not hold");
            };
            eprintln!("  {name}: {puts} puts of {VALUE_BYTES} bytes");
            assert!(puts > 20, "{name}: full far below its quota");
            refusals.push(refusal);
        }
        assert_eq!(refusals[0], refusals[1], "ringd, then etcd");
        let refused = battery(&pair, Compared::Status).await;
        assert!(refused > 4, "only {refused} requests were refused");
        for (name, connection) in NAMES.iter().zip(&pair.connections) {
            make_room(name, connection).await;
        }
        let refused = battery(&pair, Compared::Status).await;
        assert!(refused < 4, "{refused} requests were refused with room enough");
    });
}

async fn make_room(name: &str, connection: &Connection) {
    let get = AlarmRequest::default();
    let alarms: AlarmResponse = connection.unary(ALARM, &get).await.unwrap();
    let header = alarms.header.expect("every response has a header");
    let own = AlarmMember { member_id: header.member_id, alarm: AlarmType::Nospace.into() };
    assert_eq!(alarms.alarms, [own], "{name}");
    let _: CompactionResponse = connection
        .unary(COMPACT, &CompactionRequest { revision: header.revision, physical: true })
        .await
        .unwrap_or_else(|error| panic!("{name}: compact: {error}"));
    let _: DefragmentResponse = connection
        .unary(DEFRAGMENT, &DefragmentRequest {})
        .await
        .unwrap_or_else(|error| panic!("{name}: defragment: {error}"));
    // Room alone does not disarm the alarm.
    let error = connection.unary::<_, PutResponse>(PUT, &put("full", 1)).await.expect_err("the alarm is there");
    assert!(error.to_string().contains("database space exceeded"), "{name}: {error}");
    let disarm = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: own.member_id, alarm: own.alarm };
    let response: AlarmResponse = connection.unary(ALARM, &disarm).await.unwrap();
    assert_eq!(response.alarms, [own], "{name}");
    let _: PutResponse = connection
        .unary(PUT, &put("full", 1))
        .await
        .unwrap_or_else(|error| panic!("{name}: there is room, and still: {error}"));
}

/// Periodic compaction with a short period: after the last write, both compact up to the last revision.
pub fn automatic_compaction_agrees() {
    harness::run(async {
        let pair = Pair::start(&["--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1s"]).await;
        let mut revision = 0;
        for _ in 0..50 {
            let response: PutResponse = pair.done(PUT, &put("k", 10)).await;
            revision = response.header.expect("every response has a header").revision;
        }
        for (name, connection) in NAMES.iter().zip(&pair.connections) {
            wait_for_compaction(name, connection, revision).await;
        }
        let past = RangeRequest { revision: revision - 1, ..range("k", false) };
        pair.agree::<_, RangeResponse>(RANGE, &past).await.expect_err("it is compacted");
        // At that revision itself etcd remembers the hash from before the compaction, so after one more.
        let _: PutResponse = pair.done(PUT, &put("k", 10)).await;
        let revision = revision + 1;
        let level = |hash: &mut HashKvResponse| hash.compact_revision = hash.compact_revision.min(revision - 1);
        pair.agree_after(HASH_KV, &HashKvRequest { revision }, level).await.expect("it is the present");
    });
}

async fn wait_for_compaction(name: &str, connection: &Connection, revision: i64) {
    let mut compacted = 0;
    for _ in 0..ASKED_MAX {
        let hash: HashKvResponse = connection.unary(HASH_KV, &HashKvRequest { revision: 0 }).await.unwrap();
        assert!(hash.compact_revision <= revision, "{name}: compacted at {}", hash.compact_revision);
        compacted = hash.compact_revision;
        if compacted == revision {
            return;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    panic!("{name}: compacted at {compacted}, not at {revision}");
}

/// Flags of automatic compaction: both start with them, or both refuse.
pub fn automatic_compaction_flags() {
    for (mode, retention) in [
        ("sometimes", "1"),
        ("periodic", "soon"),
        ("periodic", "-1"),
        ("periodic", "1.5h"),
        ("revision", "1h"),
        ("revision", "x"),
        ("revision", "-1"),
    ] {
        let directories = [server::directory(), server::directory()];
        let mut programs = [Program::Ringd, Program::Etcd].into_iter().zip(&directories);
        let flags = ["--auto-compaction-mode", mode, "--auto-compaction-retention", retention];
        let [ringd, etcd] = [programs.next(), programs.next()].map(|one| {
            let (program, directory) = one.expect("two");
            let started = Server::try_start(program, directory.path(), &flags);
            started.map(drop).map_err(|ended| ended.status.expect("it ended").success())
        });
        assert_eq!(ringd, etcd, "{mode} {retention}: ringd, then etcd");
    }
}

/// Requests that need several members, sent to a single one; and the whole status.
pub fn single_member_answers_agree() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let _: PutResponse = pair.done(PUT, &put("k", 1)).await;
        status(&pair).await;
        for target_id in [0, 5, u64::MAX] {
            let moved: Result<MoveLeaderResponse, _> = pair.agree(MOVE_LEADER, &MoveLeaderRequest { target_id }).await;
            moved.expect_err("there is no such member");
        }
        let mut moved = Vec::new();
        for connection in &pair.connections {
            let target_id = member_id(connection).await;
            let request = MoveLeaderRequest { target_id };
            let reply = connection.unary::<_, MoveLeaderResponse>(MOVE_LEADER, &request).await;
            moved.push(format!("{:?}", reply.map_err(|error| error.to_string())));
        }
        assert_eq!(moved[0], moved[1], "to itself: ringd, then etcd");
        for version in ["", "x", "3", "3.6.0.0", "3.7", "3.8", "3.5", "2.3", "4.0", "3.6", "3.6.1", "v3.6", "-3.6"] {
            downgrade(&pair, 0, version).await;
        }
        for (action, version) in [(2, ""), (2, "3.6"), (2, "x"), (7, "3.6"), (7, "x"), (-1, ""), (1, "3.7"), (1, "x")] {
            downgrade(&pair, action, version).await;
        }
        status(&pair).await;
    });
}

async fn downgrade(pair: &Pair, action: i32, version: &str) {
    let request = DowngradeRequest { action, version: version.into() };
    let _: Result<DowngradeResponse, _> = pair.agree(DOWNGRADE, &request).await;
}

async fn member_id(connection: &Connection) -> u64 {
    let status: StatusResponse = connection.unary(STATUS, &StatusRequest {}).await.unwrap();
    status.header.expect("every response has a header").member_id
}

/// The status of both: the same but for sizes, ids and positions in the log, which must be plausible.
async fn status(pair: &Pair) -> StatusResponse {
    let level = |response: &mut StatusResponse| {
        assert!(response.leader != 0, "{response:?}");
        assert!(0 < response.db_size_in_use && response.db_size_in_use <= response.db_size, "{response:?}");
        assert!(0 < response.raft_applied_index && response.raft_applied_index <= response.raft_index, "{response:?}");
        assert!(response.raft_term > 0, "{response:?}");
        (response.leader, response.db_size, response.db_size_in_use) = (1, 1, 1);
        (response.raft_index, response.raft_applied_index, response.raft_term) = (1, 1, 1);
        response.errors.sort();
        // Go's text form of a message has one blank or two.
        response.errors.iter_mut().for_each(|error| *error = error.replace("  ", " ").trim().to_owned());
    };
    pair.agree_after(STATUS, &StatusRequest {}, level).await.expect("it is never refused")
}
