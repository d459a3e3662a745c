//! kube-apiserver's requests, in the shapes that its etcd3 store sends them, to ringd and etcd.
//!
//! ```text
//!   create            txn  mod_revision(key) = 0    then put              else get
//!   guaranteed update txn  mod_revision(key) = seen then put              else get, and again with what it got
//!   delete            txn  mod_revision(key) = seen then delete           else get
//!   list              range [prefix, end) limit n, then [last key + \0, end) at the revision of the first page
//!   watch             [prefix, end) from the list's revision + 1, prev_kv, progress_notify, leader required
//!   consistent read   progress request until the watch has come to the revision of a read
//!   compactor         txn  version(compact_rev_key) = seen then put revision else get; the winner compacts
//!   events            put with a lease that many objects share
//! ```
//!
//! Answers must be equal, and on each server the watch cache, which is built from a list and the events after it, must
//! equal a list at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use ringd::proto::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseGrantResponse,
        PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp, StatusRequest, StatusResponse, TxnRequest,
        TxnResponse, WatchCreateRequest, compare::TargetUnion, request_op::Request, response_op::Response,
    },
    mvccpb::{Event, KeyValue},
};

use crate::{
    harness::{
        self,
        grpc::Refusal,
        masked::decoded,
        pair::{NAMES, Pair},
        watching::{Watching, fence},
    },
    lease::GRANT,
    traffic::prefix_end,
    watch,
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const COMPACT_REV_KEY: &str = "compact_rev_key";
const REGISTRY: &str = "/registry/";
const RESOURCES: [&str; 4] = ["pods/default/", "pods/kube-system/", "events/default/", "leases/kube-node-lease/"];
/// Per resource, so that requests meet.
const OBJECTS: usize = 25;
const STEPS: usize = 900;
/// Lists in a row, by which compaction and continuation meet.
const COMPACT_EVERY: usize = 150;
/// kube-apiserver asks every 100 ms; here every so many requests.
const ASK_PROGRESS_EVERY: usize = 7;
const EVENTS_TTL: i64 = 3660;
/// Objects before the next lease (kube-apiserver: 1000).
const OBJECTS_PER_LEASE: usize = 20;

/// One control plane's traffic, with its state between requests.
pub fn requests_agree() {
    let seed = harness::seed("kubernetes::requests_agree", 23);
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let mut server = ApiServer::new(&pair, seed);
        server.detect_features().await;
        for _ in 0..60 {
            server.create().await;
        }
        let mut caches = server.start_caches().await;
        for step in 0..STEPS {
            server.step().await;
            if step % COMPACT_EVERY == COMPACT_EVERY - 1 {
                server.compact().await;
            }
            if step % ASK_PROGRESS_EVERY == 0 {
                caches.iter_mut().flat_map(|cache| &mut cache.sides).for_each(Watching::ask_progress);
            }
        }
        eprintln!("  {:?}", server.counts);
        assert!(server.counts.values().all(|&count| count > 0), "{:?}", server.counts);
        for cache in &mut caches {
            cache.check(&pair).await;
        }
    });
}

struct ApiServer<'a> {
    pair: &'a Pair,
    random: SmallRng,
    /// The last seen revision of each object, which may have changed since.
    seen: BTreeMap<String, i64>,
    lease: Option<(i64, usize)>,
    leases: i64,
    /// Lists that were begun, by as many clients: prefix, last key, revision.
    begun: Vec<(String, Bytes, i64)>,
    compactor: Compactor,
    counts: BTreeMap<&'static str, usize>,
}

/// The state of a compactor; another one may be ahead.
#[derive(Default)]
struct Compactor {
    version: i64,
    revision: i64,
}

