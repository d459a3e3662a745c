//! `/metrics`, compared with etcd's: dashboards and alerts made for etcd must find their metrics.
//!
//! Compared are names, types, help texts, label names and bucket bounds; of the numbers only that they change with the traffic.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
};

use bytes::Bytes;
use prost::Message;
use ringd::proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest, PutResponse,
    RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    self,
    cluster::Cluster,
    grpc::Connection,
    server::{self, Program, Server},
};

/// Families of etcd that are missing on purpose, by the beginning of their names.
const MISSING: [(&str, &str); 10] = [
    ("go_", "there is no Go runtime"),
    ("etcd_server_go_version", "there is no Go runtime"),
    ("etcd_debugging_store_", "there is no store of version 2"),
    ("etcd_grpc_proxy_", "there is no gRPC proxy"),
    ("etcd_network_known_peers", "a cluster of one has no peers"),
    ("etcd_snap_fsync_", "there are no snapshot files beside the database"),
    ("etcd_debugging_snap_save_", "there are no snapshot files beside the database"),
    (
        "etcd_debugging_disk_backend_commit_rebalance_",
        "small pages are merged while pages are built, and not measured apart",
    ),
    ("promhttp_", "they count scrapes for the Go library"),
    ("grpc_server_handling_seconds", "only with --metrics extensive, compared apart"),
];

