//! The store against a model that keeps every version in a list and searches all of them.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{test_disk::Disk, *};
use crate::{
    base::checksum::crc32c,
    proto::{
        etcdserverpb::{
            RangeResponse,
            range_request::{SortOrder, SortTarget},
        },
        mvccpb::KeyValue,
    },
};

const SEEDS: u64 = 8;
const STEPS: usize = 300;

#[derive(Clone, Debug)]
struct ModelRecord {
    revision: Revision,
    kv: KeyValue,
    tombstone: bool,
}

/// All changes, without those that compactions dropped.
#[derive(Clone)]
struct Model {
    records: Vec<ModelRecord>,
    revision: i64,
    compact_revision: i64,
}

impl Model {
    fn new() -> Self {
        Self { records: Vec::new(), revision: 1, compact_revision: -1 }
    }

    fn newest(&self, key: &[u8], at: i64) -> Option<&ModelRecord> {
        let of_key = |r: &&ModelRecord| r.kv.key == key && r.revision.main <= at;
        self.records.iter().rev().find(of_key)
    }

    fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        self.newest(key, at).filter(|r| !r.tombstone).map(|r| &r.kv)
    }

    fn live(&self, range: KeyRange<'_>, at: i64) -> Vec<KeyValue> {
        let mut live = BTreeMap::new();
        for record in &self.records {
            if record.revision.main <= at && range.contains(&record.kv.key) {
                if record.tombstone {
                    live.remove(&record.kv.key);
                } else {
                    live.insert(record.kv.key.clone(), record.kv.clone());
                }
            }
        }
        live.into_values().collect()
    }

    fn put(&mut self, sub: i64, key: &[u8], value: &[u8], lease: i64) -> Option<KeyValue> {
        let main = self.revision + 1;
        let before = self.get(key, main).cloned();
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: before.as_ref().map_or(main, |b| b.create_revision),
            mod_revision: main,
            version: before.as_ref().map_or(1, |b| b.version + 1),
            value: Bytes::copy_from_slice(value),
            lease,
        };
        self.records.push(ModelRecord { revision: Revision::new(main, sub), kv, tombstone: false });
        before
    }

    fn delete(&mut self, sub: i64, range: KeyRange<'_>) -> Vec<KeyValue> {
        let main = self.revision + 1;
        let gone = self.live(range, main);
        for (place, kv) in gone.iter().enumerate() {
            self.records.push(ModelRecord {
                revision: Revision::new(main, sub + place as i64),
                kv: KeyValue { key: kv.key.clone(), ..KeyValue::default() },
                tombstone: true,
            });
        }
        gone
    }

    fn compact(&mut self, at: i64) {
        let kept = |r: &ModelRecord| {
            r.revision.main > at
                || (self.newest(&r.kv.key, at).expect("itself").revision == r.revision
                    && (!r.tombstone || r.revision.main == at))
        };
        self.records = self.records.iter().filter(|r| kept(r)).cloned().collect();
        self.compact_revision = at;
    }

    /// Literally as etcd's `executeRange` does it: scan with a limit, filter, sort, cut.
    fn range(&self, o: &RangeOptions) -> Result<RangeResult, Refusal> {
        if o.revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        let at = if o.revision <= 0 { self.revision } else { o.revision };
        if at < self.compact_revision {
            return Err(Refusal::Compacted);
        }
        let mut kvs = self.live(o.range(), at);
        let count = kvs.len() as i64;
        let mut result = RangeResult { count, revision: self.revision, ..RangeResult::default() };
        if o.count_only {
            return Ok(result);
        }
        let filters = [o.min_mod_revision, o.max_mod_revision, o.min_create_revision, o.max_create_revision];
        let default_order =
            o.sort_order == SortOrder::None || (o.sort_order == SortOrder::Ascend && o.sort_target == SortTarget::Key);
        if o.limit > 0 && default_order && filters == [0; 4] {
            kvs.truncate((o.limit as usize).saturating_add(1));
        }
        let bound = |bound: i64, ok: bool| bound == 0 || ok;
        kvs.retain(|kv| {
            bound(o.max_mod_revision, kv.mod_revision <= o.max_mod_revision)
                && bound(o.min_mod_revision, kv.mod_revision >= o.min_mod_revision)
                && bound(o.max_create_revision, kv.create_revision <= o.max_create_revision)
                && bound(o.min_create_revision, kv.create_revision >= o.min_create_revision)
        });
        let compare = |a: &KeyValue, b: &KeyValue| match o.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match o.sort_order {
            SortOrder::Descend => kvs.sort_by(|a, b| compare(b, a)),
            _ => kvs.sort_by(compare),
        }
        if o.limit > 0 && kvs.len() as i64 > o.limit {
            kvs.truncate(o.limit as usize);
            result.more = true;
        }
        for kv in &mut kvs {
            if o.keys_only {
                kv.value = Bytes::new();
                if o.sort_target != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        result.kvs = kvs;
        Ok(result)
    }

    /// Section 4 of the storage reference, with generations taken literally.
    /// A compaction's own hash also counts a tombstone at its revision as kept.
    fn hash(&self, revision: i64, of_compaction: bool) -> u32 {
        let mut keep = Vec::new();
        for key in self.keys() {
            keep.extend(kept_by_generations(&self.records, &key, revision, of_compaction));
        }
        let mut crc = crc32c(0, b"key");
        for record in &self.records {
            let main = record.revision.main;
            let skipped = main > revision
                || (main <= self.compact_revision && !keep.is_empty() && !keep.contains(&record.revision))
                || (record.tombstone && main == self.compact_revision);
            if !skipped {
                let key = if record.tombstone {
                    record.revision.tombstone_key().to_vec()
                } else {
                    record.revision.put_key().to_vec()
                };
                crc = crc32c(crc32c(crc, &key), &record.kv.encode_to_vec());
            }
        }
        crc
    }

    fn keys(&self) -> Vec<Bytes> {
        let mut keys: Vec<Bytes> = self.records.iter().map(|r| r.kv.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

/// etcd's `keyIndex.keep`: the generations of a key, the first whose tombstone is not before `at`, the newest revision in it.
fn kept_by_generations(records: &[ModelRecord], key: &[u8], at: i64, with_tombstone: bool) -> Option<Revision> {
    let mut generations: Vec<Vec<Revision>> = vec![Vec::new()];
    for record in records.iter().filter(|r| r.kv.key == key) {
        generations.last_mut().expect("never empty").push(record.revision);
        if record.tombstone {
            generations.push(Vec::new());
        }
    }
    let last = generations.len() - 1;
    let ended_before = |g: &Vec<Revision>| g.last().expect("an ended one has revisions").main < at;
    let chosen = (0..last).find(|g| !ended_before(&generations[*g])).unwrap_or(last);
    let revisions = &generations[chosen];
    let place = revisions.iter().rposition(|r| r.main <= at)?;
    let is_tombstone = chosen != last && place == revisions.len() - 1;
    (with_tombstone || !is_tombstone).then(|| revisions[place])
}

struct World {
    rng: SmallRng,
    model: Model,
    store: Store,
    disk: Disk,
    /// The model when the last commit was sealed, and that of what is on disk.
    sealed: Model,
    durable: Model,
    /// Hash of each compaction under way, as the model had it when it began.
    compaction_hashes: BTreeMap<i64, u32>,
    /// Past views with the answers they must keep.
    past: Vec<(View, Model)>,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            model: Model::new(),
            store: Store::default(),
            disk: Disk::default(),
            sealed: Model::new(),
            durable: Model::new(),
            compaction_hashes: BTreeMap::new(),
            past: Vec::new(),
            seed,
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let len = self.rng.random_range(1..4);
        (0..len).map(|_| b"\0ab\xff"[self.rng.random_range(0..4)]).collect()
    }

    fn range_end(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..3) {
            0 => Vec::new(),
            1 => vec![0],
            _ => self.key(),
        }
    }

    fn write(&mut self) {
        let mut changes = Vec::new();
        let begin = self.store.revision();
        let mut txn = self.store.write(&mut self.disk.backend);
        let mut touched: Vec<Vec<u8>> = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let key = random_key(&mut self.rng);
            let with_previous = self.rng.random_bool(0.5);
            let sub = changes.len() as i64;
            if self.rng.random_bool(0.75) {
                if touched.contains(&key) {
                    continue;
                }
                let value = vec![self.rng.random(); self.rng.random_range(0..12)];
                let lease = self.rng.random_range(-1..3);
                let expected = self.model.put(sub, &key, &value, lease);
                let previous = txn.put(&key, &value, lease, with_previous).expect("put");
                assert_eq!(previous, expected.clone().filter(|_| with_previous));
                changes.push((key.clone(), lease, expected.map_or(0, |kv| kv.lease)));
                touched.push(key);
            } else {
                let end = match self.rng.random_range(0..4) {
                    0 => random_key(&mut self.rng),
                    _ => Vec::new(),
                };
                let range = KeyRange::new(&key, &end);
                if touched.iter().any(|key| range.contains(key)) {
                    continue;
                }
                let expected = self.model.delete(sub, range);
                let deleted = txn.delete_range(range, with_previous).expect("delete");
                assert_eq!(deleted.count, expected.len() as i64);
                for kv in &expected {
                    changes.push((kv.key.to_vec(), 0, kv.lease));
                    touched.push(kv.key.to_vec());
                }
                if with_previous {
                    assert_eq!(deleted.previous, expected);
                }
            }
            let own = txn.revision();
            assert_eq!(own, begin + i64::from(!changes.is_empty()));
            let seen = collect(&txn.view(), &everything()).expect("own writes").kvs;
            assert_eq!(seen, self.model.live(KeyRange::From(b"\0"), own));
        }
        let committed = txn.end();
        let reported: Vec<_> = committed.changes.iter().map(|c| (c.key.to_vec(), c.lease, c.previous_lease)).collect();
        assert_eq!(reported, changes, "seed {}", self.seed);
        self.model.revision += i64::from(!changes.is_empty());
        assert_eq!(committed.revision, self.model.revision);
    }

    fn options(&mut self) -> RangeOptions {
        let key = self.key();
        let range_end = self.range_end();
        let rng = &mut self.rng;
        let newest = self.model.revision + 1;
        let mut bound = |likely: f64| {
            if rng.random_bool(likely) { rng.random_range(0..=newest) } else { 0 }
        };
        let revision = bound(0.6);
        let filters = [bound(0.15), bound(0.15), bound(0.15), bound(0.15)];
        RangeOptions {
            key: key.into(),
            range_end: range_end.into(),
            limit: if rng.random_bool(0.5) { rng.random_range(-1..9) } else { 0 },
            revision,
            sort_order: SortOrder::try_from(rng.random_range(0..3)).expect("in range"),
            sort_target: SortTarget::try_from(rng.random_range(0..5)).expect("in range"),
            keys_only: rng.random_bool(0.3),
            count_only: rng.random_bool(0.1),
            min_mod_revision: filters[0],
            max_mod_revision: filters[1],
            min_create_revision: filters[2],
            max_create_revision: filters[3],
        }
    }

    fn compact(&mut self) {
        let at = self.rng.random_range(-2..=self.model.revision + 1);
        let refused = if at <= self.model.compact_revision {
            Err(Refusal::Compacted.into())
        } else if at > self.model.revision {
            Err(Refusal::FutureRevision.into())
        } else {
            Ok(())
        };
        assert_eq!(self.store.compact_begin(&mut self.disk.backend, at), refused);
        if refused.is_ok() {
            self.compaction_hashes.insert(at, self.model.hash(at, true));
            self.model.compact(at);
        }
    }

    fn compact_slice(&mut self) {
        let budget = self.rng.random_range(1..40);
        let step = self.store.compact_step(&mut self.disk.backend, budget).expect("no failure");
        match step {
            CompactStep::AwaitsCommit if self.rng.random_bool(0.3) => self.commit(),
            CompactStep::Finished(report) if report.hash_kept => {
                assert_eq!(Some(&report.hash.hash), self.compaction_hashes.get(&report.revision));
                let view = self.store.view(&self.disk.backend);
                let answer = HashReader::new(view, report.revision).expect("known").finish();
                assert_eq!(answer.expect("known").hash, report.hash);
            }
            _ => {}
        }
    }

    fn check_reads(&mut self) {
        for _ in 0..4 {
            let options = self.options();
            let view = self.store.view(&self.disk.backend);
            check_range(&view, &self.model, &options, &mut self.rng);
            check_point(&view, &self.model, &options);
        }
        if !self.past.is_empty() {
            let chosen = self.rng.random_range(0..self.past.len());
            let options = self.options();
            let (view, model) = &self.past[chosen];
            check_range(view, model, &options, &mut self.rng);
        }
    }

    fn check_hash(&mut self) {
        let view = self.store.view(&self.disk.backend);
        let requested = self.rng.random_range(0..=self.model.revision + 1);
        let known = view.hashes.iter().any(|h| h.revision == requested);
        let reader = HashReader::new(view, requested);
        if known {
            return;
        }
        if requested > self.model.revision {
            assert_eq!(reader.err(), Some(Refusal::FutureRevision));
        } else if requested > 0 && requested < self.model.compact_revision {
            assert_eq!(reader.err(), Some(Refusal::Compacted));
        } else {
            let mut reader = reader.expect("within bounds");
            let result = loop {
                if let Some(result) = reader.step(7).expect("no failure") {
                    break result;
                }
            };
            let revision = if requested == 0 { self.model.revision } else { requested };
            assert_eq!(result.hash.hash, self.model.hash(revision, false));
            assert_eq!(result.hash.revision, revision);
            assert_eq!(result.hash.compact_revision, self.model.compact_revision);
            assert_eq!(result.current_revision, self.model.revision);
        }
    }

    fn check_events(&mut self) {
        let view = self.store.view(&self.disk.backend);
        let from = self.rng.random_range(self.model.compact_revision.max(0) + 1..=self.model.revision.max(1) + 1);
        let mut reader = EventReader::new(&view, from);
        let mut events = Vec::new();
        while !reader
            .step(&view, 3, &mut |event| {
                events.push((event.revision, event.key.to_vec(), event.kind));
            })
            .expect("no failure")
        {}
        let expected: Vec<_> = self
            .model
            .records
            .iter()
            .filter(|r| r.revision.main >= from)
            .map(|r| {
                let kind = if r.tombstone { ChangeKind::Delete } else { ChangeKind::Put };
                (r.revision, r.kv.key.to_vec(), kind)
            })
            .collect();
        assert_eq!(events, expected);
    }

    fn advance(&mut self, budget: usize) {
        let (begun, durable) = (self.disk.begun, self.disk.durable);
        self.disk.advance(budget);
        if self.disk.begun > begun {
            self.sealed = self.model.clone();
        }
        if self.disk.durable > durable {
            self.durable = self.sealed.clone();
        }
    }

    fn commit(&mut self) {
        while self.disk.has_pending() {
            self.advance(1000);
        }
    }

    /// Drops the memory and starts from the last commit.
    fn restart(&mut self) {
        if self.rng.random_bool(0.5) {
            self.commit();
        }
        self.model = self.durable.clone();
        self.disk = self.disk.reopened();
        let mut restore = Restore::new(self.disk.backend.view()).expect("marks");
        let budget = self.rng.random_range(1..50);
        while !restore.step(budget).expect("no failure") {}
        let (store, attachments) = restore.finish(&mut self.disk.backend).expect("marks");
        let live = self.model.live(KeyRange::From(b""), self.model.revision);
        let expected: Vec<_> = live.into_iter().filter(|kv| kv.lease != 0).map(|kv| (kv.key, kv.lease)).collect();
        let found: Vec<_> = attachments.into_iter().map(|a| (a.key, a.lease)).collect();
        assert_eq!(found, expected);
        assert_eq!(store.revision(), self.model.revision);
        assert_eq!(store.compact_revision(), self.model.compact_revision);
        self.store = store;
    }

    fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0..=9 => self.write(),
            10 if self.rng.random_bool(0.3) => self.compact(),
            10..=13 => self.compact_slice(),
            14 if self.rng.random_bool(0.5) => self.commit(),
            14 => self.advance(20),
            15 => self.check_hash(),
            16 => self.check_events(),
            17 if self.rng.random_bool(0.2) => self.restart(),
            _ => {
                let view = self.store.view(&self.disk.backend);
                self.past.push((view, self.model.clone()));
                if self.past.len() > 6 {
                    let dropped = self.rng.random_range(0..self.past.len());
                    self.past.swap_remove(dropped);
                }
            }
        }
        self.check_reads();
        self.store.index.check();
    }

    /// After all compactions: index and database hold exactly what the model does.
    fn settle(&mut self) {
        loop {
            match self.store.compact_step(&mut self.disk.backend, 9).expect("ok") {
                CompactStep::Idle => break,
                CompactStep::AwaitsCommit => self.commit(),
                CompactStep::Indexing | CompactStep::Working | CompactStep::Finished(_) => {}
            }
        }
        self.commit();
        assert_eq!(self.store.index.records(), self.model.records.len() as u64);
        let view = self.store.view(&self.disk.backend);
        let mut scan = RecordScan::new(Revision::default(), i64::MAX - 1);
        let mut found = Vec::new();
        let _ = scan.step(view.records(), 1_000_000, &mut |stored| {
            found.push((stored.revision, stored.tombstone, stored.record.to_vec()));
            Ok(())
        });
        let records = self.model.records.iter();
        let expected: Vec<_> = records.map(|r| (r.revision, r.tombstone, r.kv.encode_to_vec())).collect();
        assert_eq!(found, expected);
    }
}

