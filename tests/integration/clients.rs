//! Independent clients: etcdctl, whose output for ringd and etcd is compared, and the etcd-client crate. And ringctl, compared with
//! etcdctl.

use std::collections::BTreeSet;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};
use serde_json::Value;

use crate::harness::{
    self,
    etcdctl::{Printed, etcdctl, ringctl},
    printed::{MASKED, masked, without_ids, without_variables},
    server::{self, Program, Server},
};

/// Commands in order, each with its input.
const COMMANDS: [(&str, &str); 46] = [
    ("--user root:secret put a 0", ""),
    ("--user root --password secret get a", ""),
    ("auth status", ""),
    ("auth enable", ""),
    ("auth disable", ""),
    ("user list", ""),
    ("user get root", ""),
    ("user get root --detail", ""),
    ("role list", ""),
    ("role get root", ""),
    ("put a 1", ""),
    ("put a 2 --prev-kv", ""),
    ("put b from-input", ""),
    ("put --ignore-value a", ""),
    ("put --ignore-lease a 3", ""),
    ("put --ignore-value missing", ""),
    ("put --lease=1234 a 1", ""),
    ("get a", ""),
    ("get a --hex", ""),
    ("get a --print-value-only", ""),
    ("get missing", ""),
    ("get a z", ""),
    ("get a --prefix --keys-only", ""),
    ("get a --prefix --count-only --write-out=fields", ""),
    ("get --from-key a --limit=1", ""),
    ("get a --rev=2", ""),
    ("get a --rev=99", ""),
    ("get a --prefix --sort-by=modify --order=descend", ""),
    ("get a --prefix --consistency=s", ""),
    ("txn", "value(\"a\") = \"3\"\n\nput c yes\nget a\n\nput c no\n\n"),
    ("txn", "mod(\"a\") < \"1\"\ncreate(\"zz\") = \"0\"\n\nput c yes\n\nget c\ndel c\n\n"),
    ("txn", "\nput c 1\nput c 2\n\n\n"),
    ("get c", ""),
    ("del c", ""),
    ("del c", ""),
    ("del a --prev-kv", ""),
    ("put a again", ""),
    ("compaction 4", ""),
    ("compaction 4", ""),
    ("compaction 99", ""),
    ("compaction 5 --physical", ""),
    ("get a --rev=2", ""),
    ("del a --prefix", ""),
    ("del a --from-key", ""),
    ("get --prefix a", ""),
    ("put", ""),
];

/// A client that measures its bandwidth, as grpc-go does, pings between the pieces of a large answer, and is not disconnected for it.
pub fn etcdctl_reads_large_values() {
    let directory = server::directory();
    let ringd = Server::start(Program::Ringd, directory.path());
    let endpoint = ringd.endpoint();
    assert!(etcdctl(&endpoint, &["put", "large"], &"v".repeat(1_400_000)).success);
    for _ in 0..10 {
        let printed = etcdctl(&endpoint, &["get", "large", "--print-value-only"], "");
        assert!(!printed.stderr.contains("GoAway"), "{}", printed.stderr);
        assert_eq!(printed.stdout.len(), 1_400_001);
    }
}

/// The same commands against both: exit code and everything printed, as text and as JSON.
pub fn etcdctl_prints_the_same() {
    for format in ["simple", "json", "protobuf"] {
        let directories = [server::directory(), server::directory()];
        let ringd = Server::start(Program::Ringd, directories[0].path());
        let etcd = Server::start(Program::Etcd, directories[1].path());
        for (command, input) in COMMANDS {
            let printed = [&ringd, &etcd].map(|server| {
                let mut arguments: Vec<&str> = command.split(' ').collect();
                if !command.contains("--write-out") {
                    arguments.extend(["--write-out", format]);
                }
                masked(etcdctl(&server.endpoint(), &arguments, input), server)
            });
            if format == "protobuf" {
                // Binary output with ids in it, so only success is compared.
                assert_eq!(printed[0].success, printed[1].success, "etcdctl {command}");
            } else {
                assert_eq!(printed[0], printed[1], "etcdctl {command}, {format}: ringd, then etcd");
            }
        }
    }
}

