//! What no client would send. Whatever happens to the connection it comes on, a healthy client beside it is served, and
//! the process lives.

use bytes::Bytes;
use h2::Reason;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    self,
    grpc::Connection,
    server::{self, Program, Server},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types of HTTP/2 (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const RANDOM_CONNECTIONS: usize = 200;
const FLOOD_FRAMES: u32 = 20_000;

/// Bytes that are no protocol at all, and beginnings of protocols that stop.
pub fn random_bytes() {
    let seed = harness::seed("bad_input::random_bytes", 1);
    let mut random = SmallRng::seed_from_u64(seed);
    against_a_server(async |victim: &Victim| {
        for _ in 0..RANDOM_CONNECTIONS {
            let length = random.random_range(0..3000);
            let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
            match random.random_range(0..4) {
                0 => bytes.splice(..0, PREFACE.iter().copied()).for_each(drop),
                1 => bytes.splice(..0, [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).for_each(drop),
                2 => bytes.splice(..0, *b"GET /version HTTP/1.1\r\n").for_each(drop),
                _ => (),
            }
            victim.throw(&bytes).await;
        }
    });
}

/// Requests whose bytes were changed on the way.
pub fn mutated_requests() {
    let seed = harness::seed("bad_input::mutated_requests", 2);
    let mut random = SmallRng::seed_from_u64(seed);
    let request = [PREFACE, &frame(SETTINGS, 0, 0, b""), &range_request(1), &range_request(3)].concat();
    against_a_server(async |victim: &Victim| {
        for _ in 0..RANDOM_CONNECTIONS {
            let mut bytes = request.clone();
            for _ in 0..random.random_range(1..4) {
                let position = random.random_range(PREFACE.len()..bytes.len());
                bytes[position] = random.random();
            }
            bytes.truncate(random.random_range(PREFACE.len()..=bytes.len()));
            victim.throw(&bytes).await;
        }
    });
}

/// Connections that stop in the middle of a request and stay open.
pub fn half_requests() {
    let request = [PREFACE, &frame(SETTINGS, 0, 0, b""), &range_request(1)].concat();
    against_a_server(async |victim: &Victim| {
        let mut open = Vec::new();
        for length in 0..request.len() {
            let mut stream = victim.open().await;
            stream.write_all(&request[..length]).await.unwrap();
            open.push(stream);
        }
        victim.is_well().await;
    });
}

/// One header too long, too many headers, and headers that never end.
pub fn huge_headers() {
    against_a_server(async |victim: &Victim| {
        let long = [literal("x-long", &"y".repeat(60_000)), literal("x-more", "z")].concat();
        victim.throw(&opened(&header_frames(1, &long))).await;
        let many: Vec<u8> = (0..20_000).flat_map(|number| literal(&format!("x-{number}"), "v")).collect();
        victim.throw(&opened(&header_frames(1, &many))).await;
        let mut endless = frame(HEADERS, 0, 1, &literal("x-first", "v"));
        for _ in 0..FLOOD_FRAMES {
            endless.extend(frame(CONTINUATION, 0, 1, &literal("x-next", "v")));
        }
        victim.throw(&opened(&endless)).await;
        let http1 = format!("GET /version HTTP/1.1\r\nx-long: {}\r\n\r\n", "y".repeat(4 << 20));
        victim.throw(http1.as_bytes()).await;
    });
}

/// Frames that cost the sender nothing.
pub fn frame_floods() {
    type Flood = fn(u32) -> Vec<u8>;
    let floods: [(&str, Flood); 6] = [
        ("settings", |_| frame(SETTINGS, 0, 0, b"")),
        ("pings", |_| frame(PING, 0, 0, b"12345678")),
        ("window updates", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("empty data", |number| match number {
            0 => header_frames(1, &request_headers()),
            _ => frame(DATA, 0, 1, b""),
        }),
        // Opened and reset at once, over and over ("rapid reset").
        ("resets", |number| {
            let stream = number * 2 + 1;
            let cancel = u32::from(Reason::CANCEL).to_be_bytes();
            [header_frames(stream, &request_headers()), frame(RST_STREAM, 0, stream, &cancel)].concat()
        }),
        ("streams left open", |number| header_frames(number * 2 + 1, &request_headers())),
    ];
    against_a_server(async |victim: &Victim| {
        for (name, flood) in floods {
            eprintln!("bad_input::frame_floods: {name}");
            let bytes: Vec<u8> = (0..FLOOD_FRAMES).flat_map(flood).collect();
            victim.throw(&opened(&bytes)).await;
            victim.is_well().await;
        }
    });
}

/// Values of every size around the limits, then more connections than anyone needs.
pub fn oversized_values_and_many_connections() {
    against_a_server(async |victim: &Victim| {
        let connection = victim.server.connect().await;
        for size in [1_500_000, 1_572_864, 2_000_000, 2_097_153, 10_000_000] {
            let request = PutRequest { key: "big".into(), value: vec![7; size].into(), ..PutRequest::default() };
            let answer = connection.unary::<_, PutResponse>("/etcdserverpb.KV/Put", &request).await;
            assert_eq!(answer.is_ok(), size == 1_500_000, "{size} bytes: {answer:?}");
        }
        let mut idle = Vec::new();
        for _ in 0..500 {
            idle.push(victim.open().await);
        }
        victim.is_well().await;
    });
}

/// Runs an attack beside a healthy client, then asks whether anything has changed.
fn against_a_server(attack: impl AsyncFnOnce(&Victim)) {
    let directory = server::directory();
    let mut server = Server::start(Program::Ringd, directory.path());
    harness::run(async {
        let healthy = server.connect().await;
        let victim = Victim { server: &server, healthy };
        victim.is_well().await;
        attack(&victim).await;
        victim.is_well().await;
        assert!(victim.healthy.alive(), "the healthy client lost its connection");
    });
    assert!(server.ended().is_none(), "the server has ended");
    server.stop();
}

/// The server under attack, and a client that has nothing to do with it.
struct Victim<'a> {
    server: &'a Server,
    healthy: Connection,
}

impl Victim<'_> {
    async fn open(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.server.port)).await.expect("the port still listens")
    }

    /// Sends bytes on a new connection, hears what the server has to say, and hangs up.
    async fn throw(&self, bytes: &[u8]) {
        let stream = self.open().await;
        let (mut reader, mut writer) = stream.into_split();
        // The server may hang up or stop listening in the middle, so both directions run until both have ended.
        let send = async {
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let hear = async {
            let mut heard = Vec::new();
            let _ = reader.read_to_end(&mut heard).await;
        };
        let both = async { tokio::join!(send, hear) };
        // A server may keep such a connection open; that it does so is not what is tested.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(200), both).await;
    }

    /// Writes and reads through the healthy connection and through a new one.
    async fn is_well(&self) {
        serve(&self.healthy).await;
        serve(&self.server.connect().await).await;
    }
}

