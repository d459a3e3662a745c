//! kill -9 while the server maintains its data under load: compaction, defragmentation, a snapshot, the end of a lease with
//! many keys.
//!
//! The writers and their models are those of [`crash`](crate::crash). Beside them one task repeats one kind of maintenance, and its
//! possible results at the kill are checked after the next start:
//!
//! | operation | after the start |
//! |---|---|
//! | compaction | the compact revision lies between the last acknowledged and the last requested one |
//! | defragmentation, snapshot | the same as without them |
//! | lease revoked | the lease and all of its keys are there, or neither; neither if acknowledged |

use std::{cell::Cell, future::Future, path::Path, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RangeRequest, RangeResponse, RequestOp, SnapshotRequest, SnapshotResponse,
    TxnRequest, TxnResponse, request_op::Request,
};
use tokio::task::LocalSet;

use crate::{
    crash::{Writer, load, writers},
    harness::{
        self,
        grpc::{CallError, Connection},
        server::{self, Program, Server},
    },
    lease::{GRANT, REVOKE},
    maintenance::DEFRAGMENT,
    snapshots::{SNAPSHOT, check_file},
    traffic::prefix_end,
};

const TXN: &str = "/etcdserverpb.KV/Txn";
const RANGE: &str = "/etcdserverpb.KV/Range";
const ROUNDS: usize = 5;
const ACKNOWLEDGED_PER_ROUND_MAX: usize = 300;
/// Overwritten each round, so that there is something to compact, to give back and to send.
const BALLAST_KEYS: usize = 128;
const BALLAST_BYTES: usize = 8192;
const LEASED_KEYS: usize = 2048;
const KEYS_PER_TXN: usize = 128;
const TTL: i64 = 5000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Compact,
    Defragment,
    Snapshot,
    Revoke,
}

/// Requested and acknowledged maintenance.
#[derive(Default)]
struct Progress {
    /// Revisions.
    compaction_asked: Cell<i64>,
    compaction_done: Cell<i64>,
    revoked: Cell<bool>,
    done: Cell<usize>,
}

pub fn acknowledged_writes_survive() {
    let seed = harness::seed("maintenance_crash::acknowledged_writes_survive", 29);
    let mut random = SmallRng::seed_from_u64(seed);
    let operations = [Operation::Compact, Operation::Defragment, Operation::Snapshot, Operation::Revoke];
    let rounds = harness::setting("RINGD_CRASH_ROUNDS", ROUNDS * operations.len()) / operations.len();
    for operation in operations {
        let directory = server::directory();
        let mut writers = writers(random.random());
        let mut lease = 0;
        let mut progress = Rc::new(Progress::default());
        let mut done = 0;
        for round in 0..rounds {
            let what = format!("{operation:?}, round {round}");
            let server = Server::start(Program::Ringd, directory.path());
            let (kill_after, pause) = moment(&mut random);
            harness::run(LocalSet::new().run_until(async {
                let connection = Rc::new(server.connect().await);
                check(&connection, &mut writers, &progress, lease).await.unwrap_or_else(|why| panic!("{what}: {why}"));
                progress = Rc::new(Progress {
                    compaction_asked: progress.compaction_asked.clone(),
                    compaction_done: progress.compaction_done.clone(),
                    ..Progress::default()
                });
                lease += 1;
                prepare(&connection, lease).await;
                let maintenance = maintain(operation, Rc::clone(&connection), Rc::clone(&progress), lease);
                let maintenance = tokio::task::spawn_local(maintenance);
                (writers, _) = load(server, connection, std::mem::take(&mut writers), kill_after, pause).await;
                maintenance.await.expect("it ends with the server");
            }));
            check_file(&directory.path().join("member/snap/db"));
            done += progress.done.get();
        }
        eprintln!("  {operation:?}: done {done} times in {rounds} rounds");
        finish(directory.path(), &mut writers, &progress, lease);
    }
}

/// The last check, and a proper end.
fn finish(directory: &Path, writers: &mut [Writer], progress: &Progress, lease: i64) {
    let server = Server::start(Program::Ringd, directory);
    harness::run(async {
        let connection = server.connect().await;
        check(&connection, writers, progress, lease).await.unwrap_or_else(|why| panic!("at the end: {why}"));
    });
    server.stop();
    check_file(&directory.join("member/snap/db"));
}

fn moment(random: &mut SmallRng) -> (usize, Duration) {
    let kill_after = random.random_range(0..ACKNOWLEDGED_PER_ROUND_MAX);
    (kill_after, Duration::from_micros(random.random_range(0..20_000)))
}

/// Compares everything with the models.
async fn check(connection: &Connection, writers: &mut [Writer], progress: &Progress, lease: i64) -> Result<(), String> {
    for writer in writers {
        writer.check(connection, progress.compaction_asked.get()).await?;
    }
    let hash: HashKvResponse = ask(connection, "/etcdserverpb.Maintenance/HashKV", &HashKvRequest::default()).await?;
    let (asked, done) = (progress.compaction_asked.get(), progress.compaction_done.get());
    let compacted = hash.compact_revision.max(0);
    if !(done..=asked).contains(&compacted) {
        return Err(format!("compacted at {compacted}; {done} was acknowledged and {asked} asked for"));
    }
    if lease > 0 { check_lease(connection, progress, lease).await } else { Ok(()) }
}

