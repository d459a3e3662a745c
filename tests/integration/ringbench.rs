//! ringbench against a server: what it counts, and what it says when something is wrong.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::server::{self, Program, Server};

fn ringbench(arguments: &str) -> Output {
    let words = arguments.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_ringbench")).args(words).output().expect("ringbench runs")
}

fn measured(endpoint: &str, arguments: &str) -> Value {
    let all = format!("{arguments} --quiet --format json --warm-up 0 --conns 2 --clients 8 --endpoints {endpoint}");
    let output = ringbench(&all);
    assert!(output.status.success(), "{all}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Every request of every workload is answered and counted.
pub fn workloads_are_counted() {
    let directory = server::directory();
    let ringd = Server::start(Program::Ringd, directory.path());
    let endpoint = ringd.endpoint();
    let put = measured(&endpoint, "put --total 500 --key-space-size 50 --sequential-keys");
    assert!(put["all"]["requests"].as_u64() >= Some(500) && put["all"]["refused"] == 0, "{put}");
    assert!(put["servers"][0]["usage"].is_object(), "{put}");
    for (workload, kind) in [
        ("range --total 200 --key-space-size 50", "range (linearizable)"),
        ("range --total 200 --key-space-size 50 --consistency s --keys-only --limit 1", "range (serializable)"),
        ("range 0 ~ --total 50 --count-only", "range (linearizable)"),
        ("txn-put --total 100 --txn-ops 5", "txn"),
    ] {
        let seen = measured(&endpoint, workload);
        assert_eq!(seen["kinds"].as_object().map(|kinds| kinds.len()), Some(1), "{workload}: {seen}");
        assert_eq!(seen["kinds"][kind]["refused"], 0, "{workload}: {seen}");
    }
    let mixed = measured(&endpoint, "mixed --total 600 --rw-ratio 2 --serializable 0.5 --preload --key-order zipfian");
    assert_eq!(mixed["kinds"].as_object().map(|kinds| kinds.len()), Some(3), "{mixed}");
    let open = measured(&endpoint, "put --rate 400 --duration 0.5");
    assert_eq!((&open["loop"], &open["all"]["refused"]), (&"open".into(), &0.into()), "{open}");
    let refused = measured(&endpoint, "range --total 20 --rev 1000000");
    assert!(refused["all"]["refused"].as_u64() >= Some(20), "{refused}");
}

/// What cannot be measured is said, and what was measured is kept.
pub fn faults_are_told() {
    for (arguments, why) in [
        ("put --endpoints 127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        ("put --endpoints https://127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        ("put --endpoints https://127.0.0.1:1,127.0.0.1:1", "all https:// or all not"),
        ("put --cacert nowhere.pem", "no endpoint that begins with https://"),
        ("put --endpoints https://127.0.0.1:1 --cacert nowhere.pem", "nowhere.pem"),
        ("put --user root", "NAME:PASSWORD"),
        ("put --endpoints nowhere.invalid:1", "nowhere.invalid"),
        ("put --conns 0", "--conns"),
        ("put --rate 0", "--rate"),
        ("put --key-size 1 --key-space-size 17", "17 keys of 1 bytes"),
        ("put --consistency l", "unexpected argument"),
    ] {
        let output = ringbench(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(why), "{arguments}: {output:?}");
    }
    let directory = server::directory();
    let ringd = Server::start(Program::Ringd, directory.path());
    let arguments = format!("put --quiet --duration 60 --warm-up 0 --endpoints {}", ringd.endpoint());
    let child = Command::new(env!("CARGO_BIN_EXE_ringbench"))
        .args(arguments.split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .expect("ringbench runs");
    let has_written = |page: &str| {
        let count = page.lines().find_map(|line| line.strip_prefix("etcd_mvcc_put_total "));
        count.is_some_and(|count| count.trim() != "0")
    };
    while !has_written(&ringd.page("/metrics")) {}
    ringd.kill();
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && told.contains("figures until then"), "{output:?}");
}
