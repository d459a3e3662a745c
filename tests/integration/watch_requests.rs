//! Answers of a watch stream to each kind of request, compared with etcd: ids, ranges, invalid revisions, progress.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringd::proto::etcdserverpb::{CompactionRequest, CompactionResponse, PutRequest, PutResponse, WatchCreateRequest};

use crate::{
    harness::{
        self,
        grpc::Connection,
        pair::Pair,
        stream::End,
        watching::{Told, Watching},
    },
    watch::everything_from,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// Ids that no script uses.
const FENCES_FROM: i64 = 1_000_000;
/// Notices that are waited for.
const NOTICES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Create(WatchCreateRequest),
    Cancel(i64),
    Empty,
    Put(&'static str),
    Compact(i64),
    /// Waits until the watcher has been canceled by the server.
    Canceled(i64),
}

fn watch(watch_id: i64, key: &'static str, range_end: &'static str, start_revision: i64) -> Step {
    let request = WatchCreateRequest {
        watch_id,
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        ..WatchCreateRequest::default()
    };
    Step::Create(request)
}

/// All on one stream, in this order.
fn script() -> Vec<Step> {
    let ids = [
        watch(0, "a", "", 0),
        watch(0, "a", "", 0),
        watch(5, "a", "", 0),
        watch(5, "b", "", 0),
        watch(0, "a", "", 0),
        watch(3, "a", "", 0),
        watch(0, "a", "", 0),
        watch(0, "a", "", 0),
        watch(-7, "a", "", 0),
        watch(i64::MAX, "a", "", 0),
        watch(i64::MIN, "a", "", 0),
    ];
    let cancels = [
        Step::Cancel(1),
        Step::Cancel(1),
        Step::Cancel(99),
        Step::Cancel(-1),
        Step::Put("a"),
        Step::Cancel(0),
        watch(0, "a", "", 0),
        watch(1, "a", "", 0),
        Step::Cancel(-7),
        Step::Cancel(i64::MAX),
        Step::Empty,
    ];
    let ranges = [
        watch(0, "b", "a", 0),
        watch(0, "b", "b", 0),
        watch(0, "", "", 0),
        watch(0, "", "\0", 0),
        watch(0, "\0", "\0", 0),
        watch(0, "", "\0\0", 0),
        watch(0, "\0\0", "\0", 0),
        // The duplicate id or the empty range: one of them is the reason.
        watch(5, "b", "a", 0),
        watch(5, "b", "a", -1),
    ];
    let revisions = [
        watch(20, "a", "", -1),
        watch(20, "a", "", i64::MIN),
        watch(20, "a", "", i64::MAX),
        watch(21, "a", "", 100),
        watch(22, "a", "", 4),
        watch(22, "a", "", 1),
        Step::Put("a"),
        Step::Compact(3),
        watch(23, "a", "", 2),
        Step::Canceled(23),
        // Its id is still taken, until it is canceled from this side too.
        watch(23, "a", "", 0),
        Step::Cancel(23),
        watch(23, "a", "", 0),
        // These wait for revisions that never come, so that the stream is never up to date.
        Step::Cancel(20),
        Step::Cancel(21),
    ];
    let filters = WatchCreateRequest { key: "a".into(), filters: vec![5, -1], ..WatchCreateRequest::default() };
    let long = WatchCreateRequest { key: Bytes::from(vec![b'x'; 100_000]), ..WatchCreateRequest::default() };
    let odd = [Step::Create(filters), Step::Create(long), Step::Put("a"), Step::Put("z")];
    [&ids[..], &cancels, &ranges, &revisions, &odd].concat()
}

/// Every answer to every request, in order and field by field, and the events that follow.
pub fn requests_agree() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let mut sides = Vec::new();
        for connection in &pair.connections {
            let _: PutResponse = connection.unary(PUT, &put("a")).await.unwrap();
            let mut watching = Watching::open(connection).await;
            for (number, step) in script().into_iter().enumerate() {
                carry_out(connection, &mut watching, step).await;
                fence(&mut watching, number).await;
            }
            watching.settle(connection).await;
            sides.push(watching.told);
        }
        agree(&sides[0], &sides[1]);
    });
}

fn agree(ringd: &BTreeMap<i64, Vec<Told>>, etcd: &BTreeMap<i64, Vec<Told>>) {
    assert_eq!(ringd.keys().collect::<Vec<_>>(), etcd.keys().collect::<Vec<_>>(), "ids: ringd, then etcd");
    for (id, told) in etcd {
        assert_eq!(&ringd[id], told, "watcher {id}: ringd, then etcd");
    }
}

