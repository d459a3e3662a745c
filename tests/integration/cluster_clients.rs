//! Clients of a cluster of three: our client library, and ringctl beside etcdctl.

use std::time::Duration;

use ringd::{
    client::{Call, Client, Options, method},
    proto::etcdserverpb::{PutRequest, RangeRequest},
};

use crate::harness::{
    self,
    cluster::Cluster,
    etcdctl::{Printed, etcdctl, ringctl},
    proxy::Rule,
    server,
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
                without_times(client(endpoints, &arguments, ""))
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
    let url = format!("http://127.0.0.1:{}", server::free_port());
    let all = cluster.endpoints().join(",");
    for format in FORMATS {
        let [theirs, ours] = [etcdctl, ringctl].map(|client| change(&cluster, client, &all, &url, format));
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs, ours, "{format}: etcdctl, then ringctl");
        }
    }
}

type Tool = fn(&str, &[&str], &str) -> Printed;

/// Everything that may be changed, and back again; what each step printed.
fn change(cluster: &Cluster, client: Tool, all: &str, url: &str, format: &str) -> Vec<(String, Printed)> {
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
        steps.push((without_ids(line), without_times(printed)));
    };
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    step(all, &format!("move-leader {:x}", cluster.id(follower)));
    cluster.until("the leader moves", || cluster.leader() == follower);
    step(&cluster.endpoint(leader), &format!("move-leader {:x}", cluster.id(leader)));
    step(all, "move-leader 1");
    step(all, &format!("member add new --learner --peer-urls={url}"));
    let list = cluster.list(leader).members;
    let new = format!("{:x}", list.iter().find(|member| member.peer_ur_ls == [url]).unwrap().id);
    step(all, "member list");
    step(all, &format!("member promote {new}"));
    step(all, &format!("member update {new} --peer-urls={url}0"));
    step(all, &format!("member update {new} --peer-urls={}", list[0].peer_ur_ls[0]));
    step(all, &format!("member add other --peer-urls={url}0"));
    step(all, &format!("member promote {:x}", cluster.id(leader)));
    step(all, &format!("member remove {new}"));
    step(all, &format!("member remove {new}"));
    step(all, "member list");
    steps
}

/// Without the durations of `endpoint health`, what Go logs, and ids that are made anew each time.
fn without_times(printed: Printed) -> Printed {
    let line = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for at in 0..words.len() {
            let is_time = words[at].ends_with('s') && words[at].starts_with(|first: char| first.is_ascii_digit());
            if is_time {
                words[at] = "TIME".to_owned();
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
