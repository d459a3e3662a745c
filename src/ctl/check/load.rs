//! The load of a check: puts of random keys by many clients, and statistics of their latencies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::client::{Call, Client, method};
use crate::proto::etcdserverpb::PutRequest;

/// The keys and values that are put, and the rate.
pub struct Load {
    pub prefix: String,
    pub key_bytes: usize,
    pub value_bytes: usize,
    /// The largest number of puts; `None` for no limit but the time.
    pub puts_max: Option<u64>,
    /// Puts per second over all clients; `None` for the next put at each answer.
    pub rate: Option<u64>,
    pub duration: Option<Duration>,
}

/// The outcome of the load.
#[derive(Default)]
pub struct Outcome {
    /// Seconds of each put that succeeded.
    pub latencies: Vec<f64>,
    /// The number of each error.
    pub errors: BTreeMap<String, u64>,
    pub elapsed: Duration,
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn slowest(&self) -> f64 {
        self.latencies.iter().copied().fold(0.0, f64::max)
    }

    /// Standard deviation of the latencies.
    pub fn deviation(&self) -> f64 {
        let count = self.latencies.len() as f64;
        let mean = self.latencies.iter().sum::<f64>() / count;
        (self.latencies.iter().map(|latency| (latency - mean).powi(2)).sum::<f64>() / count).sqrt()
    }
}

/// Puts by all clients until the load has ended. `done` counts the answers.
pub async fn run(clients: &[Client], load: Load, done: &watch::Sender<u64>) -> Outcome {
    let started = Instant::now();
    let shared = Arc::new(Shared { load, started, issued: Mutex::new(Issued::new()), outcome: Mutex::default() });
    let workers: Vec<_> =
        clients.iter().map(|client| tokio::spawn(work(client.clone(), shared.clone(), done.clone()))).collect();
    for worker in workers {
        // A worker that panicked has ended; the puts of the others count.
        let _ended = worker.await;
    }
    let mut outcome = std::mem::take(&mut *lock(&shared.outcome));
    outcome.elapsed = started.elapsed();
    outcome
}

struct Shared {
    load: Load,
    started: Instant,
    issued: Mutex<Issued>,
    outcome: Mutex<Outcome>,
}

/// The source of the workers' puts.
struct Issued {
    count: u64,
    random: SmallRng,
}

impl Issued {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { count: 0, random: SmallRng::seed_from_u64(since.as_nanos() as u64) }
    }
}

async fn work(client: Client, shared: Arc<Shared>, done: watch::Sender<u64>) {
    let value = Bytes::from(vec![0; shared.load.value_bytes]);
    while let Some((key, at)) = shared.next() {
        tokio::time::sleep_until(at.into()).await;
        if shared.load.duration.is_some_and(|duration| shared.started.elapsed() >= duration) {
            return;
        }
        let request = PutRequest { key, value: value.clone(), ..PutRequest::default() };
        let sent = Instant::now();
        let outcome = client.call(&method::PUT, &request, Call::default()).await;
        let took = sent.elapsed().as_secs_f64();
        let mut so_far = lock(&shared.outcome);
        match outcome {
            Ok(_) => so_far.latencies.push(took),
            Err(error) => *so_far.errors.entry(error.to_string()).or_default() += 1,
        }
        done.send_modify(|count| *count += 1);
    }
}

impl Shared {
    /// The next key, and when it may be put.
    fn next(&self) -> Option<(Bytes, Instant)> {
        let mut issued = lock(&self.issued);
        if self.load.puts_max.is_some_and(|max| issued.count >= max) {
            return None;
        }
        let mut key = vec![0; self.load.prefix.len() + self.load.key_bytes];
        key[..self.load.prefix.len()].copy_from_slice(self.load.prefix.as_bytes());
        let number = issued.random.random::<u64>().to_be_bytes();
        key[self.load.prefix.len()..][..number.len()].copy_from_slice(&number);
        let at = match self.load.rate {
            Some(rate) => self.started + Duration::from_nanos(issued.count * 1_000_000_000 / rate),
            None => self.started,
        };
        issued.count += 1;
        Some((key.into(), at))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counters and lists are changed in one step, so a poisoned lock still holds good ones.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_become_rate_slowest_and_deviation() {
        let outcome = Outcome {
            latencies: vec![2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0],
            elapsed: Duration::from_secs(4),
            ..Outcome::default()
        };
        assert_eq!((outcome.rate(), outcome.slowest(), outcome.deviation()), (2.0, 9.0, 2.0));
    }
}
