//! The codec on the path of a request: decode it, wrap it into a log entry, decode the entry.
//!
//! `cargo bench --bench codec`. Bytes per element: a put of a 24-byte key and a 256-byte value.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use ringd::{
    apply::request::{self, Kind, RaftRequest},
    auth::Requester,
    proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, ResponseHeader},
    service::check,
};

fn put() -> PutRequest {
    PutRequest { key: Bytes::from(vec![b'k'; 24]), value: Bytes::from(vec![b'v'; 256]), ..PutRequest::default() }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    let message = Bytes::from(put().encode_to_vec());
    group.bench_function("put: decode and check", |bencher| {
        bencher.iter(|| check::put(&PutRequest::decode(black_box(message.clone())).expect("a put")));
    });
    group.bench_function("put: wrap into an entry", |bencher| {
        bencher.iter(|| request::wrap(black_box(7), Kind::Put, black_box(&message), Requester::NOBODY));
    });
    let entry = request::wrap(7, Kind::Put, &message, Requester::NOBODY);
    group.bench_function("put: take an entry apart", |bencher| {
        bencher.iter(|| RaftRequest::parse(black_box(entry.clone())).expect("an entry"));
    });
    let header =
        ResponseHeader { cluster_id: u64::MAX / 3, member_id: u64::MAX / 5, revision: 1_000_000, raft_term: 7 };
    let answer = PutResponse { header: Some(header), prev_kv: None };
    group.bench_function("put: encode the answer", |bencher| bencher.iter(|| black_box(&answer).encode_to_vec()));
    let range =
        Bytes::from(RangeRequest { key: Bytes::from(vec![b'k'; 24]), ..RangeRequest::default() }.encode_to_vec());
    group.bench_function("range: decode and check", |bencher| {
        bencher.iter(|| check::range(&RangeRequest::decode(black_box(range.clone())).expect("a range")));
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
