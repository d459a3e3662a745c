//! Starting and stopping: refusals and their texts, and the data after a clean stop.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::Command,
};

use ringd::{
    config::Config,
    proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse},
    server::datadir::GUARD,
};
use rustix::process::Signal;

use crate::harness::{
    self,
    etcdctl::etcdctl,
    server::{self, Ended, Program, Server, run_to_end},
};

/// SIGTERM ends the server cleanly, and the next start has all writes.
pub fn stops_and_starts() {
    let directory = server::directory();
    let mut server = Server::start(Program::Ringd, directory.path());
    for round in 0..3 {
        put(&server, &format!("k{round}"), 200);
        server = server.restart();
        for written in 0..=round {
            let read: RangeResponse = harness::run(async {
                let request = RangeRequest { key: format!("k{written}").into(), ..RangeRequest::default() };
                server.connect().await.unary("/etcdserverpb.KV/Range", &request).await.unwrap()
            });
            assert_eq!(read.kvs.len(), 1, "k{written} after restart {round}");
        }
    }
    server.stop();
}

/// A port in use: the address and the reason.
pub fn port_taken() {
    let (one, other) = (server::directory(), server::directory());
    let first = Server::start(Program::Ringd, one.path());
    let ended = run_with(Program::Ringd, other.path(), &client_flags(first.port));
    refused(&ended, &["address already in use", &first.port.to_string()]);
}

/// A second server on the same directory: refused at once, and the first one continues.
pub fn directory_in_use() {
    let directory = server::directory();
    let first = Server::start(Program::Ringd, directory.path());
    let ended = expect_refusal(directory.path(), &[]);
    refused(&ended, &[&directory.path().display().to_string()]);
    put(&first, "still", 1);
}

/// etcd's own data directory: refused, and its log is not changed.
pub fn directory_of_etcd() {
    let directory = server::directory();
    let etcd = Server::start(Program::Etcd, directory.path());
    put(&etcd, "k", 1);
    etcd.stop();
    let ended = expect_refusal(directory.path(), &[]);
    refused(&ended, &[&directory.path().display().to_string(), "etcd"]);
    let etcd = Server::start(Program::Etcd, directory.path());
    assert!(etcdctl(&etcd.endpoint(), &["get", "k"], "").stdout.starts_with("k\n"));
}

/// An etcd that is started on ringd's data directory, alone or with `--force-new-cluster`, ends with an error that names the guard, and
/// ringd finds everything it acknowledged. So too with the log in a directory of its own, whether etcd is started with that directory or not.
pub fn directory_not_for_etcd() {
    for wal_dir in [false, true] {
        let (directory, log) = (server::directory(), server::directory());
        let log = log.path().join("log");
        let own = ["--wal-dir", log.to_str().expect("UTF-8")];
        let own = if wal_dir { &own[..] } else { &[] };
        let guards = [directory.path().join("member/wal").join(GUARD), log.join(GUARD)];
        let guards = if wal_dir { &guards[..] } else { &guards[..1] };
        let mut server = Server::start_with(Program::Ringd, directory.path(), own);
        put(&server, "before", 1);
        // As versions before the guard left a directory.
        server.kill();
        guards.iter().for_each(|guard| fs::remove_file(guard).unwrap());
        server = Server::start_with(Program::Ringd, directory.path(), own);
        put(&server, "after", 200);
        server.kill();
        for flags in [own, &[], &["--force-new-cluster"]] {
            let ended = Server::try_start(Program::Etcd, directory.path(), flags).err().expect("etcd takes it over");
            refused(&ended, &[GUARD]);
        }
        assert!(guards.iter().all(|guard| guard.exists()));
        let server = Server::start_with(Program::Ringd, directory.path(), own);
        for (key, version) in [("before", 1), ("after", 200)] {
            let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
            let read: RangeResponse =
                harness::run(async { server.connect().await.unary("/etcdserverpb.KV/Range", &request).await.unwrap() });
            assert_eq!(read.kvs.iter().map(|kv| kv.version).collect::<Vec<_>>(), [version], "{key}, {own:?}");
        }
        server.stop();
    }
}

/// A path that cannot be a data directory.
pub fn directory_that_cannot_be() {
    let directory = server::directory();
    let file = directory.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let ended = expect_refusal(&file, &[]);
    refused(&ended, &[&file.display().to_string()]);
}

/// An unknown flag: refused, with a similar one.
pub fn unknown_flag() {
    let ended = run_to_end(Program::Ringd, &["--data-dirr", "/nonexistent"], &[]);
    refused(&ended, &["--data-dirr", "--data-dir"]);
}

/// Flags that contradict each other, or the environment.
pub fn contradictions() {
    let ended = run_to_end(Program::Ringd, &["--listen-client-urls", "http://127.0.0.1:1"], &[]);
    refused(&ended, &["--advertise-client-urls is required when --listen-client-urls is set explicitly"]);

    let ended = run_to_end(Program::Ringd, &["--name", "flag"], &[("ETCD_NAME", "environment")]);
    refused(&ended, &["ETCD_NAME"]);

    let directory = server::directory();
    let ended = expect_refusal(directory.path(), &["--heartbeat-interval", "500", "--election-timeout", "1000"]);
    refused(&ended, &["--election-timeout", "--heartbeat-interval"]);

    let ended = expect_refusal(directory.path(), &["--initial-cluster-state", "perhaps"]);
    refused(&ended, &["initial-cluster-state", "perhaps"]);
}

