//! The backend against a map: views of every age, commits that overlap with changes, restarts.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::{base::checksum::crc32c, sim::page_files::LonePageFile};

/// The records that a view is expected to return.
type Records = BTreeMap<Vec<u8>, Option<Bytes>>;

struct World {
    pages: LonePageFile,
    backend: Backend,
    commit: Option<Commit>,
}

impl World {
    fn new() -> World {
        World::of(LonePageFile::new(&PageFile::image_of_new_file(4096), 64 << 20).expect("a sound file"))
    }

    fn of((pages, file): (LonePageFile, PageFile)) -> World {
        World { pages, backend: Backend::new(file).expect("a sound file"), commit: None }
    }

    /// After a power cut.
    fn reopened(&self) -> World {
        World::of(self.pages.after_power_cut().expect("a sound file"))
    }

    /// Moves a commit on by one slice, or carries out a finished one.
    fn advance(&mut self, budget: usize) {
        if let Some(commit) = self.commit.take() {
            self.pages.carry_out(commit).expect("a disk without faults");
            self.backend.on_committed().expect("a sound file");
            assert_eq!(self.backend.check(), []);
        } else if self.backend.is_committing() || self.backend.begin_commit() {
            self.commit = self.backend.step_commit(budget).expect("a sound file");
        }
    }

    fn flush(&mut self) {
        while self.backend.is_committing() || self.backend.pending_changes() > 0 {
            self.advance(1000);
        }
    }
}

fn revision_key(main: u64, sub: u64, tombstone: bool) -> Vec<u8> {
    let mut key = [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes()[..]].concat();
    key.extend(tombstone.then_some(b't'));
    key
}

fn check_view(view: &ReadView, records: &Records, random: &mut StdRng) {
    for (key, record) in records {
        if random.random_bool(0.2) {
            let found = view.record(key).expect("a sound file");
            assert!(record.is_none() || found == record.as_deref(), "{key:?}");
        }
    }
}

#[test]
fn views_agree_with_a_map() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        // Deleted records are `None`: no lookup asks for them, so any answer is right.
        let mut records = Records::new();
        let mut small: BTreeMap<(Bucket, Vec<u8>), Bytes> = BTreeMap::new();
        let mut views: Vec<(ReadView, Records)> = Vec::new();
        let mut main = 1;
        for _ in 0..300 {
            main += 1;
            for sub in 0..random.random_range(1..20) {
                let key = revision_key(main, sub, random.random_bool(0.2));
                let value = Bytes::from(vec![random.random(); random.random_range(0..600)]);
                world.backend.append(&key, value.clone());
                records.insert(key, Some(value));
            }
            if random.random_bool(0.1) {
                for (key, record) in records.iter_mut().filter(|(_, record)| record.is_some()) {
                    if random.random_bool(0.5) {
                        world.backend.delete(Bucket::Key, key);
                        *record = None;
                    }
                }
            }
            let (bucket, key) = (Bucket::ALL[random.random_range(6..10)], vec![random.random_range(1..20)]);
            if random.random_bool(0.3) {
                world.backend.delete(bucket, &key);
                small.remove(&(bucket, key.clone()));
            } else {
                let value = Bytes::from(vec![random.random(); random.random_range(0..200)]);
                world.backend.put(bucket, key.clone().into(), value.clone());
                small.insert((bucket, key.clone()), value);
            }
            assert_eq!(world.backend.get(bucket, &key).expect("sound"), small.get(&(bucket, key)).cloned());
            (0..random.random_range(0..3)).for_each(|_| world.advance(50));
            views.push((world.backend.view(), records.clone()));
            if views.len() > 5 {
                views.swap_remove(random.random_range(0..6));
            }
            for (view, then) in &views {
                check_view(view, then, &mut random);
            }
        }
        world.flush();
        let reopened = world.reopened();
        assert_contents(&reopened.backend, &records, &small);
    }
}

