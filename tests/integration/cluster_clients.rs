//! Clients of a cluster of three: our client library, and ringctl beside etcdctl.

use std::{process::Command, time::Duration};

use ringd::{
    client::{Call, Client, Options, method},
    proto::etcdserverpb::{PutRequest, RangeRequest},
};

use crate::harness::{
    self,
    cluster::Cluster,
    etcdctl::{Printed, etcdctl, ringctl},
    proxy::Rule,
    reference, server,
};

/// Endpoints that hang, then end, then come back: reads always succeed, and writes do but for one under way.
pub fn calls_go_around_lost_endpoints() {
    let cluster = Cluster::start(&super::cluster::cast(), &[]);
    let at = |member: usize| Some(member as u64);
    let set = |member, rule| cluster.clients.set(None, at(member), rule);
    harness::run(async {
        set(0, Rule::Swallow);
        let options =
            Options { endpoints: cluster.endpoints(), dial_timeout: Duration::from_millis(500), ..Options::default() };
        let client = Client::connect(options).await.unwrap();
        for (hangs, ends) in [(0, 0), (0, 1), (1, 2)] {
            cluster.clients.heal();
            set(hangs, Rule::Swallow);
            if ends != hangs {
                set(ends, Rule::Cut);
            }
            // A connection that has stood may be taken by one call before its loss is known.
            while client.call(&method::PUT, &put(), Call::within(Duration::from_secs(2))).await.is_err() {}
            for _ in 0..10 {
                let read = RangeRequest { key: "k".into(), ..RangeRequest::default() };
                client.call(&method::RANGE, &read, Call::within(harness::child::PATIENCE)).await.unwrap();
            }
        }
        cluster.clients.heal();
        client.sync(Call::within(harness::child::PATIENCE)).await.unwrap();
        let mut known = client.endpoints();
        known.sort();
        let mut endpoints = cluster.endpoints();
        endpoints.sort();
        assert_eq!(known, endpoints);
    });
}

fn put() -> PutRequest {
    PutRequest { key: "k".into(), ..PutRequest::default() }
}

/// What an operator does with stock etcdctl: looks, moves the leader, saves a snapshot from a follower, adds and promotes a learner.
pub fn stock_client_operates() {
    let mut cluster = Cluster::start(&super::cluster::cast(), &[]);
    let does = |endpoint: &str, line: &str| {
        let printed = etcdctl(endpoint, &line.split(' ').collect::<Vec<_>>(), "");
        assert!(printed.success, "etcdctl {line}: {printed:?}");
        printed.stdout
    };
    let one = cluster.endpoint(0);
    does(&one, "put k v");
    assert_eq!(does(&one, "member list").lines().filter(|line| line.contains(", started, m")).count(), 3);
    assert_eq!(does(&one, "endpoint health --cluster").matches("is healthy").count(), 3);
    let leaders = |at: usize| {
        let status = does(&cluster.endpoint(at), "endpoint status --cluster");
        // Endpoint, id, versions, sizes, and then: does it lead, does it learn?
        status.lines().filter(|line| line.contains(", true, false, ")).count()
    };
    assert!((0..3).all(|at| leaders(at) == 1));
    let hashes = does(&one, "endpoint hashkv --cluster --rev=2");
    let hashes: Vec<&str> = hashes.lines().map(|line| line.split(", ").nth(1).unwrap()).collect();
    assert!(hashes.len() == 3 && hashes.iter().all(|hash| hash == &hashes[0]), "{hashes:?}");

    let old = cluster.leader();
    let follower = (old + 1) % 3;
    let moved = does(&cluster.endpoints().join(","), &format!("move-leader {:x}", cluster.id(follower)));
    let expected = format!("Leadership transferred from {:x} to {:x}\n", cluster.id(old), cluster.id(follower));
    assert_eq!(moved, expected);
    cluster.until("the leader moves", || cluster.leader() == follower);

    let directory = server::directory();
    let file = directory.path().join("snapshot").display().to_string();
    does(&cluster.endpoint(old), &format!("snapshot save {file}"));
    let status = Command::new(reference::tool("etcdutl")).args(["snapshot", "status", &file, "-w", "json"]).output();
    let status: serde_json::Value = serde_json::from_slice(&status.unwrap().stdout).unwrap();
    assert_eq!(status["revision"], 2, "{status}");

    let learner = cluster.add(super::cluster::cast()[0], true);
    assert!(does(&one, "member list").contains("true"));
    let promote = format!("member promote {:x}", cluster.id(learner));
    cluster.until("it has caught up", || {
        etcdctl(&one, &promote.split(' ').collect::<Vec<_>>(), "").stdout.contains("promoted in cluster")
    });
    assert_eq!(cluster.read(learner, "k").kvs[0].value, "v");
}

