//! HTTP/2 itself, compared with etcd: each case sends frames on a connection of its own, and then a good call.
//!
//! Equal must be the answers on the streams of the case (blocks, data, ends, resets), and whether the good call is served. The
//! cases of [`DIFFERING`] are answered differently, each for the reason given there.

use std::{collections::BTreeMap, fmt::Write, io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use prost::Message;
use ringd::proto::etcdserverpb::RangeRequest;

use crate::harness::{
    self,
    frames::{
        ACK, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, Exchange, GOAWAY, HEADERS, Heard, PADDED, PING,
        PRIORITIZED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, head, head_frames, integer,
        literals,
    },
    grpc::{self, PATIENCE},
    server::{self, Program, Server},
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
/// The stream of the good call.
const GOOD: u32 = 1001;
/// Time to wait for frames on a stream that does not end.
const SILENCE: Duration = Duration::from_secs(3);

type Field<'a> = (&'a [u8], &'a [u8]);

const BASE: [Field<'static>; 6] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", RANGE.as_bytes()),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
];

/// Cases that etcd answers differently.
const DIFFERING: [(&str, &str); 3] = [
    ("window update of 0 on a stream", "etcd resets the stream, ringd does nothing"),
    ("trailers", "etcd takes them for a stream that goes backwards and ends the connection, ringd does not mind them"),
    ("a promise", "ringd ends the connection (RFC 9113, 8.4), etcd skips the frame, and its table is out of step then"),
];

struct Case {
    name: String,
    frames: Vec<u8>,
    /// Streams that are to be answered.
    streams: Vec<u32>,
}

impl Case {
    fn new(name: impl Into<String>, frames: Vec<u8>) -> Case {
        Case { name: name.into(), frames, streams: vec![1] }
    }

    /// Frames without an answer.
    fn unanswered(name: impl Into<String>, frames: Vec<u8>) -> Case {
        Case { name: name.into(), frames, streams: Vec::new() }
    }
}

/// What came back, without what differs between servers.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    streams: BTreeMap<u32, Heard>,
    /// The good call was served.
    lives: bool,
}

/// Every case against both servers; all differences are listed.
pub fn frames_agree() {
    let directories = [server::directory(), server::directory()];
    let ringd = Server::start(Program::Ringd, directories[0].path());
    let etcd = Server::start(Program::Etcd, directories[1].path());
    let mut faults = String::new();
    harness::run(async {
        for case in cases() {
            let (ringd, etcd) = tokio::join!(attempt(ringd.port, &case), attempt(etcd.port, &case));
            let may_differ = DIFFERING.iter().any(|(name, _)| *name == case.name);
            if (ringd != etcd) != may_differ {
                let _ = writeln!(faults, "{}:\n  ringd: {ringd:?}\n  etcd:  {etcd:?}", case.name);
            }
        }
    });
    assert!(faults.is_empty(), "\n{faults}");
}

async fn attempt(port: u16, case: &Case) -> Outcome {
    let mut client = Client::open(port).await;
    client.send_and_hear(&case.frames, &case.streams, SILENCE).await;
    if !client.exchange.closed {
        client.send_and_hear(&call(GOOD, &BASE), &[GOOD], PATIENCE).await;
    }
    let Exchange { mut streams, .. } = client.exchange;
    let lives = streams.get(&GOOD).and_then(status) == Some("0");
    // When a connection ends, its last frames may be lost.
    streams.retain(|stream, _| lives && case.streams.contains(stream));
    for heard in streams.values_mut() {
        // Whether a message is compressed; what follows holds revisions and ids of the servers.
        heard.data.truncate(1);
        for block in &mut heard.blocks {
            block.retain(|(name, value)| name != "grpc-message" || !value.is_empty());
            block.sort();
        }
        if heard.ended {
            // Whether the client had ended its side when the answer was written.
            heard.reset = None;
        }
    }
    Outcome { streams, lives }
}

fn status(heard: &Heard) -> Option<&str> {
    heard.blocks.iter().flatten().find(|(name, _)| name == "grpc-status").map(|(_, value)| value.as_str())
}

/// A whole call with these fields.
fn call(stream: u32, fields: &[Field<'_>]) -> Vec<u8> {
    [head(stream, &literals(fields)), message(stream)].concat()
}

fn message(stream: u32) -> Vec<u8> {
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    frame(DATA, END_STREAM, stream, &grpc::frame(0, &range.encode_to_vec()))
}

/// The usual fields, one of them with another value.
fn with<'a>(name: &'a str, value: &'a [u8]) -> Vec<Field<'a>> {
    let mut fields = BASE.to_vec();
    match fields.iter_mut().find(|field| field.0 == name.as_bytes()) {
        Some(field) => field.1 = value,
        None => fields.push((name.as_bytes(), value)),
    }
    fields
}

/// The usual fields and others after them.
fn and<'a>(more: &[Field<'a>]) -> Vec<Field<'a>> {
    [&BASE, more].concat()
}