impl<'a> ApiServer<'a> {
    fn new(pair: &'a Pair, seed: u64) -> ApiServer<'a> {
        let random = SmallRng::seed_from_u64(seed);
        let counts = ["won", "conflict", "page", "expired"].map(|what| (what, 0)).into();
        let (seen, compactor) = (BTreeMap::new(), Compactor::default());
        ApiServer { pair, random, seen, lease: None, leases: 0, begun: Vec::new(), compactor, counts }
    }

    /// Whether progress can be asked for is decided by the version.
    async fn detect_features(&mut self) {
        for (name, connection) in NAMES.iter().zip(&self.pair.connections) {
            let status: StatusResponse =
                connection.unary("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await.unwrap();
            assert!(status.version.starts_with("3.7."), "{name}: {}", status.version);
            assert!(status.db_size > 0, "{name}");
        }
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..20 => self.create().await,
            20..50 => self.update().await,
            50..60 => self.delete().await,
            60..70 => self.get().await,
            70..85 => self.list().await,
            85..95 => self.list_on().await,
            _ => self.count().await,
        }
    }

    async fn create(&mut self) {
        let key = self.key();
        let lease = self.lease_for(&key).await;
        let put = self.put(&key, lease);
        self.optimistic(&key, 0, put).await;
    }

    /// Until it succeeds, which takes at most two attempts, because there is no other writer.
    async fn update(&mut self) {
        let Some((key, seen)) = self.seen_object() else { return };
        let stale = if self.random.random_bool(0.2) { seen - 1 } else { seen };
        let put = self.put(&key, 0);
        if let Some(current) = self.optimistic(&key, stale, put.clone()).await {
            self.optimistic(&key, current.mod_revision, put).await;
        }
    }

    async fn delete(&mut self) {
        let Some((key, seen)) = self.seen_object() else { return };
        let delete = DeleteRangeRequest { key: key.clone().into(), ..DeleteRangeRequest::default() };
        let stale = if self.random.random_bool(0.3) { seen - 1 } else { seen };
        if let Some(current) = self.optimistic(&key, stale, Request::RequestDeleteRange(delete.clone())).await {
            self.optimistic(&key, current.mod_revision, Request::RequestDeleteRange(delete)).await;
        }
    }

    /// A change of an object at a revision, or the present object.
    async fn optimistic(&mut self, key: &str, mod_revision: i64, change: Request) -> Option<KeyValue> {
        let gone = matches!(change, Request::RequestDeleteRange(_));
        let get = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let compare = Compare {
            target: 2,
            key: key.to_owned().into(),
            target_union: Some(TargetUnion::ModRevision(mod_revision)),
            ..Compare::default()
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp { request: Some(change) }],
            failure: vec![RequestOp { request: Some(Request::RequestRange(get)) }],
        };
        let response: TxnResponse = self.pair.done(TXN, &request).await;
        self.count_one(if response.succeeded { "won" } else { "conflict" });
        if response.succeeded {
            let revision = response.header.expect("every response has a header").revision;
            let _ = if gone { self.seen.remove(key) } else { self.seen.insert(key.to_owned(), revision) };
            return None;
        }
        let found = found(response.responses);
        match &found {
            Some(kv) => self.seen.insert(key.to_owned(), kv.mod_revision),
            None => self.seen.remove(key),
        };
        found
    }

    async fn get(&mut self) {
        let request = RangeRequest { key: self.key().into(), ..RangeRequest::default() };
        let _: RangeResponse = self.pair.done(RANGE, &request).await;
    }

    /// The first page; the rest comes later, or never.
    async fn list(&mut self) {
        let prefix = self.prefix();
        let limit = *[0, 1, 7, 500].choose(&mut self.random).expect("not empty");
        let keys_only = self.random.random_bool(0.1);
        let request = RangeRequest { limit, keys_only, ..of_prefix(&prefix) };
        let page = self.page(&request).await.expect("the present is never refused");
        let revision = page.header.as_ref().expect("every response has a header").revision;
        self.begun.extend(next_page(prefix, &page, revision));
    }

    /// The next page of a list that was begun, at its revision: which may have been compacted by now.
    async fn list_on(&mut self) {
        if self.begun.is_empty() {
            return;
        }
        let client = self.random.random_range(0..self.begun.len());
        let (prefix, last, revision) = self.begun.swap_remove(client);
        let key = [&last[..], b"\0"].concat().into();
        let request = RangeRequest { key, limit: 5, revision, ..of_prefix(&prefix) };
        match self.page(&request).await {
            Ok(page) => {
                self.count_one("page");
                self.begun.extend(next_page(prefix, &page, revision));
            }
            Err(refusal) => {
                assert!(refusal.message.contains("has been compacted"), "{refusal:?}");
                self.count_one("expired");
            }
        }
    }

