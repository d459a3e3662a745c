//! Whole states that one ringd fetches from another.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use super::{
    snapshots::{database, snapshot},
    *,
};
use crate::{
    base::received_state::received_name,
    pagefile::ReadTxn,
    peer::{Asking, FetchError, Image, fetch},
    proto::raftpb::{ConfState, SnapshotMetadata},
};

const INDEX: u64 = 80;

fn mark() -> SnapshotMetadata {
    let conf_state = ConfState { voters: vec![1, 2, 3], auto_leave: Some(false), ..ConfState::default() };
    SnapshotMetadata { conf_state: Some(conf_state), index: Some(INDEX), term: Some(3) }
}

/// States that go up to INDEX.
fn images(pages: &ReadTxn) -> ImageSource {
    let pages = pages.clone();
    Rc::new(move |index_min| -> ImageFuture {
        let image = Image { mark: mark(), pages: pages.clone() };
        Box::pin(async move { if index_min <= INDEX { Ok(image) } else { Err("not there yet".to_owned()) } })
    })
}

fn asking(member_id: u64) -> Asking {
    Asking {
        cluster_id: CLUSTER,
        member_id,
        advertised: Vec::new(),
        secrets: None,
        dial_timeout: Duration::from_secs(5),
    }
}

fn whole(pages: &ReadTxn) -> Vec<u8> {
    let mut image = Vec::new();
    pages.copy_image(0, usize::MAX, &mut image);
    image
}

/// A member that knows member 1, and has this state.
fn source(pages: &ReadTxn) -> Member {
    let two = Member::with_images(2, images(pages));
    two.inside(|peers| peers.set_members(&[(1, vec!["http://127.0.0.1:1".into()])], &[]));
    two
}

/// What is done to the answer of one connection.
#[derive(Clone, Copy)]
enum Harm {
    None,
    /// It ends after so many bytes.
    Cut(usize),
    /// This byte is another one.
    Flip(usize),
}

/// A way to `url` that harms one connection after the other: its own URL.
fn harming(url: &str, harms: Vec<Harm>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let target = url.strip_prefix("http://").unwrap().to_owned();
    thread::spawn(move || {
        for (client, harm) in listener.incoming().map_while(Result::ok).zip(harms) {
            let server = TcpStream::connect(&target).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            relay(server, client, harm);
        }
    });
    own
}

fn relay(mut from: TcpStream, mut to: TcpStream, harm: Harm) {
    let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut bytes = buffer[..count].to_vec();
        match harm {
            Harm::Cut(length) if passed + count >= length => break,
            Harm::Flip(at) if (passed..passed + count).contains(&at) => bytes[at - passed] ^= 1,
            _ => {}
        }
        passed += count;
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ended = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn a_fetch_resumes_at_the_offset_where_a_connection_broke() {
    on_executor(async {
        let (_image, pages) = database();
        let (two, directory) = (source(&pages), tempfile::tempdir().unwrap());
        let harms = vec![Harm::Cut(300_000), Harm::Cut(1), Harm::Cut(700_000), Harm::None];
        let url = harming(&two.url, harms);
        let (found, length) = fetch(&asking(1), &[url], INDEX, directory.path()).await.unwrap();
        assert_eq!(found, mark());
        let received = std::fs::read(directory.path().join(received_name(INDEX))).unwrap();
        assert!(received == whole(&pages), "{length} bytes are others");
        two.peers.stop().await;
    });
}

#[test]
fn a_state_that_changed_on_its_way_is_not_kept() {
    on_executor(async {
        let (_image, pages) = database();
        let (two, directory) = (source(&pages), tempfile::tempdir().unwrap());
        let url = harming(&two.url, vec![Harm::Flip(900_000)]);
        let fetched = fetch(&asking(1), &[url], INDEX, directory.path()).await;
        assert!(matches!(fetched, Err(FetchError::Digest)), "{fetched:?}");
        while std::fs::read_dir(directory.path()).unwrap().count() > 0 {
            crate::os::yield_now().await;
        }
        two.peers.stop().await;
    });
}

#[test]
fn strangers_and_states_that_are_not_there_are_refused() {
    on_executor(async {
        let (_image, pages) = database();
        let (two, directory) = (source(&pages), tempfile::tempdir().unwrap());
        for (from, index, expected) in [(9, INDEX, 403), (1, INDEX + 1, 503)] {
            match fetch(&asking(from), std::slice::from_ref(&two.url), index, directory.path()).await {
                Err(FetchError::Refused { status, .. }) => assert_eq!(status.as_u16(), expected),
                other => panic!("{other:?}"),
            }
        }
        two.peers.stop().await;
    });
}

/// The leader is 1, the member that lags is 2, and 3 has the state as well, and further.
#[test]
fn an_offered_state_comes_from_a_member_that_has_it() {
    on_executor(async {
        let (_image, pages) = database();
        let (one, two) = (Member::start(1), Member::start(2));
        let three = Member::with_images(3, images(&pages));
        one.knows(&[&two, &three]);
        two.knows(&[&one, &three]);
        three.knows(&[&one, &two]);
        while !(one.peers.has_streams(2) && one.peers.has_streams(3)) {
            crate::os::yield_now().await;
        }
        one.inside(|peers| peers.send_snapshot(snapshot(1, 2, 77), pages.clone(), &[3]));
        match two.event().await {
            Event::SnapshotReceived(message) => {
                assert_eq!(message.snapshot.unwrap().metadata, Some(mark()));
                assert_eq!((message.from, message.term), (Some(1), Some(3)));
            }
            event => panic!("{event:?}"),
        }
        let received = std::fs::read(two.directory.path().join(received_name(INDEX))).unwrap();
        assert!(received == whole(&pages));
        assert!(matches!(one.event().await, Event::SnapshotSent { to: 2, arrived: true }));
        for member in [one, two, three] {
            member.peers.stop().await;
        }
    });
}
