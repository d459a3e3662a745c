//! The same watches on ringd and etcd: the events of every watcher, from every revision, during writes, compactions and restarts.
//!
//! ```text
//!   Traffic(seed) ── writes ──┬── ringd ── watchers ──┐
//!                             └── etcd ─── watchers ──┴── the same answers, and the same events in the same order
//! ```
//!
//! Not compared, beside what [`watching`](crate::harness::watching) puts together: `prev_kv` of watchers that did not ask for it. etcd fills it in for one
//! watcher in an event that it shares with others, so they may see it as well; ours must not.

use std::fmt::Write;

use ringd::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, PutRequest, TxnRequest, WatchCreateRequest, request_op::Request,
    watch_create_request::FilterType,
};

use crate::{
    differential::header_revision,
    harness::{
        self,
        pair::{NAMES, Pair},
        server::{self, Server},
        watching::{Told, Watching, fence, modified},
    },
    traffic::{Operation, Traffic},
};

const COMPACT: &str = "/etcdserverpb.KV/Compact";
/// Writes before the first look at the history; each look creates a watcher per revision and range.
const WRITES: usize = 80;
const VALUE_BYTES_MAX: usize = 200;

/// Ranges: one key, a prefix, an interval, from a key on, all keys, a key that is never written.
const RANGES: [(&[u8], &[u8]); 9] = [
    (b"k/05", b""),
    (b"a", b""),
    (b"k/", b"k0"),
    (b"b", b"e"),
    (b"k/1", b"\0"),
    (b"\0", b"\0"),
    // An empty key stands for the smallest one.
    (b"", b""),
    (b"", b"\0"),
    (b"never", b""),
];

/// A watcher's range and options.
fn variants() -> Vec<WatchCreateRequest> {
    let (no_put, no_delete) = (FilterType::Noput.into(), FilterType::Nodelete.into());
    let plain = WatchCreateRequest::default();
    let options = [
        plain.clone(),
        WatchCreateRequest { prev_kv: true, ..plain.clone() },
        WatchCreateRequest { filters: vec![no_put], ..plain.clone() },
        WatchCreateRequest { filters: vec![no_delete], prev_kv: true, ..plain.clone() },
        WatchCreateRequest { filters: vec![no_put, no_delete], ..plain.clone() },
        WatchCreateRequest { filters: vec![no_delete, no_delete, 7], fragment: true, ..plain.clone() },
        WatchCreateRequest { progress_notify: true, fragment: true, prev_kv: true, ..plain.clone() },
    ];
    let of_range = |&(key, range_end): &(&'static [u8], &'static [u8]), options: &WatchCreateRequest| {
        WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..options.clone() }
    };
    // Every range in two ways, and everything in every way.
    let some = RANGES.iter().enumerate().flat_map(|(number, range)| {
        [number, number + 3].map(|option| of_range(range, &options[option % options.len()]))
    });
    let whole: (&[u8], &[u8]) = (b"\0", b"\0");
    some.chain(options.iter().map(|option| of_range(&whole, option))).collect()
}

/// A watcher from every start revision on every range, after the history was written; also after a restart, and after
/// compactions, which cancel those that start too early.
pub fn history_from_every_revision() {
    let seed = harness::seed("watch::history_from_every_revision", 3);
    harness::run(async {
        let mut pair = Pair::start(&[]).await;
        let mut traffic = Traffic::new(seed);
        let first = write(&pair, &mut traffic, WRITES).await;
        look_back(&pair, 0, first).await;
        compact(&pair, &mut traffic, first / 2).await;
        look_back(&pair, first / 2, first).await;
        let second = write(&pair, &mut traffic, WRITES / 2).await;
        compact(&pair, &mut traffic, second - 20).await;
        pair.restart(Server::crash).await;
        look_back(&pair, second - 20, second).await;
        let third = write(&pair, &mut traffic, 5).await;
        compact(&pair, &mut traffic, third).await;
        pair.restart(Server::restart).await;
        look_back(&pair, third, third).await;
    });
}

