//! `ringutl` on a full disk, and killed at work: its sources stay unchanged, and its result is whole, absent, or refused.
//!
//! | command | no room | kill -9 |
//! |---|---|---|
//! | `snapshot restore`, `migrate --from` | an error names the file; nothing is left | the second run completes, or refuses what is there; no server takes half of it for a member |
//! | `defrag` | an error names the file; the database is the old one | the database is the old one or the new one |
//! | `migrate` of the schema | done in place, or an error; the database is sound | |

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::proto::etcdserverpb::{
    PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op::Request,
};
use tempfile::TempDir;

use crate::{
    disks::Mount,
    harness::{
        self,
        server::{self, Program, Server},
    },
    snapshots::check_file,
    utl::{ringutl, ringutl_path, text},
};

/// Room for the database of a test, the log beside it, and a server that continues on both.
const DISK: &str = "256M";
const CAUSE: &str = "no space left on device";
const TXNS: usize = 16;
const KEYS_PER_TXN: usize = 128;
const VALUE_BYTES: usize = 4096;
/// Less than a log takes.
const SOME_ROOM: u64 = 1 << 20;
const ROUNDS: usize = 8;
const CLUSTER: [&str; 6] = [
    "--name",
    "one",
    "--initial-cluster",
    "one=http://127.0.0.1:1",
    "--initial-advertise-peer-urls",
    "http://127.0.0.1:1",
];

/// No room at all, for half of the database, for all of it but not for the log.
pub fn full_disk() {
    let sources = Sources::new();
    let disk = Mount::ext4(DISK);
    let data = disk.path().join("data");
    for (source, words) in sources.commands(&data) {
        let bytes = fs::metadata(&source).unwrap().len();
        for room in [0, bytes / 2, bytes + SOME_ROOM] {
            disk.fill_but(room);
            refused(&words, &data);
            assert!(!data.exists(), "{words:?} with room for {room} bytes: something was left behind");
            disk.make_room();
        }
        sources.check_untouched();
        succeeds(&words);
        serves_everything(&data);
        in_place(&disk, &data);
        fs::remove_dir_all(&data).unwrap();
    }
}

/// Commands that change a database in place.
fn in_place(disk: &Mount, data: &Path) {
    let database = data.join("member/snap/db");
    let before = fs::read(&database).unwrap();
    let defrag = ["defrag", "--data-dir", text(data)].map(str::to_owned);
    disk.fill();
    refused(&defrag, data);
    assert!(fs::read(&database).unwrap() == before, "another database after a refusal");
    assert_eq!(names(database.parent().unwrap()), ["db"]);
    for version in ["3.6", "3.7"] {
        let words = ["migrate", "--force", "--data-dir", text(data), "--target-version", version].map(str::to_owned);
        let printed = ringutl(&words.each_ref().map(String::as_str));
        let complained = printed.stderr.contains(CAUSE) && printed.stderr.contains(text(&database));
        assert!(printed.code == Some(0) || printed.code == Some(1) && complained, "{printed:?}");
        check_file(&database);
    }
    disk.make_room();
    succeeds(&defrag);
    succeeds(&["migrate", "--data-dir", text(data), "--target-version", "3.7"].map(str::to_owned));
    check_file(&database);
    serves_everything(data);
}

/// kill -9 at random moments of each command, and the same command again.
pub fn killed() {
    let mut random = SmallRng::seed_from_u64(harness::seed("utl_disks::killed", 7));
    let sources = Sources::new();
    let folder = server::directory();
    let data = folder.path().join("data");
    for (_, words) in sources.commands(&data) {
        let took = succeeds(&words);
        let mut left = 0;
        for round in 0..ROUNDS {
            fs::remove_dir_all(&data).unwrap();
            kill(&words, took.mul_f64(random.random()));
            left += usize::from(data.exists());
            sources.check_untouched();
            let again = ringutl(&words.iter().map(String::as_str).collect::<Vec<_>>());
            if again.code != Some(0) {
                assert!(again.code == Some(1) && again.stderr.contains("not empty"), "round {round}: {again:?}");
                serves_everything_or_nothing(&data);
                fs::remove_dir_all(&data).unwrap();
                succeeds(&words);
            }
        }
        eprintln!("  {}: {left} of {ROUNDS} left something", words[0]);
        serves_everything(&data);
        kill_in_place(&mut random, &data);
        fs::remove_dir_all(&data).unwrap();
    }
}

