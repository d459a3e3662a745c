//! The hub against a model that keeps every event: random watchers, changes, lags, losses, slow clients and compactions.
//!
//! The test takes the place of the shell: it publishes views, delivers batches later or never, takes responses at random moments,
//! and gives readers their turns. A client of the model checks every response.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{Batch, Hub, NO_WATCHER, Response, ResponseKind, StreamKey};
use crate::{
    base::limits,
    mvcc::{Change, Store, View, test_disk::Disk},
    proto::{
        etcdserverpb::{WatchCreateRequest, WatchResponse},
        mvccpb::{Event, KeyValue, event::EventType},
    },
};

const SEEDS: u64 = 24;
const STEPS: usize = 1500;

struct World {
    random: SmallRng,
    store: Store,
    disk: Disk,
    view: View,
    hub: Hub,
    /// Every event ever, with the version before it.
    history: Vec<Event>,
    /// Changes that no view has yet.
    unpublished: Vec<Change>,
    /// Batches on their way to the hub; `None` for one that was lost.
    on_the_way: VecDeque<Option<Batch>>,
    clients: BTreeMap<usize, Client>,
    largest_value: usize,
    /// Counts of events, so that a test without effect is noticed.
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    events: usize,
    progress: usize,
    compacted: usize,
    behind: usize,
    gaps: usize,
}

#[derive(Default)]
struct Client {
    watchers: BTreeMap<i64, Watched>,
    /// Ended by compactions, and not canceled since.
    ended: BTreeSet<i64>,
    /// Responses were taken, and `taken` was not called yet.
    is_sending: bool,
    /// Requests whose answer has not come yet.
    asked: VecDeque<WatchCreateRequest>,
}

struct Watched {
    request: WatchCreateRequest,
    /// The first revision it gets events of.
    from: i64,
    /// Every event up to this revision was received.
    reached: i64,
}

fn key(random: &mut SmallRng) -> Vec<u8> {
    let len = random.random_range(1..3);
    (0..len).map(|_| random.random_range(b'a'..b'd')).collect()
}