/// What is asked about a cluster without changing it.
const QUESTIONS: [&str; 8] = [
    "member list",
    "member list --consistency=s",
    "endpoint status",
    "endpoint status --cluster",
    "endpoint health",
    "endpoint health --cluster",
    "endpoint hashkv --cluster",
    "endpoint hashkv --cluster --rev=2",
];

/// ringctl prints what etcdctl prints, in every format.
pub fn questions_print_the_same() {
    // A commit between the two questions changes the size of a file.
    const ATTEMPTS: usize = 10;
    let cluster = Cluster::start(&super::cluster::cast(), &[]);
    let one = cluster.endpoint(0);
    let all = cluster.endpoints().join(",");
    assert!(etcdctl(&all, &["put", "k", "v"], "").success);
    for (question, format) in QUESTIONS.iter().flat_map(|question| FORMATS.map(|format| (question, format))) {
        let endpoints = if question.contains("--cluster") { &one } else { &all };
        let ask = || {
            [etcdctl, ringctl].map(|client| {
                let mut arguments: Vec<&str> = question.split(' ').collect();
                arguments.extend(["--write-out", format]);
                let mut printed = without_times(client(endpoints, &arguments, ""));
                if question.contains("health") {
                    // etcdctl prints endpoints in the order of their answers.
                    printed.stdout = sorted(&printed.stdout);
                }
                printed
            })
        };
        let mut printed = ask();
        for _ in 1..ATTEMPTS {
            if printed[0] == printed[1] {
                break;
            }
            printed = ask();
        }
        assert_eq!(printed[0], printed[1], "{question}, {format}: etcdctl, then ringctl");
        assert!(printed[0].success, "{question}, {format}: {:?}", printed[0]);
    }
}

const FORMATS: [&str; 4] = ["simple", "json", "fields", "table"];

/// Changes of members and of the leader: the same text but for the ids, and the same refusals.
pub fn changes_print_the_same() {
    let cluster = Cluster::start(&super::cluster::cast(), &[]);
    let all = cluster.endpoints().join(",");
    for format in FORMATS {
        let [theirs, ours] = [etcdctl, ringctl].map(|client| change(&cluster, client, &all, format));
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs, ours, "{format}: etcdctl, then ringctl");
        }
    }
}

type Tool = fn(&str, &[&str], &str) -> Printed;

