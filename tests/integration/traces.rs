//! Distributed tracing: the spans that a collector gets, compared with etcd's, and collectors that are not there.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use prost::Message;
use ringd::proto::{
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
        LeaseKeepAliveResponse, LeaseRevokeRequest, MemberListRequest, PutRequest, PutResponse, RangeRequest,
        RequestOp, StatusRequest, TxnRequest, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
        compare, request_op, watch_request::RequestUnion,
    },
    otlp::{KeyValue, any_value::Value},
};

use crate::harness::{
    self,
    collector::{Collector, Received},
    grpc::{Connection, GRPC, frame, headers},
    server::{self, Program, Server, free_port},
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

/// The same calls to both servers. Each call is a trace of its own, whose spans have to be the same: names, kinds, libraries,
/// attributes, states, flags, and who is whose child.
pub fn spans_are_those_of_etcd() {
    harness::run(async {
        let ringd = spans_of(Program::Ringd).await;
        let etcd = spans_of(Program::Etcd).await;
        let traces: BTreeSet<&String> = etcd.keys().chain(ringd.keys()).collect();
        let differing: Vec<String> = traces
            .into_iter()
            .filter(|trace| ringd.get(*trace) != etcd.get(*trace))
            .map(|trace| format!("{trace}\n  ringd: {:#?}\n  etcd: {:#?}", ringd.get(trace), etcd.get(trace)))
            .collect();
        assert!(differing.is_empty(), "{}", differing.join("\n"));
        let seen: Vec<&str> = etcd.values().flatten().map(|span| span.split(' ').next().unwrap_or_default()).collect();
        for name in
            ["put", "range", "txn", "delete_range", "compact", "lease_grant", "lease_renew", "lease_revoke", "watch"]
        {
            assert!(seen.contains(&name), "{name} among {seen:?}");
        }
    });
}

/// One server's spans as text, by trace: those that the test has named, and all others under one name.
async fn spans_of(program: Program) -> BTreeMap<String, Vec<String>> {
    let directory = server::directory();
    let collector = Collector::start().await;
    let address = collector.address();
    let flags = [
        "--enable-distributed-tracing",
        "--distributed-tracing-address",
        &address,
        "--distributed-tracing-service-name",
        "store",
        "--distributed-tracing-instance-id",
        "one",
        "--distributed-tracing-sampling-rate",
        "1000000",
    ];
    let server = Server::start_with(program, directory.path(), &flags);
    let port = server.port;
    let mut client = Client { connection: server.connect().await, traces: 0 };
    call_unary(&mut client).await;
    call_leases(&mut client).await;
    call_watch(&mut client).await;
    drop(client);
    // What waits is sent when the server stops, to a collector that this thread serves.
    tokio::task::spawn_blocking(move || server.stop()).await.expect("it stops");
    described(&collector.received(), port)
}

/// Calls whose callers have a span.
struct Client {
    connection: Connection,
    traces: u64,
}

impl Client {
    fn traceparent(&mut self, is_sampled: bool) -> String {
        self.traces += 1;
        format!("00-{:032x}-00000000000000ab-0{}", self.traces, u8::from(is_sampled))
    }

    async fn call(&mut self, path: &str, request: &impl Message) -> Option<u32> {
        let parent = self.traceparent(true);
        self.call_with(path, request, &[("traceparent", &parent), ("tracestate", STATE)]).await
    }

    async fn call_with(&self, path: &str, request: &impl Message, more: &[(&'static str, &str)]) -> Option<u32> {
        let headers = headers(&[&GRPC[..], more].concat());
        let body = frame(0, &request.encode_to_vec());
        self.connection.send(Method::POST, path, &headers, body).await.code
    }
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: "v".into(), ..PutRequest::default() }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

async fn call_unary(client: &mut Client) {
    let get = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    let list = RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        limit: 3,
        revision: 2,
        serializable: true,
        keys_only: true,
        ..RangeRequest::default()
    };
    let counted = RangeRequest { count_only: true, ..list.clone() };
    for _ in 0..3 {
        assert_eq!(client.call(PUT, &put("k")).await, Some(0));
    }
    assert_eq!(client.call(PUT, &PutRequest::default()).await, Some(3));
    let large = PutRequest { key: "k".into(), value: vec![b'v'; 3 << 20].into(), ..PutRequest::default() };
    assert_eq!(client.call(PUT, &large).await, Some(8));
    for range in [&get, &list, &counted] {
        assert_eq!(client.call(RANGE, range).await, Some(0));
        assert_eq!(client.call("/etcdserverpb.KV/RangeStream", range).await, Some(0));
    }
    let compare = Compare {
        key: "k".into(),
        target: compare::CompareTarget::Version as i32,
        result: compare::CompareResult::Greater as i32,
        ..Compare::default()
    };
    let inner =
        TxnRequest { success: vec![op(request_op::Request::RequestPut(put("inner")))], ..TxnRequest::default() };
    let txns = [
        TxnRequest::default(),
        TxnRequest { success: vec![op(request_op::Request::RequestRange(get.clone()))], ..TxnRequest::default() },
        TxnRequest {
            compare: vec![compare],
            success: vec![
                op(request_op::Request::RequestTxn(inner)),
                op(request_op::Request::RequestPut(put("in-txn"))),
            ],
            failure: vec![op(request_op::Request::RequestRange(get.clone()))],
        },
        TxnRequest { compare: vec![Compare::default()], ..TxnRequest::default() },
    ];
    for (txn, code) in txns.iter().zip([0, 0, 0, 3]) {
        assert_eq!(client.call("/etcdserverpb.KV/Txn", txn).await, Some(code), "{txn:?}");
    }
    let delete = DeleteRangeRequest { key: "in".into(), range_end: "io".into(), ..DeleteRangeRequest::default() };
    assert_eq!(client.call("/etcdserverpb.KV/DeleteRange", &delete).await, Some(0));
    let compact = CompactionRequest { revision: 4, physical: true };
    for code in [0, 11] {
        assert_eq!(client.call("/etcdserverpb.KV/Compact", &compact).await, Some(code));
    }
    assert_eq!(client.call(RANGE, &list).await, Some(11));
    assert_eq!(client.call("/etcdserverpb.Cluster/MemberList", &MemberListRequest::default()).await, Some(0));
    assert_eq!(client.call("/etcdserverpb.Maintenance/Status", &StatusRequest::default()).await, Some(0));
    assert_eq!(client.call("/etcdserverpb.KV/None", &StatusRequest::default()).await, Some(12));
    // Nothing is known of a trace that its begin does not want; a caller that is not understood is none.
    let unsampled = client.traceparent(false);
    for parent in [&*unsampled, "00-0-0-01", ""] {
        assert_eq!(client.call_with(PUT, &put("root"), &[("traceparent", parent)]).await, Some(0));
    }
}

async fn call_leases(client: &mut Client) {
    let grant = LeaseGrantRequest { id: 7, ttl: 100 };
    assert_eq!(client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await, Some(0));
    let parent = client.traceparent(true);
    let path = "/etcdserverpb.Lease/LeaseKeepAlive";
    let mut stream = client.connection.stream(path, &[("traceparent", &parent)]).await;
    for id in [7, 8] {
        stream.send(&LeaseKeepAliveRequest { id });
        let _: LeaseKeepAliveResponse = stream.next().await.expect("an answer");
    }
    stream.half_close();
    stream.end().await;
    for code in [0, 5] {
        assert_eq!(client.call("/etcdserverpb.Lease/LeaseRevoke", &LeaseRevokeRequest { id: 7 }).await, Some(code));
    }
}

async fn call_watch(client: &mut Client) {
    let parent = client.traceparent(true);
    let mut stream = client.connection.stream("/etcdserverpb.Watch/Watch", &[("traceparent", &parent)]).await;
    let watch = |key: &'static str, end: &'static str, start_revision| WatchCreateRequest {
        key: key.into(),
        range_end: end.into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let create = |request| RequestUnion::CreateRequest(request);
    // The second one is refused, and has no span.
    for union in [
        create(watch("k", "", 0)),
        create(watch("b", "a", 0)),
        create(watch("", "\0", 100)),
        RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 }),
    ] {
        stream.send(&WatchRequest { request_union: Some(union) });
        let _: WatchResponse = stream.next().await.expect("an answer");
    }
    stream.cancel();
    // One after it on the same connection, so that the cancellation has arrived.
    assert_eq!(client.call(RANGE, &RangeRequest { key: "k".into(), ..RangeRequest::default() }).await, Some(0));
}

/// Everything about each span but for its ids and times.
fn described(received: &[Received], port: u16) -> BTreeMap<String, Vec<String>> {
    let names: BTreeMap<_, _> = received.iter().map(|one| (one.span.span_id.clone(), &*one.span.name)).collect();
    let mut traces: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Received { resource, scope, span } in received {
        let number = u128::from_be_bytes(span.trace_id[..].try_into().expect("16 bytes"));
        let is_named = number < 1000;
        let trace = if is_named { format!("trace {number:03}") } else { "others".to_owned() };
        let parent = match (span.parent_span_id.is_empty(), names.get(&span.parent_span_id)) {
            (true, _) => "nothing",
            (false, Some(name)) => name,
            (false, None) => "a caller",
        };
        assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        assert_eq!(span.span_id.len(), 8);
        let (status, flags, kind) = (&span.status, span.flags, span.kind());
        let text = format!(
            "{} in {parent}, {kind:?}, of {scope:?}, {status:?}, flags {flags:#x}, state {:?}, {:?}, from {:?}",
            span.name,
            span.trace_state,
            attributes(&span.attributes, port),
            attributes(&resource.attributes, port),
        );
        traces.entry(trace).or_default().push(text);
    }
    traces.values_mut().for_each(|spans| spans.sort());
    traces
}

/// In the order in which they came, with the port of the server masked.
fn attributes(list: &[KeyValue], port: u16) -> Vec<String> {
    list.iter()
        .map(|KeyValue { key, value }| {
            match value.as_ref().and_then(|value| value.value.as_ref()).expect("attributes have values") {
                Value::IntValue(number) if *number == i64::from(port) => format!("{key}=its port"),
                Value::StringValue(text) => format!("{key}={text:?}"),
                Value::IntValue(number) => format!("{key}={number}"),
                Value::BoolValue(is_so) => format!("{key}={is_so}"),
                other => format!("{key}={other:?}"),
            }
        })
        .collect()
}

/// No collector, or an address that is none: the server serves, loses spans, says so, and stops.
pub fn servers_go_on_without_a_collector() {
    let nobody = format!("127.0.0.1:{}", free_port());
    for address in [&*nobody, "no:address:at:all", ""] {
        let directory = server::directory();
        let flags = ["--enable-distributed-tracing", "--distributed-tracing-address", address]
            .into_iter()
            .chain(["--distributed-tracing-sampling-rate", "1000000"]);
        let server = Server::start_with(Program::Ringd, directory.path(), &flags.collect::<Vec<_>>());
        harness::run(async {
            let connection = server.connect().await;
            let _: PutResponse = connection.unary(PUT, &put("k")).await.expect("it serves");
            let range = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
            while lost(&server.page("/metrics")) == 0 {
                for _ in 0..1_000 {
                    assert_eq!(connection.call(RANGE, range.encode_to_vec().into()).await.code, Some(0));
                }
            }
        });
        server.stop();
    }
}

fn lost(page: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix("ringd_spans_lost_total "));
    line.and_then(|number| number.parse::<f64>().ok()).expect("the metric is there") as u64
}