/// One watcher from each revision up to the next one, in each variant; a stream for each variant.
async fn look_back(pair: &Pair, compacted: i64, revision: i64) {
    let requests = variants().into_iter().map(|variant| {
        let from = |start_revision| WatchCreateRequest { start_revision, ..variant.clone() };
        (compacted.max(1)..=revision + 1).map(from).collect::<Vec<_>>()
    });
    let mut streams = open_each(pair, requests).await;
    for (side, connection) in pair.connections.iter().enumerate() {
        let revision = fence(connection).await;
        for (sides, _) in &mut streams {
            sides[side].told_up_to(revision).await;
        }
    }
    let events: usize = streams.iter().map(|(sides, requests)| compare(sides, requests)).sum();
    eprintln!("  compacted at {compacted}, up to {revision}: {events} equal events");
    look_too_far_back(pair, compacted).await;
}

/// The same before what is left of the history. On a stream of their own: a watcher that a compaction has canceled keeps
/// etcd from answering progress requests.
async fn look_too_far_back(pair: &Pair, compacted: i64) {
    let requests = variants().into_iter().map(|variant| {
        let from = |start_revision| WatchCreateRequest { start_revision, ..variant.clone() };
        (1..compacted).map(from).collect::<Vec<_>>()
    });
    for (mut sides, requests) in open_each(pair, requests).await {
        let all = 0..i64::try_from(requests.len()).expect("few");
        for side in &mut sides {
            side.read_until(|side| all.clone().all(|id| side.canceled(id).is_some())).await;
        }
        compare(&sides, &requests);
    }
}

/// A stream to each server for each group of watchers, which are there when it returns.
async fn open_each(
    pair: &Pair,
    groups: impl Iterator<Item = Vec<WatchCreateRequest>>,
) -> Vec<([Watching; 2], Vec<WatchCreateRequest>)> {
    let mut streams = Vec::new();
    for requests in groups {
        let [ringd, etcd] = &pair.connections;
        let mut sides = [Watching::open(ringd).await, Watching::open(etcd).await];
        for side in &mut sides {
            requests.iter().for_each(|request| side.create(request.clone()));
            side.all_created().await;
        }
        streams.push((sides, requests));
    }
    streams
}

/// Watchers during writes: from now on, from the past, from a future revision; created before, between and while catching up, and
/// canceled meanwhile. A watcher's id may be used again.
pub fn live() {
    let seed = harness::seed("watch::live", 5);
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let mut traffic = Traffic::new(seed);
        let past = write(&pair, &mut traffic, WRITES / 4).await;
        let starts = [0, 1, past, past + 1, past + 2, past + 10].into_iter();
        let from = |start_revision| {
            variants().into_iter().map(|variant| WatchCreateRequest { start_revision, ..variant }).collect()
        };
        let mut streams = open_each(&pair, starts.map(from)).await;
        for part in 0..4 {
            let revision = write(&pair, &mut traffic, WRITES / 2).await;
            for (sides, requests) in &mut streams {
                change_watchers(&pair, sides, requests, part).await;
            }
            if part == 2 {
                compact(&pair, &mut traffic, revision).await;
            }
        }
        let mut events = 0;
        for (sides, requests) in &mut streams {
            for (side, connection) in sides.iter_mut().zip(&pair.connections) {
                side.settle(connection).await;
            }
            events += compare(sides, requests);
        }
        eprintln!("watch::live: {} streams, {events} equal events", streams.len());
    });
}

/// Cancels one watcher and creates it again by its id, cancels another for good, and adds one that starts a little back.
async fn change_watchers(pair: &Pair, sides: &mut [Watching; 2], requests: &mut Vec<WatchCreateRequest>, part: usize) {
    let (again, gone) = (1 + part, requests.len() / 2 + part);
    let again_id = i64::try_from(again).expect("few");
    let mut late = requests[again].clone();
    for (side, connection) in sides.iter_mut().zip(&pair.connections) {
        // First, because an event on its way to a watcher that is canceled may come or not.
        let revision = side.settle(connection).await;
        side.cancel(i64::try_from(gone).expect("few"));
        side.cancel(again_id);
        side.create(WatchCreateRequest { watch_id: again_id, start_revision: 0, ..requests[again].clone() });
        late.start_revision = revision - 3;
        side.create(late.clone());
        side.settle(connection).await;
    }
    requests.push(late);
}

