//! A disk that gets full while the server maintains its data.
//!
//! ```text
//!   history, leases ─▶ operation begins ─▶ no room left ─▶ puts until one is refused ─▶ room ─▶ kill -9, start ─▶ stop, check
//!                                                          reads go on, the log says why   puts and the operation go on
//! ```
//!
//! | operation | meanwhile | with room again |
//! |---|---|---|
//! | compaction by hand, physical compaction | the first is acknowledged, the second waits for its commit | both are done |
//! | defragmentation | may need no room; one that is asked for on the full disk waits | both end, the file is shorter |
//! | lease revoked | acknowledged as long as the log has room, refused then | all keys of a lease are gone, or none; none are there if acknowledged |
//! | snapshot | one that has begun is read to its end on the full disk | one asked for meanwhile comes whole |
//! | stop, start | SIGTERM is obeyed; a start says what it waits for | it serves by itself |
//!
//! After each everything acknowledged is there, no alarm is raised (the quota is not what is full), and bbolt finds no fault.

use std::{collections::BTreeMap, fs};

use bytes::Bytes;
use prost::Message;
use ringd::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse,
    DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, SnapshotRequest, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
    request_op::Request,
};

use crate::{
    disks::{ATTEMPTS_AFTER_ROOM, Mount},
    harness::{
        self,
        grpc::{CallError, Connection},
        server::{Program, Server},
        stream::{End, Stream},
    },
    lease::{GRANT, REVOKE},
    maintenance::DEFRAGMENT,
    snapshots::{HASH_BYTES, SNAPSHOT, Snapshot, check_file},
    traffic::prefix_end,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
/// Room for a few segments of the log (4 MiB, then 64 each), one more to continue with, and for the database of each test.
const DISK: &str = "768M";
const COMPLAINT: &str = "the disk is full: writes wait until there is room";
const CAUSE: &str = "No space left on device";
const LARGE_BYTES: usize = 1 << 20;
/// More than the log takes that is prepared when the disk gets full, and what is free in the database.
const PUTS_MAX: usize = 250;
const SMALL_BYTES: usize = 4096;
const KEYS_PER_TXN: usize = 128;
const HISTORY_ROUNDS: usize = 30;
/// Small slices: so the disk gets full between them.
const COMPACTION_FLAGS: [&str; 2] = ["--compaction-batch-limit", "100"];
const SMALLEST_WINDOW_BYTES: u32 = 65_535;
const LEASED_KEYS: usize = 1024;
const TTL: i64 = 5000;

/// Both kinds of compaction are under way when the room ends.
pub fn compaction() {
    harness::run(async {
        let mut scene = Scene::start(&COMPACTION_FLAGS).await;
        for round in 0..HISTORY_ROUNDS {
            scene.put_small("history", round, 0).await;
        }
        let last = scene.revision().await;
        let by_hand = CompactionRequest { revision: last / 2, physical: false };
        let _: CompactionResponse = scene.done(COMPACT, &by_hand).await;
        let mut physical = scene.ask(COMPACT, &CompactionRequest { revision: last, physical: true }).await;
        scene.fill_up().await;
        scene.make_room().await;
        answer::<CompactionResponse>(&mut physical).await.expect("there is room");
        let scene = scene.crash().await;
        let hash: HashKvResponse = scene.done("/etcdserverpb.Maintenance/HashKV", &HashKvRequest::default()).await;
        assert_eq!(hash.compact_revision, last);
        let past = RangeRequest { revision: last - 1, key: "history".into(), ..RangeRequest::default() };
        scene.connection.unary::<_, RangeResponse>(RANGE, &past).await.expect_err("it is compacted");
        scene.end().await;
    });
}

/// Most of the database is free and on its way back to the disk.
pub fn defragmentation() {
    harness::run(async {
        let mut scene = Scene::start(&[]).await;
        for round in 0..HISTORY_ROUNDS {
            scene.put_small("history", round, 0).await;
        }
        let revision = scene.revision().await;
        let _: CompactionResponse = scene.done(COMPACT, &CompactionRequest { revision, physical: true }).await;
        let before = scene.database_bytes().await;
        let mut first = scene.ask(DEFRAGMENT, &DefragmentRequest {}).await;
        scene.server.must_log("starting defragment").await;
        scene.fill_up().await;
        let mut second = scene.ask(DEFRAGMENT, &DefragmentRequest {}).await;
        scene.make_room().await;
        for defragmentation in [&mut first, &mut second] {
            answer::<DefragmentResponse>(defragmentation).await.expect("there is room");
        }
        let (key, range_end) = ("large/".into(), prefix_end(b"large/"));
        let _: DeleteRangeResponse =
            scene.done("/etcdserverpb.KV/DeleteRange", &DeleteRangeRequest { key, range_end, prev_kv: false }).await;
        scene.expected.retain(|key, _| !key.starts_with("large/"));
        let revision = scene.revision().await;
        let _: CompactionResponse = scene.done(COMPACT, &CompactionRequest { revision, physical: true }).await;
        let _: DefragmentResponse = scene.done(DEFRAGMENT, &DefragmentRequest {}).await;
        let after = scene.database_bytes().await;
        assert!(after < before / 2, "{before} bytes before, {after} after");
        scene.crash().await.end().await;
    });
}

/// One lease ends while the disk gets full, the other is asked to when nothing can be written any more.
pub fn revocation() {
    harness::run(async {
        let mut scene = Scene::start(&[]).await;
        for id in [1, 2] {
            let _: LeaseGrantResponse = scene.done(GRANT, &LeaseGrantRequest { ttl: TTL, id }).await;
            for part in 0..LEASED_KEYS / KEYS_PER_TXN {
                scene.put_small(&format!("leased/{id}/{part}"), 0, id).await;
            }
        }
        let mut first = scene.ask(REVOKE, &LeaseRevokeRequest { id: 1 }).await;
        scene.disk.fill();
        answer::<LeaseRevokeResponse>(&mut first).await.expect("the log has room");
        scene.expected.retain(|key, _| !key.starts_with("leased/1/"));
        scene.fill_up().await;
        assert_eq!(scene.leased(1).await, None);
        let mut second = scene.ask(REVOKE, &LeaseRevokeRequest { id: 2 }).await;
        scene.make_room().await;
        match answer::<LeaseRevokeResponse>(&mut second).await {
            // Given up or not, it may have happened.
            Ok(_) | Err(End::Status { .. }) => scene.expected.retain(|key, _| !key.starts_with("leased/2/")),
            Err(end) => panic!("{end}"),
        }
        // Asked for again, it is done or was done.
        let again = scene.connection.unary::<_, LeaseRevokeResponse>(REVOKE, &LeaseRevokeRequest { id: 2 }).await;
        if let Err(error) = again {
            assert!(error.to_string().contains("requested lease not found"), "{error}");
        }
        let scene = scene.crash().await;
        assert_eq!([scene.leased(1).await, scene.leased(2).await], [None, None]);
        scene.end().await;
    });
}

/// One is being read, one is asked for when the disk is full.
pub fn snapshot() {
    harness::run(async {
        let mut scene = Scene::start(&[]).await;
        for part in 0..HISTORY_ROUNDS {
            scene.put_small(&format!("history/{part}"), 0, 0).await;
        }
        let slow = Connection::open_with_window(scene.server.port, SMALLEST_WINDOW_BYTES).await.unwrap();
        let mut first = ask(&slow, SNAPSHOT, &SnapshotRequest {}).await;
        scene.server.must_log("sending database snapshot to client").await;
        scene.fill_up().await;
        let read = Snapshot::read(&mut first).await.image;
        check_image(&scene.disk, &read, 0);
        // On a connection of its own: what is not read takes the window of the whole connection.
        let other = scene.server.connect().await;
        let mut second = ask(&other, SNAPSHOT, &SnapshotRequest {}).await;
        scene.make_room().await;
        let read = Snapshot::read(&mut second).await.image;
        check_image(&scene.disk, &read, scene.expected.values().map(|value| value.bytes).sum());
        scene.crash().await.end().await;
    });
}

/// The server stops and starts again with the disk still full.
pub fn ended_and_started() {
    harness::run(async {
        let mut scene = Scene::start(&[]).await;
        scene.put_small("before", 0, 0).await;
        scene.fill_up().await;
        let Scene { server, disk, expected, puts, .. } = scene;
        server.stop();
        disk.fill();
        let data = disk.path().join("data");
        let server = Server::start_into(Program::Ringd, &data, COMPLAINT, || disk.make_room());
        let connection = server.connect().await;
        let mut scene = Scene { server, connection, expected, puts, disk };
        scene.write_again().await;
        scene.crash().await.end().await;
    });
}

/// A snapshot that came is a sound database of at least so many bytes.
fn check_image(disk: &Mount, image: &[u8], bytes_min: usize) {
    let folder = harness::server::directory();
    let file = folder.path().join("snapshot");
    fs::write(&file, &image[..image.len() - HASH_BYTES]).unwrap();
    check_file(&file);
    assert!(image.len() > bytes_min, "{} bytes of at least {bytes_min} on {}", image.len(), disk.path().display());
}

/// A server on a disk of its own, and what it has acknowledged.
struct Scene {
    server: Server,
    connection: Connection,
    expected: BTreeMap<String, Value>,
    /// Large puts so far, acknowledged or not: each has a key of its own.
    puts: usize,
    // Last: it goes after the server.
    disk: Mount,
}

/// So many times the same byte.
#[derive(Clone, Copy, Debug)]
struct Value {
    byte: u8,
    bytes: usize,
}

impl Value {
    fn encoded(self) -> Bytes {
        vec![self.byte; self.bytes].into()
    }
}

impl Scene {
    async fn start(flags: &[&str]) -> Scene {
        let disk = Mount::ext4(DISK);
        let server = Server::start_with(Program::Ringd, &disk.path().join("data"), flags);
        let connection = server.connect().await;
        Scene { server, connection, expected: BTreeMap::new(), puts: 0, disk }
    }

    /// A transaction's worth of keys, in one revision.
    async fn put_small(&mut self, prefix: &str, byte: usize, lease: i64) {
        let value = Value { byte: u8::try_from(byte).expect("few rounds"), bytes: SMALL_BYTES };
        let keys: Vec<String> = (0..KEYS_PER_TXN).map(|number| format!("{prefix}/{number:03}")).collect();
        let put = |key: &String| {
            let request =
                PutRequest { key: key.clone().into(), value: value.encoded(), lease, ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(request)) }
        };
        let request = TxnRequest { success: keys.iter().map(put).collect(), ..TxnRequest::default() };
        let _: TxnResponse = self.done("/etcdserverpb.KV/Txn", &request).await;
        self.expected.extend(keys.into_iter().map(|key| (key, value)));
    }

    async fn put_large(&mut self) -> Result<(), CallError> {
        let key = format!("large/{:03}", self.puts);
        let value = Value { byte: u8::try_from(self.puts % 251).expect("small"), bytes: LARGE_BYTES };
        self.puts += 1;
        let request = PutRequest { key: key.clone().into(), value: value.encoded(), ..PutRequest::default() };
        self.connection.unary::<_, PutResponse>(PUT, &request).await?;
        self.expected.insert(key, value);
        Ok(())
    }

    /// Leaves no room and writes until that is refused. Reads continue then, and the log names the reason.
    async fn fill_up(&mut self) {
        let first = self.puts;
        let refusal = loop {
            self.disk.fill();
            if let Err(error) = self.put_large().await {
                break error;
            }
            assert!(self.puts - first < PUTS_MAX, "the disk does not get full");
        };
        eprintln!("  {} puts of {LARGE_BYTES} bytes, then: {refusal}", self.puts - first - 1);
        let CallError::Refused(refusal) = refusal else { panic!("no answer but {refusal}") };
        assert_eq!((refusal.code, &*refusal.message), (14, "etcdserver: request timed out"));
        self.server.must_log(COMPLAINT).await;
        self.server.must_log(CAUSE).await;
        self.check().await;
    }

    /// Makes room and writes until that succeeds.
    async fn make_room(&mut self) {
        self.disk.make_room();
        self.write_again().await;
    }

    async fn write_again(&mut self) {
        let mut attempts = 0;
        while let Err(error) = self.put_large().await {
            attempts += 1;
            assert!(attempts < ATTEMPTS_AFTER_ROOM, "there is room, and still: {error}");
        }
    }

    /// Everything acknowledged is there.
    async fn check(&self) {
        for (key, value) in &self.expected {
            let request = RangeRequest { key: key.clone().into(), ..RangeRequest::default() };
            let read: RangeResponse = self.done(RANGE, &request).await;
            let [kv] = &read.kvs[..] else { panic!("{key} is lost") };
            assert!(kv.value == value.encoded(), "{key} differs");
        }
    }

    /// Kills and starts it, and finds everything.
    async fn crash(self) -> Scene {
        let server = self.server.crash();
        let connection = server.connect().await;
        let scene = Scene { server, connection, ..self };
        scene.check().await;
        scene
    }

    /// The last look: no alarm, and a sound file.
    async fn end(self) {
        let alarms: AlarmResponse = self.done("/etcdserverpb.Maintenance/Alarm", &AlarmRequest::default()).await;
        assert_eq!(alarms.alarms, []);
        assert_eq!(self.status().await.errors, [""; 0]);
        self.server.stop();
        check_file(&self.disk.path().join("data/member/snap/db"));
    }

    /// A request that must succeed.
    async fn done<Q: Message, R: Message + Default>(&self, path: &str, request: &Q) -> R {
        self.connection.unary(path, request).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn ask(&self, path: &str, request: &impl Message) -> Stream {
        ask(&self.connection, path, request).await
    }

    async fn revision(&self) -> i64 {
        self.status().await.header.expect("every response has a header").revision
    }

    async fn database_bytes(&self) -> i64 {
        self.status().await.db_size
    }

    async fn status(&self) -> StatusResponse {
        self.done("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await
    }

    /// How many keys hang on a lease; none if there is no such lease, and then none of its keys are there.
    async fn leased(&self, id: i64) -> Option<usize> {
        let lease: LeaseTimeToLiveResponse =
            self.done("/etcdserverpb.Lease/LeaseTimeToLive", &LeaseTimeToLiveRequest { id, keys: true }).await;
        let key = Bytes::from(format!("leased/{id}/"));
        let range_end = prefix_end(&key);
        let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
        let read: RangeResponse = self.done(RANGE, &request).await;
        assert_eq!(usize::try_from(read.count), Ok(lease.keys.len()), "keys of lease {id}");
        (lease.ttl >= 0).then_some(lease.keys.len())
    }
}

/// Asks without waiting for the answer.
async fn ask(connection: &Connection, path: &str, request: &impl Message) -> Stream {
    let mut stream = connection.stream(path, &[]).await;
    stream.send(request);
    stream.half_close();
    stream
}

/// The one message that answers, or how the call ended without.
async fn answer<R: Message + Default>(stream: &mut Stream) -> Result<R, End> {
    let answer = stream.next().await?;
    assert_eq!(stream.end().await, End::Status { code: Some(0), message: String::new() });
    Ok(answer)
}
