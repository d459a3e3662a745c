//! The whole database while it is in use: streamed to a client, restored by etcd's own tool, defragmented.

use std::{cell::Cell, fs, path::Path, process::Command, rc::Rc};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse, DeleteRangeRequest,
    DeleteRangeResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use sha2::{Digest, Sha256};
use tokio::task::{JoinHandle, LocalSet};

use crate::{
    differential::violations,
    harness::{
        self,
        grpc::Connection,
        reference,
        server::{self, Program, Server},
        stream::{End, Stream},
    },
    lease::GRANT,
    maintenance::DEFRAGMENT,
    traffic::Traffic,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
pub const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
pub const HASH_BYTES: usize = 32;
const BLOB_BYTES_MAX: usize = 32 << 10;
const SMALLEST_WINDOW_BYTES: u32 = 65_535;
/// Database filled for a snapshot: about 5 MB.
const FILLED_KEYS: usize = 600;
const FILLED_BYTES: usize = 8192;
const LEASE: i64 = 42;

/// A snapshot taken during writes and compactions: etcd's tool restores it, and an etcd on it serves the same data and history.
pub fn restored_by_etcd() {
    let seed = harness::seed("snapshots::restored_by_etcd", 17);
    on_subject(async |server, connection| {
        let compacted = fill(&connection, seed).await;
        let before = revision(&connection).await;
        let load = Load::start(&connection);
        let image = Snapshot::read(&mut start_snapshot(&connection).await).await.image;
        load.stop().await;
        check_restored(&server, &connection, &image, before, compacted).await;
    });
}

/// A client that reads slowly gets the database of the time of its request, and delays no other request.
pub fn read_slowly() {
    let seed = harness::seed("snapshots::read_slowly", 19);
    on_subject(async |server, connection| {
        let compacted = fill(&connection, seed).await;
        let before = revision(&connection).await;
        let slow = Connection::open_with_window(server.port, SMALLEST_WINDOW_BYTES).await.unwrap();
        let mut stream = start_snapshot(&slow).await;
        let first: SnapshotResponse = stream.next().await.unwrap_or_else(|end| panic!("{end}"));
        let taken = revision(&connection).await;
        let load = Load::start(&connection);
        let request = DeleteRangeRequest { key: "filled/".into(), range_end: "filled0".into(), prev_kv: false };
        let _: DeleteRangeResponse = connection.unary("/etcdserverpb.KV/DeleteRange", &request).await.unwrap();
        // An etcd that defragments answers no request until the snapshot is read.
        let defragmentation = Rc::clone(&connection);
        let defragmentation = tokio::task::spawn_local(async move {
            if server::subject_is_ringd() {
                let _: DefragmentResponse = defragmentation.unary(DEFRAGMENT, &DefragmentRequest {}).await.unwrap();
            }
        });
        load.stop().await;
        let mut snapshot = Snapshot::default();
        snapshot.take(first);
        snapshot.read_on(&mut stream).await;
        defragmentation.await.expect("it succeeds");
        let restored = check_restored(&server, &connection, &snapshot.image, before, compacted).await;
        assert!(restored <= taken + 1, "revision {restored} in a snapshot taken at {taken}");
    });
}

/// Space that deletes and a compaction have freed is returned to the disk during reads and writes, and no data is lost.
pub fn defragmented_in_use() {
    const KEPT: usize = 20;
    const ROUNDS: usize = 3;
    let directory = server::directory();
    harness::run(LocalSet::new().run_until(async {
        let server = Server::start(Program::Ringd, directory.path());
        let connection = Rc::new(server.connect().await);
        for round in 0..ROUNDS {
            fill(&connection, 1).await;
            let request = DeleteRangeRequest {
                key: format!("filled/{KEPT:04}").into(),
                range_end: "filled0".into(),
                prev_kv: false,
            };
            let _: DeleteRangeResponse = connection.unary("/etcdserverpb.KV/DeleteRange", &request).await.unwrap();
            compact(&connection, revision(&connection).await).await;
            let full = status(&connection).await.db_size;
            let load = Load::start(&connection);
            let reply = connection.call(DEFRAGMENT, Bytes::new()).await;
            assert_eq!((reply.code, &reply.messages[..]), (Some(0), &[Bytes::new()][..]), "round {round}: {reply:?}");
            load.stop().await;
            let after = status(&connection).await.db_size;
            assert!(after < full / 2, "round {round}: {full} bytes before, {after} after");
            let kept = filled(&connection).await;
            assert_eq!(kept.len(), KEPT, "round {round}");
        }
        let everything = read_everything(&connection, 0).await;
        let server = server.crash();
        let connection = server.connect().await;
        assert!(read_everything(&connection, 0).await == everything, "other data after a restart");
        server.stop();
    }));
    check_file(&directory.path().join("member/snap/db"));
}

fn on_subject(test: impl AsyncFnOnce(Server, Rc<Connection>)) {
    let directory = server::directory();
    harness::run(LocalSet::new().run_until(async {
        let server = Server::start(Program::Ringd, directory.path());
        let connection = Rc::new(server.connect().await);
        test(server, connection).await;
    }));
}

/// A history with everything in it: random traffic, large values, a lease, and a compaction, whose revision it gives back.
async fn fill(connection: &Connection, seed: u64) -> i64 {
    let mut traffic = Traffic::new(seed);
    for _ in 0..300 {
        let operation = traffic.next();
        connection.call(operation.path(), operation.encoded()).await;
    }
    let _ = connection.unary::<_, LeaseGrantResponse>(GRANT, &LeaseGrantRequest { ttl: 5000, id: LEASE }).await;
    let mut random = SmallRng::seed_from_u64(seed);
    for number in 0..FILLED_KEYS {
        let value: Bytes = (0..FILLED_BYTES).map(|_| random.random::<u8>()).collect();
        let lease = if number % 50 == 0 { LEASE } else { 0 };
        let key = format!("filled/{number:04}").into();
        let request = PutRequest { key, value, lease, ..PutRequest::default() };
        let _: PutResponse = connection.unary(PUT, &request).await.unwrap();
    }
    let compacted = revision(connection).await - i64::try_from(FILLED_KEYS).expect("few") / 2;
    compact(connection, compacted).await;
    compacted
}

async fn compact(connection: &Connection, revision: i64) {
    let request = CompactionRequest { revision, physical: true };
    let _: CompactionResponse = connection.unary("/etcdserverpb.KV/Compact", &request).await.unwrap();
}

/// A writer and a reader that run until they are stopped; each request must succeed.
struct Load {
    running: Rc<Cell<bool>>,
    done: Rc<Cell<usize>>,
    tasks: [JoinHandle<()>; 2],
}

impl Load {
    fn start(connection: &Rc<Connection>) -> Load {
        let (running, done) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(0)));
        let writer = {
            let (connection, running, done) = (Rc::clone(connection), Rc::clone(&running), Rc::clone(&done));
            async move {
                for number in 0.. {
                    let key = format!("load/{}", number % 100).into();
                    let value = vec![b'l'; 500 + number % 1000].into();
                    let request = PutRequest { key, value, ..PutRequest::default() };
                    let put = connection.unary::<_, PutResponse>(PUT, &request).await;
                    put.unwrap_or_else(|error| panic!("put {number}: {error}"));
                    done.set(done.get() + 1);
                    if !running.get() {
                        return;
                    }
                }
            }
        };
        let reader = {
            let (connection, running) = (Rc::clone(connection), Rc::clone(&running));
            async move {
                while running.get() {
                    let request = RangeRequest { key: "load/1".into(), ..RangeRequest::default() };
                    let read = connection.unary::<_, RangeResponse>(RANGE, &request).await;
                    read.unwrap_or_else(|error| panic!("read: {error}"));
                }
            }
        };
        let tasks = [tokio::task::spawn_local(writer), tokio::task::spawn_local(reader)];
        Load { running, done, tasks }
    }

    async fn stop(self) {
        self.running.set(false);
        for task in self.tasks {
            task.await.expect("every request succeeds");
        }
        assert!(self.done.get() > 0, "nothing was written meanwhile");
    }
}

