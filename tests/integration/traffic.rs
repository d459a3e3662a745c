//! Random KV traffic: every option of every request, mostly valid, sometimes not.
//!
//! Keys come from a small pool, so that operations meet: overwrites, deletes, transactions with duplicate keys. Revisions
//! are chosen around what the servers last reported, so that past, compacted and future ones all occur.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use ringd::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::TargetUnion, request_op::Request,
};

/// `--max-txn-ops` of both servers.
const TXN_OPS_MAX: usize = 128;
/// Transactions in transactions.
const TXN_DEPTH_MAX: usize = 3;
const UNKNOWN_LEASE: i64 = 0x1234_5678;

/// One request of the KV service.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
}

impl Operation {
    pub fn path(&self) -> &'static str {
        match self {
            Operation::Range(_) => "/etcdserverpb.KV/Range",
            Operation::RangeStream(_) => "/etcdserverpb.KV/RangeStream",
            Operation::Put(_) => "/etcdserverpb.KV/Put",
            Operation::DeleteRange(_) => "/etcdserverpb.KV/DeleteRange",
            Operation::Txn(_) => "/etcdserverpb.KV/Txn",
            Operation::Compact(_) => "/etcdserverpb.KV/Compact",
        }
    }

    pub fn encoded(&self) -> Bytes {
        let bytes = match self {
            Operation::Range(request) | Operation::RangeStream(request) => request.encode_to_vec(),
            Operation::Put(request) => request.encode_to_vec(),
            Operation::DeleteRange(request) => request.encode_to_vec(),
            Operation::Txn(request) => request.encode_to_vec(),
            Operation::Compact(request) => request.encode_to_vec(),
        };
        bytes.into()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?}")
    }
}

/// The source of operations.
pub struct Traffic {
    random: SmallRng,
    /// The revision of the server's last answer.
    revision: i64,
    compacted: i64,
}

impl Traffic {
    pub fn new(seed: u64) -> Traffic {
        Traffic { random: SmallRng::seed_from_u64(seed), revision: 1, compacted: 0 }
    }

    /// Takes the revision of an answer.
    pub fn observe(&mut self, operation: &Operation, revision: i64) {
        self.revision = self.revision.max(revision);
        if let Operation::Compact(request) = operation {
            self.compacted = request.revision;
        }
    }