/// After a restart the file alone has everything, and nothing else.
fn assert_contents(backend: &Backend, records: &Records, small: &BTreeMap<(Bucket, Vec<u8>), Bytes>) {
    let view = backend.view();
    let mut checksum = 0;
    for bucket in Bucket::ALL {
        let expected: Vec<(Vec<u8>, Bytes)> = match bucket {
            Bucket::Key => records.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect(),
            _ => {
                small.iter().filter(|(at, _)| at.0 == bucket).map(|(at, value)| (at.1.clone(), value.clone())).collect()
            }
        };
        let root = view.pages().bucket(bucket.name()).expect("sound").expect("every bucket exists");
        let mut cursor = view.pages().cursor(root);
        let mut found = Vec::new();
        let mut next = cursor.first().expect("sound");
        while let Some(item) = next {
            found.push((item.key.to_vec(), Bytes::copy_from_slice(item.value)));
            next = cursor.next_item().expect("sound");
        }
        assert!(found == expected, "bucket {bucket:?}");
        checksum = crc32c(checksum, bucket.name());
        for (key, value) in found {
            checksum = crc32c(crc32c(checksum, &key), &value);
        }
    }
    for budget in [1, 7, usize::MAX] {
        let mut hash = DatabaseHash::new(view.pages().clone());
        let slices = std::iter::repeat_with(|| hash.step(budget).expect("sound"));
        let found = slices.take(1_000_000).find_map(|done| done);
        assert_eq!(found, Some(checksum), "in slices of {budget}");
    }
}

#[test]
fn what_differs_between_equal_members_is_not_in_the_hash() {
    let hash_of = |keys: &[&'static [u8]]| {
        let mut world = World::new();
        for key in keys {
            world.backend.put(Bucket::Meta, Bytes::from_static(key), Bytes::from_static(b"v"));
        }
        world.backend.put(Bucket::Meta, Bytes::from_static(b"confState"), Bytes::from_static(b"v"));
        world.flush();
        DatabaseHash::new(world.backend.view().pages().clone()).step(usize::MAX).expect("sound")
    };
    assert_eq!(hash_of(&[b"consistent_index", b"term", b"storageVersion"]), hash_of(&[]));
    assert_ne!(hash_of(&[b"scheduledCompactRev"]), hash_of(&[]));
}

#[test]
fn a_new_file_gets_its_buckets_with_the_first_commit() {
    let mut world = World::new();
    assert_eq!(world.backend.pending_changes(), 0);
    assert!(world.backend.begin_commit());
    while world.backend.is_committing() {
        world.advance(10);
    }
    assert!(!world.backend.begin_commit());
    let names: Vec<_> = Bucket::ALL.iter().map(|bucket| bucket.name()).collect();
    assert!(names.is_sorted());
    assert_contents(&world.backend, &Records::new(), &BTreeMap::new());
}

#[test]
fn changes_during_a_commit_belong_to_the_next() {
    let mut world = World::new();
    let (key, late) = (revision_key(2, 0, false), revision_key(3, 0, false));
    world.backend.append(&key, Bytes::from_static(b"early"));
    assert!(world.backend.begin_commit());
    let before = world.backend.view();
    world.backend.append(&late, Bytes::from_static(b"late"));
    world.backend.delete(Bucket::Key, &key);
    assert!(!world.backend.begin_commit());
    while world.backend.is_committing() {
        world.advance(10);
    }
    assert_eq!(world.backend.pending_changes(), 2);
    let between = world.backend.view();
    assert_eq!(between.record(&key).expect("sound"), Some(&b"early"[..]));
    assert_eq!(between.record(&late).expect("sound"), Some(&b"late"[..]));
    world.flush();
    let after = world.backend.view();
    assert_eq!(after.record(&key).expect("sound"), None);
    assert_eq!(after.record(&late).expect("sound"), Some(&b"late"[..]));
    for (view, seen) in [(&before, None), (&between, Some(&b"late"[..]))] {
        assert_eq!(view.record(&key).expect("sound"), Some(&b"early"[..]));
        assert_eq!(view.record(&late).expect("sound"), seen);
    }
}

#[test]
fn views_may_go_to_any_core() {
    fn may_go<T: Clone + Send + Sync + 'static>() {}
    may_go::<ReadView>();
    may_go::<crate::pagefile::ReadTxn>();
}