impl Watched {
    fn wants(&self, event: &Event) -> bool {
        let key = &event.kv.as_ref().expect("an event has a key").key;
        let (start, end) = (&self.request.key, &self.request.range_end);
        let start = if start.is_empty() { &[0][..] } else { &start[..] };
        let is_inside = match &end[..] {
            [] => key == start,
            [0] => &key[..] >= start,
            end => &key[..] >= start && &key[..] < end,
        };
        is_inside && !self.request.filters.contains(&event.r#type)
    }
}

fn modified(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl World {
    fn new(seed: u64) -> Self {
        let (store, disk) = (Store::default(), Disk::default());
        let view = store.view(&disk.backend);
        Self {
            random: SmallRng::seed_from_u64(seed),
            store,
            disk,
            view,
            hub: Hub::default(),
            history: Vec::new(),
            unpublished: Vec::new(),
            on_the_way: VecDeque::new(),
            clients: BTreeMap::new(),
            largest_value: if seed.is_multiple_of(3) { 12_000 } else { 40 },
            tally: Tally::default(),
        }
    }

    fn write(&mut self) {
        let random = &mut self.random;
        let mut txn = self.store.write(&mut self.disk.backend);
        let mut written = Vec::new();
        let count = if random.random_bool(0.02) { 400 } else { random.random_range(1..4) };
        for _ in 0..count {
            let mut key = key(random);
            if count > 10 {
                key = [b"c/", &random.random::<u32>().to_be_bytes()[..]].concat();
            }
            if written.contains(&key) {
                continue;
            }
            written.push(key.clone());
            let previous = txn.get(&key).expect("a sound store");
            let (kv, kind) = if random.random_bool(0.8) {
                let value = vec![7; random.random_range(0..self.largest_value) / count];
                txn.put(&key, &value, 0, false).expect("a sound store");
                (txn.get(&key).expect("a sound store").expect("just written"), EventType::Put)
            } else if previous.is_some() {
                let range = crate::mvcc::KeyRange::new(&key, b"");
                txn.delete_range(range, false).expect("a sound store");
                (KeyValue { key: key.into(), ..KeyValue::default() }, EventType::Delete)
            } else {
                continue;
            };
            self.history.push(Event { r#type: kind.into(), kv: Some(kv), prev_kv: previous });
        }
        let committed = txn.end();
        let changes = committed.changes.len();
        let first = self.history.len() - changes;
        for event in &mut self.history[first..] {
            event.kv.as_mut().expect("an event has a key").mod_revision = committed.revision;
        }
        self.unpublished.extend(committed.changes);
    }

    fn publish(&mut self) {
        self.view = self.store.view(&self.disk.backend);
        let Some(batch) = Batch::new(std::mem::take(&mut self.unpublished)) else { return };
        let is_lost = self.random.random_bool(0.03);
        self.tally.gaps += usize::from(is_lost);
        self.on_the_way.push_back((!is_lost).then_some(batch));
    }

    fn deliver(&mut self) {
        match self.on_the_way.pop_front() {
            Some(Some(batch)) => self.hub.on_batch(&batch, &self.view).expect("a sound store"),
            Some(None) => self.hub.on_lost(),
            None => {}
        }
    }

    fn compact(&mut self) {
        let at = self.random.random_range(1..=self.store.revision());
        // Refused if the revision is compacted already.
        let _ = self.store.compact_begin(&mut self.disk.backend, at);
    }

    fn store_on(&mut self) {
        match self.random.random_range(0..3) {
            0 => self.disk.advance(50),
            1 => self.disk.commit(),
            _ => drop(self.store.compact_step(&mut self.disk.backend, 20).expect("a sound store")),
        }
    }

    fn create(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        let random = &mut self.random;
        let now = self.view.revision();
        let range_end = match random.random_range(0..4) {
            0 => vec![],
            1 => vec![0],
            _ => key(random),
        };
        let request = WatchCreateRequest {
            key: if random.random_bool(0.1) { Bytes::new() } else { key(random).into() },
            range_end: range_end.into(),
            start_revision: match random.random_range(0..4) {
                0 => 0,
                1 => random.random_range(1..=now + 5),
                2 => now.max(3) - 2,
                _ => 1,
            },
            progress_notify: random.random(),
            filters: (0..2).filter(|_| random.random_bool(0.1)).collect(),
            prev_kv: random.random(),
            watch_id: if random.random_bool(0.2) { random.random_range(1..6) } else { 0 },
            fragment: random.random(),
        };
        self.hub.create(stream, &request, &self.view);
        self.clients.get_mut(&stream.0).expect("it is open").asked.push_back(request);
    }

    fn some_stream(&mut self) -> Option<StreamKey> {
        let open = self.clients.len();
        if open == 0 {
            return None;
        }
        self.clients.keys().nth(self.random.random_range(0..open)).map(|key| StreamKey(*key))
    }

    fn open_or_close(&mut self) {
        if self.clients.len() < 4 {
            let key = self.hub.open();
            self.clients.insert(key.0, Client::default());
        } else if self.random.random_bool(0.1)
            && let Some(stream) = self.some_stream()
        {
            self.clients.remove(&stream.0);
            self.hub.close(stream);
        }
    }

    fn ask(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        match self.random.random_range(0..10) {
            0 => {
                let id = self.random.random_range(0..8);
                self.hub.cancel(stream, id, self.view.revision());
            }
            1..=5 => self.hub.request_progress(stream, self.view.revision()),
            _ => self.hub.tick(stream, self.view.revision()),
        }
    }

    /// The client of a stream takes responses, or reports that they were sent.
    fn take(&mut self) {
        let Some(stream) = self.some_stream() else { return };
        let client = self.clients.get_mut(&stream.0).expect("it is open");
        if std::mem::take(&mut client.is_sending) {
            self.hub.taken(stream);
            return;
        }
        let responses = self.hub.take(stream);
        let bytes: usize = responses.iter().map(bytes_of).sum();
        let one_more = limits::WATCH_CHUNK_BYTES + self.largest_value * 4;
        assert!(bytes <= limits::WATCH_QUEUE_BYTES_MAX + one_more, "{bytes}");
        client.is_sending = !responses.is_empty();
        for response in responses {
            self.receive(stream, response);
        }
    }

    fn receive(&mut self, stream: StreamKey, response: Response) {
        let client = self.clients.get_mut(&stream.0).expect("it is open");
        let Response { watch_id, revision, kind } = response;
        match kind {
            ResponseKind::Created => {
                let request = client.asked.pop_front().expect("somebody asked");
                let from = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
                assert!(request.watch_id == 0 || request.watch_id == watch_id);
                let known = client.watchers.insert(watch_id, Watched { request, from, reached: from - 1 });
                assert!(known.is_none() && !client.ended.contains(&watch_id), "ids are unique");
            }
            ResponseKind::Refused(reason) => {
                let request = client.asked.pop_front().expect("somebody asked");
                assert_eq!(watch_id, NO_WATCHER);
                match &reason[..] {
                    "mvcc: watcher range is empty" => assert!(request.key >= request.range_end),
                    reason => assert_eq!(reason, "mvcc: duplicate watch ID provided on the WatchStream"),
                }
            }
            ResponseKind::Events { body, count, .. } => {
                let message = WatchResponse::decode(body).expect("a response");
                assert_eq!(message.events.len(), count);
                self.tally.events += count;
                self.receive_events(stream, watch_id, revision, &message.events);
            }
            ResponseKind::Progress => {
                self.tally.progress += 1;
                let told = client.watchers.iter_mut().filter(|(id, _)| watch_id == NO_WATCHER || **id == watch_id);
                for (id, watched) in told {
                    assert!(watched.from <= revision + 1, "a watcher of the future is told nothing");
                    let missing = missing(&self.history, watched, revision);
                    assert_eq!(missing, 0, "watcher {id} was told of progress to {revision}");
                    watched.reached = watched.reached.max(revision);
                }
            }
            ResponseKind::Revoked(_) => unreachable!("nobody revokes here"),
            ResponseKind::Canceled => {
                let known = client.watchers.remove(&watch_id).is_some() || client.ended.remove(&watch_id);
                assert!(known, "it was there");
            }
            ResponseKind::Compacted { compact_revision } => {
                self.tally.compacted += 1;
                let watched = client.watchers.remove(&watch_id).expect("it was there");
                client.ended.insert(watch_id);
                assert_eq!(revision, 0);
                assert!(watched.reached + 1 < compact_revision && compact_revision <= self.store.compact_revision());
            }
        }
    }

    fn receive_events(&mut self, stream: StreamKey, watch_id: i64, revision: i64, events: &[Event]) {
        let client = self.clients.get_mut(&stream.0).expect("it is open");
        let watched = client.watchers.get_mut(&watch_id).expect("created before its events");
        let compacted = self.store.compact_revision();
        let last = events.last().map(modified).expect("it has events");
        assert!((last..=self.view.revision()).contains(&revision), "{revision} heads events up to {last}");
        let mut expected = wanted(&self.history, watched, last);
        for event in events {
            let wanted = expected.next().expect("no more than there are");
            assert_eq!((event.r#type, &event.kv), (wanted.r#type, &wanted.kv));
            let is_create = event.kv.as_ref().is_some_and(|kv| kv.create_revision == kv.mod_revision);
            let may_lack = !watched.request.prev_kv || is_create || modified(event) - 1 < compacted;
            if event.prev_kv.is_some() || !may_lack {
                assert!(watched.request.prev_kv);
                assert_eq!(event.prev_kv, wanted.prev_kv);
            }
        }
        assert!(expected.next().is_none(), "a response has everything up to its last event");
        drop(expected);
        assert!(last > watched.reached, "no revision is split or told twice");
        watched.reached = last;
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..20 => self.write(),
            20..35 => self.publish(),
            35..50 => self.deliver(),
            50..55 => self.store_on(),
            55 if self.random.random_bool(0.3) => self.compact(),
            55..62 => self.create(),
            62..64 => self.open_or_close(),
            64..68 => self.ask(),
            68..84 => self.take(),
            _ => self.read(),
        }
        self.tally.behind += self.hub.counts().behind;
    }

    fn read(&mut self) {
        if self.hub.has_gap() {
            self.hub.read_gap(&self.view).expect("a sound store");
        }
        if let Some(stream) = self.hub.next_reader() {
            self.hub.read(stream, &self.view).expect("a sound store");
        }
    }

    /// Delivers everything, after which every watcher has every event.
    fn settle(&mut self) {
        self.publish();
        while !self.on_the_way.is_empty() {
            self.deliver();
        }
        for _ in 0..200_000 {
            self.read();
            self.take();
            let counts = self.hub.counts();
            if counts.behind == 0 && counts.events == 0 && !self.hub.has_work() && self.hub.take_ready().is_empty() {
                break;
            }
        }
        for stream in self.clients.keys().copied().collect::<Vec<_>>() {
            for _ in 0..2 {
                self.hub.request_progress(StreamKey(stream), self.view.revision());
                let responses = self.hub.take(StreamKey(stream));
                responses.into_iter().for_each(|response| self.receive(StreamKey(stream), response));
                self.hub.taken(StreamKey(stream));
            }
            let client = &self.clients[&stream];
            for (id, watched) in &client.watchers {
                assert_eq!(missing(&self.history, watched, self.view.revision()), 0, "watcher {id}");
            }
        }
    }
}

fn bytes_of(response: &Response) -> usize {
    match &response.kind {
        ResponseKind::Events { body, .. } => body.len(),
        _ => 0,
    }
}

/// The events up to `revision` that a watcher misses.
fn wanted<'h>(history: &'h [Event], watched: &'h Watched, revision: i64) -> impl Iterator<Item = &'h Event> {
    let first = history.partition_point(|event| modified(event) <= watched.reached);
    let last = history.partition_point(|event| modified(event) <= revision);
    history[first..last.max(first)].iter().filter(|event| watched.wants(event))
}

fn missing(history: &[Event], watched: &Watched, revision: i64) -> usize {
    wanted(history, watched, revision).count()
}

#[test]
fn every_watcher_sees_what_the_model_has() {
    let mut total = Tally::default();
    for seed in 0..SEEDS {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.step();
            if step % 500 == 499 {
                world.settle();
            }
        }
        world.settle();
        let Tally { events, progress, compacted, behind, gaps } = world.tally;
        total.events += events;
        total.progress += progress;
        total.compacted += compacted;
        total.behind += behind;
        total.gaps += gaps;
    }
    println!("{total:?}");
    assert!(total.events > 10_000 && total.progress > 100 && total.compacted > 20 && total.gaps > 20, "{total:?}");
}

/// A stream that is not read holds a bounded queue, and gets every event when it is read.
#[test]
fn a_client_that_does_not_read_costs_little() {
    let mut world = World::new(0);
    world.open_or_close();
    let stream = StreamKey(0);
    let request =
        WatchCreateRequest { range_end: Bytes::from_static(b"\0"), prev_kv: true, ..WatchCreateRequest::default() };
    for _ in 0..20 {
        world.hub.create(stream, &request, &world.view);
        world.clients.get_mut(&0).expect("open").asked.push_back(request.clone());
    }
    for _ in 0..600 {
        world.write();
        world.publish();
        while !world.on_the_way.is_empty() {
            world.deliver();
        }
        world.read();
    }
    assert_eq!(world.hub.counts().behind, 20);
    assert!(world.hub.next_reader().is_none(), "nothing is read for it");
    world.settle();
    assert_eq!(world.hub.counts().behind, 0);
}

/// As in etcd, every piece of history carries the store's revision, though more events follow.
#[test]
fn history_is_headed_by_the_stores_revision() {
    let mut world = World::new(2);
    world.open_or_close();
    for _ in 0..300 {
        world.write();
    }
    world.publish();
    world.on_the_way.clear();
    let stream = StreamKey(0);
    let request =
        WatchCreateRequest { range_end: Bytes::from_static(b"\0"), start_revision: 1, ..WatchCreateRequest::default() };
    world.hub.create(stream, &request, &world.view);
    world.clients.get_mut(&0).expect("open").asked.push_back(request);
    let mut pieces = 0;
    while world.hub.counts().behind + world.hub.counts().events > 0 {
        world.read();
        for response in world.hub.take(stream) {
            if matches!(response.kind, ResponseKind::Events { .. }) {
                assert_eq!(response.revision, world.view.revision());
                pieces += 1;
            }
            world.receive(stream, response);
        }
        world.hub.taken(stream);
    }
    assert!(pieces > 1, "{pieces}");
}

/// A transaction with more events than one live delivery and one slice of history may have.
#[test]
fn a_large_revision_comes_whole() {
    let mut world = World::new(1);
    world.open_or_close();
    let request = WatchCreateRequest { range_end: Bytes::from_static(b"\0"), ..WatchCreateRequest::default() };
    world.hub.create(StreamKey(0), &request, &world.view);
    world.clients.get_mut(&0).expect("open").asked.push_back(request);
    for round in 0..3 {
        world.write();
        let mut txn = world.store.write(&mut world.disk.backend);
        for number in 0..limits::WATCH_LIVE_REVISION_EVENTS_MAX as u32 + 10 {
            let key = [b"n", &number.to_be_bytes()[..]].concat();
            let prev_kv = txn.get(&key).expect("a sound store");
            txn.put(&key, b"", 0, false).expect("a sound store");
            let kv = txn.get(&key).expect("a sound store");
            world.history.push(Event { r#type: 0, kv, prev_kv });
        }
        world.unpublished.extend(txn.end().changes);
        if round == 1 {
            world.disk.commit();
        }
        world.write();
        world.publish();
        world.deliver();
    }
    assert_eq!(world.hub.counts().behind, 1);
    world.settle();
    assert!(world.tally.events > 3 * limits::WATCH_LIVE_REVISION_EVENTS_MAX);
}