async fn check_lease(connection: &Connection, progress: &Progress, id: i64) -> Result<(), String> {
    let keys = format!("leased/{id}/");
    let request = RangeRequest {
        range_end: prefix_end(keys.as_bytes()),
        key: keys.into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let read: RangeResponse = ask(connection, RANGE, &request).await?;
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let lease: LeaseTimeToLiveResponse = ask(connection, "/etcdserverpb.Lease/LeaseTimeToLive", &request).await?;
    let all = i64::try_from(LEASED_KEYS).expect("few");
    match (read.count, lease.ttl, lease.keys.len()) {
        (0, -1, 0) => Ok(()),
        (count, 0.., LEASED_KEYS) if count == all && !progress.revoked.get() => Ok(()),
        (count, ttl, attached) => Err(format!(
            "lease {id}: {count} keys, time to live {ttl}, {attached} keys attached; revoked: {}",
            progress.revoked.get()
        )),
    }
}

async fn ask<Q: prost::Message, R: prost::Message + Default>(
    connection: &Connection,
    path: &str,
    request: &Q,
) -> Result<R, String> {
    connection.unary(path, request).await.map_err(|error| format!("{path}: {error}"))
}

/// Data for the operation, and a lease with many keys.
async fn prepare(connection: &Connection, lease: i64) {
    let ballast = (0..BALLAST_KEYS).map(|number| put(format!("ballast/{number}"), BALLAST_BYTES, 0));
    let _: LeaseGrantResponse = ask(connection, GRANT, &LeaseGrantRequest { ttl: TTL, id: lease }).await.unwrap();
    let leased = (0..LEASED_KEYS).map(|number| put(format!("leased/{lease}/{number:04}"), 10, lease));
    let operations: Vec<RequestOp> = ballast.chain(leased).collect();
    for success in operations.chunks(KEYS_PER_TXN) {
        let request = TxnRequest { success: success.to_vec(), ..TxnRequest::default() };
        let _: TxnResponse = ask(connection, TXN, &request).await.unwrap();
    }
}

fn put(key: String, value_bytes: usize, lease: i64) -> RequestOp {
    let value = Bytes::from(vec![b'b'; value_bytes]);
    let request = PutRequest { key: key.into(), value, lease, ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(request)) }
}

/// The operation, until the server has ended.
fn maintain(
    operation: Operation,
    connection: Rc<Connection>,
    progress: Rc<Progress>,
    lease: i64,
) -> Pin<Box<dyn Future<Output = ()>>> {
    match operation {
        Operation::Compact => Box::pin(async move { while compact(&connection, &progress).await {} }),
        Operation::Defragment => Box::pin(async move {
            while succeeded::<_, DefragmentResponse>(&connection, DEFRAGMENT, &DefragmentRequest {}).await {
                progress.done.set(progress.done.get() + 1);
            }
        }),
        Operation::Snapshot => Box::pin(async move {
            while snapshot(&connection).await {
                progress.done.set(progress.done.get() + 1);
            }
        }),
        Operation::Revoke => Box::pin(async move {
            let request = LeaseRevokeRequest { id: lease };
            let revoked = succeeded::<_, LeaseRevokeResponse>(&connection, REVOKE, &request).await;
            progress.revoked.set(revoked);
            progress.done.set(usize::from(revoked));
        }),
    }
}

/// Compacts up to now: every other revision until it is in the database, the rest until it is in the log.
async fn compact(connection: &Connection, progress: &Progress) -> bool {
    let now = RangeRequest { key: "any".into(), ..RangeRequest::default() };
    let Ok(now) = connection.unary::<_, RangeResponse>(RANGE, &now).await else { return false };
    let revision = now.header.expect("every response has a header").revision;
    if revision == progress.compaction_asked.get() {
        tokio::task::yield_now().await;
        return true;
    }
    progress.compaction_asked.set(revision);
    let request = CompactionRequest { revision, physical: revision & 1 == 0 };
    if !succeeded::<_, CompactionResponse>(connection, "/etcdserverpb.KV/Compact", &request).await {
        return false;
    }
    progress.compaction_done.set(revision);
    progress.done.set(progress.done.get() + 1);
    true
}

/// One snapshot, to its end or that of the server.
async fn snapshot(connection: &Connection) -> bool {
    let reply = connection.call(SNAPSHOT, Bytes::from(prost::Message::encode_to_vec(&SnapshotRequest {}))).await;
    let last = reply.messages.last().map(harness::masked::decoded::<SnapshotResponse>);
    let whole = reply.code == Some(0);
    assert!(!whole || last.is_some_and(|last| last.blob.len() == 32), "a snapshot without its hash");
    whole
}

/// False when the server has ended.
async fn succeeded<Q: prost::Message, R: prost::Message + Default>(
    connection: &Connection,
    path: &str,
    request: &Q,
) -> bool {
    match connection.unary::<Q, R>(path, request).await {
        Ok(_) => true,
        Err(CallError::Lost(_)) => false,
        Err(CallError::Refused(refusal)) if refusal.code == 14 => false,
        Err(error) => panic!("{path}: {error}"),
    }
}
