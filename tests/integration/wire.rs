//! The transport below the messages, compared with etcd: paths, methods, content types, frames, metadata, HTTP/1.
//!
//! Left out: a request that ends with its headers (etcd's library never answers it).
//!
//! A known difference, and the only one: a known field with the wrong wire type. Go's decoder keeps it as an unknown field,
//! ours refuses the message.

use std::{fmt::Write, io::Write as _};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Method};
use prost::Message;
use ringd::proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    self,
    grpc::{Connection, GRPC, Reply, frame, headers},
    server::{self, Program, Server},
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const PUT: &str = "/etcdserverpb.KV/Put";
/// `--max-request-bytes` and the 512 KiB a gRPC message may have on top.
const MESSAGE_BYTES_MAX: usize = 1_572_864 + 524_288;

/// One call that a typed client would not make.
struct Case {
    name: &'static str,
    method: Method,
    path: &'static str,
    headers: HeaderMap,
    body: Bytes,
    compared: Compared,
}

/// The parts of the answers that must be equal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    All,
    /// The text quotes Go's parser.
    AllButText,
}

/// Every case against both servers; all differences are listed.
pub fn transport_agrees() {
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    let mut differences = String::new();
    harness::run(async {
        for case in cases() {
            let replies = [ask(&ringd, &case).await, ask(&etcd, &case).await];
            if replies[0] != replies[1] {
                let _ = writeln!(differences, "{}:\n  ringd: {:?}\n  etcd:  {:?}", case.name, replies[0], replies[1]);
            }
        }
    });
    assert!(differences.is_empty(), "\n{differences}");
}

/// HTTP/1 on the same port: status line, content type, and the keys of a JSON body.
pub fn http1_agrees() {
    const REQUESTS: [(&str, &str); 6] = [
        ("GET", "/version"),
        ("GET", "/health"),
        ("POST", "/version"),
        ("POST", "/health"),
        ("GET", "/nothing/here"),
        ("GET", "/metrics"),
    ];
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    for (method, path) in REQUESTS {
        let answers = [&ringd, &etcd].map(|server| harness::run(http1(server.port, method, path)));
        assert_eq!(answers[0], answers[1], "{method} {path}: ringd, then etcd");
    }
}

async fn ask(server: &Server, case: &Case) -> Reply {
    // A connection of its own: some answers close it.
    let connection: Connection = server.connect().await;
    let mut reply = connection.send(case.method.clone(), case.path, &case.headers, case.body.clone()).await;
    reply.messages.clear();
    if case.compared == Compared::AllButText {
        reply.message.clear();
    }
    reply
}

fn cases() -> Vec<Case> {
    [paths(), content_types(), frames(), compressed(), sizes(), metadata()].into_iter().flatten().collect()
}

fn case(name: &'static str, path: &'static str, body: Bytes) -> Case {
    Case { name, method: Method::POST, path, headers: headers(&GRPC), body, compared: Compared::All }
}

fn paths() -> Vec<Case> {
    let body = frame(0, b"");
    vec![
        case("unknown method", "/etcdserverpb.KV/Nothing", body.clone()),
        case("unknown service", "/nobody.Nothing/Do", body.clone()),
        case("no method", "/etcdserverpb.KV", body.clone()),
        case("empty method", "/etcdserverpb.KV/", body.clone()),
        case("root", "/", body.clone()),
        case("one part too many", "/etcdserverpb.KV/Range/x", body.clone()),
        case("wrong case", "/etcdserverpb.kv/range", body.clone()),
        Case { method: Method::GET, ..case("GET", RANGE, body.clone()) },
        Case { method: Method::PUT, ..case("PUT", RANGE, body) },
    ]
}

