//! The key space at a million keys of 24 bytes: index lookup and insert, reads through a view, restore from the page file.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::{
    backend::Backend,
    mvcc::{KeyRange, RangeOptions, RangeReader, Restore, Revision, Store, TreeIndex, View},
    pagefile::{MemoryImage, PageFile},
};

const KEYS: u64 = 1_000_000;
const SEED: u64 = 7;
const IMAGE_BYTES: usize = 1 << 30;

/// 24 bytes; neighbours in number are scattered over the key space.
fn key(number: u64) -> [u8; 24] {
    let mut key = *b"/registry/0000000000000/";
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (place, digit) in key[10..23].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(scattered >> (60 - 4 * place)) as usize & 15];
    }
    key
}

fn full_index() -> TreeIndex {
    let mut index = TreeIndex::default();
    for number in 0..KEYS {
        index.put(&key(number), Revision::new(number as i64 + 2, 0), false);
    }
    index
}

struct Database {
    image: MemoryImage,
    file_len: u64,
}

impl Database {
    /// A million keys, one version each, committed.
    fn new() -> Self {
        let content = PageFile::image_of_new_file(4096);
        let mut database = Self { image: MemoryImage::new(&content, IMAGE_BYTES), file_len: content.len() as u64 };
        let mut backend = database.open();
        let mut store = Store::default();
        let value = [b'v'; 100];
        for number in 0..KEYS {
            let mut txn = store.write(&mut backend);
            txn.put(&key(number), &value, 0, false).expect("sound");
            txn.end();
            if number % 10_000 == 9_999 {
                database.commit(&mut backend);
            }
        }
        database.commit(&mut backend);
        database
    }

    fn open(&self) -> Backend {
        let file = PageFile::open(self.image.map(), self.file_len).expect("sound");
        Backend::new(file).expect("sound")
    }

    fn commit(&mut self, backend: &mut Backend) {
        if !backend.begin_commit() {
            return;
        }
        let commit = loop {
            if let Some(commit) = backend.step_commit(usize::MAX).expect("sound") {
                break commit;
            }
        };
        self.file_len = commit.grow_to.unwrap_or(self.file_len);
        for write in commit.pages.iter().chain([&commit.meta]) {
            self.image.write(write);
        }
        backend.on_committed().expect("sound");
    }

    fn restore(&self) -> (Store, Backend) {
        let mut backend = self.open();
        let mut restore = Restore::new(backend.view()).expect("sound");
        while !restore.step(10_000).expect("sound") {}
        let (store, _) = restore.finish(&mut backend).expect("sound");
        (store, backend)
    }
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    resident.unwrap_or(0) * 4096
}

fn index(criterion: &mut Criterion) {
    let before = resident_bytes();
    let index = full_index();
    let after = resident_bytes();
    println!("index: {} bytes per key", (after - before) / KEYS);
    let mut rng = SmallRng::seed_from_u64(SEED);
    criterion.bench_function("index/lookup, 1M keys", |bench| {
        bench.iter(|| {
            let key = key(rng.random_range(0..KEYS));
            black_box(index.version_at(&key, i64::MAX))
        });
    });
    criterion.bench_function("index/count of half the keys", |bench| {
        bench.iter(|| black_box(index.count(KeyRange::From(b"/registry/8"), i64::MAX)));
    });
    let mut main = KEYS as i64 + 2;
    let mut grown = index;
    criterion.bench_function("index/insert, 1M keys", |bench| {
        bench.iter(|| {
            main += 1;
            black_box(grown.put(&key(main as u64), Revision::new(main, 0), false))
        });
    });
    criterion.bench_function("index/update", |bench| {
        bench.iter(|| {
            main += 1;
            let key = key(rng.random_range(0..KEYS));
            black_box(grown.put(&key, Revision::new(main, 0), false))
        });
    });
    criterion.bench_function("index/update, a view per update", |bench| {
        let mut view = grown.clone();
        bench.iter(|| {
            main += 1;
            let key = key(rng.random_range(0..KEYS));
            grown.put(&key, Revision::new(main, 0), false);
            view = grown.clone();
            black_box(&view);
        });
    });
}

fn read_all(view: &View, options: RangeOptions, out: &mut BytesMut) {
    let mut reader = RangeReader::new(view.clone(), options).expect("no refusal");
    while reader.measure(10_000).expect("sound").is_none() {}
    while !reader.fill(out, 1 << 20).expect("sound") {}
}

fn store(criterion: &mut Criterion) {
    let database = Database::new();
    let mut group = criterion.benchmark_group("store");
    group.sample_size(10);
    group.bench_function("restore 1M", |bench| {
        bench.iter_batched(|| (), |()| database.restore(), BatchSize::PerIteration);
    });
    group.finish();
    let (mut store, mut backend) = database.restore();
    let view = store.view(&backend);
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut out = BytesMut::with_capacity(1 << 20);
    criterion.bench_function("view/point", |bench| {
        bench.iter(|| {
            out.clear();
            black_box(view.point(&key(rng.random_range(0..KEYS)), 0, false, &mut out)).expect("sound")
        });
    });
    let mut options = RangeOptions { range_end: Bytes::from_static(b"\0"), limit: 100, ..RangeOptions::default() };
    criterion.bench_function("view/range of 100", |bench| {
        bench.iter(|| {
            out.clear();
            options.key = Bytes::copy_from_slice(&key(rng.random_range(0..KEYS)));
            read_all(&view, options.clone(), &mut out);
        });
    });
    drop(view);
    criterion.bench_function("store/put and view", |bench| {
        let mut latest = store.view(&backend);
        bench.iter(|| {
            let mut txn = store.write(&mut backend);
            txn.put(&key(rng.random_range(0..KEYS)), &[b'w'; 100], 0, false).expect("sound");
            black_box(txn.end());
            latest = store.view(&backend);
            black_box(&latest);
        });
    });
}

criterion_group!(benches, index, store);
criterion_main!(benches);
