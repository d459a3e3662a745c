//! Lookups and commits on a database of a million records, in memory: the cost of our code without a disk.
//!
//! Run: `cargo bench --bench pagefile`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ringd::backend::Backend;
use ringd::pagefile::{MemoryImage, PageFile};

const RECORDS: u64 = 1_000_000;
const BATCH: u64 = 10_000;
const RECORD_BYTES: usize = 300;
const RESERVED: usize = 4 << 30;
/// Records per slice, as in the shell.
const BUDGET: usize = 500;

struct Database {
    image: MemoryImage,
    backend: Backend,
    next: u64,
    record: Bytes,
}

impl Database {
    fn new() -> Database {
        let image = MemoryImage::new(&PageFile::image_of_new_file(4096), RESERVED);
        let file = PageFile::open(image.map(), 4 * 4096).expect("a new file");
        let backend = Backend::new(file).expect("a new file");
        Database { image, backend, next: 1, record: Bytes::from(vec![7; RECORD_BYTES]) }
    }

    fn append(&mut self, records: u64) {
        for _ in 0..records {
            self.backend.append(&key(self.next), self.record.clone());
            self.next += 1;
        }
    }

    fn commit(&mut self) {
        assert!(self.backend.begin_commit());
        loop {
            if let Some(commit) = self.backend.step_commit(BUDGET).expect("sound") {
                for write in commit.pages.iter().chain([&commit.meta]) {
                    self.image.write(write);
                }
                return self.backend.on_committed().expect("sound");
            }
        }
    }
}

fn key(main: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[8] = b'_';
    key
}

fn lookups(c: &mut Criterion, database: &mut Database) {
    let mut random = StdRng::seed_from_u64(1);
    let view = database.backend.view();
    c.bench_function("record in a page file of 1M records", |b| {
        b.iter(|| {
            let key = key(random.random_range(1..=RECORDS));
            black_box(view.record(&key).expect("sound").expect("there").len())
        });
    });
    database.append(BATCH);
    let view = database.backend.view();
    let end = database.next;
    c.bench_function("record in a read buffer of 10k records", |b| {
        b.iter(|| {
            let key = key(random.random_range(end - BATCH..end));
            black_box(view.record(&key).expect("sound").expect("there").len())
        });
    });
    c.bench_function("view", |b| b.iter(|| black_box(database.backend.view())));
}

fn commits(c: &mut Criterion, database: &mut Database) {
    c.bench_function("append 10k records of 300 bytes", |b| {
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let start = std::time::Instant::now();
                database.append(BATCH);
                spent += start.elapsed();
                database.commit();
            }
            spent
        });
    });
    c.bench_function("build a commit of 10k appended records", |b| {
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                database.append(BATCH);
                let start = std::time::Instant::now();
                assert!(database.backend.begin_commit());
                let commit = loop {
                    if let Some(commit) = database.backend.step_commit(BUDGET).expect("sound") {
                        break commit;
                    }
                };
                spent += start.elapsed();
                for write in commit.pages.iter().chain([&commit.meta]) {
                    database.image.write(write);
                }
                database.backend.on_committed().expect("sound");
            }
            spent
        });
    });
    c.bench_function("longest slice of a commit of 10k records", |b| {
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                database.append(BATCH);
                spent += longest_slice(database);
            }
            spent
        });
    });
}

fn longest_slice(database: &mut Database) -> std::time::Duration {
    let start = std::time::Instant::now();
    assert!(database.backend.begin_commit());
    let mut longest = start.elapsed();
    loop {
        let start = std::time::Instant::now();
        let commit = database.backend.step_commit(BUDGET).expect("sound");
        longest = longest.max(start.elapsed());
        if let Some(commit) = commit {
            for write in commit.pages.iter().chain([&commit.meta]) {
                database.image.write(write);
            }
            database.backend.on_committed().expect("sound");
            return longest;
        }
    }
}

fn all(c: &mut Criterion) {
    let mut database = Database::new();
    for _ in 0..RECORDS / BATCH {
        database.append(BATCH);
        database.commit();
    }
    lookups(c, &mut database);
    drop(database);
    // The measured commits make their own file grow: short measurements, so that it stays in memory.
    commits(c, &mut Database::new());
}

fn short() -> Criterion {
    let (warm_up, measured) = (std::time::Duration::from_millis(300), std::time::Duration::from_secs(1));
    Criterion::default().sample_size(20).warm_up_time(warm_up).measurement_time(measured)
}

criterion_group! { name = benches; config = short(); targets = all }
criterion_main!(benches);