fn content_types() -> Vec<Case> {
    let with = |name, value: &'static str| Case {
        headers: headers(&[("content-type", value), ("te", "trailers")]),
        ..case(name, RANGE, frame(0, &range()))
    };
    vec![
        with("content type with a codec", "application/grpc+proto"),
        with("content type with another codec", "application/grpc+json"),
        with("content type with a parameter", "application/grpc;charset=utf-8"),
        with("content type of something else", "text/plain"),
        with("content type that only begins alike", "application/grpcx"),
        Case { headers: HeaderMap::new(), ..case("no content type", RANGE, frame(0, &range())) },
    ]
}

fn frames() -> Vec<Case> {
    let encoding = |value: &'static str| headers(&[GRPC[0], GRPC[1], ("grpc-encoding", value)]);
    let behind = |bytes: usize| Bytes::from([&frame(0, &range())[..], &frame(0, &range())[..bytes]].concat());
    let twice = [frame(0, &range()), frame(0, &range())].concat();
    let parsed = |case: Case| Case { compared: Compared::AllButText, ..case };
    vec![
        case("empty body", RANGE, Bytes::new()),
        case("half a prefix", RANGE, frame(0, &range()).slice(..3)),
        case("half a message", RANGE, frame(0, &range()).slice(..7)),
        case("a prefix and no message", RANGE, frame(0, &range()).slice(..5)),
        case("half a prefix, server stream", RANGE_STREAM, frame(0, &range()).slice(..3)),
        case("half a message, server stream", RANGE_STREAM, frame(0, &range()).slice(..7)),
        case("half a prefix after a message, server stream", RANGE_STREAM, behind(3)),
        case("half a message after a message, server stream", RANGE_STREAM, behind(7)),
        case("two messages", RANGE, Bytes::from(twice)),
        case("compressed without an encoding", RANGE, frame(1, &range())),
        Case { headers: encoding("snappy"), ..case("compressed with something unknown", RANGE, frame(1, &range())) },
        Case {
            headers: encoding("snappy"),
            ..case("unknown compression announced, not used", RANGE, frame(0, &range()))
        },
        Case { headers: encoding("identity"), ..case("compressed with identity", RANGE, frame(1, &range())) },
        Case { headers: encoding("identity"), ..case("identity", RANGE, frame(0, &range())) },
        case("reserved flag", RANGE, frame(2, &range())),
        parsed(case("not a message", RANGE, frame(0, b"\xff\xff\xff\xff"))),
        parsed(case("message cut off", RANGE, frame(0, b"\x0a\x20abc"))),
        case("unknown field", RANGE, frame(0, b"\x0a\x01a\xfa\x3f\x01x")),
    ]
}

fn compressed() -> Vec<Case> {
    let with = |name, path, body| Case {
        headers: headers(&[GRPC[0], GRPC[1], ("grpc-encoding", "gzip")]),
        ..case(name, path, body)
    };
    let good = zip(&range());
    let mut checksum = good.clone();
    *checksum.last_mut().unwrap() ^= 1;
    let mut corrupt = good.clone();
    // Block type 3 does not exist.
    corrupt[10] = 0x07;
    let without_header = [frame(1, b"no gzip at all"), frame(1, &range())].concat();
    vec![
        with("gzip announced, not used", RANGE, frame(0, &range())),
        with("gzip announced, unexpected flag", RANGE, frame(2, &range())),
        with("gzip", RANGE, frame(1, &good)),
        with("gzip, server stream", RANGE_STREAM, frame(1, &good)),
        with("gzip in two parts", RANGE, frame(1, &[&zip(&range()[..1])[..], &zip(&range()[1..])].concat())),
        with("gzip of nothing", RANGE, frame(1, &zip(b""))),
        with("nothing instead of gzip", RANGE, frame(1, b"")),
        with("no gzip at all", RANGE, Bytes::from(without_header)),
        with("no gzip at all, server stream", RANGE_STREAM, frame(1, b"no gzip at all")),
        with("gzip cut off in its header", RANGE, frame(1, &good[..9])),
        with("gzip cut off", RANGE, frame(1, &good[..good.len() - 9])),
        with("gzip cut off in its trailer", RANGE, frame(1, &good[..good.len() - 1])),
        with("gzip with a wrong checksum", RANGE, frame(1, &checksum)),
        Case { compared: Compared::AllButText, ..with("corrupt gzip", RANGE, frame(1, &corrupt)) },
        with("garbage behind gzip", RANGE, frame(1, &[&good[..], b"no gzip behind"].concat())),
        // Let through, and then no message.
        Case {
            compared: Compared::AllButText,
            ..with("gzip as large as a message may be", PUT, frame(1, &zip(&vec![0; MESSAGE_BYTES_MAX])))
        },
        with("gzip larger than a message may be", PUT, frame(1, &zip(&vec![0; MESSAGE_BYTES_MAX + 1]))),
        with("gzip much larger than a message may be", PUT, frame(1, &zip(&vec![0; 256 << 20]))),
    ]
}