fn without(name: &str) -> Vec<Field<'static>> {
    BASE.into_iter().filter(|field| field.0 != name.as_bytes()).collect()
}

fn cases() -> Vec<Case> {
    [pseudo_headers(), names_and_values(), meaning(), encodings(), sizes(), heads(), streams(), settings(), others()]
        .into_iter()
        .flatten()
        .collect()
}

fn pseudo_headers() -> Vec<Case> {
    let authorities: [&[u8]; 11] = [
        b"",
        b"#initially=[http://a:1;http://b:2]",
        b"%2Fvar%2Frun%2Fetcd.sock",
        b"a/b",
        b"a,b,c",
        b"a b",
        "k\u{e4}se".as_bytes(),
        b"etcd-endpoints://0xc000/127.0.0.1",
        b"[::1",
        b"user@host:port",
        b"\xff",
    ];
    let paths: [&[u8]; 14] = [
        b"foo",
        b"",
        b"*",
        b"/",
        b"//",
        b"etcdserverpb.KV/Range",
        b"/etcdserverpb.KV/Range?x=1",
        b"/etcdserverpb.KV/Range#x",
        b"/etcdserverpb.KV/R%61nge",
        b"/a b/c d",
        "/k\u{e4}se/K\u{fc}che".as_bytes(),
        b"/a\xff\xfe/b\xff",
        b"\xff\"\\\t",
        b"http://localhost/etcdserverpb.KV/Range",
    ];
    let methods: [&[u8]; 6] = [b"GET", b"post", b"", b"CONNECT", b"P T", b"\xff"];
    let schemes: [&[u8]; 6] = [b"https", b"HTTP", b"", b"no scheme", b"1", b"\xff"];
    let each = |name: &'static str, values: &[&[u8]]| {
        let one = |value: &&[u8]| Case::new(format!("{name} {}", value.escape_ascii()), call(1, &with(name, value)));
        values.iter().map(one).collect::<Vec<_>>()
    };
    let names = [":method", ":scheme", ":path", ":authority"];
    let twice = |name: &str| {
        let field = *BASE.iter().find(|field| field.0 == name.as_bytes()).expect("a usual one");
        Case::new(format!("{name} twice"), call(1, &[&[field], &BASE[..]].concat()))
    };
    let first = |name: &'static str, value: &'static str| {
        let fields = [&[(name.as_bytes(), value.as_bytes())], &BASE[..]].concat();
        Case::new(format!("{name} first"), call(1, &fields))
    };
    let late = [&BASE[4..], &BASE[..4]].concat();
    let mut cases = vec![
        first(":unknown", "x"),
        first(":", ""),
        first(":status", "200"),
        first(":protocol", "websocket"),
        Case::new("pseudo-headers behind others", call(1, &late)),
        Case::new("only a status", call(1, &[(b":status", b"200"), BASE[4]])),
        Case::new("no pseudo-headers", call(1, &BASE[4..])),
        Case::new("no fields", call(1, &[])),
    ];
    cases.extend(each(":authority", &authorities));
    cases.extend(each(":path", &paths));
    cases.extend(each(":method", &methods));
    cases.extend(each(":scheme", &schemes));
    cases.extend(names.map(|name| Case::new(format!("no {name}"), call(1, &without(name)))));
    cases.extend(names.map(twice));
    cases
}

