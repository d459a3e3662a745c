//! Input that no client would send. Its connection may end, but a healthy client is served meanwhile, and the process lives.

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
    frames::{
        CONTINUATION, DATA, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, head,
        literals,
    },
    grpc::Connection,
    server::{self, Program, Server},
};

const RANDOM_CONNECTIONS: usize = 200;
const FLOOD_FRAMES: u32 = 20_000;

/// Random bytes, and the beginnings of protocols.
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
        let long = literals(&[("x-long", &*"y".repeat(60_000)), ("x-more", "z")]);
        victim.throw(&opened(&head(1, &long))).await;
        let many: Vec<u8> = (0..20_000).flat_map(|number| literals(&[(format!("x-{number}"), "v")])).collect();
        victim.throw(&opened(&head(1, &many))).await;
        let mut endless = frame(HEADERS, 0, 1, &literals(&[("x-first", "v")]));
        for _ in 0..FLOOD_FRAMES {
            endless.extend(frame(CONTINUATION, 0, 1, &literals(&[("x-next", "v")])));
        }
        victim.throw(&opened(&endless)).await;
        let http1 = format!("GET /version HTTP/1.1\r\nx-long: {}\r\n\r\n", "y".repeat(4 << 20));
        victim.throw(http1.as_bytes()).await;
    });
}

/// Floods of frames that cost the sender little.
pub fn frame_floods() {
    type Flood = fn(u32) -> Vec<u8>;
    let floods: [(&str, Flood); 6] = [
        ("settings", |_| frame(SETTINGS, 0, 0, b"")),
        ("pings", |_| frame(PING, 0, 0, b"12345678")),
        ("window updates", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("empty data", |number| match number {
            0 => head(1, &request_headers()),
            _ => frame(DATA, 0, 1, b""),
        }),
        // Opened and reset at once, over and over ("rapid reset").
        ("resets", |number| {
            let stream = number * 2 + 1;
            let cancel = u32::from(Reason::CANCEL).to_be_bytes();
            [head(stream, &request_headers()), frame(RST_STREAM, 0, stream, &cancel)].concat()
        }),
        ("streams left open", |number| head(number * 2 + 1, &request_headers())),
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

/// Values of every size around the limits, then many connections.
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

/// Runs an attack beside a healthy client, and checks afterwards that the server works.
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

/// The server under attack, and a healthy client.
struct Victim<'a> {
    server: &'a Server,
    healthy: Connection,
}

impl Victim<'_> {
    async fn open(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.server.port)).await.expect("the port still listens")
    }

    /// Sends bytes on a new connection, reads the answer for a moment, and closes.
    async fn throw(&self, bytes: &[u8]) {
        let stream = self.open().await;
        let (mut reader, mut writer) = stream.into_split();
        // The server may close or stop reading in the middle, so both directions run until both have ended.
        let send = async {
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let hear = async {
            let mut heard = Vec::new();
            let _ = reader.read_to_end(&mut heard).await;
        };
        let both = async { tokio::join!(send, hear) };
        // A server may keep such a connection open, which is not tested here.
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

fn request_headers() -> Vec<u8> {
    literals(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Range"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ])
}

fn range_request(stream: u32) -> Vec<u8> {
    let message = [0, 0, 0, 0, 3, 0x0a, 1, b'a'];
    [head(stream, &request_headers()), frame(DATA, END_STREAM, stream, &message)].concat()
}
