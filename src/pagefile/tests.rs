//! The page file against a naive model, with power cuts and damaged bytes.
//!
//! `RINGD_SEED=n` repeats one seed, `RINGD_BBOLT=path` has the real bbolt check the files.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const RESERVED: usize = 64 << 20;

/// A file in memory with a page file over it.
struct World {
    image: MemoryImage,
    file_len: usize,
    file: PageFile,
}

impl World {
    fn new(page_size: u32) -> World {
        World::open(&PageFile::image_of_new_file(page_size)).expect("a new file opens")
    }

    fn open(content: &[u8]) -> Result<World, OpenError> {
        let image = MemoryImage::new(content, RESERVED.max(content.len()));
        let file = PageFile::open(image.map(), content.len() as u64)?;
        Ok(World { image, file_len: content.len(), file })
    }

    fn build(&mut self, buckets: Vec<BucketChanges>, budget: usize) -> Commit {
        self.file.begin(buckets);
        loop {
            if let Some(commit) = self.file.step(budget).expect("a sound file") {
                return commit;
            }
        }
    }

    fn carry_out(&mut self, commit: &Commit) {
        if let Some(len) = commit.grow_to {
            self.file_len = len as usize;
        }
        for write in commit.pages.iter().chain([&commit.meta]) {
            assert!(write.offset() as usize + write.bytes().len() <= self.file_len);
            self.image.write(write);
        }
        self.file.on_committed();
        if let Some(len) = commit.truncate_to {
            self.file_len = len as usize;
        }
    }

    fn commit(&mut self, buckets: Vec<BucketChanges>, budget: usize) {
        let commit = self.build(buckets, budget);
        self.carry_out(&commit);
    }

