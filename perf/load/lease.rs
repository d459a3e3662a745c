//! Keepalives on many streams: as fast as answers come, or at a fixed rate.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use clap::Args;
use ringd::proto::etcdserverpb::LeaseKeepAliveRequest;

use crate::{
    AnyError, WIDE, here,
    messages::{Assembly, number_in},
    pool::{Pool, or_closed},
    samples::Samples,
    wire::Event,
};

const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// The field of a LeaseKeepAliveResponse; 0 says that there is no such lease.
const TTL: u64 = 3;

#[derive(Args)]
pub struct Keepalive {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Per connection.
    #[arg(long, default_value_t = 16)]
    streams: usize,
    #[arg(long, default_value_t = 10_000)]
    leases: u64,
    /// Per second; without, every stream sends its next when its last is answered.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

/// One stream of keepalives, and the start times of those without an answer, oldest first.
#[derive(Default)]
struct Stream {
    assembly: Assembly,
    due: VecDeque<Instant>,
}

impl Keepalive {
    pub fn run(&self) -> Result<(), AnyError> {
        let mut pool = Pool::open(&here(self.port), self.connections, WIDE)?;
        let mut streams: AHashMap<(usize, u32), Stream> = AHashMap::new();
        let mut numbers = Vec::new();
        let mut samples = Samples::default();
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(self.seconds);
        let mut issued = 0;
        for _ in 0..self.streams {
            for (number, connection) in pool.connections.iter_mut().enumerate() {
                let stream = connection.wire.call(KEEP_ALIVE, &self.request(&mut issued), false);
                streams.insert((number, stream), Stream { due: [begin].into(), ..Stream::default() });
                numbers.push((number, stream));
            }
        }
        let interval = self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let mut due = begin + interval.unwrap_or(Duration::MAX / 4).min(end - begin);
        loop {
            let now = Instant::now();
            if now >= end && streams.values().all(|stream| stream.due.is_empty()) {
                break;
            }
            if let Some(interval) = interval {
                while due <= now && due < end {
                    let (number, stream) = numbers[issued as usize % numbers.len()];
                    pool.connections[number].wire.send(stream, &self.request(&mut issued), false);
                    streams.entry((number, stream)).or_default().due.push_back(due);
                    due += interval;
                }
            }
            let closed = interval.is_none() && now < end;
            let mut handler = or_closed(|number, wire, event| {
                let Event::Data { stream, bytes } = event else { return Err("a keepalive stream ended".into()) };
                let Stream { assembly, due } = streams.entry((number, stream)).or_default();
                let now = Instant::now();
                assembly.push(bytes, &mut |message| {
                    let sent = due.pop_front();
                    match sent {
                        Some(sent) if number_in(message, TTL) > 0 => samples.add(now.saturating_duration_since(sent)),
                        _ => samples.refuse(),
                    }
                    if closed {
                        due.push_back(now);
                        wire.send(stream, &self.request(&mut issued), false);
                    }
                });
                Ok(())
            });
            let until = if now >= end {
                None
            } else if interval.is_some() && due < end {
                Some(due)
            } else {
                Some(end)
            };
            pool.step(until, &mut handler)?;
        }
        samples.sort();
        println!("{:.0} {samples}", samples.count() as f64 / begin.elapsed().as_secs_f64());
        Ok(())
    }

    fn request(&self, issued: &mut u64) -> LeaseKeepAliveRequest {
        let id = (*issued % self.leases) as i64 + 1;
        *issued += 1;
        LeaseKeepAliveRequest { id }
    }
}