/// ringd shows the families that etcd shows on the same traffic.
pub fn families_agree() {
    for flags in [&[][..], &["--metrics", "extensive"]] {
        let directories = [server::directory(), server::directory()];
        let ringd = Server::start_with(Program::Ringd, directories[0].path(), flags);
        let etcd = Server::start_with(Program::Etcd, directories[1].path(), flags);
        let [ringd, etcd] = [&ringd, &etcd].map(|server| harness::run(traffic(server)));
        let is_extensive = !flags.is_empty();
        let missing = |name: &str| {
            let listed = MISSING.iter().any(|(prefix, _)| name.starts_with(prefix));
            listed && !(is_extensive && name.starts_with("grpc_server_handling_seconds"))
        };
        for (name, family) in etcd.iter().filter(|(name, _)| !missing(name)) {
            let own = ringd.get(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert_eq!((&own.kind, &own.help), (&family.kind, &family.help), "{name}: type and help");
            assert_eq!(own.label_names(), family.label_names(), "{name}: label names");
            assert_eq!(own.bounds(), family.bounds(), "{name}: bounds of the buckets");
            if name.starts_with("grpc_server_") {
                // Not every method of etcd is served, but those that are have the same labels.
                let unknown: Vec<_> = own.series.keys().filter(|series| !family.series.contains_key(*series)).collect();
                assert!(unknown.is_empty(), "{name}: {unknown:?} unknown to etcd");
            }
        }
        let invented: Vec<_> =
            ringd.keys().filter(|name| !name.starts_with("ringd_") && !etcd.contains_key(*name)).collect();
        assert!(invented.is_empty(), "names that etcd does not have: {invented:?}");
    }
}

/// After a few calls of every kind, each family that is not zero in etcd is not zero in ringd.
pub fn measured_as_in_etcd() {
    let directories = [server::directory(), server::directory()];
    let servers = [Program::Ringd, Program::Etcd].map(|program| {
        let at = usize::from(program == Program::Etcd);
        Server::start_with(program, directories[at].path(), &["--metrics", "extensive"])
    });
    let [ringd, etcd] = servers.each_ref().map(|server| {
        harness::run(async {
            everything(server).await;
            page(server).await
        })
    });
    let silent = |page: &Page, name: &str| page.get(name).is_none_or(|family| family.total() == 0.0);
    let missing = |name: &str| MISSING.iter().any(|(prefix, _)| name.starts_with(prefix));
    let zero: Vec<_> =
        etcd.keys().filter(|name| !missing(name) && !silent(&etcd, name) && silent(&ringd, name)).collect();
    assert!(zero.is_empty(), "etcd measured these, ringd did not: {zero:?}");
}

/// Calls that change every family that a single member can change.
async fn everything(server: &Server) {
    traffic(server).await;
    let connection = server.connect().await;
    let mut watch = connection.stream("/etcdserverpb.Watch/Watch", &[]).await;
    let create = WatchCreateRequest { key: "key".into(), start_revision: 1, ..WatchCreateRequest::default() };
    watch.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    let created: WatchResponse = watch.next().await.expect("it is created");
    let events: WatchResponse = watch.next().await.expect("there is history");
    assert!(created.created && !events.events.is_empty());
    let grant = LeaseGrantRequest { ttl: 1000, id: 7 };
    let messages: [(&str, Vec<u8>); 8] = [
        ("Lease/LeaseGrant", grant.encode_to_vec()),
        ("Lease/LeaseKeepAlive", LeaseKeepAliveRequest { id: 7 }.encode_to_vec()),
        ("Lease/LeaseRevoke", LeaseRevokeRequest { id: 7 }.encode_to_vec()),
        ("KV/Compact", CompactionRequest { revision: 3, physical: true }.encode_to_vec()),
        ("Maintenance/Defragment", Vec::new()),
        ("Maintenance/Hash", Vec::new()),
        ("Maintenance/HashKV", Vec::new()),
        ("Maintenance/Snapshot", Vec::new()),
    ];
    for (method, message) in messages {
        let path = format!("/etcdserverpb.{method}");
        assert_eq!(connection.call(&path, message.into()).await.code, Some(0), "{path}");
    }
    http(server, "/readyz").await;
}

/// Counters count each event once.
pub fn counters_move() {
    let directory = server::directory();
    let server = Server::start(Program::Ringd, directory.path());
    let (before, after) = harness::run(async {
        let before = page(&server).await;
        (before, traffic(&server).await)
    });
    let value = |page: &Page, series: &str| {
        page.values().find_map(|family| family.series.get(series).copied()).unwrap_or_else(|| panic!("no {series}"))
    };
    let put = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    let moved = [
        ("etcd_mvcc_put_total", 2.0),
        ("etcd_debugging_mvcc_current_revision", 2.0),
        ("etcd_debugging_mvcc_keys_total", 1.0),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 16.0),
        ("etcd_mvcc_range_total", 1.0),
        ("etcd_server_proposals_applied_total", 2.0),
        ("etcd_server_proposals_committed_total", 2.0),
        ("etcd_server_health_success", 1.0),
        (&format!("grpc_server_started_total{{{put}}}"), 2.0),
        (&format!("grpc_server_handled_total{{grpc_code=\"OK\",{put}}}"), 2.0),
        (&format!("grpc_server_msg_sent_total{{{put}}}"), 2.0),
    ];
    for (series, by) in moved {
        let (before, after) = (value(&before, series), value(&after, series));
        assert!((after - before - by).abs() < 0.5, "{series}: {before}, then {after}, expected {by} more");
    }
    for (series, expected) in [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
        ("etcd_server_proposals_pending", 0.0),
        (r#"etcd_server_version{server_version="3.7.3"}"#, 1.0),
        (r#"etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}"#, 2.0),
        (r#"etcd_server_request_duration_seconds_count{success="true",type="Put"}"#, 2.0),
        (r#"etcd_server_client_requests_total{client_api_version="unknown",type="unary"}"#, 3.0),
    ] {
        let found = value(&after, series);
        assert!((found - expected).abs() < 0.5, "{series} is {found}, expected {expected}");
    }
    for series in [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_wal_write_bytes_total",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_server_quota_backend_bytes",
        "process_resident_memory_bytes",
        "os_fd_used",
    ] {
        assert!(value(&after, series) > 0.0, "{series} stayed at 0");
    }
}

/// Two puts, a get and a look at the health; the page afterwards.
async fn traffic(server: &Server) -> Page {
    let connection: Connection = server.connect().await;
    let put = PutRequest { key: "key".into(), value: "value".into(), ..PutRequest::default() };
    let get = RangeRequest { key: "key".into(), ..RangeRequest::default() };
    let put = Bytes::from(put.encode_to_vec());
    for (path, message) in [
        ("/etcdserverpb.KV/Put", put.clone()),
        ("/etcdserverpb.KV/Put", put),
        ("/etcdserverpb.KV/Range", get.encode_to_vec().into()),
    ] {
        assert_eq!(connection.call(path, message).await.code, Some(0), "{path}");
    }
    http(server, "/health").await;
    page(server).await
}

type Page = BTreeMap<String, Family>;

#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    /// Whole names of series, with their labels.
    series: BTreeMap<String, f64>,
}

impl Family {
    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.series.keys().flat_map(|series| labels_of(series).split(',')).filter_map(|pair| pair.split_once('='))
    }

    /// How often something was observed, or the sum of its numbers.
    fn total(&self) -> f64 {
        let counts = |series: &&String| {
            self.kind != "histogram" || series.split('{').next().is_some_and(|name| name.ends_with("_sum"))
        };
        self.series.iter().filter(|(series, _)| counts(series)).map(|(_, value)| value.abs()).sum()
    }

    fn label_names(&self) -> BTreeSet<&str> {
        self.labels().map(|(name, _)| name).collect()
    }

    fn bounds(&self) -> BTreeSet<&str> {
        self.labels().filter(|(name, _)| *name == "le").map(|(_, bound)| bound).collect()
    }
}

fn labels_of(series: &str) -> &str {
    series.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'))
}

async fn page(server: &Server) -> Page {
    let text = http(server, "/metrics").await;
    let mut page = Page::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            name.clone_into(&mut current);
            page.entry(current.clone()).or_default().help = help.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            page.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (series, number) = line.rsplit_once(' ').expect("a number");
            let number = number.parse().unwrap_or_else(|_| panic!("{line}: no number"));
            let family = page.get_mut(&current).expect("a family begins with its help text");
            assert!(series.starts_with(&current), "{series} among {current}");
            assert!(family.series.insert(series.to_owned(), number).is_none(), "{series} twice");
        }
    }
    page
}

