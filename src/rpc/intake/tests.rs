use bytes::BytesMut;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::rpc::head::Rejected;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FLAGS: u8 = FLAG_END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that is not added to the table, or is.
fn field(first: u8, name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [vec![first], text(name), text(value)].concat()
}

/// A request whose fields are added to the table.
fn block(path: &str) -> Vec<u8> {
    [&[0x83, 0x86, 0x81][..], &field(0x40, ":path", path), &field(0x40, "content-type", "application/grpc")].concat()
}

/// The same for a decoder that has decoded [`block`] just before.
const AGAIN: [u8; 5] = [0x83, 0x86, 0x81, 0xbf, 0xbe];

/// Sends bytes in pieces, read into buffers of random size; returns the bytes that h2 gets.
fn passed(intake: &mut Intake, bytes: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut passed = BytesMut::new();
    let mut at = 0;
    loop {
        let mut buffer = [0; 64];
        let room = random.random_range(1..64);
        let mut into = ReadBuf::new(&mut buffer[..room]);
        let end = (at + random.random_range(1..40)).min(bytes.len());
        at += intake.pass(&bytes[at..end], &mut into);
        passed.extend_from_slice(into.filled());
        if into.filled().is_empty() && (at == bytes.len() || intake.broken.is_some()) {
            intake.on_drained();
            return passed.to_vec();
        }
    }
}

fn seeded(test: impl Fn(&mut SmallRng)) {
    for seed in 0..50 {
        println!("seed {seed}");
        test(&mut SmallRng::seed_from_u64(seed));
    }
}

fn path(intake: &mut Intake, stream: u32) -> String {
    let head = intake.head(stream).unwrap();
    String::from_utf8(head.outcome.as_ref().unwrap().path.to_vec()).unwrap()
}

#[test]
fn heads_are_replaced_and_the_rest_passes() {
    seeded(|random| {
        let mut intake = Intake::new();
        let data = frame(0, 1, 1, b"message");
        let settings = frame(4, 0, 0, b"");
        let long = block("/long");
        let padded = [&[3, 0, 0, 0, 0, 9][..], &AGAIN, b"\0\0\0"].concat();
        let sent = [
            PREFACE,
            &settings,
            &frame(TYPE_HEADERS, 0, 1, &long[..5]),
            &frame(TYPE_CONTINUATION, 0, 1, b""),
            &frame(TYPE_CONTINUATION, FLAG_END_HEADERS, 1, &long[5..]),
            &data,
            &frame(TYPE_HEADERS, FLAGS | FLAG_END_STREAM | FLAG_PADDED | FLAG_PRIORITY, 3, &padded),
            &frame(TYPE_HEADERS, FLAGS | FLAG_END_STREAM, 1, &AGAIN),
        ];
        let stand_in = |flags, stream| frame(TYPE_HEADERS, flags, stream, &STAND_IN);
        let expected = [
            PREFACE,
            &settings,
            &stand_in(FLAGS, 1),
            &data,
            &stand_in(FLAGS | FLAG_END_STREAM, 3),
            &frame(TYPE_HEADERS, FLAGS | FLAG_END_STREAM, 1, b""),
        ];
        assert_eq!(passed(&mut intake, &sent.concat(), random), expected.concat());
        assert_eq!((intake.broken, intake.last_stream), (None, 3));
        assert_eq!(path(&mut intake, 1), "/long");
        assert_eq!(path(&mut intake, 3), "/long");
        assert!(intake.head(5).is_none());
    });
}

#[test]
fn pings_are_counted() {
    seeded(|random| {
        let mut intake = Intake::new();
        let ping = |flags| frame(TYPE_PING, flags, 0, b"12345678");
        let sent = [PREFACE, &ping(0), &ping(FLAG_ACK), &ping(0)].concat();
        assert_eq!(passed(&mut intake, &sent, random), sent);
        assert_eq!((intake.take_pings(), intake.take_pings()), (2, 0));
    });
}