fn kill_in_place(random: &mut SmallRng, data: &Path) {
    let defrag = ["defrag", "--data-dir", text(data)].map(str::to_owned);
    let took = succeeds(&defrag);
    for _ in 0..ROUNDS {
        kill(&defrag, took.mul_f64(random.random()));
        check_file(&data.join("member/snap/db"));
    }
    serves_everything(data);
    succeeds(&defrag);
    assert_eq!(names(&data.join("member/snap")), ["db"]);
    serves_everything(data);
}

/// An incomplete directory is refused or is a whole member; without a database it is treated as empty.
fn serves_everything_or_nothing(data: &Path) {
    if !data.join("member/snap/db").exists() {
        return;
    }
    match Server::try_start(Program::Ringd, data, &[]) {
        Ok(server) => check(&server, "half-made"),
        Err(ended) => assert!(ended.status.is_some_and(|status| status.code() == Some(1)), "{ended}"),
    }
}

/// The sources of the commands: the database of a stopped ringd, and the data directory of a killed etcd, with the same content.
struct Sources {
    folder: TempDir,
    before: Vec<Vec<u8>>,
}

impl Sources {
    fn new() -> Sources {
        let folder = server::directory();
        for (program, name) in [(Program::Ringd, "ringd"), (Program::Etcd, "etcd")] {
            let server = Server::start(program, &folder.path().join(name));
            harness::run(async {
                let connection = server.connect().await;
                for txn in 0..TXNS {
                    let request = TxnRequest {
                        success: (0..KEYS_PER_TXN).map(|number| put(txn * KEYS_PER_TXN + number)).collect(),
                        ..TxnRequest::default()
                    };
                    let _: TxnResponse = connection.unary("/etcdserverpb.KV/Txn", &request).await.unwrap();
                }
            });
            match program {
                Program::Ringd => server.stop(),
                Program::Etcd => server.kill(),
            }
        }
        let before = contents(folder.path());
        Sources { folder, before }
    }

    /// The database that each command copies, and its words.
    fn commands(&self, data: &Path) -> [(PathBuf, Vec<String>); 2] {
        let [ringd, etcd] = ["ringd", "etcd"].map(|name| self.folder.path().join(name));
        let database = |root: &Path| root.join("member/snap/db");
        let restored = database(&ringd);
        let restore = ["snapshot", "restore", text(&restored), "--skip-hash-check", "--data-dir", text(data)];
        let migrate = ["migrate", "--from", text(&etcd), "--data-dir", text(data)];
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        [(database(&ringd), owned(&[&restore[..], &CLUSTER].concat())), (database(&etcd), owned(&migrate))]
    }

    fn check_untouched(&self) {
        assert!(contents(self.folder.path()) == self.before, "a source was changed");
    }
}

/// What the sources hold: both databases, and the log of etcd's.
fn contents(folder: &Path) -> Vec<Vec<u8>> {
    let log = folder.join("etcd/member/wal");
    let mut files: Vec<PathBuf> = names(&log).iter().map(|name| log.join(name)).collect();
    files.extend(["ringd", "etcd"].map(|name| folder.join(name).join("member/snap/db")));
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn put(number: usize) -> RequestOp {
    let request = PutRequest { key: format!("k{number:05}").into(), value: value(number), ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(request)) }
}

fn value(number: usize) -> Bytes {
    vec![u8::try_from(number % 251).expect("small"); VALUE_BYTES].into()
}

fn serves_everything(data: &Path) {
    let server = Server::start(Program::Ringd, data);
    check(&server, "at the end");
    server.stop();
}

fn check(server: &Server, when: &str) {
    harness::run(async {
        let request = RangeRequest { key: "k".into(), range_end: "l".into(), ..RangeRequest::default() };
        let connection = server.connect().await;
        let read: RangeResponse = connection.unary("/etcdserverpb.KV/Range", &request).await.unwrap();
        assert_eq!(read.kvs.len(), TXNS * KEYS_PER_TXN, "{when}");
        let equal = |(number, kv): (usize, &ringd::proto::mvccpb::KeyValue)| kv.value == value(number);
        assert!(read.kvs.iter().enumerate().all(equal), "{when}: other values");
    });
}

/// Says which file lacks room.
fn refused(words: &[String], data: &Path) {
    let printed = ringutl(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(printed.code, Some(1), "{words:?}: {printed:?}");
    let last = printed.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("Error: ") && last.to_lowercase().contains(CAUSE) && last.contains(text(data)),
        "{words:?}: {printed:?}"
    );
}

/// How long it took.
fn succeeds(words: &[String]) -> Duration {
    let started = Instant::now();
    let printed = ringutl(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(printed.code, Some(0), "{words:?}: {printed:?}");
    started.elapsed()
}

/// Kills a command after a random time.
fn kill(words: &[String], after: Duration) {
    let mut child =
        Command::new(ringutl_path()).args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}