/// `endpoint status` and `endpoint health`: they succeed, with the same JSON fields.
pub fn etcdctl_sees_a_healthy_endpoint() {
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    for command in ["status", "health"] {
        for format in ["simple", "table", "json"] {
            let printed = [&ringd, &etcd]
                .map(|server| etcdctl(&server.endpoint(), &["endpoint", command, "--write-out", format], ""));
            assert!(printed[0].success, "endpoint {command}: {:?}", printed[0]);
            if format == "json" {
                let [left, right] = printed.map(|printed| {
                    let mut fields = BTreeSet::new();
                    collect_fields("", &parsed(&printed.stdout), &mut fields);
                    fields
                });
                assert_eq!(left, right, "endpoint {command}: ringd, then etcd");
            }
        }
    }
}

/// The same commands through ringctl and etcdctl, each against a ringd of its own: the same bytes but for the ids.
pub fn ringctl_prints_the_same() {
    for format in ["simple", "json", "fields"] {
        let directories = [server::directory(), server::directory()];
        let servers = [&directories[0], &directories[1]].map(|one| Server::start(Program::Ringd, one.path()));
        for (command, input) in COMMANDS {
            let mut arguments: Vec<&str> = command.split(' ').collect();
            if !command.contains("--write-out") {
                arguments.extend(["--write-out", format]);
            }
            let ours = ringctl(&servers[0].endpoint(), &arguments, input);
            let theirs = etcdctl(&servers[1].endpoint(), &arguments, input);
            let [ours, theirs] = [(ours, &servers[0]), (theirs, &servers[1])].map(|(printed, server)| Printed {
                stdout: without_ids(&without_id_values(&printed.stdout)),
                stderr: without_variables(&printed.stderr, server),
                ..printed
            });
            assert_eq!(ours, theirs, "{command}, {format}: ringctl, then etcdctl");
        }
    }
}

/// `endpoint status` and `endpoint health` of the same server: the same but for the time it took.
pub fn ringctl_sees_what_etcdctl_sees() {
    // A commit of the page file between the two questions changes its size.
    const ATTEMPTS: usize = 5;
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    for (command, format) in [("status", "simple"), ("status", "json"), ("health", "simple"), ("health", "json")] {
        let both = || {
            [ringctl, etcdctl].map(|client| {
                let printed = client(&server.endpoint(), &["endpoint", command, "--write-out", format], "");
                let stderr = without_time(&without_variables(&printed.stderr, &server));
                Printed { stdout: without_time(&printed.stdout), stderr, ..printed }
            })
        };
        let mut answers = both();
        for _ in 1..ATTEMPTS {
            if answers[0] == answers[1] {
                break;
            }
            answers = both();
        }
        assert_eq!(answers[0], answers[1], "endpoint {command}, {format}: ringctl, then etcdctl");
        assert!(answers[0].success, "endpoint {command}: {:?}", answers[0]);
    }
}

/// The whole KV service through the etcd-client crate.
pub fn etcd_client_crate() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    harness::run(async {
        let mut client = Client::connect([server.endpoint()], None).await.unwrap();
        put_and_get(&mut client).await;
        ranges(&mut client).await;
        transactions(&mut client).await;
        deletes_and_compaction(&mut client).await;
        let status = client.status().await.unwrap();
        assert_eq!(status.leader(), status.header().unwrap().member_id());
        assert!(status.version().starts_with("3.7."), "{}", status.version());
    });
}