async fn serve(connection: &Connection) {
    let key = Bytes::from_static(b"health");
    let put = PutRequest { key: key.clone(), value: key.clone(), ..PutRequest::default() };
    let written: PutResponse = connection.unary("/etcdserverpb.KV/Put", &put).await.expect("a healthy client writes");
    let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let read: RangeResponse = connection.unary("/etcdserverpb.KV/Range", &range).await.expect("a healthy client reads");
    assert!(read.kvs[0].mod_revision >= written.header.expect("answers have headers").revision);
    assert_eq!(read.kvs[0].value, key);
}

/// The beginning of a connection, then these frames.
fn opened(frames: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, b""), frames].concat()
}

/// A frame: length (24 bits), type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block cut into HEADERS and CONTINUATION frames of the size every peer must take.
fn header_frames(stream: u32, block: &[u8]) -> Vec<u8> {
    const FRAME_BYTES_MAX: usize = 16_384;
    let count = block.len().div_ceil(FRAME_BYTES_MAX);
    let pieces = block.chunks(FRAME_BYTES_MAX).enumerate();
    pieces
        .flat_map(|(position, piece)| {
            let kind = if position == 0 { HEADERS } else { CONTINUATION };
            frame(kind, if position + 1 == count { END_HEADERS } else { 0 }, stream, piece)
        })
        .collect()
}

fn request_headers() -> Vec<u8> {
    [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", "/etcdserverpb.KV/Range"),
        literal(":authority", "localhost"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}

fn range_request(stream: u32) -> Vec<u8> {
    let message = [0, 0, 0, 0, 3, 0x0a, 1, b'a'];
    [header_frames(stream, &request_headers()), frame(DATA, END_STREAM, stream, &message)].concat()
}

/// A header as HPACK's "literal without indexing, new name" (RFC 7541, 6.2.2), without Huffman coding.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0], &string(name)[..], &string(value)[..]].concat()
}

fn string(text: &str) -> Vec<u8> {
    // An integer with a 7-bit prefix (5.1).
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).expect("below 127"));
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128 + 128).expect("a byte"));
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).expect("below 128"));
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