    fn content(&self) -> Vec<u8> {
        self.image.content(self.file_len)
    }
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;
/// Buckets by name.
type Model = BTreeMap<Vec<u8>, Records>;

fn dump(txn: &ReadTxn) -> Result<Model, Corrupt> {
    let mut model = Model::new();
    let mut names = txn.cursor(txn.root_bucket());
    let mut name = names.first()?;
    while let Some(item) = name {
        let mut records = Records::new();
        if let Some(bucket) = txn.bucket(item.key)? {
            let mut cursor = txn.cursor(bucket);
            let mut next = cursor.first()?;
            while let Some(record) = next {
                records.insert(record.key.to_vec(), record.value.to_vec());
                next = cursor.next_item()?;
            }
        }
        model.insert(item.key.to_vec(), records);
        name = names.next_item()?;
    }
    Ok(model)
}

fn changes(name: &str, fill: Fill, changes: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> BucketChanges {
    let change = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| Change {
        key: Key::from_slice(key),
        value: value.clone().map(Bytes::from),
    };
    BucketChanges { name: Bytes::copy_from_slice(name.as_bytes()), fill, changes: changes.iter().map(change).collect() }
}

fn apply(model: &mut Model, buckets: &[BucketChanges]) {
    for bucket in buckets {
        let records = model.entry(bucket.name.to_vec()).or_default();
        for change in &bucket.changes {
            match &change.value {
                Some(value) => drop(records.insert(change.key.to_vec(), value.to_vec())),
                None => drop(records.remove(&*change.key)),
            }
        }
    }
}

fn revision(n: u64) -> Vec<u8> {
    let mut key = n.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend_from_slice(&0u64.to_be_bytes());
    key
}

/// Makes workloads: an append bucket, a random bucket, and a few that stay small.
struct Workload {
    random: StdRng,
    next_revision: u64,
    rounds: u64,
}

impl Workload {
    fn new(seed: u64) -> Workload {
        println!("seed {seed}");
        Workload { random: StdRng::seed_from_u64(seed), next_revision: 1, rounds: 0 }
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.random_range(0..100) {
            0 => self.random.random_range(4000..40_000),
            1..10 => self.random.random_range(200..2000),
            _ => self.random.random_range(0..200),
        };
        (0..len).map(|_| self.random.random()).collect()
    }

    fn round(&mut self, model: &Model) -> Vec<BucketChanges> {
        self.rounds += 1;
        let mut append = BTreeMap::new();
        if self.random.random_bool(0.3) {
            let share = self.random.random_range(0.0..1.0);
            for key in model.get("key".as_bytes()).into_iter().flat_map(Records::keys) {
                if self.random.random_bool(share) {
                    append.insert(key.clone(), None);
                }
            }
        }
        for _ in 0..self.random.random_range(0..400) {
            append.insert(revision(self.next_revision), Some(self.value()));
            self.next_revision += 1;
        }
        let shrink = self.rounds % 10 > 6;
        let mut scattered = BTreeMap::new();
        for _ in 0..self.random.random_range(0..300) {
            let len = self.random.random_range(1..40);
            let key: Vec<u8> = (0..len).map(|_| self.random.random_range(0..8)).collect();
            let delete = self.random.random_bool(if shrink { 0.2 } else { 0.4 });
            scattered.insert(key, (!delete).then(|| self.value()));
        }
        if shrink {
            for key in model.get("lease".as_bytes()).into_iter().flat_map(Records::keys) {
                if self.random.random_bool(0.6) {
                    scattered.insert(key.clone(), None);
                }
            }
        }
        let mut small = BTreeMap::new();
        for _ in 0..self.random.random_range(0..4) {
            let delete = self.random.random_bool(0.5);
            small.insert(vec![self.random.random_range(1..9)], (!delete).then(|| self.value()));
        }
        vec![
            changes("auth", Fill::HALF, &small),
            changes("key", Fill::APPEND, &append),
            changes("lease", Fill::HALF, &scattered),
            changes("meta", Fill::HALF, &BTreeMap::new()),
        ]
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("RINGD_SEED") {
        Ok(seed) => vec![seed.parse().expect("RINGD_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}

#[test]
fn agrees_with_a_map() {
    for seed in seeds(6) {
        let page_size = [1024, 4096, 4096][seed as usize % 3];
        let (mut workload, mut world, mut model) = (Workload::new(seed), World::new(page_size), Model::new());
        let mut readers: Vec<(ReadTxn, Model)> = Vec::new();
        for round in 0..60 {
            let buckets = workload.round(&model);
            apply(&mut model, &buckets);
            let budget = workload.random.random_range(1..2000);
            world.commit(buckets, budget);
            assert_eq!(world.file.check(), [], "seed {seed} round {round}");
            let txn = world.file.read();
            assert!(dump(&txn).expect("sound") == model, "seed {seed} round {round}");
            assert_eq!(check(&txn), []);
            readers.push((txn, model.clone()));
            if readers.len() > 4 {
                let gone = workload.random.random_range(0..readers.len());
                readers.swap_remove(gone);
            }
            for (txn, then) in &readers {
                assert!(dump(txn).expect("pinned") == *then, "seed {seed} round {round}: an old root changed");
            }
        }
        let mut reopened = World::open(&world.content()).expect("opens again");
        assert_eq!(reopened.file.check(), []);
        assert!(dump(&reopened.file.read()).expect("sound") == model);
        assert_eq!(reopened.file.in_use_bytes(), world.file.in_use_bytes());
        reopened.commit(vec![changes("key", Fill::APPEND, &BTreeMap::new())], 100);
        assert_eq!(reopened.file.check(), []);
    }
}

#[test]
fn lookups_and_seeks_agree_with_a_map() {
    for seed in seeds(2) {
        let (mut workload, mut world, mut model) = (Workload::new(seed), World::new(1024), Model::new());
        for _ in 0..20 {
            let buckets = workload.round(&model);
            apply(&mut model, &buckets);
            world.commit(buckets, 1000);
        }
        let txn = world.file.read();
        for (name, records) in &model {
            let bucket = txn.bucket(name).expect("sound").expect("exists");
            let mut cursor = txn.cursor(bucket);
            let last = cursor.last().expect("sound").map(|item| item.key.to_vec());
            assert_eq!(last.as_ref(), records.keys().next_back());
            for _ in 0..2000 {
                let len = workload.random.random_range(1..20);
                let key: Vec<u8> = (0..len).map(|_| workload.random.random_range(0..8)).collect();
                assert_eq!(txn.get(&bucket, &key).expect("sound"), records.get(&key).map(Vec::as_slice));
                let expected: Vec<_> = records.range(key.clone()..).take(3).map(|(key, _)| key.clone()).collect();
                let mut found = Vec::new();
                let mut next = cursor.seek(&key).expect("sound");
                while let Some(item) = next.filter(|_| found.len() < 3) {
                    found.push(item.key.to_vec());
                    next = cursor.next_item().expect("sound");
                }
                assert_eq!(found, expected);
            }
            for (key, value) in records {
                assert_eq!(txn.get(&bucket, key).expect("sound"), Some(value.as_slice()));
            }
        }
    }
}

#[test]
fn the_budget_changes_nothing_on_disk() {
    let contents = [1, 7, 100, usize::MAX].map(|budget| {
        let (mut workload, mut world, mut model) = (Workload::new(3), World::new(4096), Model::new());
        for _ in 0..15 {
            let buckets = workload.round(&model);
            apply(&mut model, &buckets);
            world.commit(buckets, budget);
        }
        world.content()
    });
    assert!(contents.iter().all(|content| *content == contents[0]));
}

/// Between the first page write and the end of the meta write any part may be on disk or not.
#[test]
fn a_power_cut_leaves_the_state_before_or_after() {
    for seed in seeds(3) {
        let (mut workload, mut world, mut model) = (Workload::new(seed), World::new(1024), Model::new());
        for round in 0..40 {
            let before = model.clone();
            let buckets = workload.round(&model);
            apply(&mut model, &buckets);
            let durable = world.content();
            let commit = world.build(buckets, 500);
            for cut in 0..6 {
                let mut disk = durable.clone();
                disk.resize(commit.grow_to.map_or(disk.len(), |len| len as usize), 0);
                let meta_begun = cut % 2 == 1;
                for write in &commit.pages {
                    tear(&mut disk, write, !meta_begun, &mut workload.random);
                }
                if meta_begun {
                    tear(&mut disk, &commit.meta, cut < 5, &mut workload.random);
                }
                let survivor = World::open(&disk).expect("opens after a power cut");
                let state = dump(&survivor.file.read()).expect("sound");
                assert_eq!(survivor.file.check(), [], "seed {seed} round {round} cut {cut}");
                assert!(state == before || (meta_begun && state == model), "seed {seed} round {round} cut {cut}");
                assert!(cut < 5 || state == model, "seed {seed} round {round}: all was written");
            }
            world.carry_out(&commit);
        }
    }
}

/// Lets a write reach the disk; torn means any subset of its 512-byte sectors.
fn tear(disk: &mut [u8], write: &PageWrite, torn: bool, random: &mut StdRng) {
    let start = write.offset() as usize;
    for (sector, bytes) in write.bytes().chunks(512).enumerate() {
        if !torn || random.random_bool(0.7) {
            let at = start + sector * 512;
            disk[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Damage anywhere: an error, a violation, or another content, but no panic and no endless loop.
#[test]
fn damage_is_an_error_not_a_panic() {
    for seed in seeds(2) {
        let (mut workload, mut world, mut model) = (Workload::new(seed), World::new(1024), Model::new());
        for _ in 0..8 {
            let buckets = workload.round(&model);
            apply(&mut model, &buckets);
            world.commit(buckets, 1000);
        }
        let content = world.content()[..world.file.size_bytes() as usize].to_vec();
        for trial in 0..1500 {
            let mut damaged = content.clone();
            for _ in 0..workload.random.random_range(1..4) {
                // Half of the damage is in headers and elements.
                let page = workload.random.random_range(0..content.len() / 1024);
                let within = workload.random.random_range(0..if trial % 2 == 0 { 96 } else { 1024 });
                damaged[page * 1024 + within] ^= 1 << workload.random.random_range(0..8);
            }
            let Ok(mut world) = World::open(&damaged) else { continue };
            let txn = world.file.read();
            let violations = check(&txn);
            let dumped = dump(&txn);
            assert!(dumped.is_ok() || !violations.is_empty(), "seed {seed} trial {trial}: an unseen damage");
            let buckets = workload.round(&model);
            world.file.begin(buckets);
            while let Ok(None) = world.file.step(1000) {}
        }
    }
}

/// A member reads every record at its start. Damage to the keys of branches that this does not detect must not hide a record later.
#[test]
fn scans_see_what_would_mislead_lookups() {
    const PAGE: usize = 1024;
    let mut world = World::new(PAGE as u32);
    let records: Records = (1..3000).map(|n| (revision(n), vec![1; 20])).collect();
    let all = records.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    world.commit(vec![changes("key", Fill::APPEND, &all)], 1000);
    let content = world.content();
    let number =
        |at: usize, len: usize| content[at..at + len].iter().rev().fold(0, |all, &byte| all << 8 | usize::from(byte));
    let (mut misleading, mut harmless) = (0, 0);
    for page in (2 * PAGE..content.len()).step_by(PAGE).filter(|page| number(page + 8, 2) == 1) {
        for element in (page + 16..).step_by(16).take(number(page + 10, 2)) {
            // The last byte of the main revision, and one that makes it large.
            let key = element + number(element, 4);
            for (at, bits) in (0..8).map(|bit| (key + 7, 1 << bit)).chain([(key + 2, 1)]) {
                let mut damaged = content.clone();
                damaged[at] ^= bits;
                let world = World::open(&damaged).expect("the meta pages are sound");
                let txn = world.file.read();
                let Ok(found) = dump(&txn) else {
                    misleading += 1;
                    continue;
                };
                harmless += 1;
                assert_eq!(found[&b"key"[..]], records);
                let bucket = txn.bucket(b"key").expect("sound").expect("exists");
                for (key, value) in &records {
                    assert_eq!(txn.get(&bucket, key).expect("sound"), Some(value.as_slice()));
                }
            }
        }
    }
    assert!(misleading > 100, "{misleading} seen, {harmless} without effect");
}

#[test]
fn a_snapshot_is_a_file_of_its_own() {
    let (mut workload, mut world, mut model) = (Workload::new(1), World::new(4096), Model::new());
    for _ in 0..12 {
        let buckets = workload.round(&model);
        apply(&mut model, &buckets);
        world.commit(buckets, 1000);
    }
    let (txn, then) = (world.file.read(), model.clone());
    let mut image = Vec::new();
    while (image.len() as u64) < txn.size_bytes() {
        txn.copy_image(image.len() as u64, workload.random.random_range(1..9000), &mut image);
        let buckets = workload.round(&model);
        apply(&mut model, &buckets);
        world.commit(buckets, 1000);
    }
    assert_eq!(image.len() as u64, txn.size_bytes());
    let copy = World::open(&image).expect("a snapshot opens");
    assert_eq!(copy.file.read().txid(), txn.txid());
    assert_eq!(copy.file.check(), []);
    assert!(dump(&copy.file.read()).expect("sound") == then);
    let mut first_meta_lost = image.clone();
    first_meta_lost[20] ^= 1;
    let copy = World::open(&first_meta_lost).expect("the second meta is left");
    assert!(dump(&copy.file.read()).expect("sound") == then);
}

/// A reader that stays for long holds back its own pages only.
#[test]
fn a_long_reader_does_not_make_the_file_grow_for_ever() {
    let mut world = World::new(4096);
    let mut round = 0u64;
    let mut step = |world: &mut World| {
        round += 1;
        let records = (0..200u64).map(|n| (n.to_be_bytes().to_vec(), Some(round.to_be_bytes().repeat(8)))).collect();
        world.commit(vec![changes("lease", Fill::HALF, &records)], 1000);
    };
    (0..5).for_each(|_| step(&mut world));
    let reader = world.file.read();
    let then = dump(&reader).expect("sound");
    (0..5).for_each(|_| step(&mut world));
    let size = world.file.size_bytes();
    (0..200).for_each(|_| step(&mut world));
    assert_eq!(world.file.size_bytes(), size);
    assert!(dump(&reader).expect("sound") == then);
}

#[test]
fn appends_fill_pages_and_leave_full_ones_alone() {
    let mut world = World::new(4096);
    let mut written = 0;
    for round in 0..100u64 {
        let records = (0..100).map(|n| (revision(round * 100 + n), Some(vec![7; 250]))).collect();
        let commit = world.build(vec![changes("key", Fill::APPEND, &records)], 1000);
        written += commit.pages.iter().map(|write| write.bytes().len()).sum::<usize>();
        world.carry_out(&commit);
    }
    let payload = 100 * 100 * (16 + 17 + 250);
    assert!(world.file.in_use_bytes() < payload as u64 * 125 / 100, "{} in use", world.file.in_use_bytes());
    assert!(written < payload * 190 / 100, "{written} written for {payload}");
}

/// Shrinking beside writers and readers: the content and old roots stay, and the end of the file is cut.
#[test]
fn the_end_of_the_file_is_given_back() {
    for seed in seeds(4) {
        let (mut workload, mut world, mut model) = (Workload::new(seed), World::new(1024), Model::new());
        for _ in 0..40 {
            let buckets = workload.round(&model);
            apply(&mut model, &buckets);
            world.commit(buckets, 1000);
        }
        let mut thinned = BTreeMap::new();
        for (index, key) in model["key".as_bytes()].keys().enumerate() {
            if index % 8 != 0 {
                thinned.insert(key.clone(), None);
            }
        }
        let buckets = vec![changes("key", Fill::APPEND, &thinned)];
        apply(&mut model, &buckets);
        world.commit(buckets, 1000);
        let (size, in_use, len) = (world.file.size_bytes(), world.file.in_use_bytes(), world.file_len);
        assert!(in_use * 2 < size, "seed {seed}: most of the file is free");
        let (reader, then) = (world.file.read(), model.clone());
        world.file.start_shrink();
        let mut commits = 0;
        while world.file.is_shrinking() {
            let mut few = workload.round(&model);
            few.truncate(1);
            apply(&mut model, &few);
            world.commit(few, 100);
            commits += 1;
            assert!(commits < 200, "seed {seed}: does not end");
            assert_eq!(world.file.check(), [], "seed {seed}");
            assert!(dump(&world.file.read()).expect("sound") == model, "seed {seed}");
            if commits == 3 {
                let mut image = Vec::new();
                reader.copy_image(0, usize::MAX >> 1, &mut image);
                assert!(dump(&reader).expect("pinned") == then && image.len() as u64 == size);
            }
        }
        println!("seed {seed}: {size} ({in_use} in use) became {} in {commits} commits", world.file.size_bytes());
        drop(reader);
        world.file.start_shrink();
        while world.file.is_shrinking() {
            world.commit(Vec::new(), 100);
        }
        assert_eq!(world.file.check(), []);
        assert!(dump(&world.file.read()).expect("sound") == model);
        println!("seed {seed}: and {} ({} in use) then", world.file.size_bytes(), world.file.in_use_bytes());
        assert!(world.file.size_bytes() < in_use * 12 / 10 + 64 * 1024 && world.file_len < len, "seed {seed}");
        let reopened = World::open(&world.content()).expect("opens again");
        assert!(dump(&reopened.file.read()).expect("sound") == model);
    }
}

/// A file after a compaction: the newest records are at the end, each half a page, and writes continue.
#[test]
fn the_newest_records_move_to_the_front() {
    let (mut world, mut model) = (World::new(4096), Model::new());
    let record = |number: u64| (number.to_be_bytes().to_vec(), Some(vec![number as u8; 1900]));
    let mut commit = |world: &mut World, records: BTreeMap<Vec<u8>, Option<Vec<u8>>>| {
        let buckets = vec![changes("key", Fill::APPEND, &records)];
        apply(&mut model, &buckets);
        world.commit(buckets, 100);
    };
    for round in 0..60 {
        commit(&mut world, (round * 100..round * 100 + 100).map(record).collect());
    }
    let (size, in_use) = (world.file.size_bytes(), world.file.in_use_bytes());
    assert!(in_use < 6000 * 4096 * 11 / 20, "two records fit in a page: {in_use} in use");
    commit(&mut world, (0..5400).map(|number| (record(number).0, None)).collect());
    world.file.start_shrink();
    let mut next = 6000;
    while world.file.is_shrinking() {
        commit(&mut world, (next..next + 5).map(record).collect());
        next += 5;
        assert!(next < 7000, "does not end");
    }
    let (shrunk, left) = (world.file.size_bytes(), world.file.in_use_bytes());
    println!("{size} ({in_use} in use) became {shrunk} ({left} in use)");
    assert!(shrunk < left + left / 10 + 100 * 4096 && (world.file_len as u64) < size / 4);
    assert_eq!(world.file.check(), []);
    assert!(dump(&world.file.read()).expect("sound") == model);
}

/// A file of `count` records of `bytes` each, shrunk when those in `gone` are deleted: its size before, its size after, and what of it is
/// in use.
fn shrunk(count: u64, bytes: usize, gone: std::ops::Range<u64>) -> (u64, u64, u64) {
    let mut world = World::new(4096);
    let change = |numbers: std::ops::Range<u64>, value: Option<Vec<u8>>| {
        let records = numbers.map(|number| (revision(number), value.clone())).collect();
        vec![changes("key", Fill::APPEND, &records)]
    };
    for number in 0..count {
        world.commit(change(number..number + 1, Some(vec![7; bytes])), 1000);
    }
    let size = world.file.size_bytes();
    world.commit(change(gone, None), 1000);
    world.file.start_shrink();
    for commits in 0.. {
        world.commit(Vec::new(), 1000);
        if !world.file.is_shrinking() {
            break;
        }
        assert!(commits < 100, "does not end");
    }
    assert_eq!(world.file.check(), []);
    let (after, in_use) = (world.file.size_bytes(), world.file.in_use_bytes());
    println!("{size} bytes became {after}, {in_use} in use");
    (size, after, in_use)
}

/// Pages in use fill the beginning of the file without a gap, so that the last record, at the end, finds no room among them. The
/// slack makes room for it, and the end is cut.
#[test]
fn the_end_is_cut_after_a_full_beginning() {
    let (_, after, in_use) = shrunk(300, 8192, 20..299);
    assert!(after < in_use * 2, "{after} bytes, {in_use} in use");
}

/// The free pages of a small file are in proportion to those in use.
#[test]
fn a_small_file_becomes_smaller() {
    let (size, after, in_use) = shrunk(25, 4096, 0..24);
    assert!(after < size && after <= in_use + 32 * 4096, "{size} bytes became {after}, {in_use} in use");
}

/// bbolt's own tool finds nothing wrong with our files, and we read and continue what it writes (with a stored freelist).
#[test]
fn bbolt_agrees() {
    let Ok(bbolt) = std::env::var("RINGD_BBOLT") else { return println!("RINGD_BBOLT is not set") };
    let dir = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = std::process::Command::new(&bbolt).args(arguments).output().expect("bbolt runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    for seed in seeds(3) {
        let (mut workload, mut world, mut model) = (Workload::new(seed), World::new(4096), Model::new());
        for round in 0..30 {
            let buckets = workload.round(&model);
            apply(&mut model, &buckets);
            world.commit(buckets, 1000);
            if round % 6 == 0 || round == 29 {
                let path = dir.path().join(format!("{seed}-{round}.db"));
                std::fs::write(&path, world.content()).expect("written");
                assert_eq!(run(&["check".as_ref(), path.as_ref()]).trim(), "OK");
                let compacted = dir.path().join(format!("{seed}-{round}.compacted.db"));
                run(&["compact".as_ref(), "-o".as_ref(), compacted.as_ref(), path.as_ref()]);
                let mut theirs = World::open(&std::fs::read(&compacted).expect("read")).expect("theirs opens");
                assert_eq!(theirs.file.check(), []);
                assert_eq!(check(&theirs.file.read()), []);
                assert!(dump(&theirs.file.read()).expect("sound") == model, "seed {seed} round {round}");
                theirs.commit(workload.round(&model), 1000);
                assert_eq!(theirs.file.check(), []);
                std::fs::write(&path, theirs.content()).expect("written");
                assert_eq!(run(&["check".as_ref(), path.as_ref()]).trim(), "OK");
            }
        }
    }
}

/// Databases and snapshots of real etcd, named by `RINGD_ETCD_DB` (separated by colons).
#[test]
fn files_of_etcd_open() {
    let Ok(paths) = std::env::var("RINGD_ETCD_DB") else { return println!("RINGD_ETCD_DB is not set") };
    for path in paths.split(':') {
        let content = std::fs::read(path).expect("read");
        let mut world = World::open(&content).expect("opens");
        assert_eq!(world.file.check(), [], "{path}");
        let model = dump(&world.file.read()).expect("sound");
        let records: Vec<_> =
            model.iter().map(|(name, records)| (String::from_utf8_lossy(name), records.len())).collect();
        println!("{path}: {} bytes, {} in use: {records:?}", world.file.size_bytes(), world.file.in_use_bytes());
        assert!(model.contains_key("key".as_bytes()) && model.contains_key("meta".as_bytes()));
        let all = model["key".as_bytes()].keys().map(|key| (key.clone(), None)).collect();
        world.commit(vec![changes("key", Fill::APPEND, &all)], 1000);
        assert_eq!(world.file.check(), [], "{path}");
    }
}