fn zip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn sizes() -> Vec<Case> {
    let put = |size: usize| {
        let request = PutRequest { key: "k".into(), value: vec![b'x'; size].into(), ..PutRequest::default() };
        frame(0, &request.encode_to_vec())
    };
    let announced = {
        let mut body = BytesMut::from(&frame(0, &range())[..]);
        body[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
        body.freeze()
    };
    vec![
        case("as large as a Raft request may be, or nearly", PUT, put(1_572_864 - 100)),
        case("larger than a Raft request may be", PUT, put(1_572_864)),
        case("as large as a message may be", PUT, put(MESSAGE_BYTES_MAX - 8)),
        case("larger than a message may be", PUT, put(MESSAGE_BYTES_MAX + 1)),
        case("much larger than a message may be", PUT, put(4 * MESSAGE_BYTES_MAX)),
        case("4 GiB announced", RANGE, announced),
    ]
}

fn metadata() -> Vec<Case> {
    let with = |name, key: &'static str, value: &'static [u8]| Case {
        headers: headers(&[(GRPC[0].0, GRPC[0].1.as_bytes()), (GRPC[1].0, GRPC[1].1.as_bytes()), (key, value)]),
        ..case(name, RANGE, frame(0, &range()))
    };
    vec![
        with("client version", "client-api-version", b"3.7.3"),
        with("client version that is not UTF-8", "client-api-version", b"3.\xff"),
        with("leader required", "hasleader", b"true"),
        with("token while auth is off", "token", b"nobody.1"),
        with("authorization while auth is off", "authorization", b"Bearer nobody"),
        with("binary metadata", "x-trace-bin", b"AAEC"),
        with("binary metadata that is not base64", "x-trace-bin", b"?!"),
        with("binary metadata with loose bits", "x-trace-bin", b"AAF"),
        with("binary metadata with a digit too many", "x-trace-bin", b"AAAAA"),
        with("binary metadata with padding too early", "x-trace-bin", b"AA==AAAA"),
        with("binary metadata with half its padding", "x-trace-bin", b"AA="),
        with("long deadline", "grpc-timeout", b"100S"),
        with("deadline that is not one", "grpc-timeout", b"soon"),
        with("deadline without a unit", "grpc-timeout", b"100"),
        with("deadline with too many digits", "grpc-timeout", b"123456789S"),
        with("user agent", "user-agent", b"grpc-go/1.82.1"),
    ]
}

fn range() -> Vec<u8> {
    RangeRequest { key: "a".into(), ..RangeRequest::default() }.encode_to_vec()
}

/// Status, content type and JSON keys of one HTTP/1.1 answer.
async fn http1(port: u16, method: &str, path: &str) -> (String, String, Vec<String>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).expect("a status").to_owned();
    let content_type = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
        })
        .unwrap_or_default();
    let keys = match serde_json::from_str(body) {
        Ok(serde_json::Value::Object(object)) => object.keys().cloned().collect(),
        _ => Vec::new(),
    };
    (status, content_type, keys)
}