/// Everything that may be changed, and back again; what each step printed.
fn change(cluster: &Cluster, client: Tool, all: &str, format: &str) -> Vec<(String, Printed)> {
    // A new one each time: an id is made of the URL and the second, and one that was removed is not taken again.
    let url = format!("http://127.0.0.1:{}", server::free_port());
    let mut steps = Vec::new();
    let mut step = |endpoints: &str, line: &str| {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.extend(["--write-out", format]);
        let printed = loop {
            let printed = client(endpoints, &arguments, "");
            // Changes are refused for some seconds after members have come or gone.
            if !printed.stderr.contains("unhealthy cluster") {
                break printed;
            }
        };
        let asked = |text: String| text.replace(endpoints, "ENDPOINTS").replace(&url, "URL");
        let printed = Printed { stdout: asked(printed.stdout), stderr: asked(printed.stderr), ..printed };
        let mut printed = without_times(printed);
        // An id is made of URL and second, so within a second the same member is refused by its id and later by its URL.
        printed.stderr = printed.stderr.replace("member ID already exist", "Peer URLs already exists");
        // Members are listed by their ids, and one of these is new.
        printed.stdout = sorted(&without_terms(&printed.stdout));
        steps.push((without_ids(&line.replace(&url, "URL")), printed));
    };
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    step(all, &format!("move-leader {:x}", cluster.id(follower)));
    cluster.until("the leader moves", || cluster.leader() == follower);
    step(&cluster.endpoint(leader), &format!("move-leader {:x}", cluster.id(leader)));
    step(all, "move-leader 1");
    step(all, &format!("member add new --learner --peer-urls={url}"));
    let list = cluster.list(leader).members;
    let taken = &list.iter().find(|member| member.id == cluster.id(0)).unwrap().peer_ur_ls[0];
    let new = format!("{:x}", list.iter().find(|member| member.peer_ur_ls == [&*url]).unwrap().id);
    step(all, "member list");
    step(all, &format!("member promote {new}"));
    step(all, &format!("member update {new} --peer-urls={url},http://localhost:1"));
    step(all, &format!("member update {new} --peer-urls={}", taken));
    step(all, &format!("member add other --peer-urls={url}"));
    step(all, "member add other --learner --peer-urls=http://localhost:2");
    step(all, &format!("member promote {:x}", cluster.id(leader)));
    step(all, &format!("member remove {new}"));
    step(all, &format!("member remove {new}"));
    step(all, "member list");
    steps
}

fn sorted(text: &str) -> String {
    let mut pieces: Vec<&str> = text.split(|letter| "{}[],\"\n".contains(letter)).collect();
    pieces.sort_unstable();
    pieces.join("\n")
}

/// Each move of the leader begins a term.
fn without_terms(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("\"RaftTerm\""));
    let pieces: Vec<String> = lines
        .map(|line| {
            line.split("\"raft_term\":").enumerate().fold(String::new(), |all, (number, piece)| {
                all + if number == 0 { piece } else { piece.trim_start_matches(|letter: char| letter.is_ascii_digit()) }
            })
        })
        .collect();
    pieces.join("\n")
}

/// Without the durations of `endpoint health`, what Go logs, and ids that are made anew each time.
fn without_times(printed: Printed) -> Printed {
    let line = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for word in &mut words {
            if word.ends_with('s') && word.starts_with(|first: char| first.is_ascii_digit()) {
                "TIME".clone_into(word);
            }
        }
        words.retain(|word| !word.is_empty());
        without_ids(&words.join(" ")) + "\n"
    };
    let took = |text: &str| {
        text.split("\"took\":\"").enumerate().fold(String::new(), |all, (number, piece)| {
            all + if number == 0 { piece } else { piece.split_once('"').map_or("", |(_, rest)| rest) }
        })
    };
    let no_rules = |text: &str| text.replace(['-', '─', '┼', '┬', '┴'], "");
    Printed {
        stdout: no_rules(&took(&printed.stdout)).lines().map(line).collect(),
        stderr: took(&printed.stderr).lines().filter(|line| !line.starts_with("{\"level\"")).map(line).collect(),
        ..printed
    }
}

/// Long numbers are ids.
fn without_ids(text: &str) -> String {
    const DIGITS_MIN: usize = 12;
    let mut out = String::new();
    let mut digits = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() {
            digits.push(letter);
            continue;
        }
        out += if digits.len() < DIGITS_MIN { &digits } else { "ID" };
        digits.clear();
        out.push(letter);
    }
    out.pop();
    out
}