/// A watcher of every key that asks for previous values.
pub fn everything_from(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

/// Compares the responses to the watchers of both servers; the id of each is its position in the requests. Returns the number of
/// events.
pub fn compare(sides: &[Watching; 2], requests: &[WatchCreateRequest]) -> usize {
    let mut differences = String::new();
    let ids: Vec<i64> = sides.iter().flat_map(|side| side.told.keys().copied()).collect();
    for id in ids {
        let request = usize::try_from(id).ok().and_then(|position| requests.get(position));
        let asked = request.is_some_and(|request| request.prev_kv);
        let uncalled = sides[0].events(id).iter().any(|event| event.prev_kv.is_some()) && !asked;
        if uncalled && server::subject_is_ringd() {
            let _ = writeln!(differences, "watcher {id} {request:?} was sent prev_kv");
        }
        let [ringd, etcd] = sides.each_ref().map(|side| leveled(side, id, asked));
        if ringd == etcd {
            continue;
        }
        let _ = writeln!(differences, "watcher {id} {request:?}");
        for (name, told) in NAMES.iter().zip([&ringd, &etcd]) {
            let lines: Vec<String> = told.iter().flat_map(lines).collect();
            let _ = writeln!(differences, "  {name}: {} events\n    {}", lines.len(), lines.join("\n    "));
        }
    }
    assert!(differences.is_empty(), "\n{differences:.8000}");
    sides[1].told.keys().map(|&id| sides[1].events(id).len()).sum()
}

/// The responses to a watcher, without previous values that it did not ask for.
fn leveled(side: &Watching, id: i64, prev_kv: bool) -> Vec<Told> {
    let mut told = side.told.get(&id).cloned().unwrap_or_default();
    for told in &mut told {
        if let Told::Events(events) = told
            && !prev_kv
        {
            events.iter_mut().for_each(|event| event.prev_kv = None);
        }
    }
    told
}

fn lines(told: &Told) -> Vec<String> {
    match told {
        Told::Created(response) | Told::Canceled(response) => vec![format!("{response:?}")],
        Told::Events(events) => events.iter().map(|event| format!("{} {event:?}", modified(event))).collect(),
    }
}

/// So many writes to both, of any kind. The revision after them.
pub async fn write(pair: &Pair, traffic: &mut Traffic, writes: usize) -> i64 {
    let mut revision = 0;
    for _ in 0..writes {
        let operation = write_operation(traffic);
        let [ringd, etcd] = pair.both_encoded(operation.path(), operation.encoded()).await;
        assert_eq!((ringd.code, &ringd.message), (etcd.code, &etcd.message), "{operation}");
        if etcd.code == Some(0) {
            let revisions = [&ringd, &etcd].map(|reply| header_revision(&operation, &reply.messages[0]));
            assert_eq!(revisions[0], revisions[1], "{operation}: ringd, then etcd");
            traffic.observe(&operation, revisions[1]);
            revision = revisions[1];
        }
    }
    revision
}

fn write_operation(traffic: &mut Traffic) -> Operation {
    loop {
        match traffic.next() {
            Operation::Put(mut request) => {
                shorten(&mut request);
                return Operation::Put(request);
            }
            Operation::Txn(mut request) => {
                shorten_txn(&mut request);
                return Operation::Txn(request);
            }
            operation @ Operation::DeleteRange(_) => return operation,
            Operation::Range(_) | Operation::RangeStream(_) | Operation::Compact(_) => (),
        }
    }
}

/// Each value is sent to each of some hundred watchers.
fn shorten(request: &mut PutRequest) {
    request.value.truncate(VALUE_BYTES_MAX);
}

fn shorten_txn(request: &mut TxnRequest) {
    for operation in request.success.iter_mut().chain(&mut request.failure) {
        match &mut operation.request {
            Some(Request::RequestPut(request)) => shorten(request),
            // Traffic nests them three deep at most.
            Some(Request::RequestTxn(request)) => shorten_txn(request),
            _ => (),
        }
    }
}

/// Compacts both.
pub async fn compact(pair: &Pair, traffic: &mut Traffic, revision: i64) {
    let request = CompactionRequest { revision, physical: true };
    let response: CompactionResponse = pair.done(COMPACT, &request).await;
    traffic.observe(&Operation::Compact(request), response.header.expect("every response has a header").revision);
}