fn names_and_values() -> Vec<Case> {
    let names: [&[u8]; 11] = [
        b"X-Upper",
        b"",
        b" x",
        b"x y",
        b"x:y",
        b"x\0",
        b"k\xe4se",
        b"x\x7f",
        b"x(",
        b"!#$%&'*+-.^_`|~9",
        b"content-Type",
    ];
    let values: [&[u8]; 11] =
        [b"", b" x ", b"\t", b"\0", b"a\nb", b"a\r", b"\x1f", b"\x7f", b"\x80\xff", b"a, b;c=\"d\"", &[b'v'; 5000]];
    let name = |name: &&[u8]| Case::new(format!("name {}", name.escape_ascii()), call(1, &and(&[(*name, b"v")])));
    let value = |value: &&[u8]| {
        let shown = value[..value.len().min(20)].escape_ascii();
        Case::new(format!("value {shown}"), call(1, &and(&[(b"x", *value)])))
    };
    names.iter().map(name).chain(values.iter().map(value)).collect()
}

/// Fields that HTTP or gRPC give a meaning.
fn meaning() -> Vec<Case> {
    let fields: [Field<'_>; 52] = [
        (b"connection", b"close"),
        (b"connection", b""),
        (b"keep-alive", b"5"),
        (b"proxy-connection", b"x"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"te", b""),
        (b"host", b"localhost"),
        (b"host", b"a b/c"),
        (b"content-length", b"0"),
        (b"content-length", b"7000"),
        (b"content-length", b"x"),
        (b"expect", b"100-continue"),
        (b"cookie", b"a=b"),
        (b"user-agent", b""),
        (b"content-type", b""),
        (b"content-type", b"Application/GRPC"),
        (b"content-type", b"application/grpc-web"),
        (b"content-type", b"application/grpc; charset=utf-8"),
        (b"content-type", b"application/grpc+"),
        (b"content-type", b"application/grpc;"),
        (b"content-type", b"application/grpc+\xff"),
        (b"content-type", b" application/grpc"),
        (b"content-type", b"text/\xff\"plain"),
        (b"grpc-timeout", b""),
        (b"grpc-timeout", b"5"),
        (b"grpc-timeout", b"S"),
        (b"grpc-timeout", b"SS"),
        (b"grpc-timeout", b"0S"),
        (b"grpc-timeout", b"0n"),
        (b"grpc-timeout", b"00000005S"),
        (b"grpc-timeout", b"000000005S"),
        (b"grpc-timeout", b"99999999H"),
        (b"grpc-timeout", b"-1S"),
        (b"grpc-timeout", b"+1S"),
        (b"grpc-timeout", b"1.5S"),
        (b"grpc-timeout", b"5s"),
        (b"grpc-timeout", b" 5S"),
        (b"grpc-timeout", b"5S "),
        (b"grpc-timeout", b"5\xff"),
        (b"grpc-timeout", b"1_0S"),
        (b"x-bin", b"?!"),
        (b"x-bin", b"\xff\""),
        (b"-bin", b"?!"),
        (b"grpc-trace-bin", b"AAE"),
        (b"grpc-status", b"5"),
        (b"grpc-message-type", b"x"),
        (b"grpc-tags-bin", b"?"),
        (b"grpc-accept-encoding", b""),
        (b"grpc-accept-encoding", b"snappy, gzip"),
        (b"hasleader", b"true"),
    ];
    let one = |(name, value): &Field<'static>| {
        let shown = format!("{}: {}", name.escape_ascii(), value.escape_ascii());
        let name = std::str::from_utf8(name).expect("names are text");
        Case::new(shown, call(1, &with(name, value)))
    };
    let several: [(&str, &[Field<'_>]); 9] = [
        ("two hosts", &[(b"host", b"a"), (b"host", b"a")]),
        ("two content types", &[(b"content-type", b"application/grpc+x")]),
        ("a content type that is wrong, too", &[(b"content-type", b"text/plain")]),
        ("two times", &[(b"grpc-timeout", b"x"), (b"grpc-timeout", b"5S")]),
        ("faults in time and metadata", &[(b"grpc-timeout", b"x"), (b"x-bin", b"?")]),
        ("two hosts and a connection header", &[(b"host", b"a"), (b"host", b"b"), (b"connection", b"close")]),
        ("a connection header and a wrong time", &[(b"connection", b"close"), (b"grpc-timeout", b"x")]),
        ("several cookies", &[(b"cookie", b"a=b"), (b"cookie", b"c=d")]),
        ("a known name twice", &[(b"token", b"x"), (b"token", b"y")]),
    ];
    let mut cases: Vec<Case> = fields.iter().map(one).collect();
    cases.extend(several.map(|(name, more)| Case::new(name, call(1, &and(more)))));
    let get = with(":method", b"GET");
    cases.push(Case::new(
        "GET with another codec",
        call(1, &[&get[..], &[(b"content-type", b"application/grpc+x")]].concat()),
    ));
    cases.push(Case::new(
        "no content type, a wrong time",
        call(1, &[&without("content-type")[..], &[(b"grpc-timeout", b"x")]].concat()),
    ));
    cases
}

/// Compressed requests: the answers are compressed, too.
fn encodings() -> Vec<Case> {
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() }.encode_to_vec();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&range).expect("memory takes it");
    let zipped = encoder.finish().expect("memory takes it");
    let case = |name: &str, path: &str, fields: &[Field<'_>], flag: u8, body: &[u8]| {
        let head = head(1, &literals(&[&with(":path", path.as_bytes())[..], fields].concat()));
        Case::new(name, [head, frame(DATA, END_STREAM, 1, &grpc::frame(flag, body))].concat())
    };
    let gzip: Field<'_> = (b"grpc-encoding", b"gzip");
    let watch = {
        let head = head(1, &literals(&[&with(":path", b"/etcdserverpb.Watch/Watch")[..], &[gzip]].concat()));
        // Not ended: the watch is created, and continues.
        Case::new("gzip, a watch", [head, frame(DATA, 0, 1, &grpc::frame(0, b"\x0a\x03\x0a\x01a"))].concat())
    };
    let put = b"\x0a\x01a\x12\x01b";
    vec![
        watch,
        case("gzip", RANGE, &[gzip], 1, &zipped),
        case("gzip, server stream", RANGE_STREAM, &[gzip], 1, &zipped),
        case("gzip announced and not used", RANGE, &[gzip], 0, &range),
        case("gzip announced and not used, server stream", RANGE_STREAM, &[gzip], 0, &range),
        case("gzip, and other answers wished", RANGE, &[gzip, (b"grpc-accept-encoding", b"identity")], 1, &zipped),
        case("gzip, and gzip wished", RANGE, &[gzip, (b"grpc-accept-encoding", b"gzip")], 1, &zipped),
        case("only gzip wished", RANGE, &[(b"grpc-accept-encoding", b"gzip")], 0, &range),
        case("gzip, refused", RANGE, &[gzip], 0, b""),
        case("gzip, unknown method", "/etcdserverpb.KV/Nothing", &[gzip], 1, &zipped),
        case("gzip, a write", "/etcdserverpb.KV/Put", &[gzip], 0, put),
        case("gzip, an answer of a header only", "/etcdserverpb.KV/Compact", &[gzip], 0, b"\x08\x01"),
        case("gzip after identity", RANGE, &[(b"grpc-encoding", b"identity"), gzip], 1, &zipped),
        case("identity after gzip", RANGE, &[gzip, (b"grpc-encoding", b"identity")], 1, &zipped),
        case("upper case", RANGE, &[(b"grpc-encoding", b"GZIP")], 0, &range),
        case("a list", RANGE, &[(b"grpc-encoding", b"gzip,identity")], 0, &range),
        case("deflate", RANGE, &[(b"grpc-encoding", b"deflate")], 0, &range),
        case("bytes", RANGE, &[(b"grpc-encoding", b"\xff\"")], 0, &range),
        case("empty", RANGE, &[(b"grpc-encoding", b"")], 1, &zipped),
    ]
}