/// The body of a page, by HTTP/1.0: it ends with the connection.
async fn http(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.contains(" 200 "), "{path}: {head}");
    body.to_owned()
}

/// What the alerts and dashboards of etcd's mixin ask for, and whether it is above zero on every member of a cluster with traffic.
const OF_MIXIN: [(&str, bool); 21] = [
    ("etcd_disk_backend_commit_duration_seconds_bucket", true),
    ("etcd_disk_wal_fsync_duration_seconds_bucket", true),
    ("etcd_mvcc_db_total_size_in_bytes", true),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", true),
    ("etcd_network_client_grpc_received_bytes_total", true),
    ("etcd_network_client_grpc_sent_bytes_total", true),
    ("etcd_network_peer_received_bytes_total", true),
    ("etcd_network_peer_round_trip_time_seconds_bucket", true),
    ("etcd_network_peer_sent_bytes_total", true),
    ("etcd_network_peer_sent_failures_total", false),
    ("etcd_server_has_leader", true),
    ("etcd_server_leader_changes_seen_total", true),
    ("etcd_server_proposals_applied_total", true),
    ("etcd_server_proposals_committed_total", true),
    ("etcd_server_proposals_failed_total", false),
    ("etcd_server_proposals_pending", false),
    ("etcd_server_quota_backend_bytes", true),
    ("grpc_server_handled_total", true),
    ("grpc_server_handling_seconds_bucket", true),
    ("grpc_server_started_total", true),
    ("process_resident_memory_bytes", true),
];

/// Every series that the mixin asks for is there and true, on members of both programs.
pub fn dashboards_are_served() {
    let cluster = Cluster::start(&[Program::Ringd, Program::Etcd, Program::Ringd], &["--metrics=extensive"]);
    for at in 0..3 {
        let request = PutRequest { key: "k".into(), value: vec![b'v'; 1000].into(), ..PutRequest::default() };
        let _: PutResponse = cluster.ask(at, "KV/Put", &request);
        cluster.read(at, "k");
    }
    for at in 0..3 {
        let page = || {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", cluster.client_port(at))).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            page
        };
        for (name, moves) in OF_MIXIN {
            let is_of = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let is_there = |line: &str| {
                let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
                is_of(line) && value.is_some_and(|value| !moves || value > 0.0)
            };
            // A family with labels has no series before something goes wrong.
            let may_be_absent = name == "etcd_network_peer_sent_failures_total";
            cluster.until(name, || may_be_absent || page().lines().any(is_there));
        }
    }
}
