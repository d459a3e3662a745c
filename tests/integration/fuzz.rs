//! Seeded fuzzing of parsers that no other test feeds with random bytes.
//!
//! Beside these: the log's replay and forged batches (`wal/tests.rs`), records (`wal/record.rs`), damaged page files
//! (`pagefile/tests.rs`), the port (`bad_input.rs`, `frontend/tests/abuse.rs`), messages as bytes (`wire.rs`).

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::{
    apply::request::{Kind, RaftRequest, wrap},
    auth::Requester,
    config::Config,
    proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest},
};

use crate::{
    harness,
    traffic::{Operation, Traffic},
};

const ROUNDS: usize = 200_000;
const COMMAND_LINES: usize = 5_000;

/// Changed entries of the log, and random bytes: read or refused, without a panic.
pub fn raft_requests() {
    let seed = harness::seed("fuzz::raft_requests", 1);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut traffic = Traffic::new(seed);
    let (mut read, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let mut bytes = match round % 4 {
            0 => (0..random.random_range(0..64)).map(|_| random.random()).collect(),
            _ => entry(&traffic.next()),
        };
        if round % 4 == 1 {
            RaftRequest::parse(bytes.clone().into()).expect("an entry as it was written");
        }
        for _ in 0..random.random_range(1..5) {
            if !bytes.is_empty() {
                let position = random.random_range(0..bytes.len().min(100));
                bytes[position] = random.random();
            }
        }
        bytes.truncate(random.random_range(0..=bytes.len()));
        match RaftRequest::parse(Bytes::from(bytes)) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}

fn entry(operation: &Operation) -> Vec<u8> {
    let kind = match operation {
        Operation::Put(_) => Kind::Put,
        Operation::DeleteRange(_) => Kind::DeleteRange,
        Operation::Txn(_) => Kind::Txn,
        Operation::Compact(_) => Kind::Compaction,
        Operation::Range(_) | Operation::RangeStream(_) => return short_entry(),
    };
    wrap(7, kind, &operation.encoded(), Requester { user: "alice", revision: 3 }).to_vec()
}

fn short_entry() -> Vec<u8> {
    let messages = [
        (Kind::Put, PutRequest { key: "k".into(), ..PutRequest::default() }.encode_to_vec()),
        (Kind::DeleteRange, DeleteRangeRequest { key: "k".into(), ..DeleteRangeRequest::default() }.encode_to_vec()),
        (Kind::Compaction, CompactionRequest { revision: 9, physical: true }.encode_to_vec()),
    ];
    messages.iter().flat_map(|(kind, message)| wrap(u64::MAX, *kind, message, Requester::NOBODY)).collect()
}

/// Command lines of flags, values and random words: a configuration or an error, without a panic.
pub fn command_lines() {
    let seed = harness::seed("fuzz::command_lines", 1);
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..COMMAND_LINES {
        let words = (0..random.random_range(0..6)).map(|_| word(&mut random)).collect::<Vec<_>>();
        let variables = (0..random.random_range(0..3)).map(|_| {
            let name = FLAGS[random.random_range(0..FLAGS.len())].trim_start_matches('-').replace('-', "_");
            (format!("ETCD_{}", name.to_uppercase()), VALUES[random.random_range(0..VALUES.len())].to_owned())
        });
        let variables = variables.collect::<Vec<_>>();
        if let Err(refused) = Config::parse(words.clone(), variables.clone()) {
            assert!(refused.exit != 0 && !refused.text.trim().is_empty(), "{words:?} {variables:?}: {refused:?}");
        }
    }
}

const FLAGS: [&str; 16] = [
    "--name",
    "--data-dir",
    "--wal-dir",
    "--listen-client-urls",
    "--advertise-client-urls",
    "--listen-peer-urls",
    "--initial-advertise-peer-urls",
    "--initial-cluster",
    "--initial-cluster-state",
    "--heartbeat-interval",
    "--election-timeout",
    "--quota-backend-bytes",
    "--max-request-bytes",
    "--grpc-keepalive-min-time",
    "--cores",
    "--unsafe-no-fsync",
];

const VALUES: [&str; 20] = [
    "",
    "-",
    "0",
    "1",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
    "5s",
    "1h1m-1ns",
    "http://",
    "http://[::1]:2379",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:0,",
    "unix://a",
    "one=http://127.0.0.1:1,one=",
    "=,=",
    "new",
    "0,0,4096",
    "\u{1f980}\0",
];

fn word(random: &mut SmallRng) -> String {
    let (flag, value) = (FLAGS[random.random_range(0..FLAGS.len())], VALUES[random.random_range(0..VALUES.len())]);
    match random.random_range(0..6) {
        0 => flag.to_owned(),
        1 => value.to_owned(),
        2 => (0..random.random_range(0..20)).map(|_| char::from(random.random_range(b' '..b'~'))).collect(),
        _ => format!("{flag}={value}"),
    }
}