fn sizes() -> Vec<Case> {
    let long = |size: usize| call(1, &and(&[(b"x", &vec![b'v'; size])]));
    let many = |count: usize, size: usize| {
        let value = vec![b'v'; size];
        let names: Vec<String> = (0..count).map(|number| format!("x-{number}")).collect();
        let more: Vec<Field<'_>> = names.iter().map(|name| (name.as_bytes(), &value[..])).collect();
        call(1, &and(&more))
    };
    vec![
        Case::new("a field of 20 KB", long(20_000)),
        Case::new("a field of 200 KB", long(200_000)),
        Case::new("a field of 900 KB", long(900_000)),
        Case::new("a hundred fields of 2 KB", many(100, 2_000)),
        Case::new("a thousand small fields", many(1_000, 10)),
        Case::new("ten thousand small fields", many(10_000, 1)),
        Case::new("a long path", call(1, &with(":path", &[b'p'; 100_000]))),
        Case::new("a long authority", call(1, &with(":authority", &[b'a'; 100_000]))),
    ]
}

/// How a head is cut into frames, and written in HPACK.
fn heads() -> Vec<Case> {
    let block = literals(&BASE);
    let end = message(1);
    let cut = |name: &str, frames: Vec<u8>| Case::new(name, [frames, end.clone()].concat());
    let padded = [&[5][..], &block, &[0; 5]].concat();
    let on_itself = [&1_u32.to_be_bytes()[..], &[7], &block].concat();
    let both = [&[5, 0, 0, 0, 3, 7][..], &block, &[1; 5]].concat();
    let empty: Vec<u8> = (0..100).flat_map(|_| frame(CONTINUATION, 0, 1, b"")).collect();
    let many_empty = [frame(HEADERS, 0, 1, &block), empty, frame(CONTINUATION, END_HEADERS, 1, b"")].concat();
    let upper = [literals(&[(":method", "POST")]), literals(&[("X-Upper", "x")])].concat();
    // Adds a name that is not allowed to the table, then refers to it, and to what was added beside it.
    let added = |first: &[u8], name: &[u8], value: &[u8]| {
        [first, &integer(0, 7, name.len()), name, &integer(0, 7, value.len()), value].concat()
    };
    let path = added(&[0x40], b":path", RANGE.as_bytes());
    let bad_name = added(&[0x40], b"X-Upper", b"x");
    let rest = literals(&[BASE[4]]);
    let bad_then_good = [
        head(1, &[&[0x83, 0x86, 0x81][..], &path, &rest, &bad_name].concat()),
        message(1),
        head(3, &[&[0x83, 0x86, 0x81, 0xbf][..], &rest].concat()),
        message(3),
        head(5, &[&[0x83, 0x86, 0x81, 0xbf][..], &rest, &[0xbe]].concat()),
        message(5),
    ];
    let resized = [&[0x20, 0x3f, 0xe1, 0x1f][..], &block].concat();
    vec![
        cut("a head in bytes", head_frames(1, 0, &block, 1)),
        cut("a head in two", head_frames(1, 0, &block, block.len() / 2)),
        cut("empty continuations", many_empty),
        cut("padded", frame(HEADERS, END_HEADERS | PADDED, 1, &padded)),
        cut("with a priority", frame(HEADERS, END_HEADERS | PRIORITIZED, 1, &[&[0, 0, 0, 3, 7][..], &block].concat())),
        cut("padded, with a priority", frame(HEADERS, END_HEADERS | PADDED | PRIORITIZED, 1, &both)),
        cut("dependent on itself", frame(HEADERS, END_HEADERS | PRIORITIZED, 1, &on_itself)),
        cut("more padding than there is", frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 0x83])),
        cut("no padding where it is announced", frame(HEADERS, END_HEADERS | PADDED, 1, b"")),
        cut("unknown flags", frame(HEADERS, END_HEADERS | 0xd2, 1, &block)),
        cut("a bad name in a block of one frame", head(1, &upper)),
        cut("tables resized", head(1, &resized)),
        cut("index 0", head(1, &[0x80])),
        cut("an index beyond the table", head(1, &[0xff, 0x7f])),
        cut("half a field", head(1, &block[..block.len() - 1])),
        cut("a table that is too large", head(1, &[&[0x3f, 0xe2, 0x1f][..], &block].concat())),
        cut("a head interrupted by data", [frame(HEADERS, 0, 1, &block), end.clone()].concat()),
        cut(
            "a head continued on another stream",
            [frame(HEADERS, 0, 1, &block), frame(CONTINUATION, 4, 3, b"")].concat(),
        ),
        cut("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block)),
        cut("a frame that is too large", frame(HEADERS, END_HEADERS, 1, &vec![0x83; 16_385])),
        Case { streams: vec![1, 3, 5], ..Case::new("a bad head, then good ones", bad_then_good.concat()) },
    ]
}