/// Flags about a new cluster are ignored by an existing member.
pub fn member_that_exists() {
    let directory = server::directory();
    let joins = ["--initial-cluster-state", "existing"];
    let nobody = "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs";
    refused(&expect_refusal(directory.path(), &joins), &[nobody]);
    let server = Server::start(Program::Ringd, directory.path());
    put(&server, "k", 1);
    server.stop();
    let server = Server::start_with(Program::Ringd, directory.path(), &joins);
    server.stop();
    Server::start_with(Program::Ringd, directory.path(), &["--initial-cluster", ""]).stop();
}

/// As in a Go program, most signals do nothing.
pub fn signals_without_effect() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    for signal in [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::IO, Signal::POWER]
    {
        server.signal(signal);
        put(&server, "k", 1);
    }
    server.signal(Signal::PIPE);
    server.signal(Signal::XFSZ);
    put(&server, "k", 1);
    server.stop();
}

/// SIGINT stops the server, and a second one changes nothing; SIGHUP ends it at once. Both end it by that signal.
pub fn signals_that_end_it() {
    for (signal, times) in [(Signal::INT, 2), (Signal::HUP, 1)] {
        let directory = server::directory();
        let server = Server::start(Program::Ringd, directory.path());
        put(&server, "k", 1);
        for _ in 0..times {
            server.signal(signal);
        }
        assert_eq!(server.wait().signal(), Some(signal.as_raw()), "{signal:?}");
        Server::start(Program::Ringd, directory.path()).stop();
    }
}

/// A data directory with permissions for other users is served, with a warning in the log.
pub fn directory_for_everybody() {
    let directory = server::directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(directory.path().join("stray"), "").unwrap();
    let server = Server::start(Program::Ringd, directory.path());
    harness::run(async {
        server.must_log("check file permission").await;
        server.must_log("drwxrwxrwx").await;
        server.must_log("found invalid file under data directory").await;
    });
    let mode = fs::metadata(directory.path().join("member")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// The log goes to every output that is named.
pub fn logs_in_files() {
    let directory = server::directory();
    let file = directory.path().join("log");
    let outputs = format!("stderr,stdout,{}", file.display());
    Server::start_with(Program::Ringd, directory.path(), &["--log-outputs", &outputs]).stop();
    let log = fs::read_to_string(&file).unwrap();
    assert!(log.contains("ready to serve client requests") && log.contains("closed etcd server"), "{log}");
    let ended = expect_refusal(directory.path(), &["--log-outputs", "/nonexistent/log"]);
    refused(&ended, &["open sink \"/nonexistent/log\""]);
}

/// Every flag of `etcd --help` is known, and the first line of `--version` is etcd's. The help of 3.7 still has two flags that
/// its program does not.
pub fn flags_and_version_of_etcd() {
    let printed = |program: Program, flag: &str| {
        let output = Command::new(program.path()).arg(flag).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let [ours, etcds] = [Program::Ringd, Program::Etcd].map(|program| printed(program, "--version"));
    assert_eq!(ours.lines().next(), etcds.lines().next());
    let help = printed(Program::Etcd, "--help");
    let flags = help.lines().filter_map(|line| line.strip_prefix("  --")?.split(' ').next());
    let flags: Vec<&str> = flags.filter(|name| !matches!(*name, "discovery" | "discovery-proxy")).collect();
    assert!(flags.len() > 100, "{flags:?}");
    for name in flags {
        let parsed = Config::parse([format!("--{name}=")], []);
        let refused = parsed.err().map(|refused| refused.text).unwrap_or_default();
        assert!(!refused.contains("unexpected argument"), "{refused}");
    }
}

fn put(server: &Server, key: &str, times: usize) {
    harness::run(async {
        let connection = server.connect().await;
        for _ in 0..times {
            let request =
                PutRequest { key: key.to_owned().into(), value: vec![1; 256].into(), ..PutRequest::default() };
            let _: PutResponse = connection.unary("/etcdserverpb.KV/Put", &request).await.unwrap();
        }
    });
}

fn expect_refusal(data: &Path, flags: &[&str]) -> Ended {
    match Server::try_start(Program::Ringd, data, flags) {
        Ok(_) => panic!("it serves on {} with {flags:?}", data.display()),
        Err(ended) => ended,
    }
}

fn run_with(program: Program, data: &Path, flags: &[String]) -> Ended {
    let mut all = vec!["--data-dir", data.to_str().expect("UTF-8")];
    all.extend(flags.iter().map(String::as_str));
    run_to_end(program, &all, &[])
}

fn client_flags(port: u16) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}");
    ["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", "http://127.0.0.1:0"]
        .map(str::to_owned)
        .to_vec()
}

/// The process ended by itself, with an error code, and printed these words.
fn refused(ended: &Ended, words: &[&str]) {
    let status = ended.status.unwrap_or_else(|| panic!("it goes on: {ended}"));
    assert!(status.code().is_some_and(|code| code != 0), "not a refusal: {ended}");
    for word in words {
        assert!(ended.log.contains(word), "{word:?} is missing in: {ended}");
    }
}
