//! Unary calls: as fast as answers come, at a fixed rate, or one.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use ahash::AHashMap;
use clap::Args;
use ringd::proto::etcdserverpb::{LeaseGrantRequest, PutRequest, RangeRequest};

use crate::{
    AnyError, Keys, Length, WIDE, here,
    pool::{Pool, or_closed},
    samples::{Memory, Samples, Span},
    wire::{Event, Wire},
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";

/// How long the last answers may take before the run counts as failed.
const DRAIN: Duration = Duration::from_secs(300);

/// Where closed loops run.
#[derive(Args)]
struct Loops {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Per connection.
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// Number of calls, instead of a time.
    #[arg(long)]
    count: Option<u64>,
    /// The server, for its memory.
    #[arg(long)]
    process: Option<u32>,
}

#[derive(Args)]
pub struct Put {
    #[command(flatten)]
    loops: Loops,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    length: Length,
    /// Attaches the keys to this lease.
    #[arg(long, default_value_t = 0)]
    lease: i64,
}

#[derive(Args)]
pub struct Grant {
    #[command(flatten)]
    loops: Loops,
    #[command(flatten)]
    length: Length,
    #[arg(long, default_value_t = 3600)]
    ttl: i64,
}

#[derive(Args)]
pub struct Paced {
    #[arg(long)]
    port: u16,
    /// For puts, and as many for gets.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Per second.
    #[arg(long, default_value_t = 500.0)]
    puts: f64,
    /// Per second.
    #[arg(long, default_value_t = 500.0)]
    gets: f64,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    length: Length,
    /// The server, for its memory.
    #[arg(long)]
    process: Option<u32>,
}

impl Put {
    pub fn run(&self) -> Result<(), AnyError> {
        let (value, lease) = (self.keys.value(), self.lease);
        closed(&self.loops, &self.length, |wire, number| {
            let value = value.clone();
            let request = PutRequest { key: self.keys.key(number), value, lease, ..PutRequest::default() };
            wire.call(PUT, &request, true)
        })
    }
}

impl Grant {
    pub fn run(&self) -> Result<(), AnyError> {
        closed(&self.loops, &self.length, |wire, number| {
            wire.call(GRANT, &LeaseGrantRequest { id: number as i64 + 1, ttl: self.ttl }, true)
        })
    }
}

/// Keeps so many calls in flight until the time is over, then waits for the last answers.
fn closed(loops: &Loops, length: &Length, mut issue: impl FnMut(&mut Wire, u64) -> u32) -> Result<(), AnyError> {
    let mut pool = Pool::open(&here(loops.port), loops.connections, WIDE)?;
    let mut calls = Calls::new(loops.connections);
    let mut samples = Samples::default();
    let count = loops.count.unwrap_or(u64::MAX);
    let seconds = if loops.count.is_some() { f64::from(u32::MAX) } else { length.seconds };
    let mut memory = Memory::of(loops.process)?;
    let mut span = Span::begin(seconds, &length.command)?;
    let begin = Instant::now();
    let mut issued = 0;
    for (number, connection) in pool.connections.iter_mut().enumerate() {
        for _ in 0..loops.in_flight {
            if issued < count && connection.wire.has_room() {
                calls.add(number, issue(&mut connection.wire, issued), Instant::now());
                issued += 1;
            }
        }
    }
    let mut over = false;
    while calls.in_flight > 0 {
        let now = Instant::now();
        memory.look(now)?;
        over = over || span.over(now)?;
        let until = if over { None } else { Some(span.next(now).min(memory.next())) };
        let mut handler = or_closed(|number, wire, event| {
            let Some(done) = calls.on(number, &event) else { return Ok(()) };
            let now = Instant::now();
            done.count(now, &mut samples);
            if !over && issued < count {
                calls.add(number, issue(wire, issued), now);
                issued += 1;
            }
            Ok(())
        });
        pool.step(until, &mut handler)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    samples.sort();
    let rate = samples.count() as f64 / seconds;
    println!("{rate:.0} {samples} {:.3} {} {}", span.seconds(), memory.begin_mb, memory.peak_mb);
    io::stdout().flush()?;
    span.finish()
}

/// One kind of call at its own rate on its own connections.
struct Pace {
    interval: Duration,
    due: Instant,
    issued: u64,
    samples: Samples,
}

impl Pace {
    fn new(per_second: f64, begin: Instant) -> Pace {
        let interval = Duration::from_secs_f64(if per_second > 0.0 { 1.0 / per_second } else { f64::from(u32::MAX) });
        Pace { interval, due: begin + interval, issued: 0, samples: Samples::default() }
    }
}

impl Paced {
    pub fn run(&self) -> Result<(), AnyError> {
        let mut pool = Pool::open(&here(self.port), 2 * self.connections, WIDE)?;
        let mut calls = Calls::new(2 * self.connections);
        let mut memory = Memory::of(self.process)?;
        let mut span = Span::begin(self.length.seconds, &self.length.command)?;
        let begin = Instant::now();
        let (mut puts, mut gets) = (Pace::new(self.puts, begin), Pace::new(self.gets, begin));
        let mut end = None;
        loop {
            let now = Instant::now();
            memory.look(now)?;
            if end.is_none() && span.over(now)? {
                end = Some(now + DRAIN);
            }
            let until = match end {
                None => {
                    self.issue(&mut pool, &mut calls, &mut puts, &mut gets, now);
                    span.next(now).min(puts.due).min(gets.due).min(memory.next())
                }
                Some(_) if calls.in_flight == 0 => break,
                Some(end) if now >= end => return Err(format!("{} calls hang", calls.in_flight).into()),
                Some(end) => end,
            };
            let mut handler = or_closed(|number, _, event| {
                if let Some(done) = calls.on(number, &event) {
                    let pace = if number < self.connections { &mut puts } else { &mut gets };
                    done.count(Instant::now(), &mut pace.samples);
                }
                Ok(())
            });
            pool.step(Some(until), &mut handler)?;
        }
        print!("{:.3} {} {}", span.seconds(), memory.begin_mb, memory.peak_mb);
        for mut samples in [puts.samples, gets.samples] {
            samples.sort();
            print!(" {} {samples}", samples.count());
        }
        println!(" {}", u8::from(span.failed()));
        Ok(())
    }

    /// Issues all calls that are due. A call that no connection takes stays due.
    fn issue(&self, pool: &mut Pool, calls: &mut Calls, puts: &mut Pace, gets: &mut Pace, now: Instant) {
        while puts.due <= now {
            let number = puts.issued as usize % self.connections;
            let wire = &mut pool.connections[number].wire;
            if !wire.has_room() {
                break;
            }
            let (key, value) = (self.keys.key(puts.issued), self.keys.value());
            calls.add(number, wire.call(PUT, &PutRequest { key, value, ..PutRequest::default() }, true), puts.due);
            puts.issued += 1;
            puts.due += puts.interval;
        }
        while gets.due <= now {
            let number = self.connections + gets.issued as usize % self.connections;
            let wire = &mut pool.connections[number].wire;
            if !wire.has_room() {
                break;
            }
            let request = RangeRequest { key: self.keys.key(gets.issued * 7), ..RangeRequest::default() };
            calls.add(number, wire.call(RANGE, &request, true), gets.due);
            gets.issued += 1;
            gets.due += gets.interval;
        }
    }
}

/// The calls in flight.
pub struct Calls {
    connections: Vec<AHashMap<u32, Call>>,
    pub in_flight: usize,
}

struct Call {
    due: Instant,
    answered: bool,
}

/// A finished call. It has a message if it succeeded, and none if it was refused.
pub struct Done {
    due: Instant,
    pub answered: bool,
}

impl Calls {
    pub fn new(connections: usize) -> Calls {
        Calls { connections: (0..connections).map(|_| AHashMap::new()).collect(), in_flight: 0 }
    }

    pub fn add(&mut self, connection: usize, stream: u32, due: Instant) {
        self.connections[connection].insert(stream, Call { due, answered: false });
        self.in_flight += 1;
    }

    pub fn on(&mut self, connection: usize, event: &Event<'_>) -> Option<Done> {
        let calls = &mut self.connections[connection];
        match event {
            Event::Data { stream, .. } => {
                calls.get_mut(stream)?.answered = true;
                None
            }
            Event::End { stream } => {
                let call = calls.remove(stream)?;
                self.in_flight -= 1;
                Some(Done { due: call.due, answered: call.answered })
            }
            Event::Closed { .. } => None,
        }
    }
}

impl Done {
    pub fn count(&self, now: Instant, samples: &mut Samples) {
        if self.answered {
            samples.add(now.saturating_duration_since(self.due));
        } else {
            samples.refuse();
        }
    }
}