    pub fn next(&mut self) -> Operation {
        match self.random.random_range(0..100) {
            0..35 => Operation::Put(self.put()),
            35..60 => Operation::Range(self.range()),
            60..66 => Operation::RangeStream(self.range_stream()),
            66..75 => Operation::DeleteRange(self.delete_range()),
            75..98 => Operation::Txn(self.txn(0)),
            _ => Operation::Compact(self.compact()),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.chance(8);
        PutRequest {
            key: self.key(),
            value: if ignore_value && !self.chance(10) { Bytes::new() } else { self.value() },
            lease: if self.chance(4) { UNKNOWN_LEASE } else { 0 },
            prev_kv: self.chance(30),
            ignore_value,
            ignore_lease: self.chance(8),
        }
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.interval();
        RangeRequest {
            key,
            range_end,
            limit: self.limit(),
            revision: self.read_revision(),
            sort_order: self.pick(&[(70, 0), (12, 1), (14, 2), (2, 3), (2, -1)]),
            sort_target: self.pick(&[(60, 0), (9, 1), (9, 2), (9, 3), (9, 4), (2, 5), (2, -7)]),
            serializable: self.chance(50),
            keys_only: self.chance(15),
            count_only: self.chance(10),
            min_mod_revision: self.filter_revision(),
            max_mod_revision: self.filter_revision(),
            min_create_revision: self.filter_revision(),
            max_create_revision: self.filter_revision(),
        }
    }

    /// Mostly requests that RangeStream supports; both servers must refuse the others alike.
    fn range_stream(&mut self) -> RangeRequest {
        let mut request = self.range();
        if self.chance(20) {
            // A target without an order passes etcd's check and continues, piece by piece, after the last key of a sort that is not
            // stable: what comes then is unspecified where keys are equal.
            if request.sort_target != 0 && request.sort_order == 0 {
                request.sort_order = 1;
            }
            return request;
        }
        RangeRequest {
            sort_order: self.pick(&[(80, 0), (20, 1)]),
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..request
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.interval();
        // Whole-store deletes would keep the store empty.
        let range_end = if range_end == b"\0"[..] && !self.chance(5) { Bytes::new() } else { range_end };
        DeleteRangeRequest { key, range_end, prev_kv: self.chance(50) }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compares = self.random.random_range(0..4);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.branch(depth),
            failure: self.branch(depth),
        }
    }

    fn branch(&mut self, depth: usize) -> Vec<RequestOp> {
        match self.random.random_range(0..200) {
            0 => many_puts(TXN_OPS_MAX),
            1 => many_puts(TXN_OPS_MAX + 1),
            _ => {
                let length = self.random.random_range(0..4);
                (0..length).map(|_| self.request_op(depth)).collect()
            }
        }
    }

    fn request_op(&mut self, depth: usize) -> RequestOp {
        let nested = depth + 1 < TXN_DEPTH_MAX;
        let request = match self.random.random_range(0..100) {
            0..35 => Some(Request::RequestRange(self.range())),
            35..70 => Some(Request::RequestPut(self.put())),
            70..84 => Some(Request::RequestDeleteRange(self.delete_range())),
            84..98 if nested => Some(Request::RequestTxn(self.txn(depth + 1))),
            84..98 => Some(Request::RequestRange(self.range())),
            _ => None,
        };
        RequestOp { request }
    }

    fn compare(&mut self) -> Compare {
        let target = self.pick(&[(20, 0), (20, 1), (20, 2), (20, 3), (15, 4), (3, 5), (2, -1)]);
        // The value need not be the one that the target asks for.
        let union = if self.chance(85) { target } else { self.random.random_range(0..6) };
        let (key, range_end) = if self.chance(25) { self.interval() } else { (self.key(), Bytes::new()) };
        Compare {
            result: self.pick(&[(30, 0), (22, 1), (22, 2), (22, 3), (2, 4), (2, -1)]),
            target,
            key,
            target_union: self.target_union(union),
            range_end,
        }
    }

    fn target_union(&mut self, target: i32) -> Option<TargetUnion> {
        Some(match target {
            0 => TargetUnion::Version(self.random.random_range(0..4)),
            1 => TargetUnion::CreateRevision(self.past_revision()),
            2 => TargetUnion::ModRevision(self.past_revision()),
            3 => TargetUnion::Value(self.value()),
            4 => TargetUnion::Lease(self.pick(&[(60, 0), (40, UNKNOWN_LEASE)])),
            _ => return None,
        })
    }

    fn compact(&mut self) -> CompactionRequest {
        let revision = match self.random.random_range(0..10) {
            0 => 0,
            1 => -1,
            2 => self.compacted,
            3 => self.revision + 1 + self.random.random_range(0..3),
            4 => self.revision,
            _ => self.past_revision(),
        };
        CompactionRequest { revision, physical: self.chance(50) }
    }

    fn interval(&mut self) -> (Bytes, Bytes) {
        let key = if self.chance(6) { Bytes::from_static(b"\0") } else { self.key() };
        let range_end = match self.random.random_range(0..10) {
            0..4 => Bytes::new(),
            4 | 5 => Bytes::from_static(b"\0"),
            6 | 7 => prefix_end(&key),
            _ => self.key(),
        };
        (key, range_end)
    }

    fn key(&mut self) -> Bytes {
        const BINARY: [&[u8]; 5] = [b"\0", b"\0\0", b"\xff", b"\xff\xff", b"k/\xff"];
        match self.random.random_range(0..100) {
            0 => Bytes::new(),
            1..6 => Bytes::from_static(BINARY.choose(&mut self.random).expect("not empty")),
            6..30 => format!("{}", char::from(self.random.random_range(b'a'..=b'f'))).into(),
            _ => format!("k/{:02}", self.random.random_range(0..32)).into(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.random.random_range(0..20) {
            0 => Bytes::new(),
            1 => vec![self.random.random(); self.random.random_range(1..40_000)].into(),
            2 => Bytes::from_static(b"\0\xfe\xff"),
            _ => format!("v{}", self.random.random_range(0..12)).into(),
        }
    }

    fn limit(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0..10 => 0,
            10..17 => self.random.random_range(1..6),
            17 => self.random.random_range(6..40),
            18 => -1,
            _ => i64::MAX,
        }
    }

    fn read_revision(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0..12 => 0,
            12 => -1,
            13 => self.revision + 1 + self.random.random_range(0..5),
            14 => self.compacted,
            15 => self.compacted - 1,
            _ => self.past_revision(),
        }
    }

    fn filter_revision(&mut self) -> i64 {
        if self.chance(6) { self.past_revision() } else { 0 }
    }

    fn past_revision(&mut self) -> i64 {
        self.random.random_range((self.compacted - 2).min(self.revision)..=self.revision)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// One of the values, with these weights, which sum to 100.
    fn pick<T: Copy>(&mut self, weighted: &[(u32, T)]) -> T {
        weighted.choose_weighted(&mut self.random, |choice| choice.0).expect("constant weights").1
    }
}

/// As many operations as there may be, or one more, and nothing else wrong with them.
fn many_puts(count: usize) -> Vec<RequestOp> {
    let put = |number| PutRequest { key: format!("many/{number:03}").into(), ..PutRequest::default() };
    (0..count).map(|number| RequestOp { request: Some(Request::RequestPut(put(number))) }).collect()
}

/// The end of the range of all keys that begin with `prefix`, as clients compute it.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|&byte| byte < 0xff) else {
        return Bytes::from_static(b"\0");
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}
