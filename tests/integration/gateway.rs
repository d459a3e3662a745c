//! The JSON gateway beside etcd's: the same requests to both, and status, content type and body compared.
//!
//! Left out of the comparison: ids, terms, sizes and hashes, which follow from the start of a server, and the members that ringd adds
//! to the errors of streams for old clients.

use std::{
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, protocol::Role};

use crate::harness::{
    http1::{Answer, Exchange, ask},
    server::{self, Program, Server},
};

/// Names of members that differ between servers.
const MASKED: [&str; 15] = [
    "cluster_id",
    "member_id",
    "memberID",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "hash",
    "leader",
    "token",
    "clientURLs",
    "peerURLs",
];
/// What ringd's errors of streams have more.
const EXTRA: [&str; 3] = ["grpc_code", "http_code", "http_status"];

struct Both {
    servers: [Server; 2],
    _directories: [TempDir; 2],
}

impl Both {
    fn start(flags: &[&str]) -> Both {
        let directories = [server::directory(), server::directory()];
        let ringd = Server::start_with(Program::Ringd, directories[0].path(), flags);
        let etcd = Server::start_with(Program::Etcd, directories[1].path(), flags);
        Both { servers: [ringd, etcd], _directories: directories }
    }

    fn ports(&self) -> [u16; 2] {
        self.servers.each_ref().map(|server| server.port)
    }

    /// Posts to both; what is compared must be equal. Gives back etcd's body.
    fn agree(&self, path: &str, body: &str) -> Value {
        self.agree_with(&format!("POST {path}"), &[], body)
    }

    fn agree_with(&self, start: &str, headers: &[&str], body: &str) -> Value {
        let answers = self.ports().map(|port| ask(port, start, headers, body));
        let [ringd, etcd] = answers.each_ref().map(seen);
        assert_eq!(ringd, etcd, "{start} {headers:?} {body}: ringd, then etcd");
        answers[1].json()
    }

    /// Posts to both with a token of each.
    fn agree_as(&self, tokens: &[String; 2], path: &str, body: &str) -> Value {
        let mut answers = self
            .ports()
            .into_iter()
            .zip(tokens)
            .map(|(port, token)| ask(port, &format!("POST {path}"), &[&format!("authorization: {token}")], body));
        let (ringd, etcd) = (answers.next().unwrap(), answers.next().unwrap());
        assert_eq!(seen(&ringd), seen(&etcd), "{path} {body}: ringd, then etcd");
        etcd.json()
    }

    fn tokens(&self, name: &str, password: &str) -> [String; 2] {
        let body = json!({"name": name, "password": password}).to_string();
        self.ports().map(|port| {
            let answer = ask(port, "POST /v3/auth/authenticate", &[], &body).json();
            answer["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
        })
    }
}

/// What is compared of an answer.
fn seen(answer: &Answer) -> (u16, Option<String>, Option<String>, Value) {
    let header = |name| answer.head.header(name).map(str::to_owned);
    (answer.head.status, header("content-type"), header("www-authenticate"), masked(answer.json()))
}

fn masked(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let is_member = members.contains_key("peerURLs");
            let kept = members.into_iter().filter(|(name, _)| !EXTRA.contains(&&**name));
            kept.map(|(name, value)| {
                let is_masked = MASKED.contains(&&*name) || is_member && name == "ID";
                let value = if is_masked { Value::from("masked") } else { masked(value) };
                (name, value)
            })
            .collect()
        }
        Value::Array(values) => values.into_iter().map(masked).collect(),
        // Several documents.
        Value::String(text) if text.ends_with("}\n") => {
            let documents = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into()));
            documents.map(masked).collect()
        }
        // Go's library chooses at build time with which kind of space its texts begin.
        Value::String(text) => text.replace('\u{a0}', " ").into(),
        other => other,
    }
}

