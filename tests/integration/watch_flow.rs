//! Size and speed of watch responses: fragments, and streams that are not read.

use ringd::proto::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, PutRequest, PutResponse, RequestOp, TxnRequest, TxnResponse,
        WatchCreateRequest, request_op::Request,
    },
    mvccpb::Event,
};

use crate::{
    harness::{
        self,
        grpc::Connection,
        pair::{NAMES, Pair},
        watching::{Watching, modified},
    },
    watch::everything_from,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
/// `--max-request-bytes` and 512 KiB: what a fragment stays below.
const FRAGMENT_BYTES_MAX: usize = 1_572_864 + 524_288;
/// One transaction below the size of a request; with previous values beyond that of a fragment.
const LARGE_KEYS: usize = 8;
const LARGE_BYTES: usize = 150_000;
const SMALLEST_WINDOW_BYTES: u32 = 65_535;
const STALLED_WRITES: usize = 400;
const STALLED_BYTES: usize = 8192;

/// Large revisions, live and from the past: cut where the watcher permits it and nowhere else, into pieces that are not too
/// large.
pub fn fragments_agree() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let mut sides = Vec::new();
        for (name, connection) in NAMES.iter().zip(&pair.connections) {
            let mut told = Vec::new();
            write_large(connection, 1).await;
            let variants = [(true, true), (true, false), (false, true), (false, false)];
            let watchers = |start_revision| {
                variants.map(|(fragment, prev_kv)| WatchCreateRequest {
                    fragment,
                    prev_kv,
                    ..everything_from(start_revision)
                })
            };
            let mut live = Watching::open(connection).await;
            watchers(0).into_iter().for_each(|request| live.create(request));
            live.all_created().await;
            for round in 2..5 {
                write_large(connection, round).await;
                live.settle(connection).await;
            }
            let mut late = Watching::open(connection).await;
            watchers(1).into_iter().for_each(|request| late.create(request));
            late.settle(connection).await;
            for watching in [&live, &late] {
                for (id, &(fragment, prev_kv)) in (0..).zip(&variants) {
                    let largest = watching.largest[&id];
                    assert!(!fragment || largest < FRAGMENT_BYTES_MAX, "{name}: watcher {id} got {largest} bytes");
                    let asked =
                        |event: &Event| Event { prev_kv: event.prev_kv.clone().filter(|_| prev_kv), ..event.clone() };
                    told.push(watching.events(id).iter().map(asked).collect::<Vec<_>>());
                }
            }
            // A live revision is cut at the same places.
            sides.push((live.fragments, told));
        }
        assert_eq!(sides[0].0, sides[1].0, "pieces of live revisions: ringd, then etcd");
        assert!(sides[0].0 > 0, "nothing was large enough to be cut");
        assert!(sides[0].1 == sides[1].1, "the events differ");
    });
}

async fn write_large(connection: &Connection, round: u8) {
    let put = |number| {
        let value = vec![round; LARGE_BYTES].into();
        let request = PutRequest { key: format!("large/{number}").into(), value, ..PutRequest::default() };
        RequestOp { request: Some(Request::RequestPut(request)) }
    };
    let request = TxnRequest { success: (0..LARGE_KEYS).map(put).collect(), ..TxnRequest::default() };
    let _: TxnResponse = connection.unary(TXN, &request).await.unwrap();
}

/// A client that does not read delays neither writers nor other watchers, and gets every event when it reads.
pub fn stalled_stream_misses_nothing() {
    on_both(async |pair, side| {
        let connection = &pair.connections[side];
        let slow = Connection::open_with_window(pair.servers()[side].port, SMALLEST_WINDOW_BYTES).await.unwrap();
        let mut stalled = Watching::open(&slow).await;
        let mut healthy = Watching::open(connection).await;
        for watching in [&mut stalled, &mut healthy] {
            watching.create(everything_from(0));
            watching.all_created().await;
        }
        write_many(connection).await;
        healthy.settle(connection).await;
        stalled.settle(connection).await;
        healthy.settle(connection).await;
        assert!(stalled.events(0)[..STALLED_WRITES] == healthy.events(0)[..STALLED_WRITES], "{}", NAMES[side]);
        assert_eq!(healthy.events(0).len(), STALLED_WRITES + 3, "{}", NAMES[side]);
    });
}

/// The same, and meanwhile the history that it has not read yet is compacted: it gets events without a gap up to the compacted part,
/// and then its cancellation, with the revision to start again from.
pub fn stalled_stream_is_compacted_away() {
    on_both(async |pair, side| {
        let connection = &pair.connections[side];
        let slow = Connection::open_with_window(pair.servers()[side].port, SMALLEST_WINDOW_BYTES).await.unwrap();
        let mut stalled = Watching::open(&slow).await;
        stalled.create(everything_from(0));
        stalled.all_created().await;
        let revision = write_many(connection).await;
        let request = CompactionRequest { revision, physical: true };
        let _: CompactionResponse = connection.unary("/etcdserverpb.KV/Compact", &request).await.unwrap();
        stalled.read_until(|watching| watching.canceled(0).is_some()).await;
        let canceled = stalled.canceled(0).expect("just seen");
        assert_eq!((canceled.compact_revision, &canceled.cancel_reason[..]), (revision, ""), "{}", NAMES[side]);
        let revisions: Vec<i64> = stalled.events(0).iter().map(modified).collect();
        let first = revision + 1 - i64::try_from(STALLED_WRITES).expect("few");
        assert!(revisions.iter().copied().eq((first..).take(revisions.len())), "{}: {revisions:?}", NAMES[side]);
        assert!(revisions.last().is_none_or(|&last| last + 1 < revision), "{}: canceled without need", NAMES[side]);
        // The stream still accepts another watcher.
        stalled.create(everything_from(revision));
        stalled.read_until(|watching| !watching.events(1).is_empty()).await;
    });
}

fn on_both(test: impl AsyncFn(&Pair, usize)) {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        for side in 0..2 {
            test(&pair, side).await;
        }
    });
}

/// More than a stream that is not read takes. The revision after it.
async fn write_many(connection: &Connection) -> i64 {
    let mut revision = 0;
    for number in 0..STALLED_WRITES {
        let value = vec![u8::try_from(number % 251).unwrap(); STALLED_BYTES].into();
        let request = PutRequest { key: format!("k{}", number % 3).into(), value, ..PutRequest::default() };
        let response: PutResponse = connection.unary(PUT, &request).await.unwrap();
        revision = response.header.expect("every response has a header").revision;
    }
    revision
}
