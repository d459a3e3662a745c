//! Heads that h2 would refuse: they end their stream, never the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields without tables; values of up to 126 bytes.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

fn fields<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [(":method", "POST"), (":scheme", "http"), (":path", path), ("host", "localhost")];
    [&usual[..], &[("content-type", "application/grpc")], more].concat()
}

fn echo_call(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let block = block(&fields("/test.Echo/Echo", more));
    [frame(HEADERS, END_HEADERS, stream, &block), frame(0, END_STREAM, stream, &framed(b"echo"))].concat()
}

/// The server's answer: the streams that got a message, those that were reset, and the code of a GOAWAY.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    answered: Vec<u32>,
    reset: Vec<u32>,
    goaway: Option<u32>,
}

/// Sends `bytes`, half-closes, and reads until the server closes.
async fn hear(address: SocketAddr, bytes: &[u8]) -> Heard {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let mut answer = Vec::new();
    let write = async {
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
    };
    let read = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    futures_lite::future::zip(write, read).await;
    let mut heard = Heard::default();
    let mut rest = &answer[..];
    while let Some((&[a, b, c, kind, _, d, e, f, g], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(u32::from_be_bytes([0, a, b, c]) as usize);
        let stream = u32::from_be_bytes([d, e, f, g]);
        match kind {
            0 if !payload.is_empty() => heard.answered.push(stream),
            RST_STREAM => heard.reset.push(stream),
            GOAWAY => heard.goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
            _ => {}
        }
        rest = after;
    }
    heard
}

#[test]
fn a_bad_head_costs_its_stream() {
    with_server(Settings::default(), |address, _| async move {
        for (name, value) in [("X-Upper", "x"), ("connection", "close"), ("", "x"), ("x", "\n"), (":late", "x")] {
            let bad = echo_call(3, &[(name, value)]);
            let heard = hear(address, &[PREFACE, &echo_call(1, &[]), &bad, &echo_call(5, &[])].concat()).await;
            let expected = Heard { answered: vec![1, 5], reset: vec![3], goaway: None };
            assert_eq!(heard, expected, "{name}: {value:?}");
        }
    });
}

#[test]
fn any_authority_is_served() {
    with_server(Settings::default(), |address, _| async move {
        for authority in ["", "#initially=[http://a:1;http://b:2]", "a/b", "a,b", "a b", "käse", "%2Fvar%2Frun"] {
            let head =
                [(":authority", authority)].into_iter().chain(fields("/test.Echo/Echo", &[])).collect::<Vec<_>>();
            let head = frame(HEADERS, END_HEADERS, 1, &block(&head));
            let call = [PREFACE, &head, &frame(0, END_STREAM, 1, &framed(b"echo"))].concat();
            assert_eq!(hear(address, &call).await.answered, [1], "{authority}");
        }
    });
}

/// Each frame holds one large field; the head is too large long before its end.
#[test]
fn a_head_without_end_is_skipped_and_then_ends_the_connection() {
    with_server(Settings::default(), |address, _| async move {
        let large = [&[0, 1, b'x', 0x7f, 0xa1, 0x7c][..], &[b'v'; 16_032]].concat();
        let head = |frames: u32| {
            let rest = (0..frames).flat_map(|_| frame(CONTINUATION, 0, 1, &large)).collect::<Vec<_>>();
            let first = frame(HEADERS, 0, 1, &block(&fields("/test.Echo/Echo", &[])));
            [PREFACE, &first, &rest, &frame(CONTINUATION, END_HEADERS, 1, b""), &echo_call(3, &[])].concat()
        };
        assert_eq!(hear(address, &head(200)).await.answered, [3], "3 MB");
        let ended = hear(address, &head(1100)).await;
        assert_eq!((ended.answered, ended.goaway), (Vec::new(), Some(11)), "17 MB");
    });
}

/// More streams than h2 accepts: heads of streams that it refuses are forgotten.
#[test]
fn refused_streams_do_not_mix_up_heads() {
    let settings = Settings { concurrent_streams_max: 2, ..Settings::default() };
    with_server(settings, |address, _| async move {
        let open = |stream, path| frame(HEADERS, END_HEADERS, stream, &block(&fields(path, &[])));
        let never = [open(1, "/test.Echo/Echo"), open(3, "/test.Echo/Echo")].concat();
        let refused: Vec<u8> = (2..50).flat_map(|number| open(2 * number + 1, "/no/no")).collect();
        let cancel = [frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]), echo_call(201, &[])].concat();
        let finish = frame(0, END_STREAM, 1, &framed(b"echo"));
        let heard = hear(address, &[PREFACE, &never, &refused, &cancel, &finish].concat()).await;
        let mut answered = heard.answered;
        answered.sort_unstable();
        assert_eq!((answered, heard.reset.len(), heard.goaway), (vec![1, 201], 48, None));
    });
}
