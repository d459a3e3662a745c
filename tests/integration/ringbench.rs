//! ringbench against a server: what it counts, and what it says when something is wrong.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

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

/// The page of a comparison holds every measurement, and a plot of each kind; nothing else is left.
pub fn servers_are_compared() {
    let directory = server::directory();
    let (page_file, place) = (directory.path().join("page.html"), directory.path().display());
    let ringd = env!("CARGO_BIN_EXE_ringd");
    let output = Command::new(env!("CARGO_BIN_EXE_ringbench"))
        .args(["compare", "--server", &format!("one={ringd}")])
        .args(["--server", &format!("by log <i>={ringd} --read-mode=log")])
        .args("--rounds 1 --seconds 0.1 --rates 2 --clients 8 --conns 2 --key-space-size 100 --members 1".split(' '))
        .args(["--directory", &place.to_string(), "--out", &page_file.display().to_string()])
        .output()
        .expect("ringbench runs");
    assert!(output.status.success(), "{output:?}");
    let verdict = String::from_utf8_lossy(&output.stdout);
    for work in ["put: one serves ", "linearizable range: one serves ", "serializable range: one serves "] {
        assert!(verdict.contains(work), "{verdict}");
    }
    let page = fs::read_to_string(&page_file).expect("a page");
    let data = page.split_once("id=\"data\">").and_then(|(_, rest)| rest.split_once("</script>")).expect("data").0;
    let data: Value = serde_json::from_str(data).expect("JSON");
    let measured = data["findings"]["measurements"].as_array().expect("a list");
    assert_eq!(measured.len(), 2 * 3 * (1 + 2), "servers, works, loads: {data}");
    assert!(measured.iter().all(|one| one["refused"] == 0 && one["per_second"].as_f64() > Some(0.0)), "{data}");
    assert_eq!(data["settings"]["servers"][1]["flags"][0], "--read-mode=log");
    // Without a rate that both keep up with there are no percentiles to compare.
    let plots = page.matches("<svg").count() + page.matches("there is no offered rate").count();
    assert_eq!((plots, page.matches("by log <i>").count()), (8, 0), "{page}");
    // p50 and p99 of each server, at each rate, of each work; those of reads twice.
    assert!(page.matches("<circle").count() >= 2 * 2 * 2 * (3 + 2), "{page}");
    for outside in ["src=", "href=", "http://www", "https://", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["page.html"]);
}

/// What cannot be compared is said.
pub fn faults_of_comparisons_are_told() {
    let directory = server::directory();
    let place = format!("--directory {0} --out {0}/page.html", directory.path().display());
    for (arguments, why) in [
        ("--server a=ringd", "at least two --server"),
        ("--server a=ringd --server a=ringd", "two servers are called a"),
        ("--server a=ringd --server b", "is not NAME=PROGRAM"),
        ("--server a=nowhere/ringd --server b=ringd", "nowhere/ringd: No such file"),
        ("--server a=false --server b=false", "member 0 of a has ended (exit status: 1)"),
        ("--server a=false --server b=false --seconds 0", "--seconds"),
        ("--server a=false --server b=false --out nowhere/page.html", "nowhere/page.html: No such file"),
    ] {
        let place = if arguments.contains("--out") { "" } else { place.as_str() };
        let output = ringbench(&format!("compare {arguments} {place}"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(why), "{arguments}: {output:?}");
    }
}
