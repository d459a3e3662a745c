//! The lessor against a model that keeps leases and keys in two lists and searches all of them.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    backend::Backend,
    mvcc::{KeyRange, Store},
    pagefile::{MemoryImage, PageFile},
};

const SEEDS: u64 = 20;
const STEPS: usize = 2000;
const IDS: i64 = 12;
const KEYS: u8 = 20;

/// A naive lease: its deadline counts from its last grant, renewal or promotion.
#[derive(Clone, Debug)]
struct ModelLease {
    id: i64,
    ttl_s: i64,
    deadline_ms: u64,
    reported_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Model {
    leases: Vec<ModelLease>,
    /// Key and lease.
    attached: Vec<(u8, i64)>,
    is_primary: bool,
    now_ms: u64,
}

impl Model {
    fn lease(&mut self, id: i64) -> Option<&mut ModelLease> {
        self.leases.iter_mut().find(|lease| lease.id == id)
    }

    fn keys(&self, id: i64) -> Vec<u8> {
        let mut keys: Vec<u8> = self.attached.iter().filter(|(_, lease)| *lease == id).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    fn attach(&mut self, key: u8, lease: i64) {
        self.attached.retain(|(other, _)| *other != key);
        if lease != 0 {
            self.attached.push((key, lease));
        }
    }

    fn grant(&mut self, id: i64, ttl_s: i64) -> Result<i64, Refusal> {
        if self.lease(id).is_some() {
            return Err(Refusal::LeaseExists);
        }
        let ttl_s = ttl_s.max(2);
        let deadline_ms = self.now_ms + 1000 * ttl_s.cast_unsigned();
        self.leases.push(ModelLease { id, ttl_s, deadline_ms, reported_ms: None });
        Ok(ttl_s)
    }

    fn renew(&mut self, id: i64) -> Renewal {
        let (now_ms, is_primary) = (self.now_ms, self.is_primary);
        match self.lease(id) {
            _ if !is_primary => Renewal::NotPrimary,
            None => Renewal::Unknown,
            Some(lease) if lease.deadline_ms <= now_ms => Renewal::Expired,
            Some(lease) => {
                lease.deadline_ms = now_ms + 1000 * lease.ttl_s.cast_unsigned();
                Renewal::Renewed { ttl_s: lease.ttl_s }
            }
        }
    }

    fn promote(&mut self) {
        if !self.is_primary {
            let now_ms = self.now_ms;
            for lease in &mut self.leases {
                lease.deadline_ms = now_ms + 1000 + 1000 * lease.ttl_s.cast_unsigned();
                lease.reported_ms = None;
            }
        }
        self.is_primary = true;
    }

    fn take_expired(&mut self, limit: usize) -> Vec<i64> {
        let now_ms = self.now_ms;
        let due = |lease: &&mut ModelLease| {
            lease.deadline_ms <= now_ms && lease.reported_ms.is_none_or(|reported| reported + 7000 <= now_ms)
        };
        if !self.is_primary {
            return Vec::new();
        }
        let mut expired: Vec<&mut ModelLease> = self.leases.iter_mut().filter(due).collect();
        expired.sort_by_key(|lease| (lease.deadline_ms, lease.id));
        let expired = expired.into_iter().take(limit);
        expired.map(|lease| (lease.reported_ms = Some(now_ms), lease.id).1).collect()
    }
}

struct Pair {
    lessor: Lessor,
    model: Model,
    store: Store,
    backend: Backend,
    /// The memory that the backend reads.
    _image: MemoryImage,
}

impl Pair {
    fn new() -> Self {
        let content = PageFile::image_of_new_file(4096);
        let image = MemoryImage::new(&content, 1 << 20);
        let file = PageFile::open(image.map(), content.len() as u64).expect("a sound file");
        Self {
            lessor: Lessor::new(Terms::default()),
            model: Model::default(),
            store: Store::default(),
            backend: Backend::new(file).expect("a sound file"),
            _image: image,
        }
    }