fn streams() -> Vec<Case> {
    let good = |stream| call(stream, &BASE);
    let open = |stream| head(stream, &literals(&BASE));
    let window = |increment: u32| increment.to_be_bytes();
    let cancel = 8_u32.to_be_bytes();
    let trailers = literals(&[("x-trailer", "x")]);
    let body = grpc::frame(0, b"\x0a\x01a");
    let open_data = |flags| [open(1), frame(DATA, flags, 1, &body)].concat();
    let after = |name: &str, frames: Vec<u8>| Case::new(name, [good(1), frames].concat());
    vec![
        Case { streams: vec![1, 3, 5], ..Case::new("three calls", [good(1), good(3), good(5)].concat()) },
        Case { streams: vec![1, 3], ..Case::new("a stream is left out", [good(1), good(3)].concat()) },
        Case::unanswered("stream 0", head(0, &literals(&BASE))),
        Case::unanswered("an even stream", good(2)),
        Case { streams: vec![5], ..Case::new("streams out of order", [good(5), good(3)].concat()) },
        Case::new(
            "data padded",
            [open(1), frame(DATA, END_STREAM | PADDED, 1, &[&[2][..], &body, &[0; 2]].concat())].concat(),
        ),
        Case::new("data in bytes", {
            let bytes = body.iter().flat_map(|byte| frame(DATA, 0, 1, &[*byte]));
            [open(1), bytes.collect(), frame(DATA, END_STREAM, 1, b"")].concat()
        }),
        Case::unanswered("data with more padding than there is", [open(1), frame(DATA, PADDED, 1, &[9, 0])].concat()),
        Case::unanswered("data on stream 0", frame(DATA, 0, 0, b"x")),
        Case::unanswered("data too large", [open(1), frame(DATA, 0, 1, &vec![0; 16_385])].concat()),
        Case::new("ends without data", open_data(END_STREAM)),
        after("a stream reset after its end", frame(RST_STREAM, 0, 1, &cancel)),
        Case::unanswered("a reset stream", [open(1), frame(RST_STREAM, 0, 1, &cancel)].concat()),
        Case::unanswered(
            "a stream reset twice",
            [open(1), frame(RST_STREAM, 0, 1, &cancel), frame(RST_STREAM, 0, 1, &cancel)].concat(),
        ),
        Case::unanswered(
            "data after a reset",
            [open(1), frame(RST_STREAM, 0, 1, &cancel), frame(DATA, 0, 1, b"x")].concat(),
        ),
        Case::unanswered("calls cancelled in a burst", {
            let cancelled =
                |number: u32| [good(2 * number + 1), frame(RST_STREAM, 0, 2 * number + 1, &cancel)].concat();
            (0..400).flat_map(cancelled).collect()
        }),
        Case::unanswered("faults without end", {
            let late = |number: u32| frame(DATA, 0, 2 * (number % 400) + 1, b"x");
            let open = (0..400)
                .flat_map(|number| [open(2 * number + 1), frame(RST_STREAM, 0, 2 * number + 1, &cancel)].concat());
            open.chain((0..3000).flat_map(late)).collect()
        }),
        Case::unanswered("reset on stream 0", frame(RST_STREAM, 0, 0, &cancel)),
        Case::unanswered("a short reset", [open(1), frame(RST_STREAM, 0, 1, &cancel[1..])].concat()),
        after("a larger window for a stream", frame(WINDOW_UPDATE, 0, 1, &window(1))),
        Case::unanswered("window update of 0 on the connection", frame(WINDOW_UPDATE, 0, 0, &window(0))),
        Case::new("window update of 0 on a stream", [open(1), frame(WINDOW_UPDATE, 0, 1, &window(0))].concat()),
        Case::unanswered("a short window update", frame(WINDOW_UPDATE, 0, 0, b"123")),
        after("a priority", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7])),
        Case::unanswered("a priority of an idle stream", frame(PRIORITY, 0, 7, &[0, 0, 0, 3, 7])),
        Case::unanswered("a priority on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 7])),
        Case::unanswered("a short priority", [open(1), frame(PRIORITY, 0, 1, b"1234")].concat()),
        Case::new("trailers", [open_data(0), head_frames(1, END_STREAM, &trailers, 100)].concat()),
    ]
}

