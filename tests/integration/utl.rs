//! `ringutl`, compared with etcdutl: the same output for the same files, and data that is the same after the way from etcd to ringd and
//! back.
//!
//! ```text
//!   etcd ─ load ─▶ picture of what it serves ─┐
//!     └─ snapshot, data directory ─ ringutl ─▶ ringd ─▶ the same picture
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use ringd::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RequestOp,
    TxnRequest, TxnResponse, request_op::Request,
};
use serde_json::Value;

use crate::harness::{
    self,
    etcdctl::etcdctl,
    grpc::Connection,
    reference,
    server::{self, Program, Server},
};

/// Keeps what etcd applies out of its database, so that it is in its log only.
const DATABASE_STAYS_BEHIND: [&str; 4] = ["--backend-batch-interval", "1h", "--backend-batch-limit", "1000000"];
const KEYS: usize = 40;
/// Time after which a refusal of etcd is final.
const PATIENCE: Duration = Duration::from_secs(60);

/// Command lines that need no file, or one that is not there.
const WORDS: [&str; 45] = [
    "",
    "--help",
    "help",
    "snapshot",
    "snapshot --help",
    "help snapshot restore",
    "snapshot status",
    "snapshot status a b",
    "snapshot status --help",
    "snapshot status missing",
    "snapshot status missing -w foo",
    "snapshot bogus",
    "snapshot restore",
    "snapshot restore --help",
    "snapshot restore a --bump-revision 3",
    "snapshot restore a --mark-compacted",
    "snapshot restore a --bump-revision -3 --mark-compacted",
    "snapshot restore a --name foo",
    "snapshot restore a --initial-cluster default=http://127.0.0.1:2381",
    "snapshot restore a --initial-cluster default=127.0.0.1:2380",
    "snapshot restore a --initial-cluster default=http://localhost:2380,b=http://localhost:2380",
    "snapshot restore a --initial-advertise-peer-urls http://localhost:2380,http://localhost:2381",
    "snapshot restore missing --data-dir new",
    "hashkv",
    "hashkv --help",
    "hashkv a b",
    "hashkv missing",
    "hashkv a --rev x",
    "hash x --bogus",
    "defrag",
    "defrag --help",
    "defrag --data-dir missing",
    "migrate --data-dir missing --target-version 3",
    "migrate --data-dir missing --target-version 3.4",
    "migrate --data-dir missing --target-version 3.a",
    "migrate --data-dir missing --target-version 3.",
    "migrate --data-dir missing --target-version 3.+5",
    "migrate --data-dir missing --target-version 3-1.5",
    "migrate --data-dir missing --target-version 3.99999999999999999999",
    "version",
    "versio",
    "completion",
    "completion foo",
    "help bogus",
    "bogus",
];