    /// A page by Range, and the same by RangeStream.
    async fn page(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        let page = self.pair.agree::<_, RangeResponse>(RANGE, request).await;
        for (name, reply) in NAMES.iter().zip(self.pair.both(RANGE_STREAM, request).await) {
            let streamed = if reply.code == Some(0) { Ok(put_together(&reply.messages)) } else { reply.typed() };
            let level =
                |page: &Result<RangeResponse, Refusal>| page.clone().map(|page| RangeResponse { header: None, ..page });
            assert_eq!(level(&streamed), level(&page), "{name}: stream, then unary, {request:?}");
        }
        page
    }

    async fn count(&mut self) {
        let request = RangeRequest { count_only: true, ..of_prefix(&self.prefix()) };
        let _: RangeResponse = self.pair.done(RANGE, &request).await;
    }

    /// Two compactors with the same state: the first one wins, the second one gets the new revision.
    async fn compact(&mut self) {
        let response: RangeResponse = self.pair.done(RANGE, &of_prefix(COMPACT_REV_KEY)).await;
        let now = response.header.expect("every response has a header").revision;
        let Compactor { version, revision } = self.compactor;
        assert!(self.claim(version, now).await, "nobody else compacts");
        assert!(!self.claim(version, now).await, "the version has moved on");
        assert_eq!(self.compactor.version, version + 1);
        // As kube-apiserver: up to what was current one interval ago.
        if revision > 0 {
            let request = CompactionRequest { revision, physical: false };
            let _: CompactionResponse = self.pair.done(COMPACT, &request).await;
        }
        self.compactor.revision = now;
    }

