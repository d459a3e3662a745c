//! What is sent: the kinds of requests, their keys and values.

use bytes::Bytes;
use clap::ValueEnum;
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Zipf};

use super::{AnyError, wire::Wire};
use crate::proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request as Op};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";

/// The exponent of `zipfian`, as YCSB has it.
const ZIPF_EXPONENT: f64 = 0.99;
/// `hot`: this part of the requests goes to this part of the keys.
const HOT_REQUESTS: f64 = 0.9;
const HOT_KEYS: f64 = 0.1;
/// Values are slices of so many random bytes more than they are long.
const VALUE_SLACK: usize = 4096;

/// Which key is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// One after the other, and from the first again.
    Sequential,
    Uniform,
    /// Few keys often: the n-th with a chance of 1/n^0.99.
    Zipfian,
    /// 90 % of the requests to 10 % of the keys.
    Hot,
}

/// A kind of request, which is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Put,
    Linearizable,
    Serializable,
    Txn,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Put, Self::Linearizable, Self::Serializable, Self::Txn];

    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Linearizable => "range (linearizable)",
            Self::Serializable => "range (serializable)",
            Self::Txn => "txn",
        }
    }
}

/// What part of the requests is of which kind.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Of all.
    pub reads: f64,
    /// Of the reads.
    pub serializable: f64,
    /// Puts in a transaction; 0: they come alone.
    pub txn_ops: usize,
}

/// What a read asks for.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// A fixed key, instead of one of the key space.
    pub key: Option<Bytes>,
    pub range_end: Bytes,
    pub limit: i64,
    pub keys_only: bool,
    pub count_only: bool,
    /// 0: the newest.
    pub revision: i64,
}

/// Keys of a fixed length, in an order.
pub struct Keys {
    order: Order,
    count: u64,
    size: usize,
    next: u64,
    zipf: Option<Zipf<f64>>,
}

impl Keys {
    /// `count` keys of `size` bytes.
    ///
    /// # Errors
    /// There are not so many keys of that size.
    pub fn new(order: Order, count: u64, size: usize) -> Result<Self, AnyError> {
        let digits = size.saturating_mul(4).min(64);
        if count == 0 || digits < 64 && count > 1 << digits {
            return Err(format!("there are no {count} keys of {size} bytes: keys are hexadecimal numbers").into());
        }
        let zipf = (order == Order::Zipfian).then(|| Zipf::new(count as f64, ZIPF_EXPONENT)).transpose()?;
        Ok(Self { order, count, size, next: 0, zipf })
    }

    fn number(&mut self, random: &mut SmallRng) -> u64 {
        match (self.order, &self.zipf) {
            (Order::Sequential, _) => {
                let number = self.next;
                self.next = (number + 1) % self.count;
                number
            }
            (_, Some(zipf)) => (zipf.sample(random) as u64).clamp(1, self.count) - 1,
            (Order::Hot, _) => {
                let hot = ((self.count as f64 * HOT_KEYS) as u64).max(1);
                let is_hot = hot == self.count || random.random_bool(HOT_REQUESTS);
                if is_hot { random.random_range(0..hot) } else { random.random_range(hot..self.count) }
            }
            _ => random.random_range(0..self.count),
        }
    }

    /// A number as a key.
    fn key(&self, number: u64) -> Bytes {
        format!("{number:0size$x}", size = self.size).into()
    }
}

/// The requests of a run, one after the other.
pub struct Plan {
    random: SmallRng,
    keys: Keys,
    mix: Mix,
    reading: Reading,
    value_size: usize,
    noise: Bytes,
}

impl Plan {
    pub fn new(seed: u64, keys: Keys, mix: Mix, reading: Reading, value_size: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut noise = vec![0; value_size + VALUE_SLACK];
        random.fill_bytes(&mut noise);
        Self { random, keys, mix, reading, value_size, noise: noise.into() }
    }

    /// Sends the next request: the number of its stream, and its kind.
    pub fn send(&mut self, wire: &mut Wire) -> (u32, Kind) {
        if self.mix.reads > 0.0 && self.random.random_bool(self.mix.reads) {
            let (request, kind) = self.range();
            return (wire.call(RANGE, &request, true), kind);
        }
        if self.mix.txn_ops == 0 {
            let put = self.put();
            return (wire.call(PUT, &put, true), Kind::Put);
        }
        let puts = (0..self.mix.txn_ops).map(|_| RequestOp { request: Some(Op::RequestPut(self.put())) });
        let request = TxnRequest { success: puts.collect(), ..TxnRequest::default() };
        (wire.call(TXN, &request, true), Kind::Txn)
    }

    /// Writes one key of the key space, for a preload: its number counts from 0.
    pub fn preload(&mut self, number: u64, wire: &mut Wire) -> u32 {
        let request = PutRequest { key: self.keys.key(number), value: self.value(), ..PutRequest::default() };
        wire.call(PUT, &request, true)
    }

    /// The number of different keys.
    pub fn key_count(&self) -> u64 {
        self.keys.count
    }

    fn put(&mut self) -> PutRequest {
        let number = self.keys.number(&mut self.random);
        PutRequest { key: self.keys.key(number), value: self.value(), ..PutRequest::default() }
    }

    fn value(&mut self) -> Bytes {
        let at = self.random.random_range(0..VALUE_SLACK);
        self.noise.slice(at..at + self.value_size)
    }

    fn range(&mut self) -> (RangeRequest, Kind) {
        let serializable = self.mix.serializable > 0.0 && self.random.random_bool(self.mix.serializable);
        let key = match &self.reading.key {
            Some(key) => key.clone(),
            None => {
                let number = self.keys.number(&mut self.random);
                self.keys.key(number)
            }
        };
        let Reading { range_end, limit, keys_only, count_only, revision, .. } = self.reading.clone();
        let request = RangeRequest {
            key,
            range_end,
            limit,
            revision,
            serializable,
            keys_only,
            count_only,
            ..RangeRequest::default()
        };
        (request, if serializable { Kind::Serializable } else { Kind::Linearizable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(order: Order, count: u64) -> Vec<u64> {
        let mut keys = Keys::new(order, count, 8).unwrap();
        let mut random = SmallRng::seed_from_u64(1);
        (0..10_000).map(|_| keys.number(&mut random)).collect()
    }

    #[test]
    fn orders_are_what_they_say() {
        assert_eq!(numbers(Order::Sequential, 3)[..4], [0, 1, 2, 0]);
        for order in [Order::Uniform, Order::Zipfian, Order::Hot] {
            assert!(numbers(order, 100).iter().all(|number| *number < 100), "{order:?}");
            assert_eq!(numbers(order, 1), vec![0; 10_000], "{order:?}");
        }
        let hot = numbers(Order::Hot, 100).iter().filter(|number| **number < 10).count();
        assert!((8_800..9_200).contains(&hot), "{hot}");
        let first = |order| numbers(order, 1000).iter().filter(|number| **number == 0).count();
        assert!(first(Order::Zipfian) > 20 * first(Order::Uniform));
    }

    #[test]
    fn keys_have_their_size_and_are_enough() {
        let keys = Keys::new(Order::Uniform, 256, 2).unwrap();
        assert_eq!((keys.key(0), keys.key(255)), (Bytes::from("00"), Bytes::from("ff")));
        assert!(Keys::new(Order::Uniform, 257, 2).is_err());
        assert!(Keys::new(Order::Uniform, 0, 2).is_err());
        assert_eq!(Keys::new(Order::Uniform, u64::MAX, 300).unwrap().key(1).len(), 300);
    }
}