/// Every output that is the same as etcdutl's, byte for byte.
pub fn prints_the_same() {
    let folder = server::directory();
    let (snapshot, revisions) = saved_snapshot(folder.path());
    let copied = folder.path().join("copied.db");
    fs::copy(folder.path().join("etcd/member/snap/db"), &copied).unwrap();
    let mut lines: Vec<String> = WORDS.map(str::to_owned).to_vec();
    for file in [&snapshot, &copied] {
        let file = file.display();
        for format in ["simple", "json", "table", "fields", "protobuf", "foo"] {
            lines.push(format!("snapshot status {file} -w {format}"));
            lines.push(format!("hashkv {file} -w {format}"));
        }
        for revision in [1, revisions.compacted - 1, revisions.compacted, revisions.last, revisions.last + 1] {
            lines.push(format!("hashkv {file} --rev {revision}"));
        }
    }
    let mut differences = Vec::new();
    for line in &lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [ours, theirs] = [ringutl_path(), reference::tool("etcdutl")].map(|tool| run(&tool, folder.path(), &words));
        if ours != theirs {
            differences.push(format!("{line}\n--- etcdutl {theirs:#?}\n+++ ringutl {ours:#?}"));
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// ringd serves a snapshot of etcd, with the members that etcdutl would make.
pub fn restores_a_snapshot() {
    let folder = server::directory();
    let (snapshot, revisions) = saved_snapshot(folder.path());
    let etcd = Server::start(Program::Etcd, &folder.path().join("etcd"));
    let expected = picture(&etcd, &revisions);
    etcd.stop();

    let flags = ["--name", "one", "--initial-cluster", "one=http://127.0.0.1:1", "--initial-cluster-token", "t"];
    let flags = [&flags[..], &["--initial-advertise-peer-urls", "http://127.0.0.1:1"]].concat();
    let data = folder.path().join("ringd");
    restore(&ringutl_path(), &snapshot, &data, &flags);
    let ringd = Server::start(Program::Ringd, &data);
    assert_eq!(picture(&ringd, &revisions), expected);
    let ids = member_ids(&ringd);
    let ringd = ringd.restart();
    assert_eq!(picture(&ringd, &revisions), expected, "after a restart");
    ringd.stop();

    let theirs = folder.path().join("etcdutl");
    restore(&reference::tool("etcdutl"), &snapshot, &theirs, &flags);
    let etcd = Server::start(Program::Etcd, &theirs);
    assert_eq!(member_ids(&etcd), ids, "ids of member and cluster");
    etcd.stop();

    let again = ringutl(&["snapshot", "restore", text(&snapshot), "--data-dir", text(&data)]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("not empty"), "{again:?}");
}

/// A member of three: its page file and log are made, and it starts; without the others it serves no client.
pub fn restores_one_of_several() {
    let folder = server::directory();
    let (snapshot, _) = saved_snapshot(folder.path());
    let cluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";
    let flags = ["--name", "b", "--initial-cluster", cluster, "--initial-advertise-peer-urls", "http://127.0.0.1:2"];
    let members = [("ringutl", ringutl_path()), ("etcdutl", reference::tool("etcdutl"))].map(|(name, tool)| {
        let data = folder.path().join(name);
        let mut added = restore(&tool, &snapshot, &data, &flags);
        added.sort();
        let database = data.join("member/snap/db");
        let keys = tool_output("bbolt", &["keys", text(&database), "members"]);
        let stored = keys.lines().map(|key| tool_output("bbolt", &["get", text(&database), "members", key]));
        (stored.collect::<Vec<_>>(), added)
    });
    assert_eq!((members[0].0.len(), members[0].1.len()), (3, 3));
    assert_eq!(members[0], members[1]);
}

/// `--bump-revision --mark-compacted`: the same database as etcdutl's, and the same answers.
pub fn bumps_the_revision() {
    let folder = server::directory();
    let (snapshot, revisions) = saved_snapshot(folder.path());
    let flags = ["--bump-revision", "1000000000", "--mark-compacted", "--skip-hash-check"];
    let raised = Revisions { compacted: revisions.last + 1_000_000_000, last: revisions.last + 1_000_000_000 };
    let tools = [("ringutl", ringutl_path(), Program::Ringd), ("etcdutl", reference::tool("etcdutl"), Program::Etcd)];
    let results = tools.map(|(name, tool, program)| {
        let data = folder.path().join(name);
        restore(&tool, &snapshot, &data, &flags);
        let database = data.join("member/snap/db");
        let hash = tool_output("etcdutl", &["hashkv", text(&database)]);
        let server = Server::start(program, &data);
        let before = picture(&server, &revisions);
        put(&server, "after", "the bump");
        let after = picture(&server, &raised);
        server.stop();
        (hash, before, after)
    });
    assert_eq!(results[0], results[1]);
}

/// A snapshot that is cut, longer or changed anywhere is refused, and no file is left.
pub fn refuses_damaged_snapshots() {
    let mut random = StdRng::seed_from_u64(harness::seed("utl::refuses_damaged_snapshots", 3));
    let folder = server::directory();
    let (snapshot, _) = saved_snapshot(folder.path());
    let whole = fs::read(&snapshot).unwrap();
    let damaged = folder.path().join("damaged.db");
    let data = folder.path().join("restored");
    let refuse = |bytes: &[u8], flags: &[&str], what: &str| {
        fs::write(&damaged, bytes).unwrap();
        let words = [&["snapshot", "restore", text(&damaged), "--data-dir", text(&data)], flags].concat();
        let printed = ringutl(&words);
        assert_eq!(printed.code, Some(1), "{what}: {printed:?}");
        assert!(printed.stderr.lines().last().is_some_and(|line| line.starts_with("Error: ")), "{what}: {printed:?}");
        assert!(!data.exists(), "{what}: something was left behind");
    };
    for length in [0, 1, 31, 32, 4096, 8192, 8192 + 32, whole.len() / 2, whole.len() - 32, whole.len() - 1] {
        refuse(&whole[..length], &[], &format!("cut to {length} bytes"));
    }
    for length in [0, 1, 31, 100, 4096, 8192, 8192 + 32] {
        refuse(&whole[..length], &["--skip-hash-check"], &format!("cut to {length} bytes, not compared"));
    }
    refuse(&[&whole[..], &[0]].concat(), &[], "longer by a byte");
    for _ in 0..20 {
        let at = random.random_range(0..whole.len());
        let mut changed = whole.clone();
        changed[at] ^= 1 << random.random_range(0..8);
        refuse(&changed, &[], &format!("byte {at} changed"));
    }
    // Both meta pages, so that there is no root.
    let mut changed = whole;
    changed[20] ^= 1;
    changed[4096 + 20] ^= 1;
    refuse(&changed, &["--skip-hash-check"], "meta pages changed");
    fs::write(&damaged, &changed).unwrap();
    for words in [["snapshot", "status", text(&damaged)].as_slice(), &["hashkv", text(&damaged)]] {
        assert_eq!(ringutl(words).code, Some(1), "{words:?}");
    }
}

/// A data directory of a stopped etcd continues as the same member.
pub fn migrates_a_stopped_etcd() {
    migrate_directory("utl::migrates_a_stopped_etcd", &[], Server::stop);
}

/// A killed etcd whose writes were in its log only: no applied write is missing.
pub fn migrates_a_killed_etcd() {
    migrate_directory("utl::migrates_a_killed_etcd", &DATABASE_STAYS_BEHIND, Server::kill);
}

/// One whose log has been cut into files and released by snapshots on the way.
pub fn migrates_a_snapshotted_etcd() {
    migrate_directory("utl::migrates_a_snapshotted_etcd", &["--snapshot-count", "50"], Server::kill);
}

fn migrate_directory(name: &str, flags: &[&str], end: fn(Server)) {
    let folder = server::directory();
    let source = folder.path().join("etcd");
    let etcd = Server::start_with(Program::Etcd, &source, flags);
    let revisions = load(&etcd, harness::seed(name, 11));
    let expected = picture(&etcd, &revisions);
    let ids = member_ids(&etcd);
    end(etcd);

    let data = folder.path().join("ringd");
    migrate(&source, &data);
    let ringd = Server::start(Program::Ringd, &data);
    assert_eq!(picture(&ringd, &revisions), expected);
    assert_eq!(member_ids(&ringd), ids, "the same member of the same cluster");
    put(&ringd, "after", "migration");
    let ringd = ringd.crash();
    assert_eq!(value(&ringd, "after"), "migration");
    ringd.stop();

    // The source is unchanged: etcd continues on it.
    let etcd = Server::start(Program::Etcd, &source);
    assert_eq!(picture(&etcd, &revisions), expected);
    etcd.stop();
}

/// A member of several becomes a cluster of one, with a log line.
pub fn migrates_a_member_of_several() {
    let folder = server::directory();
    let source = folder.path().join("etcd");
    let etcd = Server::start_with(Program::Etcd, &source, &DATABASE_STAYS_BEHIND);
    let revisions = load(&etcd, harness::seed("utl::migrates_a_member_of_several", 12));
    let expected = picture(&etcd, &revisions);
    let ids = member_ids(&etcd);
    let added = etcdctl(&etcd.endpoint(), &["member", "add", "two", "--peer-urls", "http://127.0.0.1:1"], "");
    assert!(added.success, "{added:?}");
    etcd.kill();

    let data = folder.path().join("ringd");
    let printed = migrate(&source, &data);
    assert!(printed.stderr.contains("cluster of one member"), "{printed:?}");
    let ringd = Server::start(Program::Ringd, &data);
    assert_eq!(picture(&ringd, &revisions), expected);
    assert_ne!(member_ids(&ringd), ids);
    ringd.stop();
}

/// Requests of users in the end of the log are applied with their permissions, and the users are those of etcd.
pub fn migrates_the_requests_of_users() {
    let folder = server::directory();
    let source = folder.path().join("etcd");
    let etcd = Server::start_with(Program::Etcd, &source, &DATABASE_STAYS_BEHIND);
    let commands = [
        ("user add root:secret", true),
        ("role add root", true),
        ("user grant-role root root", true),
        ("user add alice:a", true),
        ("role add part", true),
        ("role grant-permission part readwrite k", true),
        ("user grant-role alice part", true),
        ("auth enable", true),
        ("--user root:secret put k v", true),
        ("--user alice:a put l refused", false),
        ("--user alice:a put k w", true),
        ("--user root:secret user add bob --no-password", true),
        ("--user root:secret user delete bob", true),
    ];
    for (command, success) in commands {
        let done = etcdctl(&etcd.endpoint(), &command.split(' ').collect::<Vec<_>>(), "");
        assert_eq!(done.success, success, "{command}: {done:?}");
    }
    etcd.kill();
    let data = folder.path().join("ringd");
    migrate(&source, &data);
    let again = Server::start(Program::Etcd, &source);
    // A linearizable read: the log is applied to its end.
    let read = etcdctl(&again.endpoint(), &["--user", "root:secret", "get", "", "--prefix"], "");
    assert_eq!(read.stdout, "k\nw\n", "{read:?}");
    again.stop();
    for (bucket, key) in [
        ("auth", "authEnabled"),
        ("auth", "authRevision"),
        ("authUsers", "root"),
        ("authUsers", "alice"),
        ("authRoles", "root"),
        ("authRoles", "part"),
    ] {
        let [theirs, ours] = [&source, &data].map(|directory| {
            let database = directory.join("member/snap/db");
            tool_output("bbolt", &["get", text(&database), bucket, key])
        });
        assert_eq!(theirs, ours, "{bucket} {key}");
    }
    let ringd = Server::start(Program::Ringd, &data);
    let read = etcdctl(&ringd.endpoint(), &["--user", "alice:a", "get", "k"], "");
    assert_eq!(read.stdout, "k\nw\n", "{read:?}");
    ringd.stop();
}

/// A learner is added, moved, promoted, and (`alone`) removed again, all of it in the log only; a member is killed, and migrated.
pub fn migrates_changes_of_members() {
    for is_alone_again in [false, true] {
        let folder = server::directory();
        let [source, other, data] = ["one", "two", "ringd"].map(|name| folder.path().join(name));
        let one = Server::start_with(Program::Etcd, &source, &DATABASE_STAYS_BEHIND);
        let ctl = |words: &[&str]| etcdctl(&one.endpoint(), words, "");
        let list = ctl(&["member", "list", "-w", "json"]).stdout;
        let own: Value = serde_json::from_str(&list).expect("JSON");
        let own_peer = own["members"][0]["peerURLs"][0].as_str().expect("a URL").to_owned();
        let ids = member_ids(&one);
        let peer = format!("http://127.0.0.1:{}", server::free_port());
        let added = ctl(&["member", "add", "two", "--learner", "--peer-urls", "http://127.0.0.1:9", "-w", "json"]);
        let added: Value = serde_json::from_str(&added.stdout).expect("JSON");
        let id = format!("{:x}", added["member"]["ID"].as_u64().expect("an id"));
        let moved = ctl(&["member", "update", &id, "--peer-urls", &peer]);
        assert!(moved.success, "{moved:?}");
        let cluster = format!("one={own_peer},two={peer}");
        let flags = ["--name", "two", "--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer];
        let flags = [&flags[..], &["--initial-cluster", &cluster, "--initial-cluster-state", "existing"]].concat();
        let two = Server::start_with(Program::Etcd, &other, &flags);
        // etcd refuses until the learner has caught up, and to remove a member that was not connected for a while.
        let insist = |words: &[&str]| {
            let begun = Instant::now();
            while !ctl(words).success {
                assert!(begun.elapsed() < PATIENCE, "{words:?}: {:?}", ctl(words));
            }
        };
        insist(&["member", "promote", &id]);
        if is_alone_again {
            insist(&["member", "remove", &id]);
        }
        put(&one, "k", "v");
        // What a log of several says to be committed is older than what was answered last.
        ["x", "y"].into_iter().for_each(|key| put(&one, key, ""));
        two.kill();
        one.kill();
        let printed = migrate(&source, &data);
        assert_eq!(printed.stderr.contains("of several members"), !is_alone_again, "{printed:?}");
        let ringd = Server::start(Program::Ringd, &data);
        assert_eq!(value(&ringd, "k"), "v");
        assert_eq!(member_ids(&ringd) == ids, is_alone_again);
        ringd.stop();
    }
}

/// Other entries of a log that are not in the database: alarms, leases, downgrades, transactions, compactions.
pub fn migrates_every_kind_of_entry() {
    let folder = server::directory();
    let [source, data] = ["etcd", "ringd"].map(|name| folder.path().join(name));
    let etcd = Server::start_with(Program::Etcd, &source, &DATABASE_STAYS_BEHIND);
    let ctl = |words: &[&str], input: &str| {
        let done = etcdctl(&etcd.endpoint(), words, input);
        assert!(done.success, "{words:?}: {done:?}");
        done.stdout
    };
    put(&etcd, "k", "v");
    let lease = ctl(&["lease", "grant", "10000"], "").split_whitespace().nth(1).expect("an id").to_owned();
    let gone = ctl(&["lease", "grant", "10000"], "").split_whitespace().nth(1).expect("an id").to_owned();
    ctl(&["put", "leased", "v", "--lease", &lease], "");
    ctl(&["put", "gone", "v", "--lease", &gone], "");
    ctl(&["lease", "revoke", &gone], "");
    ctl(&["txn"], "\nput a 1\nget a\ndel k\n\n\n");
    ctl(&["downgrade", "enable", "3.6"], "");
    ctl(&["downgrade", "cancel"], "");
    ctl(&["compaction", "4", "--physical"], "");
    ctl(&["alarm", "disarm"], "");
    ctl(&["auth", "status"], "");
    let revisions = Revisions { compacted: 4, last: 6 };
    let expected = picture(&etcd, &revisions);
    etcd.kill();
    migrate(&source, &data);
    let ringd = Server::start(Program::Ringd, &data);
    assert_eq!(picture(&ringd, &revisions), expected);
    assert_eq!(value(&ringd, "leased"), "v");
    ringd.stop();
}

/// Other directories, of a member or of none.
pub fn refuses_other_directories() {
    let folder = server::directory();
    let [source, data, empty] = ["etcd", "ringd", "empty"].map(|name| folder.path().join(name));
    fs::create_dir(&empty).unwrap();
    let refuse = |from: &Path, to: &Path, words: &str| {
        let flags = ["migrate", "--timeout", "100ms", "--from", text(from), "--data-dir", text(to)];
        let printed = ringutl(&flags);
        assert_eq!(printed.code, Some(1), "{printed:?}");
        assert!(printed.stderr.contains(words), "{words:?} is missing in {printed:?}");
    };
    let etcd = Server::start(Program::Etcd, &source);
    put(&etcd, "k", "v");
    refuse(&source, &data, "in use");
    assert!(!data.exists());
    etcd.stop();
    refuse(&empty, &data, "no database");
    refuse(&source, &source, "not empty");
    migrate(&source, &data);
    refuse(&data, &empty, "ringd");
    for command in ["defrag", "migrate"] {
        let ringd = Server::start(Program::Ringd, &data);
        let flags = [command, "--timeout", "100ms", "--data-dir", text(&data)];
        let target: &[&str] = if command == "migrate" { &["--target-version", "3.6"] } else { &[] };
        let printed = ringutl(&[&flags[..], target].concat());
        assert_eq!(printed.code, Some(1), "{printed:?}");
        assert!(printed.stderr.contains("in use"), "{printed:?}");
        ringd.stop();
    }
}

/// Offline defragmentation of ringd's directory and of etcd's: smaller, sound, with the same content.
pub fn defragments() {
    for program in [Program::Ringd, Program::Etcd] {
        let folder = server::directory();
        let server = Server::start(program, folder.path());
        harness::run(async {
            let connection = server.connect().await;
            for number in 0..600 {
                put_on(&connection, &format!("k{number:04}"), &vec![b'x'; 4000]).await;
            }
            let delete =
                DeleteRangeRequest { key: "k0010".into(), range_end: "k9".into(), ..DeleteRangeRequest::default() };
            let _: DeleteRangeResponse = connection.unary("/etcdserverpb.KV/DeleteRange", &delete).await.unwrap();
            let compact = CompactionRequest { revision: 602, physical: true };
            let _: CompactionResponse = connection.unary("/etcdserverpb.KV/Compact", &compact).await.unwrap();
        });
        let revisions = Revisions { compacted: 602, last: 602 };
        let expected = picture(&server, &revisions);
        server.stop();
        let database = folder.path().join("member/snap/db");
        let judged = || tool_output("etcdutl", &["hashkv", text(&database)]);
        let (size, hash) = (fs::metadata(&database).unwrap().len(), judged());
        let printed = ringutl(&["defrag", "--data-dir", text(folder.path())]);
        assert_eq!(printed.code, Some(0), "{printed:?}");
        assert!(printed.stderr.contains("finished defragmenting directory"), "{printed:?}");
        assert_eq!(judged(), hash);
        tool_output("bbolt", &["check", text(&database)]);
        let smaller = fs::metadata(&database).unwrap().len();
        assert!(smaller * 4 < size, "{program:?}: {size} bytes became {smaller}");
        let left: Vec<_> = fs::read_dir(database.parent().unwrap()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("tmp")), "{left:?}");
        let server = Server::start(program, folder.path());
        assert_eq!(picture(&server, &revisions), expected, "{program:?}");
        server.stop();
    }
}

/// etcd's own `migrate`, on its directories and ours.
pub fn moves_the_schema() {
    for program in [Program::Ringd, Program::Etcd] {
        let folder = server::directory();
        let server = Server::start(program, folder.path());
        put(&server, "k", "v");
        server.stop();
        let database = folder.path().join("member/snap/db");
        let version = || tool_output("bbolt", &["get", text(&database), "meta", "storageVersion"]).trim().to_owned();
        let to = |target: &str, flags: &[&str]| {
            let words = ["migrate", "--data-dir", text(folder.path()), "--target-version", target];
            ringutl(&[&words[..], flags].concat())
        };
        let printed = to("3.7", &[]);
        assert!(printed.code == Some(0) && printed.stderr.contains("storage version up-to-date"), "{printed:?}");
        let down = to("3.6", &[]);
        // Whether the log of an etcd allows it is for etcd's tool to say.
        assert_eq!(down.code, Some(i32::from(program == Program::Etcd)), "{down:?}");
        assert_eq!(to("3.6", &["--force"]).code, Some(0));
        assert_eq!(version(), "3.6.0");
        assert_eq!(to("3.8", &[]).code, Some(1));
        let printed = to("3.7", &[]);
        assert!(printed.code == Some(0) && printed.stderr.contains("updated storage version"), "{printed:?}");
        assert_eq!(version(), "3.7.0");
        let server = Server::start(program, folder.path());
        assert_eq!(value(&server, "k"), "v");
        server.stop();
    }
}

/// The other direction: etcd's tool restores ringd's database, and etcd serves the same.
pub fn etcd_takes_ringds_database() {
    let folder = server::directory();
    let [source, theirs] = ["ringd", "etcd"].map(|name| folder.path().join(name));
    let ringd = Server::start(Program::Ringd, &source);
    let revisions = load(&ringd, harness::seed("utl::etcd_takes_ringds_database", 13));
    let expected = picture(&ringd, &revisions);
    ringd.stop();
    let copied = folder.path().join("copied.db");
    fs::copy(source.join("member/snap/db"), &copied).unwrap();
    restore(&reference::tool("etcdutl"), &copied, &theirs, &["--skip-hash-check"]);
    let etcd = Server::start(Program::Etcd, &theirs);
    assert_eq!(picture(&etcd, &revisions), expected);
    etcd.stop();
    let again = folder.path().join("again");
    restore(&ringutl_path(), &copied, &again, &["--skip-hash-check"]);
    let ringd = Server::start(Program::Ringd, &again);
    assert_eq!(picture(&ringd, &revisions), expected);
    ringd.stop();
}

/// Between which revisions a history can be read.
#[derive(Clone, Copy, Debug)]
struct Revisions {
    compacted: i64,
    last: i64,
}

/// A snapshot of an etcd with some history, whose data directory stays at `folder/etcd`.
fn saved_snapshot(folder: &Path) -> (PathBuf, Revisions) {
    let etcd = Server::start(Program::Etcd, &folder.join("etcd"));
    let revisions = load(&etcd, harness::seed("utl::saved_snapshot", 5));
    let lease = etcdctl(&etcd.endpoint(), &["lease", "grant", "10000"], "").stdout;
    let lease = lease.split_whitespace().nth(1).expect("an id").to_owned();
    assert!(etcdctl(&etcd.endpoint(), &["put", "leased", "v", "--lease", &lease], "").success);
    assert!(etcdctl(&etcd.endpoint(), &["role", "add", "r"], "").success);
    let path = folder.join("snapshot.db");
    let saved = etcdctl(&etcd.endpoint(), &["snapshot", "save", text(&path)], "");
    assert!(saved.success, "{saved:?}");
    etcd.stop();
    (path, Revisions { last: revisions.last + 1, ..revisions })
}

/// Random puts, deletes and transactions, with a compaction on the way.
fn load(server: &Server, seed: u64) -> Revisions {
    let mut random = StdRng::seed_from_u64(seed);
    harness::run(async {
        let connection = server.connect().await;
        let mut revisions = Revisions { compacted: 0, last: 1 };
        for number in 0..400 {
            let key = format!("key{:02}", random.random_range(0..KEYS));
            let length = random.random_range(0..600);
            let value: Vec<u8> = (0..length).map(|_| random.random()).collect();
            match random.random_range(0..10) {
                0 => {
                    let request = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
                    let _: DeleteRangeResponse =
                        connection.unary("/etcdserverpb.KV/DeleteRange", &request).await.unwrap();
                }
                1 => {
                    let put = |key: String| RequestOp {
                        request: Some(Request::RequestPut(PutRequest {
                            key: key.into(),
                            value: value.clone().into(),
                            ..PutRequest::default()
                        })),
                    };
                    let request = TxnRequest {
                        success: vec![put(format!("{key}/a")), put(format!("{key}/b"))],
                        ..TxnRequest::default()
                    };
                    let _: TxnResponse = connection.unary("/etcdserverpb.KV/Txn", &request).await.unwrap();
                }
                _ => revisions.last = put_on(&connection, &key, &value).await,
            }
            if number == 250 {
                revisions.compacted = revisions.last - 20;
                let request = CompactionRequest { revision: revisions.compacted, physical: number % 2 == 0 };
                let _: CompactionResponse = connection.unary("/etcdserverpb.KV/Compact", &request).await.unwrap();
            }
        }
        revisions.last = put_on(&connection, "last", b"put").await;
        revisions
    })
}

async fn put_on(connection: &Connection, key: &str, value: &[u8]) -> i64 {
    let request = PutRequest { key: key.to_owned().into(), value: value.to_vec().into(), ..PutRequest::default() };
    let response: PutResponse = connection.unary("/etcdserverpb.KV/Put", &request).await.unwrap();
    response.header.expect("a header").revision
}

fn put(server: &Server, key: &str, value: &str) {
    harness::run(async { put_on(&server.connect().await, key, value.as_bytes()).await });
}

fn value(server: &Server, key: &str) -> String {
    let printed = etcdctl(&server.endpoint(), &["get", key, "--print-value-only"], "");
    printed.stdout.trim_end().to_owned()
}

/// The keys of a server, now and before, without ids of member and cluster.
fn picture(server: &Server, revisions: &Revisions) -> Vec<Value> {
    let get = |revision: i64| {
        let revision = format!("--rev={revision}");
        let printed = etcdctl(&server.endpoint(), &["get", "", "--prefix", "-w", "json", &revision], "");
        if !printed.success {
            let error = printed.stderr.lines().last().unwrap_or_default().to_owned();
            return Value::String(error);
        }
        let mut answer: Value = serde_json::from_str(&printed.stdout).expect("JSON");
        let header = answer["header"].as_object_mut().expect("a header");
        header.retain(|name, _| name == "revision");
        answer
    };
    let Revisions { compacted, last } = *revisions;
    [0, compacted - 1, compacted, compacted + 1, (compacted + last) / 2, last, last + 1].map(get).to_vec()
}

/// Ids of member and cluster, in answers of the member itself.
fn member_ids(server: &Server) -> [Value; 2] {
    let printed = etcdctl(&server.endpoint(), &["get", "x", "-w", "json"], "");
    let answer: Value = serde_json::from_str(&printed.stdout).expect("JSON");
    ["cluster_id", "member_id"].map(|name| answer["header"][name].clone())
}

/// The output and the end of a tool. Log lines are left out of comparisons.
#[derive(Debug, PartialEq, Eq)]
pub struct Printed {
    pub code: Option<i32>,
    stdout: String,
    pub stderr: String,
}

pub fn ringutl_path() -> PathBuf {
    env!("CARGO_BIN_EXE_ringutl").into()
}

pub fn ringutl(words: &[&str]) -> Printed {
    let output = Command::new(ringutl_path()).args(words).output().expect("it starts");
    printed(&output, |_| true)
}

fn run(tool: &Path, folder: &Path, words: &[&str]) -> Printed {
    let output = Command::new(tool).args(words).current_dir(folder).output().expect("it starts");
    printed(&output, |line| !line.contains("Z\tinfo\t"))
}

fn printed(output: &std::process::Output, keep: impl Fn(&str) -> bool) -> Printed {
    let stderr = String::from_utf8_lossy(&output.stderr);
    Printed {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: stderr.lines().filter(|line| keep(line)).map(|line| format!("{line}\n")).collect(),
    }
}

/// The members that the tool says it added, as etcdutl words it.
fn restore(tool: &Path, snapshot: &Path, data: &Path, flags: &[&str]) -> Vec<String> {
    let words = [&["snapshot", "restore", text(snapshot), "--data-dir", text(data)], flags].concat();
    let output = Command::new(tool).args(&words).output().expect("it starts");
    assert!(output.status.success(), "{tool:?} {words:?}: {output:?}");
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    let added = errors.lines().filter_map(|line| line.split_once("added member\t{"));
    added
        .map(|(_, fields)| fields.split(", \"added-peer-peer-urls\"").next().expect("there is a first").to_owned())
        .collect()
}

pub fn migrate(source: &Path, data: &Path) -> Printed {
    let printed = ringutl(&["migrate", "--from", text(source), "--data-dir", text(data)]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    printed
}

pub fn tool_output(name: &str, words: &[&str]) -> String {
    let output = Command::new(reference::tool(name)).args(words).output().expect("it starts");
    assert!(output.status.success(), "{name} {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