/// One member's KV, leases, cluster, maintenance, locks and elections, by either form of names, and what is refused.
const REQUESTS: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9vMg==","value":"YmF6","prev_kv":true}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prevKv":true}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","ignoreValue":true,"unknown":{"a":[1,null,"}"]}}"#),
    ("/v3/kv/put", r#"{"value":"YmFy"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","lease":"99"}"#),
    ("/v3/kv/put", "{}"),
    ("/v3/kv/put", ""),
    ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v"} and what follows"#),
    ("/v3/kv/range", "{\n\t\"key\" : \"Zm9v\" ,\r\n \"range_end\":\"Zm9w\", \"sort_order\":\"DESCEND\" }"),
    ("/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","sortTarget":"MOD","sortOrder":2,"limit":1}"#),
    ("/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","keysOnly":true,"serializable":true}"#),
    ("/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true,"limit":"1e0"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":1000}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":"2","sort_order":"UNKNOWN"}"#),
    ("/v3/kv/range", r#"{"key":"_-8"}"#),
    ("/v3/kv/range", r#"{"key":"bm9uZQ=="}"#),
    ("/v3/kv/range", r#"{"key":null}"#),
    ("/v3/kv/range", "{"),
    ("/v3/kv/range", "x"),
    ("/v3/kv/range", "5"),
    ("/v3/kv/range", "null"),
    ("/v3/kv/range", r#"{"key":"Zm9v"#),
    ("/v3/kv/range", r#"{"key":"Zm9v",}"#),
    ("/v3/kv/range", r#"{"key" "Zm9v"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v" "limit":1}"#),
    ("/v3/kv/range", r#"{"key":tru}"#),
    ("/v3/kv/range", r#"{"key":-}"#),
    ("/v3/kv/range", "{\"key\":\"\t\"}"),
    ("/v3/kv/range", r#"{"key":"\q"}"#),
    ("/v3/kv/range", r#"{"key":"\u12x4"}"#),
    ("/v3/kv/range", r#"{"key":5}"#),
    ("/v3/kv/range", r#"{"key":"*"}"#),
    ("/v3/kv/range", "{\"key\":\"Zm9v\",\n  \"limit\":1.5}"),
    ("/v3/kv/range", r#"{"limit":"9223372036854775808"}"#),
    ("/v3/kv/range", r#"{"limit":[]}"#),
    ("/v3/kv/range", r#"{"serializable":"true"}"#),
    ("/v3/kv/range", r#"{"sort_order":true}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","key":"Zm9v"}"#),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"VALUE","key":"Zm9v","value":"YmF6"}],"success":[{"request_range":{"key":"Zm9v"}}]}"#,
    ),
    // As Patroni and as lua-resty-etcd write them.
    (
        "/v3/kv/txn",
        r#"{"compare":[{"result":"EQUAL","target":"CREATE","key":"bmV3","create_revision":"0"}],"success":[{"request_put":{"key":"bmV3","value":"MQ=="}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"CREATE","key":"bmV3","createRevision":"0"}],"success":[{"requestPut":{"key":"bmV3","value":"MQ=="}}],"failure":[{"requestRange":{"key":"bmV3"}},{"requestDeleteRange":{"key":"bmV3","prevKv":true}}]}"#,
    ),
    ("/v3/kv/txn", r#"{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}"#),
    ("/v3/kv/txn", r#"{"success":[{"request_put":{},"request_range":{}}]}"#),
    ("/v3/kv/txn", r#"{"success":[{"request_txn":{"success":[{"request_range":{"key":"Zm9v"}}]}}]}"#),
    ("/v3/kv/txn", r#"{"success":{}}"#),
    ("/v3/kv/txn", r#"{"success":["x"]}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9vMg==","prev_kv":true}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9vMg=="}"#),
    ("/v3/kv/compaction", r#"{"revision":"3","physical":true}"#),
    ("/v3/kv/compaction", r#"{"revision":"3"}"#),
    ("/v3/kv/compaction", r#"{"revision":"1000"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":"2"}"#),
    ("/v3/lease/grant", r#"{"TTL":600,"ID":17}"#),
    ("/v3/lease/grant", r#"{"TTL":"600","ID":"17"}"#),
    ("/v3/lease/grant", r#"{"TTL":"0","ID":"18"}"#),
    ("/v3/kv/put", r#"{"key":"bGVhc2Vk","value":"MQ==","lease":17}"#),
    ("/v3/lease/timetolive", r#"{"ID":17,"keys":true}"#),
    ("/v3/kv/lease/timetolive", r#"{"ID":"999"}"#),
    ("/v3/lease/leases", "{}"),
    ("/v3/kv/lease/leases", ""),
    ("/v3/lease/keepalive", r#"{"ID":"17"}"#),
    ("/v3/lease/keepalive", r#"{"ID":17}{"ID":999}"#),
    ("/v3/lease/keepalive", ""),
    ("/v3/kv/lease/keepalive", r#"{"ID":17}"#),
    ("/v3/kv/lease/revoke", r#"{"ID":17}"#),
    ("/v3/lease/revoke", r#"{"ID":17}"#),
    ("/v3/cluster/member/list", "{}"),
    ("/v3/cluster/member/list", r#"{"linearizable":true}"#),
    ("/v3/cluster/member/add", r#"{"peerURLs":["nonsense"]}"#),
    ("/v3/cluster/member/remove", r#"{"ID":"1"}"#),
    ("/v3/cluster/member/update", r#"{"ID":"1","peerURLs":["http://127.0.0.1:1"]}"#),
    ("/v3/cluster/member/promote", r#"{"ID":"1"}"#),
    ("/v3/maintenance/alarm", "{}"),
    ("/v3/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"7","alarm":"CORRUPT"}"#),
    ("/v3/maintenance/alarm", r#"{"action":0}"#),
    ("/v3/maintenance/alarm", r#"{"action":"DEACTIVATE","memberID":7,"alarm":2}"#),
    ("/v3/maintenance/status", "{}"),
    ("/v3/maintenance/defragment", "{}"),
    ("/v3/maintenance/hash", "{}"),
    ("/v3/maintenance/hashkv", r#"{"revision":"4"}"#),
    ("/v3/maintenance/hashkv", r#"{"revision":"1000"}"#),
    ("/v3/maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
    ("/v3/maintenance/downgrade", r#"{"action":"VALIDATE","version":"3.6"}"#),
    ("/v3/maintenance/downgrade", r#"{"action":"VALIDATE","version":"x"}"#),
    ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"999"}"#),
    ("/v3/lock/unlock", r#"{"key":"bG9jay8x"}"#),
    ("/v3/election/leader", r#"{"name":"ZQ=="}"#),
    ("/v3/election/proclaim", "{}"),
    ("/v3/election/resign", "{}"),
    ("/v3/election/observe", "{"),
    ("/v3/maintenance/snapshot", "x"),
    ("/v3/auth/status", "{}"),
    ("/v3/auth/enable", "{}"),
    ("/v3/auth/disable", "{}"),
    ("/v3/auth/authenticate", r#"{"name":"root","password":"x"}"#),
    ("/v3/auth/user/get", r#"{"name":"nobody"}"#),
    ("/v3/auth/user/list", "{}"),
    ("/v3/auth/user/add", r#"{"name":""}"#),
    ("/v3/auth/user/delete", r#"{"name":"nobody"}"#),
    ("/v3/auth/user/changepw", r#"{"name":"nobody","password":"x"}"#),
    ("/v3/auth/user/grant", r#"{"user":"nobody","role":"r"}"#),
    ("/v3/auth/user/revoke", r#"{"name":"nobody","role":"r"}"#),
    ("/v3/auth/role/add", r#"{"name":"r"}"#),
    ("/v3/auth/role/grant", r#"{"name":"r","perm":{"permType":"READWRITE","key":"Zm9v","range_end":"AA=="}}"#),
    ("/v3/auth/role/get", r#"{"role":"r"}"#),
    ("/v3/auth/role/list", "{}"),
    ("/v3/auth/role/revoke", r#"{"role":"r","key":"Zm9v","range_end":"AA=="}"#),
    ("/v3/auth/role/delete", r#"{"role":"r"}"#),
    ("/v3/nothing", "{}"),
    ("/v3/kv/range/", "{}"),
    ("/v3/", "{}"),
    ("/v3", "{}"),
    ("/v3/kv/range:verb", "{}"),
    ("/v3/kv%2Frange", r#"{"key":"Zm9v"}"#),
    ("/v3/kv/r%61nge", r#"{"key":"Zm9v"}"#),
    ("//v3/kv/range", "{}"),
    ("/v3beta/kv/range", r#"{"key":"Zm9v"}"#),
    ("/v3beta/nothing", "{}"),
    ("/v3alpha/kv/range", "{}"),
];

/// Every route and every kind of refusal.
pub fn requests_agree() {
    let both = Both::start(&[]);
    for (path, body) in REQUESTS {
        both.agree(path, body);
    }
}

/// Methods, headers that become metadata, and times.
pub fn headers_agree() {
    let both = Both::start(&[]);
    let range = r#"{"key":"Zm9v"}"#;
    for start in ["GET /v3/kv/range", "PUT /v3/kv/range", "DELETE /v3/watch", "GET /v3/nothing", "GET /v3/"] {
        both.agree_with(start, &[], range);
    }
    both.agree_with("OPTIONS /v3/kv/range", &[], "");
    let post = "POST /v3/kv/range";
    for headers in [
        &["content-type: text/plain"][..],
        &["accept: application/xml"],
        &["content-type: application/x-www-form-urlencoded", "x-http-method-override: get"],
        &["content-type: application/x-www-form-urlencoded", "x-http-method-override: post"],
        &["x-http-method-override: get"],
        &["grpc-timeout: nonsense"],
        &["grpc-timeout: 5S"],
        &["grpc-metadata-hasleader: true"],
        &["grpc-metadata-token: nonsense"],
        &["grpc-metadata-client-api-version: 3.7.0"],
        &["authorization: nonsense"],
    ] {
        both.agree_with(post, headers, range);
    }
}

/// A body that is larger than a message may be.
pub fn large_requests_agree() {
    let both = Both::start(&["--max-request-bytes", "10000"]);
    let body = |size: usize| format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "YWFh".repeat(size / 3));
    for size in [9_000, 20_000, 600_000] {
        let answers = both.ports().map(|port| ask(port, "POST /v3/kv/put", &[], &body(size)));
        let [ringd, etcd] = answers.each_ref().map(seen);
        assert_eq!(ringd, etcd, "{size}");
    }
    // Read to its end by etcd; ringd does not keep so much, and says so with the same status.
    let answers = both.ports().map(|port| ask(port, "POST /v3/kv/put", &[], &body(3_000_000)));
    let [ringd, etcd] = answers.map(|answer| (answer.head.status, answer.json()["code"].clone()));
    assert_eq!(ringd, etcd);
}

/// Users by header, and refusals in the texts that Patroni looks for.
pub fn users_agree() {
    let both = Both::start(&["--bcrypt-cost", "4"]);
    for (path, body) in [
        ("/v3/auth/user/add", r#"{"name":"root","password":"root"}"#),
        ("/v3/auth/role/add", r#"{"name":"root"}"#),
        ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("/v3/auth/user/add", r#"{"name":"alice","password":"a"}"#),
        ("/v3/auth/role/add", r#"{"name":"foo"}"#),
        ("/v3/auth/role/grant", r#"{"name":"foo","perm":{"permType":"READWRITE","key":"Zm9v","rangeEnd":"Zm9w"}}"#),
        ("/v3/auth/user/grant", r#"{"user":"alice","role":"foo"}"#),
        ("/v3/auth/user/get", r#"{"name":"alice"}"#),
        ("/v3/auth/role/get", r#"{"role":"foo"}"#),
        ("/v3/auth/enable", "{}"),
        ("/v3/auth/authenticate", r#"{"name":"root","password":"wrong"}"#),
        ("/v3/auth/authenticate", r#"{"name":"root"}"#),
        ("/v3/auth/status", "{}"),
    ] {
        both.agree(path, body);
    }
    let (root, alice) = (both.tokens("root", "root"), both.tokens("alice", "a"));
    let made_up = [(); 2].map(|()| "nonsense".to_owned());
    let bearer = alice.clone().map(|token| format!("Bearer {token}"));
    for tokens in [&root, &alice, &bearer, &made_up] {
        for (path, body) in [
            ("/v3/kv/put", r#"{"key":"Zm9v","value":"MQ=="}"#),
            ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
            ("/v3/kv/range", r#"{"key":"YQ=="}"#),
            ("/v3/kv/txn", r#"{"success":[{"request_put":{"key":"YQ=="}}]}"#),
            ("/v3/kv/compaction", r#"{"revision":"1"}"#),
            ("/v3/lease/grant", r#"{"TTL":100,"ID":5}"#),
            ("/v3/lease/keepalive", r#"{"ID":5}"#),
            ("/v3/lease/revoke", r#"{"ID":5}"#),
            ("/v3/maintenance/status", "{}"),
            ("/v3/cluster/member/list", "{}"),
            ("/v3/auth/user/list", "{}"),
            ("/v3/auth/user/get", r#"{"name":"alice"}"#),
        ] {
            both.agree_as(tokens, path, body);
        }
    }
    // Nobody at all.
    for (path, body) in [("/v3/kv/range", r#"{"key":"Zm9v"}"#), ("/v3/cluster/member/list", "{}")] {
        both.agree(path, body);
    }
    let mut watched = Watching::begin(&both, &alice, r#"{"create_request":{"key":"YQ=="}}"#);
    watched.agree("what alice may not watch");
}

/// One stream at each server.
struct Watching([Exchange; 2]);

impl Watching {
    fn begin(both: &Both, tokens: &[String; 2], body: &str) -> Watching {
        let begin = |at: usize| {
            let token = format!("authorization: {}", tokens[at]);
            let mut exchange = Exchange::begin(both.ports()[at], "POST /v3/watch", &[&token], body.as_bytes());
            let head = exchange.head();
            assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
            assert_eq!(head.header("transfer-encoding"), Some("chunked"));
            exchange
        };
        Watching([begin(0), begin(1)])
    }

    fn agree_on_events(&mut self, count: usize, when: &str) {
        let [ringd, etcd] = self.0.each_mut().map(|exchange| events(exchange, count));
        assert_eq!(ringd, etcd, "{when}: ringd, then etcd");
    }

    /// The next chunk of each: one document and its newline, the same.
    fn agree(&mut self, when: &str) -> Value {
        let [ringd, etcd] = self.0.each_mut().map(|exchange| document(&exchange.chunk().expect("more")));
        assert_eq!(masked(ringd), masked(etcd.clone()), "{when}: ringd, then etcd");
        etcd
    }
}

/// The next events of a stream, which may come in one response or in several.
fn events(exchange: &mut Exchange, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        let response = document(&exchange.chunk().expect("more"));
        events.extend(response["result"]["events"].as_array().expect("events").iter().cloned().map(masked));
    }
    events
}

/// A chunk is exactly one document and a newline.
fn document(chunk: &[u8]) -> Value {
    let text = chunk.strip_suffix(b"\n").unwrap_or_else(|| panic!("no newline: {:?}", String::from_utf8_lossy(chunk)));
    assert!(!text.contains(&b'\n'), "{:?}", String::from_utf8_lossy(text));
    serde_json::from_slice(text).expect("one JSON document")
}

/// Watches with puts meanwhile, in the forms of Patroni, etcd3gw and lua-resty-etcd.
pub fn watches_agree() {
    let both = Both::start(&[]);
    let nobody = [(); 2].map(|()| String::new());
    for (body, changes) in [
        (r#"{"create_request":{"key":"Zm9v"}}"#, 1),
        (r#"{"create_request":{"key":"Zm8=","range_end":"Zm8A","start_revision":"1","filters":[]}}"#, 1),
        (r#"{"createRequest":{"key":"Zg==","rangeEnd":"Zw==","prevKv":true,"progressNotify":true}}"#, 2),
        (r#"{"create_request":{"key":"Zg==","range_end":"Zw==","filters":["NODELETE"]}}"#, 2),
    ] {
        let mut watching = Watching::begin(&both, &nobody, body);
        let created = watching.agree("created");
        assert_eq!(created["result"]["created"], json!(true));
        if body.contains("\"1\"") {
            watching.agree("what was there");
        }
        for (path, request) in
            [("/v3/kv/put", r#"{"key":"Zm9v","value":"MQ=="}"#), ("/v3/kv/put", r#"{"key":"Zm8=","value":"Mg=="}"#)]
        {
            both.agree(path, request);
        }
        watching.agree_on_events(changes, body);
        for exchange in watching.0 {
            exchange.leave();
        }
    }
    // Two watchers of one stream, one of which is ended at once.
    let body = r#"{"create_request":{"key":"YQ==","watch_id":7}}{"cancel_request":{"watch_id":7}}"#;
    let mut watching = Watching::begin(&both, &nobody, body);
    watching.agree("created");
    watching.agree("canceled");
    // A revision that is gone.
    both.agree("/v3/kv/compaction", r#"{"revision":"4"}"#);
    let mut watching = Watching::begin(&both, &nobody, r#"{"create_request":{"key":"YQ==","start_revision":"1"}}"#);
    watching.agree("created");
    watching.agree("compacted");
}

/// A client that leaves takes its watch along, although nothing is sent to it, and a lock that it waits for.
pub fn clients_that_leave_cancel_their_calls() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let watchers = || gauge(&server, "etcd_debugging_mvcc_watch_stream_total");
    let mut watch = Exchange::begin(server.port, "POST /v3/watch", &[], br#"{"create_request":{"key":"YQ=="}}"#);
    watch.head();
    watch.chunk();
    assert_eq!(watchers(), 1.0);
    watch.leave();
    until("the watch is gone", || watchers() == 0.0);
    let grant = |id: u32| ask(server.port, "POST /v3/lease/grant", &[], &format!(r#"{{"TTL":600,"ID":{id}}}"#));
    for id in [1, 2] {
        assert_eq!(grant(id).head.status, 200);
    }
    let lock = |id: u32| format!(r#"{{"name":"bA==","lease":{id}}}"#);
    assert_eq!(ask(server.port, "POST /v3/lock/lock", &[], &lock(1)).head.status, 200);
    let waiting = Exchange::begin(server.port, "POST /v3/lock/lock", &[], lock(2).as_bytes());
    let queue = || {
        let body = r#"{"key":"bC8=","range_end":"bDA=","count_only":true}"#;
        ask(server.port, "POST /v3/kv/range", &[], body).json()["count"].as_str().map(str::to_owned)
    };
    until("it waits", || queue().as_deref() == Some("2"));
    waiting.leave();
    until("its key is gone", || queue().as_deref() == Some("1"));
}

fn gauge(server: &Server, name: &str) -> f64 {
    let page = server.page("/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not measured"))
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < crate::harness::child::PATIENCE, "not yet: {what}");
        thread::sleep(crate::harness::child::LOOK_AGAIN);
    }
}

/// The snapshot is a stream of documents whose blobs are the database; elections are observed as they are won.
pub fn other_streams_agree() {
    let both = Both::start(&[]);
    for port in both.ports() {
        let mut exchange = Exchange::begin(port, "POST /v3/maintenance/snapshot", &[], b"{}");
        assert_eq!(exchange.head().status, 200);
        let mut bytes = Vec::new();
        let mut last = Value::Null;
        while let Some(mut chunk) = exchange.chunk() {
            while !chunk.ends_with(b"\n") {
                // Go sends what is large, and its newline, as they are written.
                assert_ne!(port, both.ports()[0], "ringd's chunks are whole documents");
                chunk.extend(exchange.chunk().expect("the rest of a document"));
            }
            last = document(&chunk);
            let blob = last["result"]["blob"].as_str().unwrap_or_default().to_owned();
            bytes.extend(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, blob).unwrap());
        }
        assert_eq!(last["result"].get("remaining_bytes"), None, "the last has no more after it: {last}");
        // The magic number of the first page, and a checksum behind the pages.
        assert_eq!(bytes[16..20], 0xed0c_daed_u32.to_le_bytes());
        assert_eq!(bytes.len() % 4096, 32);
    }
    both.agree("/v3/lease/grant", r#"{"TTL":600,"ID":9}"#);
    let mut observers =
        both.ports().map(|port| Exchange::begin(port, "POST /v3/election/observe", &[], br#"{"name":"ZQ=="}"#));
    let won = both.agree("/v3/election/campaign", r#"{"name":"ZQ==","lease":"9","value":"b25l"}"#);
    for observer in &mut observers {
        assert_eq!(observer.head().status, 200);
    }
    let mut observers = Watching(observers);
    observers.agree("won");
    let proclaim = json!({"leader": won["leader"], "value": "dHdv"}).to_string();
    both.agree("/v3/election/proclaim", &proclaim);
    observers.agree("proclaimed");
    both.agree("/v3/election/leader", r#"{"name":"ZQ=="}"#);
    both.agree("/v3/election/resign", &json!({"leader": won["leader"]}).to_string());
    let locked = both.agree("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"9"}"#);
    both.agree("/v3/lock/unlock", &json!({"key": locked["key"]}).to_string());
}

/// A large answer comes in pieces and is the same.
pub fn large_answers_agree() {
    let both = Both::start(&[]);
    let value = "QUJD".repeat(10_000);
    for key in 0..40 {
        let body = json!({"key": format!("k{key:03}"), "value": value});
        for port in both.ports() {
            assert_eq!(ask(port, "POST /v3/kv/put", &[], &body.to_string()).head.status, 200);
        }
    }
    let all = both.agree("/v3/kv/range", r#"{"key":"AA==","range_end":"AA=="}"#);
    assert_eq!(all["kvs"].as_array().map(Vec::len), Some(40));
    // A client that leaves in the middle of it does no harm.
    for port in both.ports() {
        let mut exchange = Exchange::begin(port, "POST /v3/kv/range", &[], br#"{"key":"AA==","range_end":"AA=="}"#);
        exchange.head();
        exchange.leave();
        assert_eq!(ask(port, "POST /v3/kv/range", &[], r#"{"key":"AA=="}"#).head.status, 200);
    }
}

/// Origins and hosts, before and behind the gateway.
pub fn access_agrees() {
    let both = Both::start(&["--cors=http://a.example:80", "--host-whitelist=localhost"]);
    for start in ["POST /v3/kv/range", "OPTIONS /v3/kv/range", "POST /v3/nothing", "GET /v3beta/kv/range"] {
        for origin in ["origin: http://a.example:80", "origin: http://b.example:80", "x: y"] {
            let answers = both.ports().map(|port| ask(port, start, &[origin], "{}"));
            let [ringd, etcd] = answers.each_ref().map(|answer| {
                let allowed: Vec<_> = ["origin", "methods", "headers"]
                    .map(|what| answer.head.header(&format!("access-control-allow-{what}")).map(str::to_owned))
                    .into();
                (seen(answer), allowed)
            });
            assert_eq!(ringd, etcd, "{start} {origin}: ringd, then etcd");
        }
    }
    for port in both.ports() {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = "POST /v3/kv/range HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    }
    let both = Both::start(&["--enable-grpc-gateway=false"]);
    for path in ["/v3/kv/range", "/v3beta/kv/range", "/v3/", "/v3"] {
        both.agree(path, "{}");
    }
}

/// A WebSocket connection to a stream.
fn websocket(port: u16, path: &str, headers: &[&str]) -> (crate::harness::http1::Head, WebSocket<TcpStream>) {
    let fixed = [
        "connection: keep-alive, Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let mut exchange = Exchange::begin(port, &format!("GET {path}"), &[&fixed[..], headers].concat(), b"");
    let head = exchange.head();
    let (stream, rest) = exchange.into_parts();
    (head, WebSocket::from_partially_read(stream, rest, Role::Client, None))
}

fn text(socket: &mut WebSocket<TcpStream>) -> Value {
    heard(socket).expect("a message")
}

/// The next document, or how the connection ended.
fn heard(socket: &mut WebSocket<TcpStream>) -> Result<Value, String> {
    loop {
        match socket.read().map_err(|error| error.to_string())? {
            Message::Text(text) => return serde_json::from_str(&text).map_err(|error| format!("{error}: {text}")),
            Message::Ping(_) | Message::Pong(_) => {}
            other => return Err(format!("{other:?}")),
        }
    }
}

/// Watches and keepalives over WebSocket, with requests in any cut.
pub fn websockets_agree() {
    let both = Both::start(&["--bcrypt-cost", "4"]);
    let mut sockets = both.ports().map(|port| websocket(port, "/v3/watch", &["sec-websocket-protocol: Bearer, x"]));
    for (head, _) in &sockets {
        assert_eq!((head.status, head.header("sec-websocket-protocol")), (101, Some("Bearer")));
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
    let say = |sockets: &mut [(_, WebSocket<TcpStream>); 2], message: Message| {
        sockets.iter_mut().for_each(|(_, socket)| socket.send(message.clone()).unwrap());
    };
    let hear = |sockets: &mut [(_, WebSocket<TcpStream>); 2]| {
        let [ringd, etcd] = sockets.each_mut().map(|(_, socket)| heard(socket).map(masked));
        assert_eq!(ringd, etcd, "ringd, then etcd");
        etcd.unwrap_or_default()
    };
    say(&mut sockets, Message::text(r#"{"create_request":{"key":"Zm9v"}}"#));
    assert_eq!(hear(&mut sockets)["result"]["created"], json!(true));
    say(&mut sockets, Message::Ping("are you there".into()));
    say(&mut sockets, Message::binary(&br#"{"create_request":"#[..]));
    say(&mut sockets, Message::text(r#"{"key":"YmFy"}} {"cancel_request":{"watch_id":0}}"#));
    hear(&mut sockets);
    hear(&mut sockets);
    both.agree("/v3/kv/put", r#"{"key":"YmFy","value":"MQ=="}"#);
    assert!(hear(&mut sockets)["result"]["events"].is_array());
    for (_, socket) in &mut sockets {
        socket.close(None).unwrap();
    }
    both.agree("/v3/lease/grant", r#"{"TTL":600,"ID":9}"#);
    let mut sockets = both.ports().map(|port| websocket(port, "/v3/lease/keepalive", &[]));
    for id in [9, 10, 9] {
        say(&mut sockets, Message::text(format!(r#"{{"ID":{id}}}"#)));
        hear(&mut sockets);
    }
    // A path without a method.
    let mut sockets = both.ports().map(|port| websocket(port, "/v3/nothing", &[]));
    hear(&mut sockets);
    // What cannot become a connection.
    for headers in [
        &["connection: upgrade", "upgrade: websocket"][..],
        &["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 12", "sec-websocket-key: x"],
        &["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: eA=="],
    ] {
        both.agree_with("GET /v3/watch", headers, "");
        both.agree_with("POST /v3/watch", headers, "");
    }
}

/// A method with one request is called as soon as it has come, for which etcd waits until the client closes.
pub fn websockets_call_any_method() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let (_, mut socket) = websocket(server.port, "/v3/kv/put", &[]);
    socket.send(Message::text(r#"{"key":"Zm9v","value":"YmFy"}"#)).unwrap();
    assert_eq!(text(&mut socket)["header"]["revision"], json!("2"));
    assert!(matches!(socket.read(), Ok(Message::Close(_))));
    let (_, mut socket) = websocket(server.port, "/v3/kv/range", &[]);
    socket.send(Message::text("{\"key\":")).unwrap();
    socket.send(Message::text("5}")).unwrap();
    assert_eq!(text(&mut socket)["code"], json!(3));
    let (_, mut socket) = websocket(server.port, "/v3/maintenance/snapshot", &[]);
    socket.send(Message::text("{}")).unwrap();
    assert!(text(&mut socket)["result"]["blob"].is_string());
}

/// The members that ringd adds for clients in Lua.
pub fn stream_errors_have_members_for_old_clients() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let answer = ask(server.port, "POST /v3/lease/keepalive", &[], r#"{"ID":x}"#);
    assert_eq!(answer.head.status, 400);
    let error = &answer.json()["error"];
    let members = ["code", "grpc_code", "http_code", "http_status"].map(|name| error[name].clone());
    assert_eq!(members, [json!(3), json!(3), json!(400), json!("Bad Request")]);
    let text = "Failed to decode request: invalid character 'x' looking for beginning of value";
    assert_eq!(error["message"], json!(text));
}

/// Requests one after the other and at the same time on connections that are kept.
pub fn connections_are_kept() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let is_wrong = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..4 {
            let (server, is_wrong) = (&server, &is_wrong);
            scope.spawn(move || {
                let body = format!(r#"{{"key":"a2V5{client}AAA","value":"MQ=="}}"#);
                let one =
                    format!("POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let mut exchange = Exchange::begin(server.port, "POST /v3/kv/put", &[], body.as_bytes());
                let mut more = exchange.answer().head.status == 200;
                let mut stream = exchange.into_stream();
                for _ in 0..20 {
                    // Two at once.
                    stream.write_all(one.repeat(2).as_bytes()).unwrap();
                    let mut exchange = Exchange::of(stream);
                    more &= (0..2).all(|_| exchange.answer().head.status == 200);
                    stream = exchange.into_stream();
                }
                is_wrong.fetch_or(!more, Ordering::Relaxed);
            });
        }
    });
    assert!(!is_wrong.load(Ordering::Relaxed));
}