    async fn claim(&mut self, version: i64, revision: i64) -> bool {
        let key = Bytes::from(COMPACT_REV_KEY);
        let put = PutRequest { key: key.clone(), value: revision.to_string().into(), ..PutRequest::default() };
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let compare = Compare { key, target_union: Some(TargetUnion::Version(version)), ..Compare::default() };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
            failure: vec![RequestOp { request: Some(Request::RequestRange(get)) }],
        };
        let response: TxnResponse = self.pair.done(TXN, &request).await;
        if let Some(kv) = found(response.responses) {
            self.compactor.version = kv.version;
        }
        response.succeeded
    }

    /// Events live as long as a lease that they share.
    async fn lease_for(&mut self, key: &str) -> i64 {
        if !key.contains("/events/") {
            return 0;
        }
        if self.lease.is_none_or(|(_, used)| used >= OBJECTS_PER_LEASE) {
            self.leases += 1;
            let request = LeaseGrantRequest { ttl: EVENTS_TTL, id: self.leases };
            let _: LeaseGrantResponse = self.pair.done(GRANT, &request).await;
            self.lease = Some((self.leases, 0));
        }
        let (lease, used) = self.lease.as_mut().expect("just set");
        *used += 1;
        *lease
    }

    /// A watch cache for everything and one for a resource.
    async fn start_caches(&mut self) -> Vec<Cache> {
        let mut caches = Vec::new();
        for prefix in [REGISTRY, "/registry/pods/"] {
            let list: RangeResponse = self.pair.done(RANGE, &of_prefix(prefix)).await;
            let revision = list.header.expect("every response has a header").revision;
            let objects = list.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
            let request = WatchCreateRequest {
                key: prefix.into(),
                range_end: prefix_end(prefix.as_bytes()),
                start_revision: revision + 1,
                prev_kv: true,
                progress_notify: true,
                ..WatchCreateRequest::default()
            };
            let [ringd, etcd] = &self.pair.connections;
            let mut sides = [Watching::open_with(ringd, &LEADER).await, Watching::open_with(etcd, &LEADER).await];
            for side in &mut sides {
                side.create(request.clone());
                side.all_created().await;
            }
            caches.push(Cache { prefix, request, objects, sides });
        }
        caches
    }

    fn put(&mut self, key: &str, lease: i64) -> Request {
        let value = (0..self.random.random_range(100..2000)).map(|_| self.random.random::<u8>()).collect();
        Request::RequestPut(PutRequest { key: key.to_owned().into(), value, lease, ..PutRequest::default() })
    }

    fn prefix(&mut self) -> String {
        let resource = RESOURCES.choose(&mut self.random).expect("not empty");
        // All namespaces, or one.
        let all = resource.split('/').next().expect("it has a part");
        if self.random.random() { format!("{REGISTRY}{all}/") } else { format!("{REGISTRY}{resource}") }
    }

    fn key(&mut self) -> String {
        let resource = RESOURCES.choose(&mut self.random).expect("not empty");
        format!("{REGISTRY}{resource}object-{:03}", self.random.random_range(0..OBJECTS))
    }

    fn seen_object(&mut self) -> Option<(String, i64)> {
        let keys: Vec<&String> = self.seen.keys().collect();
        let key = (*keys.choose(&mut self.random)?).clone();
        let revision = self.seen[&key];
        Some((key, revision))
    }

    fn count_one(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

const LEADER: [(&str, &str); 1] = [("hasleader", "true")];

fn of_prefix(prefix: &str) -> RangeRequest {
    RangeRequest { key: prefix.to_owned().into(), range_end: prefix_end(prefix.as_bytes()), ..RangeRequest::default() }
}

fn next_page(prefix: String, page: &RangeResponse, revision: i64) -> Option<(String, Bytes, i64)> {
    assert!(page.count >= i64::try_from(page.kvs.len()).expect("few"));
    page.more.then(|| (prefix, page.kvs.last().expect("more follows something").key.clone(), revision))
}

/// The object in the answer of a get, if there is one.
fn found(responses: Vec<ResponseOp>) -> Option<KeyValue> {
    match responses.into_iter().next()?.response? {
        Response::ResponseRange(mut range) => range.kvs.pop(),
        _ => None,
    }
}

fn put_together(messages: &[Bytes]) -> RangeResponse {
    use ringd::proto::etcdserverpb::RangeStreamResponse;
    let pieces = messages.iter().map(|message| decoded::<RangeStreamResponse>(message).range_response);
    let pieces: Vec<RangeResponse> = pieces.map(Option::unwrap_or_default).collect();
    let last = pieces.last().cloned().unwrap_or_default();
    RangeResponse { kvs: pieces.into_iter().flat_map(|piece| piece.kvs).collect(), ..last }
}

/// A list and the events after it, on both servers.
struct Cache {
    prefix: &'static str,
    request: WatchCreateRequest,
    /// As of the list.
    objects: BTreeMap<Bytes, KeyValue>,
    sides: [Watching; 2],
}

impl Cache {
    async fn check(&mut self, pair: &Pair) {
        for ((name, side), connection) in NAMES.iter().zip(&mut self.sides).zip(&pair.connections) {
            // A consistent read: the revision of a request, and progress up to it.
            let revision = fence(connection).await;
            side.told_up_to(revision).await;
            let mut objects = self.objects.clone();
            side.events(0).into_iter().for_each(|event| follow(name, &mut objects, event));
            let list: RangeResponse = connection.unary(RANGE, &of_prefix(self.prefix)).await.unwrap();
            assert!(objects.into_values().eq(list.kvs), "{name}: the cache of {} is not the list", self.prefix);
        }
        let events = watch::compare(&self.sides, std::slice::from_ref(&self.request));
        assert!(events > 0, "{}: nothing happened", self.prefix);
    }
}

/// Applies an event as kube-apiserver does, which needs the previous object of all but the first.
fn follow(name: &str, objects: &mut BTreeMap<Bytes, KeyValue>, event: Event) {
    let kv = event.kv.expect("every event has a key");
    let before = objects.remove(&kv.key);
    assert_eq!(event.prev_kv, before, "{name}: what {:?} was before", kv.key);
    if event.r#type == 0 {
        assert_eq!(kv.create_revision == kv.mod_revision, before.is_none(), "{name}: {:?}", kv.key);
        objects.insert(kv.key.clone(), kv);
    }
}