#[test]
fn windows_of_streams_do_not_grow_by_nothing() {
    seeded(|random| {
        let mut intake = Intake::new();
        let update = |stream, increment: u32| frame(TYPE_WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
        let some = [update(1, 5), update(0, 0), update(3, 0x100), frame(TYPE_WINDOW_UPDATE, 0, 1, b"123")].concat();
        let sent = [PREFACE, &update(1, 0), &update(1, 0x8000_0000), &some, &update(7, 0)].concat();
        assert_eq!(passed(&mut intake, &sent, random), [PREFACE, &some].concat());
    });
}

#[test]
fn goaways_are_not_passed_on() {
    seeded(|random| {
        let mut intake = Intake::new();
        let goaway = |length| frame(TYPE_GOAWAY, 0, 0, &vec![0; length]);
        let bad = [goaway(7), frame(TYPE_GOAWAY, 0, 1, &[0; 8])].concat();
        let sent = [PREFACE, &goaway(8), &goaway(100), &bad].concat();
        assert_eq!(passed(&mut intake, &sent, random), [PREFACE, &bad].concat());
    });
}

#[test]
fn equal_blocks_share_a_head_until_the_table_changes() {
    let mut intake = Intake::new();
    let mut random = SmallRng::seed_from_u64(1);
    let again = |stream| frame(TYPE_HEADERS, FLAGS, stream, &AGAIN);
    let sent = [PREFACE, &frame(TYPE_HEADERS, FLAGS, 1, &block("/a")), &again(3), &again(5)].concat();
    passed(&mut intake, &sent, &mut random);
    let [first, second, third] = [1, 3, 5].map(|stream| intake.head(stream).unwrap());
    assert!(!Rc::ptr_eq(&first, &second) && Rc::ptr_eq(&second, &third));
    let sent = [frame(TYPE_HEADERS, FLAGS, 7, &block("/b")), again(9)].concat();
    passed(&mut intake, &sent, &mut random);
    assert_eq!(path(&mut intake, 7), "/b");
    assert_eq!(path(&mut intake, 9), "/b");
}

#[test]
fn a_rejected_head_leaves_the_table_in_step() {
    let mut intake = Intake::new();
    let bad = [&block("/a")[..], &field(0x40, "X-Upper", "x")].concat();
    let after = [0x83, 0x86, 0x81, 0xc0, 0xbf];
    let sent = [PREFACE, &frame(TYPE_HEADERS, FLAGS, 1, &bad), &frame(TYPE_HEADERS, FLAGS, 3, &after)].concat();
    passed(&mut intake, &sent, &mut SmallRng::seed_from_u64(1));
    assert!(matches!(intake.head(1).unwrap().outcome, Err(Rejected::Reset(Reason::PROTOCOL_ERROR))));
    assert_eq!(path(&mut intake, 3), "/a");
}

#[test]
fn heads_whose_requests_never_come_are_dropped() {
    let mut intake = Intake::new();
    let mut random = SmallRng::seed_from_u64(1);
    let sent = [PREFACE, &frame(TYPE_HEADERS, FLAGS, 1, &block("/a")), &frame(TYPE_HEADERS, FLAGS, 3, &AGAIN)].concat();
    passed(&mut intake, &sent, &mut random);
    assert_eq!(path(&mut intake, 3), "/a");
    passed(&mut intake, &frame(TYPE_HEADERS, FLAGS, 5, &AGAIN), &mut random);
    intake.on_all_accepted();
    assert!(intake.heads.is_empty());
}

#[test]
fn only_what_cannot_be_read_breaks_the_connection() {
    let headers = |flags, block: &[u8]| frame(TYPE_HEADERS, flags, 1, block);
    let bomb = [&block("/a")[..], &field(0x40, "x", &"v".repeat(100)), &vec![0xbe; 16_000]].concat();
    let bombs = || {
        let more = (0..10).map(|_| frame(TYPE_CONTINUATION, 0, 1, &[0xbe; 16_000])).collect::<Vec<_>>().concat();
        [headers(0, &bomb), more].concat()
    };
    for (sent, broken) in [
        (headers(FLAGS, &[0x80]), Some(Reason::COMPRESSION_ERROR)),
        (headers(FLAGS, &[0x83, 0x00, 0x03]), Some(Reason::COMPRESSION_ERROR)),
        ([headers(0, &[0x83]), frame(0, 0, 1, b"")].concat(), Some(Reason::PROTOCOL_ERROR)),
        ([headers(0, &[0x83]), frame(TYPE_CONTINUATION, 4, 3, b"")].concat(), Some(Reason::PROTOCOL_ERROR)),
        (headers(FLAGS | FLAG_PADDED, b""), Some(Reason::FRAME_SIZE_ERROR)),
        (headers(FLAGS | FLAG_PRIORITY, b"1234"), Some(Reason::FRAME_SIZE_ERROR)),
        (headers(FLAGS, &[0x83; FRAME_BYTES_MAX + 1]), Some(Reason::FRAME_SIZE_ERROR)),
        (bombs(), Some(Reason::ENHANCE_YOUR_CALM)),
        (headers(FLAGS, &bomb), None),
        (headers(FLAGS | FLAG_PADDED, &[9, 0x83]), None),
        (headers(FLAGS, b""), None),
    ] {
        let mut intake = Intake::new();
        passed(&mut intake, &[PREFACE, &sent].concat(), &mut SmallRng::seed_from_u64(1));
        assert_eq!(intake.broken, broken, "{:?}", &sent[..sent.len().min(40)]);
        assert_eq!(intake.head(1).is_some(), broken.is_none());
    }
}