fn settings() -> Vec<Case> {
    let one = |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    vec![
        Case::unanswered("an unknown setting", one(77, 5)),
        Case::unanswered("a table of 0 bytes", one(1, 0)),
        Case::unanswered("a table of 4 GiB", one(1, u32::MAX)),
        Case::unanswered("push enabled", one(2, 1)),
        Case::unanswered("no streams", one(3, 0)),
        Case::unanswered("a window of 2 GiB", one(4, 0x8000_0000)),
        Case::unanswered("the largest window", one(4, 0x7fff_ffff)),
        Case::unanswered("frames of 16 MiB", one(5, 0xff_ffff)),
        Case::unanswered("large lists of headers", one(6, u32::MAX)),
        Case::unanswered("an answer to no settings", frame(SETTINGS, ACK, 0, b"")),
        Case::unanswered("an answer with settings", frame(SETTINGS, ACK, 0, &[0, 1, 0, 0, 0, 0])),
        Case::unanswered("half a setting", frame(SETTINGS, 0, 0, b"12345")),
        Case::unanswered("settings of a stream", frame(SETTINGS, 0, 1, b"")),
        Case::unanswered("a hundred settings", (0..100).flat_map(|value| one(3, value)).collect()),
    ]
}

fn others() -> Vec<Case> {
    let ping = frame(PING, 0, 0, b"12345678");
    let promise = [&2_u32.to_be_bytes()[..], &literals(&BASE)].concat();
    vec![
        Case::unanswered("a ping", ping.clone()),
        Case::unanswered("an answer to no ping", frame(PING, ACK, 0, b"12345678")),
        Case::unanswered("a short ping", frame(PING, 0, 0, b"1234567")),
        Case::unanswered("a ping of a stream", frame(PING, 0, 1, b"12345678")),
        Case::unanswered("four pings", ping.repeat(4)),
        Case::unanswered("an unknown frame", frame(0xaa, 0xff, 5, b"whatever")),
        Case::unanswered("an unknown frame, too large", frame(0xaa, 0, 0, &vec![0; 16_385])),
        Case::unanswered("a goodbye", frame(GOAWAY, 0, 0, &[0; 8])),
        Case::unanswered("a promise", [call(1, &BASE), frame(PUSH_PROMISE, END_HEADERS, 1, &promise)].concat()),
    ]
}