async fn start_snapshot(connection: &Connection) -> Stream {
    let mut stream = connection.stream(SNAPSHOT, &[]).await;
    stream.send(&SnapshotRequest {});
    stream.half_close();
    stream
}

/// The received part of a snapshot, checked message by message.
#[derive(Default)]
pub struct Snapshot {
    /// The database and, once all is read, its hash.
    pub image: Vec<u8>,
    /// By the first message.
    total_bytes: usize,
    hashed: bool,
}

impl Snapshot {
    /// Reads a snapshot to its end.
    pub async fn read(stream: &mut Stream) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.read_on(stream).await;
        snapshot
    }

    async fn read_on(&mut self, stream: &mut Stream) {
        let end = loop {
            match stream.next::<SnapshotResponse>().await {
                Ok(response) => self.take(response),
                Err(end) => break end,
            }
        };
        assert_eq!(end, End::Status { code: Some(0), message: String::new() });
        assert!(self.hashed, "it ends after {} of {} bytes", self.image.len(), self.total_bytes);
    }

    fn take(&mut self, response: SnapshotResponse) {
        assert!(!self.hashed, "more after the hash: {} bytes", response.blob.len());
        assert!(response.header.is_none() && response.blob.len() <= BLOB_BYTES_MAX, "{} bytes", response.blob.len());
        let remaining = usize::try_from(response.remaining_bytes).expect("small");
        if self.image.is_empty() {
            self.total_bytes = remaining + response.blob.len();
        }
        if self.image.len() == self.total_bytes {
            assert_eq!((response.blob.len(), remaining), (HASH_BYTES, 0), "the hash comes last");
            assert_eq!(response.blob[..], Sha256::digest(&self.image)[..], "hash");
            self.hashed = true;
        } else {
            assert_eq!(response.version, "3.7.0");
            assert_eq!(remaining + self.image.len() + response.blob.len(), self.total_bytes, "remaining_bytes");
        }
        self.image.extend_from_slice(&response.blob);
    }
}

