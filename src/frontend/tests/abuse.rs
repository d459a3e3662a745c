//! Malicious clients: whatever they send, other clients are served.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Sends `bytes`, half-closes and takes what comes back.
async fn throw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let mut answer = Vec::new();
    let write = async {
        // The server may close in the middle.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let read = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    futures_lite::future::zip(write, read).await;
    answer
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A request's head in HPACK without tables.
fn head() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(":path", "/test.Echo/Never"), (":authority", "x"), ("content-type", "application/grpc")] {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

#[test]
fn random_bytes() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        for seed in 0..200 {
            println!("seed {seed}");
            let mut random = SmallRng::seed_from_u64(seed);
            let mut bytes = if random.random_bool(0.7) { PREFACE.to_vec() } else { Vec::new() };
            for _ in 0..random.random_range(1..40) {
                let mut payload: Vec<u8> = (0..random.random_range(0..60)).map(|_| random.random()).collect();
                if random.random_bool(0.3) {
                    payload = head();
                }
                let stream = random.random_range(0..12);
                bytes.extend(frame(random.random_range(0..11), random.random(), stream, &payload));
            }
            if random.random_bool(0.5) {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
                bytes.truncate(random.random_range(at..bytes.len()));
            }
            throw(address, &bytes).await;
        }
        assert_eq!(echo(&client, b"alive").await, "alive");
    });
}

#[test]
fn floods_of_frames() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let flood = |each: &dyn Fn(u32) -> Vec<u8>| {
            let mut bytes = PREFACE.to_vec();
            (0..5000).for_each(|number| bytes.extend(each(number)));
            bytes
        };
        let floods = [
            (
                "opened and reset",
                flood(&|n| [frame(1, 5, 2 * n + 1, &head()), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()),
            ),
            ("settings", flood(&|_| frame(4, 0, 0, &[0, 4, 0, 1, 0, 0]))),
            ("pings", flood(&|_| frame(6, 0, 0, &[0; 8]))),
            ("empty data", flood(&|n| if n == 0 { frame(1, 4, 1, &head()) } else { frame(0, 0, 1, &[]) })),
            ("tiny data", flood(&|n| if n == 0 { frame(1, 4, 1, &head()) } else { frame(0, 0, 1, &[0]) })),
            (
                "endless head",
                flood(&|n| if n == 0 { frame(1, 0, 1, &head()) } else { frame(9, 0, 1, &[0, 1, b'a', 1, b'b']) }),
            ),
            ("window updates", flood(&|_| frame(8, 0, 0, &[0, 0, 0, 1]))),
        ];
        for (name, bytes) in floods {
            let answer = throw(address, &bytes).await;
            println!("{name}: {} bytes back", answer.len());
            assert_eq!(echo(&client, name.as_bytes()).await, name);
        }
    });
}

#[test]
fn half_messages_are_bounded() {
    with_server(Settings::default(), |address, _| async move {
        let client = connect(address).await;
        let other = connect(address).await;
        let mut refused = 0;
        let mut halves = Vec::new();
        for _ in 0..40 {
            let mut sender = client.clone().ready().await.unwrap();
            let (response, mut stream) = sender.send_request(request("/test.Echo/Echo", &[]), false).unwrap();
            let mut half = vec![0, 0, 0x1f, 0xff, 0xff];
            half.resize(1_500_000, 1);
            stream.send_data(half.into(), false).unwrap();
            halves.push((response, stream));
        }
        assert_eq!(echo(&other, b"not my problem").await, "not my problem");
        for (response, mut stream) in halves {
            // A refused stream is closed already.
            let _ = stream.send_data(Bytes::from_static(&[0]), true);
            let end = answer(response).await.unwrap();
            refused += usize::from(end.status.0 == 8);
        }
        assert!(refused > 0, "60 MB of half messages do not fit");
        assert_eq!(echo(&client, b"good again").await, "good again");
    });
}