    /// One transaction of puts and deletions, as apply makes it.
    fn write(&mut self, rng: &mut SmallRng) {
        let mut txn = self.store.write(&mut self.backend);
        for _ in 0..rng.random_range(1..4) {
            let key = rng.random_range(0..KEYS);
            if rng.random_ratio(1, 4) {
                let end = key + rng.random_range(1..4);
                txn.delete_range(KeyRange::new(&[key], &[end]), false).expect("sound");
                (key..end).for_each(|key| self.model.attach(key, 0));
            } else {
                let wanted = rng.random_range(0..=IDS);
                let lease = if self.lessor.contains(wanted) { wanted } else { 0 };
                txn.put(&[key], b"v", lease, rng.random()).expect("sound");
                self.model.attach(key, lease);
            }
        }
        self.lessor.follow(&txn.end().changes);
    }

    fn revoke(&mut self, id: i64) {
        if !self.lessor.contains(id) {
            return;
        }
        let mut keys = Vec::new();
        let mut txn = self.store.write(&mut self.backend);
        while let Some(key) = self.lessor.take_attached(id) {
            txn.delete_range(KeyRange::Single(&key), false).expect("sound");
            keys.push(key[0]);
        }
        txn.end();
        self.lessor.end(id);
        assert_eq!(keys, self.model.keys(id));
        self.model.attached.retain(|(_, lease)| *lease != id);
        self.model.leases.retain(|lease| lease.id != id);
    }

    fn step(&mut self, rng: &mut SmallRng) {
        let id = rng.random_range(1..=IDS);
        match rng.random_range(0..100) {
            0..15 => {
                let ttl_s = rng.random_range(-2..30);
                assert_eq!(self.lessor.grant(id, ttl_s), self.model.grant(id, ttl_s));
            }
            15..50 => self.write(rng),
            50..65 => assert_eq!(self.lessor.renew(id), self.model.renew(id)),
            65..70 => self.revoke(id),
            70..72 => {
                self.lessor.demote();
                self.model.is_primary = false;
            }
            72..77 => {
                self.lessor.promote();
                self.model.promote();
            }
            77..85 => {
                let limit = rng.random_range(0..4);
                let expired = self.lessor.take_expired(limit);
                assert_eq!(expired, self.model.take_expired(limit));
                expired.into_iter().filter(|_| rng.random()).collect::<Vec<_>>().into_iter().for_each(|id| {
                    self.revoke(id);
                });
            }
            _ => {
                self.model.now_ms += rng.random_range(0..3000);
                self.lessor.on_time(self.model.now_ms);
                self.lessor.on_tick();
                self.lessor.on_confirmed(self.model.now_ms);
            }
        }
        self.compare(id);
    }

    fn compare(&mut self, id: i64) {
        let keys: Vec<u8> = self.model.keys(id).into_iter().flat_map(|key| [0x2a, 1, key]).collect();
        assert_eq!(self.lessor.encode_keys(id, 5), keys);
        assert_eq!(self.lessor.contains(id), self.model.lease(id).is_some());
        let mut listed = self.model.leases.clone();
        listed.sort_by_key(|lease| lease.id);
        let is_primary = self.model.is_primary;
        let expected: Vec<(u64, i64)> =
            listed.iter().map(|lease| (if is_primary { lease.deadline_ms } else { 0 }, lease.id)).collect();
        assert_eq!(self.lessor.list(None, usize::MAX), expected);
        if let Some(primary) = &self.lessor.primary {
            assert_eq!(primary.deadlines.len(), self.lessor.len());
            assert!(primary.revoking.keys().all(|id| self.lessor.contains(*id)));
        }
    }
}

#[test]
fn agrees_with_the_model() {
    for seed in 0..SEEDS {
        eprintln!("seed {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut pair = Pair::new();
        (0..STEPS).for_each(|_| pair.step(&mut rng));
    }
}
