//! Whole states between members.

use http::{HeaderMap, Method};
use prost::Message as _;

use super::*;
use crate::{
    base::received_state::received_name,
    pagefile::{BucketChanges, Change, Fill, Key, MemoryImage, PageFile, ReadTxn},
    peer::{client, headers::Introduction},
    proto::raftpb::{Snapshot, SnapshotMetadata},
};

/// A database of some size.
pub(super) fn database() -> (MemoryImage, ReadTxn) {
    let content = PageFile::image_of_new_file(4096);
    let mut image = MemoryImage::new(&content, 64 << 20);
    let mut file = PageFile::open(image.map(), content.len() as u64).unwrap();
    let record = |number: u32| Change {
        key: Key::from_slice(&number.to_be_bytes()),
        value: Some(Bytes::from(vec![number as u8; 1000])),
    };
    file.begin(vec![BucketChanges {
        name: Bytes::from_static(b"key"),
        fill: Fill::APPEND,
        changes: (0..2000).map(record).collect(),
    }]);
    let commit = loop {
        if let Some(commit) = file.step(usize::MAX).unwrap() {
            break commit;
        }
    };
    commit.pages.iter().for_each(|write| image.write(write));
    image.write(&commit.meta);
    file.on_committed();
    let pages = file.read();
    (image, pages)
}

pub(super) fn snapshot(from: u64, to: u64, index: u64) -> Message {
    let metadata = SnapshotMetadata { index: Some(index), term: Some(3), ..SnapshotMetadata::default() };
    Message {
        r#type: Some(MessageType::MsgSnap as i32),
        from: Some(from),
        to: Some(to),
        term: Some(3),
        snapshot: Some(Snapshot { metadata: Some(metadata), ..Snapshot::default() }),
        ..Message::default()
    }
}

/// The names in a member's directory.
fn names(member: &Member) -> Vec<String> {
    let entries = std::fs::read_dir(member.directory.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_state_arrives_whole_and_durable() {
    on_executor(async {
        let (one, two) = (Member::start(1), Member::start(2));
        one.knows(&[&two]);
        let (_image, pages) = database();
        one.inside(|peers| peers.send_snapshot(snapshot(1, 2, 77), pages.clone(), &[]));
        match two.event().await {
            Event::SnapshotReceived(message) => assert_eq!(message, snapshot(1, 2, 77)),
            event => panic!("{event:?}"),
        }
        let received = std::fs::read(two.directory.path().join(received_name(77))).unwrap();
        let mut sent = Vec::new();
        pages.copy_image(0, usize::MAX, &mut sent);
        assert!(sent == received, "{} bytes, {} sent", received.len(), sent.len());
        assert!(matches!(one.event().await, Event::SnapshotSent { to: 2, arrived: true }));
        one.peers.stop().await;
        two.peers.stop().await;
    });
}

#[test]
fn what_is_no_sound_state_leaves_nothing_behind() {
    on_executor(async {
        let one = Member::start(1);
        let introduction =
            Introduction { cluster_id: CLUSTER, member_id: 2, peer_urls: String::new(), reads_by_leases: false };
        let mut headers = HeaderMap::new();
        introduction.put(&mut headers);
        let framed = |message: &Message, rest: &[u8]| {
            let mut body = (message.encoded_len() as u64).to_be_bytes().to_vec();
            body.extend(message.encode_to_vec());
            body.extend(rest);
            Bytes::from(body)
        };
        for (body, status, text) in [
            (Bytes::from_static(b"short"), 400, "failed to decode raft message (unexpected EOF)\n"),
            (Bytes::from_static(&[0xff; 8]), 400, "failed to decode raft message (rafthttp: error limit exceeded)\n"),
            (framed(&heartbeat(2, 1, 1), b""), 400, "wrong raft message type\n"),
            (framed(&snapshot(2, 3, 1), b"pages"), 403, "{\"message\":\"cannot process message to mismatch member\"}"),
            (
                framed(&snapshot(2, 1, 1), b""),
                500,
                "failed to save KV snapshot (it is no sound database: it is empty)\n",
            ),
            (framed(&snapshot(2, 1, 1), &[7; 100_000]), 500, "failed to save KV snapshot (it is no sound database: "),
        ] {
            let url = format!("{}/raft/snapshot", one.url);
            let answered = client::request(Method::POST, &url, headers.clone(), body, Duration::from_secs(60)).await;
            let answered = answered.unwrap();
            let found = String::from_utf8_lossy(&answered.body);
            assert_eq!(answered.status.as_u16(), status, "{found}");
            assert!(found.starts_with(text), "{found}");
        }
        while !names(&one).is_empty() {
            crate::os::yield_now().await;
        }
        assert!(one.news.events.borrow().is_empty());
        one.peers.stop().await;
    });
}

#[test]
fn a_state_that_cannot_be_sent_is_reported() {
    on_executor(async {
        let one = Member::start(1);
        let (_image, pages) = database();
        one.inside(|peers| peers.send_snapshot(snapshot(1, 5, 7), pages.clone(), &[]));
        assert!(matches!(one.event().await, Event::SnapshotSent { to: 5, arrived: false }));
        one.inside(|peers| peers.set_members(&[(2, vec!["http://127.0.0.1:1".into()])], &[]));
        one.inside(|peers| peers.send_snapshot(snapshot(1, 2, 7), pages.clone(), &[]));
        assert!(matches!(one.event().await, Event::SnapshotSent { to: 2, arrived: false }));
        one.peers.stop().await;
    });
}