fn random_key(rng: &mut SmallRng) -> Vec<u8> {
    let len = rng.random_range(1..4);
    (0..len).map(|_| b"\0ab\xff"[rng.random_range(0..4)]).collect()
}

fn everything() -> RangeOptions {
    RangeOptions { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0"), ..RangeOptions::default() }
}

fn check_range(view: &View, model: &Model, options: &RangeOptions, rng: &mut SmallRng) {
    let expected = model.range(options);
    let expected = match (collect(view, options), expected) {
        (Err(Error::Refused(refusal)), Err(expected)) => {
            assert_eq!(refusal, expected, "{options:?}");
            return;
        }
        (Ok(found), Ok(expected)) => {
            assert_eq!(found, expected, "{options:?}");
            expected
        }
        (found, expected) => panic!("{options:?}: {found:?} instead of {expected:?}"),
    };
    let mut reader = RangeReader::new(view.clone(), options.clone()).expect("as before");
    let budget = rng.random_range(1..6);
    let measured = loop {
        if let Some(measured) = reader.measure(budget).expect("no failure") {
            break measured;
        }
    };
    let mut out = BytesMut::new();
    let room = rng.random_range(0..64);
    while !reader.fill(&mut out, room).expect("no failure") {}
    let response = RangeResponse { kvs: expected.kvs, ..RangeResponse::default() };
    assert_eq!(out, response.encode_to_vec(), "{options:?}");
    assert_eq!(measured.kvs_bytes, out.len() as u64);
    assert_eq!(measured.kvs, response.kvs.len() as u64);
    assert_eq!(measured.count, expected.count);
    assert_eq!(measured.more, expected.more);
}

fn check_point(view: &View, model: &Model, options: &RangeOptions) {
    let single = RangeOptions {
        key: options.key.clone(),
        revision: options.revision,
        keys_only: options.keys_only,
        ..RangeOptions::default()
    };
    let mut out = BytesMut::new();
    let found = view.point(&single.key, single.revision, single.keys_only, &mut out);
    match (found, model.range(&single)) {
        (Err(Error::Refused(refusal)), Err(expected)) => assert_eq!(refusal, expected),
        (Ok(found), Ok(expected)) => {
            assert_eq!(found, expected.count == 1);
            let response = RangeResponse { kvs: expected.kvs, ..RangeResponse::default() };
            assert_eq!(out, response.encode_to_vec());
        }
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

#[test]
fn store_agrees_with_a_model_that_keeps_everything() {
    let seeds = std::env::var("RINGD_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        world.restart();
        world.check_reads();
        world.settle();
    }
}
