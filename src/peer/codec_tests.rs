//! The framings against bytes that etcd 3.7.1 wrote, and against their own encoders.

use super::*;

/// Appends of one stream as `msgAppV2Encoder` wrote them, in order.
const APPENDS: [&str; 9] = [
    "00",
    "02000000000000002d08031002180120032802300a3a0d08001002180b220566697273743a0e08001003180c22067365636f6e644009",
    "010000000000000001000000000000000d08001003180d22057468697264000000000000000a",
    "010000000000000000000000000000000b",
    "010000000000000002000000000000000808001003180e2200000000000000000d08001003180f22056669667468000000000000000b",
    "02000000000000001d08031002180120042803300f3a0d08001004181022057369787468400c",
    "00",
    "0100000000000000000000000000000010",
    "02000000000000001f08031002180120042804300c3a0f08001004180d22077265776f756e644010",
];

/// Messages as `messageEncoder` wrote them: a link heartbeat, Raft's heartbeat, a vote, a rejected append.
const MESSAGES: [&str; 4] = [
    "00000000000000020808",
    "000000000000000f080810021801200340076203637478",
    "000000000000000c080510021801200528043011",
    "000000000000001008041002180120052802301150015809",
];

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn append(term: u64, log_term: u64, index: u64, commit: u64, entries: &[(u64, u64, &'static str)]) -> Message {
    let entry = |&(term, index, data): &(u64, u64, &'static str)| Entry {
        r#type: Some(0),
        term: Some(term),
        index: Some(index),
        data: Some(Bytes::from_static(data.as_bytes())),
    };
    Message {
        r#type: Some(MessageType::MsgApp as i32),
        from: Some(1),
        to: Some(2),
        term: Some(term),
        log_term: Some(log_term),
        index: Some(index),
        commit: Some(commit),
        entries: entries.iter().map(entry).collect(),
        ..Message::default()
    }
}

fn appends() -> Vec<Message> {
    vec![
        link_heartbeat(),
        append(3, 2, 10, 9, &[(2, 11, "first"), (3, 12, "second")]),
        append(3, 3, 12, 10, &[(3, 13, "third")]),
        append(3, 3, 13, 11, &[]),
        append(3, 3, 13, 11, &[(3, 14, ""), (3, 15, "fifth")]),
        append(4, 3, 15, 12, &[(4, 16, "sixth")]),
        link_heartbeat(),
        append(4, 4, 16, 16, &[]),
        append(4, 4, 12, 16, &[(4, 13, "rewound")]),
    ]
}

/// All messages of `wire`, which comes in pieces of `piece` bytes.
fn decoded(framing: Framing, wire: &[u8], piece: usize) -> Vec<Message> {
    let mut decoder = Decoder::new(framing, 1, 2);
    let mut messages = Vec::new();
    for bytes in wire.chunks(piece) {
        decoder.push(bytes);
        while let Some(message) = decoder.next_message().unwrap() {
            messages.push(message);
        }
    }
    assert!(decoder.into_rest().is_empty());
    messages
}

#[test]
fn appends_are_etcds_bytes() {
    let mut encoder = Encoder::new(Framing::Appends);
    for (message, wire) in appends().iter().zip(APPENDS) {
        let mut out = BytesMut::new();
        encoder.encode(message, &mut out);
        assert_eq!(out, bytes_of(wire), "{message:?}");
    }
}

#[test]
fn appends_come_in_pieces_of_any_size() {
    let wire = bytes_of(&APPENDS.concat());
    for piece in [1, 2, 7, 8, 9, 40, wire.len()] {
        assert_eq!(decoded(Framing::Appends, &wire, piece), appends(), "{piece}");
    }
}

#[test]
fn messages_are_etcds_bytes() {
    let wire = bytes_of(&MESSAGES.concat());
    for piece in [1, 3, 8, wire.len()] {
        let messages = decoded(Framing::Messages, &wire, piece);
        assert!(is_link_heartbeat(&messages[0]));
        assert_eq!(messages[1].r#type(), MessageType::MsgHeartbeat);
        assert_eq!(messages[1].context(), b"ctx");
        assert!(!is_link_heartbeat(&messages[1]));
        assert_eq!(messages[2].r#type(), MessageType::MsgVote);
        assert_eq!((messages[3].reject(), messages[3].reject_hint()), (true, 9));
        let (mut encoder, mut out) = (Encoder::new(Framing::Messages), BytesMut::new());
        messages.iter().for_each(|message| encoder.encode(message, &mut out));
        assert_eq!(out, wire);
    }
}

#[test]
fn what_no_member_sends_is_an_error_and_costs_nothing() {
    let failure = |framing, wire: &[u8]| {
        let mut decoder = Decoder::new(framing, 1, 2);
        decoder.push(wire);
        let error = decoder.next_message().unwrap_err();
        assert!(decoder.bytes.capacity() < 4096, "{}", decoder.bytes.capacity());
        error
    };
    assert!(matches!(failure(Framing::Appends, &[3]), BadFrame::Kind(3)));
    assert!(matches!(failure(Framing::Messages, &[0xff; 8]), BadFrame::TooLong));
    assert!(matches!(failure(Framing::Messages, &[0, 0, 0, 0, 0, 0, 0, 1, 0xff]), BadFrame::Message(_)));
    let mut endless_entry = vec![KIND_CONTINUED];
    endless_entry.extend([0xff; 16]);
    assert!(matches!(failure(Framing::Appends, &endless_entry), BadFrame::TooLong));
    // A great length within the limit, and nothing after it: no memory is taken for what has not come.
    let mut decoder = Decoder::new(Framing::Messages, 1, 2);
    decoder.push(&PEER_MESSAGE_BYTES_MAX.to_be_bytes());
    assert!(decoder.next_message().unwrap().is_none());
    assert!(decoder.bytes.capacity() < 4096);
}

#[test]
fn what_follows_the_message_of_a_snapshot_is_its_database() {
    let mut wire = bytes_of(MESSAGES[2]);
    wire.extend(b"pages");
    let mut decoder = Decoder::of_messages(64);
    decoder.push(&wire);
    assert_eq!(decoder.next_message().unwrap().unwrap().r#type(), MessageType::MsgVote);
    assert_eq!(&decoder.into_rest()[..], b"pages");
    let mut decoder = Decoder::of_messages(11);
    decoder.push(&wire);
    assert!(matches!(decoder.next_message(), Err(BadFrame::TooLong)));
}