/// Has etcd restore the snapshot and compares what it serves. The revision that was restored.
async fn check_restored(ringd: &Server, connection: &Connection, image: &[u8], before: i64, compacted: i64) -> i64 {
    let directory = server::directory();
    let (file, data) = (directory.path().join("snapshot"), directory.path().join("data"));
    fs::write(&file, image).unwrap();
    let arguments = ["snapshot", "restore", text(&file), "--data-dir", text(&data), "--name", "one"];
    let cluster =
        ["--initial-cluster", "one=http://127.0.0.1:1", "--initial-advertise-peer-urls", "http://127.0.0.1:1"];
    tool("etcdutl", &[&arguments[..], &cluster].concat());
    let etcd = Server::start(Program::Etcd, &data);
    let restored = etcd.connect().await;
    let last = revision(&restored).await;
    assert!(last >= before, "revision {last} is restored, {before} was acknowledged ({})", ringd.port);
    // Not at the compacted revision, for which the server that compacted keeps an older hash.
    for revision in [last, before, compacted + 1, (compacted + before) / 2] {
        let equal = read_everything(&restored, revision).await == read_everything(connection, revision).await;
        assert!(equal, "other data at revision {revision}");
        let request = HashKvRequest { revision };
        let [ours, theirs]: [HashKvResponse; 2] = [
            connection.unary("/etcdserverpb.Maintenance/HashKV", &request).await.unwrap(),
            restored.unary("/etcdserverpb.Maintenance/HashKV", &request).await.unwrap(),
        ];
        assert_eq!((ours.hash, ours.compact_revision), (theirs.hash, theirs.compact_revision), "hash at {revision}");
    }
    let past = RangeRequest { key: "k".into(), revision: compacted - 1, ..RangeRequest::default() };
    restored.unary::<_, RangeResponse>(RANGE, &past).await.expect_err("it is compacted");
    let request = LeaseTimeToLiveRequest { id: LEASE, keys: true };
    let lease: LeaseTimeToLiveResponse = restored.unary("/etcdserverpb.Lease/LeaseTimeToLive", &request).await.unwrap();
    assert_eq!((lease.granted_ttl, lease.keys.len()), (5000, FILLED_KEYS / 50), "the lease and its keys");
    last
}

async fn revision(connection: &Connection) -> i64 {
    let request = RangeRequest { key: "any".into(), ..RangeRequest::default() };
    let response: RangeResponse = connection.unary(RANGE, &request).await.unwrap();
    response.header.expect("every response has a header").revision
}

async fn status(connection: &Connection) -> StatusResponse {
    connection.unary("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await.unwrap()
}

/// All keys and values at a revision, as they were sent.
async fn read_everything(connection: &Connection, revision: i64) -> Vec<ringd::proto::mvccpb::KeyValue> {
    let request = RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..RangeRequest::default() };
    let response: RangeResponse = connection.unary(RANGE, &request).await.unwrap();
    response.kvs
}

async fn filled(connection: &Connection) -> Vec<ringd::proto::mvccpb::KeyValue> {
    let mut kvs = read_everything(connection, 0).await;
    kvs.retain(|kv| kv.key.starts_with(b"filled/"));
    kvs
}

/// Checks a page file that no process has open, by bbolt and by ringd's checker.
pub fn check_file(file: &Path) {
    tool("bbolt", &["check", text(file)]);
    assert_eq!(violations(file), [], "{}", file.display());
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(reference::tool(name)).args(arguments).output().expect("it starts");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name} {arguments:?}: {printed}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