async fn put_and_get(client: &mut Client) {
    let first = client.put("k", "1", None).await.unwrap();
    assert!(first.prev_key().is_none());
    let second = client.put("k", "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(second.prev_key().unwrap().value(), b"1");
    let revision = |header: Option<&etcd_client::ResponseHeader>| header.unwrap().revision();
    assert_eq!(revision(second.header()), revision(first.header()) + 1);

    let found = client.get("k", None).await.unwrap();
    let kv = &found.kvs()[0];
    assert_eq!((kv.value(), kv.version(), found.count()), (&b"2"[..], 2, 1));
    assert_eq!((kv.create_revision(), kv.mod_revision()), (revision(first.header()), revision(second.header())));

    let past = GetOptions::new().with_revision(revision(first.header())).with_serializable();
    assert_eq!(client.get("k", Some(past)).await.unwrap().kvs()[0].value(), b"1");
    let error = client.get("", None).await.unwrap_err().to_string();
    assert!(error.contains("key is not provided"), "{error}");
}

async fn ranges(client: &mut Client) {
    for number in 0..100 {
        client.put(format!("range/{number:03}"), format!("{}", 100 - number), None).await.unwrap();
    }
    let all = client.get("range/", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!((all.kvs().len(), all.count(), all.more()), (100, 100, false));

    let some = GetOptions::new().with_prefix().with_limit(7).with_keys_only();
    let some = client.get("range/", Some(some)).await.unwrap();
    assert_eq!((some.kvs().len(), some.count(), some.more()), (7, 100, true));
    assert!(some.kvs().iter().all(|kv| kv.value().is_empty()));

    let sorted = GetOptions::new().with_prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(1);
    assert_eq!(client.get("range/", Some(sorted)).await.unwrap().kvs()[0].key(), b"range/099");

    let count = GetOptions::new().with_from_key().with_count_only();
    let count = client.get("range/050", Some(count)).await.unwrap();
    assert_eq!((count.kvs().len(), count.count()), (0, 50));
}

async fn transactions(client: &mut Client) {
    let inner = Txn::new().and_then([TxnOp::put("t/inner", "x", None)]);
    let txn = Txn::new()
        .when([Compare::value("k", CompareOp::Equal, "2"), Compare::version("t/none", CompareOp::Equal, 0)])
        .and_then([TxnOp::get("k", None), TxnOp::put("t/then", "x", None), TxnOp::txn(inner)])
        .or_else([TxnOp::delete("k", None)]);
    let response = client.txn(txn).await.unwrap();
    assert!(response.succeeded());
    let responses = response.op_responses();
    let (TxnOpResponse::Get(got), TxnOpResponse::Put(_), TxnOpResponse::Txn(nested)) =
        (&responses[0], &responses[1], &responses[2])
    else {
        panic!("{responses:?}");
    };
    assert_eq!(got.kvs()[0].value(), b"2");
    assert!(nested.succeeded());
    assert_eq!(client.get("t/", Some(GetOptions::new().with_prefix())).await.unwrap().count(), 2);

    let duplicate = Txn::new().and_then([TxnOp::put("d", "1", None), TxnOp::put("d", "2", None)]);
    let error = client.txn(duplicate).await.unwrap_err().to_string();
    assert!(error.contains("duplicate key"), "{error}");
}

async fn deletes_and_compaction(client: &mut Client) {
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("range/", Some(options)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (100, 100));
    let revision = deleted.header().unwrap().revision();

    client.compact(revision, None).await.unwrap();
    let past = GetOptions::new().with_revision(revision - 1);
    let error = client.get("k", Some(past)).await.unwrap_err().to_string();
    assert!(error.contains("required revision has been compacted"), "{error}");
    assert_eq!(client.get("k", Some(GetOptions::new().with_revision(revision))).await.unwrap().count(), 1);
}

/// JSON without the numbers of `MASKED`.
fn without_id_values(text: &str) -> String {
    MASKED.iter().fold(text.to_owned(), |text, name| {
        let field = format!("\"{name}\":");
        let mut pieces = text.split(&field);
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |all, piece| all + &field + piece.trim_start_matches(|letter: char| letter.is_ascii_digit()))
    })
}

/// Without the duration that ends a line, as Go prints it, or the one in JSON.
fn without_time(text: &str) -> String {
    let cut = |line: &str| {
        let end = ["took = ", "\"took\":"].iter().find_map(|word| line.find(word).map(|at| at + word.len()));
        line[..end.unwrap_or(line.len())].to_owned() + "\n"
    };
    text.lines().map(cut).collect()
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// The paths of all fields of a JSON value.
fn collect_fields(path: &str, value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, field) in object {
                let path = format!("{path}.{name}");
                fields.insert(path.clone());
                collect_fields(&path, field, fields);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_fields(path, item, fields)),
        _ => (),
    }
}
