//! Encoding appends: how fast entries become aligned, checksummed blocks. No disk is involved.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringd::{
    base::log_entry::{EntryKind, HardState, LogEntry},
    wal::{Config, Metadata, Wal},
};

const ENTRY_BYTES: usize = 300;
/// Appends per log, so that making the log does not count.
const APPENDS: u64 = 64;

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal/append");
    let data = Bytes::from(vec![0x5a; ENTRY_BYTES]);
    for count in [1, 32, 256] {
        let batch = |first: u64| -> Vec<LogEntry> {
            let entry = |index| LogEntry { index, term: 1, kind: EntryKind::Normal, data: data.clone() };
            (first..first + count).map(entry).collect()
        };
        let batches: Vec<_> = (0..APPENDS).map(|round| batch(1 + round * count)).collect();
        group.throughput(Throughput::Bytes(APPENDS * count * ENTRY_BYTES as u64));
        group.bench_function(format!("{APPENDS} batches of {count}"), |bencher| {
            bencher.iter_batched(
                || Wal::create(Config::new(1), Metadata::default()).0,
                |mut wal| {
                    let state = HardState::default();
                    for entries in &batches {
                        let append = wal.append(Some(state), entries).expect("fits");
                        black_box(&append.writes[0].write.bytes[..]);
                        wal.on_written(append.sequence);
                    }
                    wal
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