async fn carry_out(connection: &Connection, watching: &mut Watching, step: Step) {
    match step {
        Step::Create(request) => watching.create(request),
        Step::Cancel(id) => watching.cancel(id),
        Step::Empty => watching.send(None),
        Step::Put(key) => drop(connection.unary::<_, PutResponse>(PUT, &put(key)).await.unwrap()),
        Step::Canceled(id) => watching.read_until(|watching| watching.canceled(id).is_some()).await,
        Step::Compact(revision) => {
            let request = CompactionRequest { revision, physical: true };
            connection.unary::<_, CompactionResponse>("/etcdserverpb.KV/Compact", &request).await.unwrap();
        }
    }
}

/// A request whose answer comes after those to all before it.
async fn fence(watching: &mut Watching, number: usize) {
    let watch_id = FENCES_FROM + i64::try_from(number).expect("few");
    watching.create(WatchCreateRequest { watch_id, key: "never".into(), ..WatchCreateRequest::default() });
    watching.all_created().await;
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() }
}

/// When a stream says that it is up to date: when all its watchers are, and none of them starts later.
pub fn progress_is_told_when_it_is_true() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let mut sides = Vec::new();
        for connection in &pair.connections {
            let mut watching = Watching::open(connection).await;
            let mut told = Vec::new();
            // Without a watcher there is no progress response. Then a watcher that waits for a future revision.
            watching.ask_progress();
            watching.create(WatchCreateRequest { start_revision: 4, ..everything_from(0) });
            watching.all_created().await;
            for _ in 0..4 {
                watching.ask_progress();
                let response: PutResponse = connection.unary(PUT, &put("a")).await.unwrap();
                told.push(response.header.expect("every response has a header").revision);
            }
            // The first progress response answers the request after the revision that the watcher waited for.
            let settled = watching.settle(connection).await;
            assert!(
                watching.progress.iter().all(|&revision| (4..=settled).contains(&revision)),
                "{:?}",
                watching.progress
            );
            sides.push((told, settled, watching.told));
        }
        assert_eq!(sides[0], sides[1], "ringd, then etcd");
    });
}

/// Notifications at intervals, for watchers that asked for them, once they are up to date.
pub fn notices() {
    harness::run(async {
        let pair = Pair::start(&["--watch-progress-notify-interval", "100ms"]).await;
        for connection in &pair.connections {
            for _ in 0..5 {
                let _: PutResponse = connection.unary(PUT, &put("a")).await.unwrap();
            }
            let mut watching = Watching::open(connection).await;
            let want = |start_revision, progress_notify| WatchCreateRequest {
                progress_notify,
                key: "a".into(),
                start_revision,
                ..WatchCreateRequest::default()
            };
            // From the past, from now, from a revision to come; and one that does not want any.
            [want(2, true), want(0, true), want(100, true), want(0, false)]
                .into_iter()
                .for_each(|request| watching.create(request));
            let noticed = |watching: &Watching, id: i64| watching.progress_of.get(&id).map_or(0, Vec::len);
            watching.read_until(|watching| [0, 1].iter().all(|&id| noticed(watching, id) >= NOTICES)).await;
            assert_eq!((noticed(&watching, 2), noticed(&watching, 3)), (0, 0), "notices nobody asked for");
            assert_eq!(watching.progress_of[&0], vec![6; watching.progress_of[&0].len()]);
            assert_eq!(watching.events(0).len(), 5);
            // The watcher's key is not written, and still the notice moves on.
            let _: PutResponse = connection.unary(PUT, &put("b")).await.unwrap();
            watching.read_until(|watching| watching.progress_of[&1].last() == Some(&7)).await;
            assert!(watching.progress.is_empty(), "progress of the whole stream, unasked");
        }
    });
}

/// A half-closed stream continues; a canceled stream, or one with an invalid message, affects no other.
pub fn streams_end_alone() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let mut ends = Vec::new();
        for connection in &pair.connections {
            let mut streams = Vec::new();
            for _ in 0..3 {
                let mut watching = Watching::open_with(connection, &[("hasleader", "true")]).await;
                watching.create(everything_from(0));
                watching.all_created().await;
                streams.push(watching);
            }
            streams[0].half_close();
            streams.remove(1).cancel_stream();
            let mut broken = connection.stream(WATCH, &[]).await;
            broken.send_bytes(Bytes::from_static(b"\xff\xff\xff\xff"));
            ends.push(match broken.end().await {
                // The text quotes Go's parser.
                End::Status { code, .. } => code,
                End::Broken(reason) => panic!("{reason}"),
            });
            let _: PutResponse = connection.unary(PUT, &put("a")).await.unwrap();
            for watching in &mut streams {
                watching.read_until(|watching| watching.events(0).len() == 1).await;
            }
        }
        assert_eq!(ends[0], ends[1], "status of a stream with a broken message: ringd, then etcd");
    });
}
