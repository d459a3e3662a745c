//! A run: preload, warm-up, and the measured time, in a closed or an open loop.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use ahash::AHashMap;

use super::{
    AnyError,
    machine::{self, Counters, Usage},
    plan::{Kind, Plan},
    pool::{Access, Pool},
    tally::Tallies,
    wire::{Event, Windows, Wire},
};

const WIDE: Windows = Windows { stream: 1 << 20, connection: 16 << 20, grant: true };
const SECOND: Duration = Duration::from_secs(1);
/// How long the last answers may take.
const DRAIN: Duration = Duration::from_secs(30);
/// Requests under way while keys are written beforehand, for each connection.
const PRELOAD_STREAMS: usize = 32;

/// How a load is put on.
#[derive(Clone, Debug)]
pub struct Load {
    /// Connections go to one after the other.
    pub addresses: Vec<SocketAddr>,
    pub access: Access,
    pub connections: usize,
    /// Requests under way in a closed loop, over all connections.
    pub clients: usize,
    /// Requests a second: an open loop.
    pub rate: Option<f64>,
    /// The number of measured requests, instead of a time.
    pub total: Option<u64>,
    pub duration: Duration,
    /// Requests of this time are not counted.
    pub warm_up: Duration,
    /// Every key of the key space is written before.
    pub preload: bool,
}

/// One second of a run.
#[derive(Clone)]
pub struct Second {
    /// From the beginning of the measured time to the end of this second.
    pub at_s: f64,
    pub tallies: Tallies,
    /// Of all servers that run on this machine, in this second.
    pub server_cpu_s: f64,
}

/// What a server used in the measured time.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub address: SocketAddr,
    /// Of one that runs on this machine.
    pub usage: Option<Usage>,
    pub counters: Option<Counters>,
}

/// All that was measured.
#[derive(Default)]
pub struct Outcome {
    pub tallies: Tallies,
    /// Requests that ended in the measured time. In an open loop that is what was reached; `tallies` also has what was due in that time
    /// and ended later.
    pub ended: u64,
    pub took: Duration,
    pub seconds: Vec<Second>,
    pub client: Usage,
    pub servers: Vec<Server>,
    /// Why it ended before its time. What was measured until then counts.
    pub cut_short: Option<String>,
}

/// A server before and after.
struct Watched {
    address: SocketAddr,
    process: Option<u32>,
    usage: Option<Usage>,
    counters: Option<Counters>,
}

impl Watched {
    fn new(address: SocketAddr) -> Self {
        let process = if is_local(address) { machine::listener(address.port()) } else { None };
        let mut watched = Self { address, process, usage: None, counters: None };
        watched.begin();
        watched
    }

    fn begin(&mut self) {
        self.usage = self.process.and_then(Usage::of);
        self.counters = Counters::of(self.address);
    }

    fn cpu_s(&self) -> f64 {
        self.process.and_then(Usage::of).map_or(0.0, |usage| usage.cpu_s)
    }

    fn end(&self) -> Server {
        let usage = self.process.and_then(Usage::of).zip(self.usage).map(|(now, before)| now.since(before));
        let counters = Counters::of(self.address).zip(self.counters).map(|(now, before)| now.since(before));
        Server { address: self.address, usage, counters }
    }
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().is_loopback() || std::net::TcpListener::bind((address.ip(), 0)).is_ok()
}

/// A request under way.
struct Call {
    kind: Kind,
    /// When it was sent, or, in an open loop, due.
    since: Instant,
    is_answered: bool,
}

/// An answered or refused request.
struct Done {
    connection: usize,
    kind: Kind,
    since: Instant,
    at: Instant,
    is_answered: bool,
}

/// Requests under way, and what they wait for.
struct Requests<'a> {
    load: &'a Load,
    plan: &'a mut Plan,
    pool: Pool,
    calls: Vec<AHashMap<u32, Call>>,
    in_flight: usize,
    /// In an open loop: when the next request is due.
    due: Instant,
    next_connection: usize,
}

impl Requests<'_> {
    /// Sends as many requests as are due now, or one for each idle client.
    fn send(&mut self, idle: &[usize]) {
        let now = Instant::now();
        let Some(rate) = self.load.rate else {
            idle.iter().for_each(|connection| self.send_one(*connection, now));
            return;
        };
        let interval = Duration::from_secs_f64(1.0 / rate);
        while self.due <= now {
            let count = self.pool.connections.len();
            let mut turn = (0..count).map(|step| (self.next_connection + step) % count);
            let Some(connection) = turn.find(|at| self.pool.connections[*at].wire.has_room()) else {
                // The server takes no more streams: what is due stays due.
                return;
            };
            self.next_connection = (connection + 1) % count;
            self.send_one(connection, self.due);
            self.due += interval;
        }
    }

    fn send_one(&mut self, connection: usize, since: Instant) {
        let (stream, kind) = self.plan.send(&mut self.pool.connections[connection].wire);
        self.calls[connection].insert(stream, Call { kind, since, is_answered: false });
        self.in_flight += 1;
    }

    /// Waits for input, until `until` at most, and adds what is done now.
    fn step(&mut self, until: Instant, done: &mut Vec<Done>) -> Result<(), AnyError> {
        let (calls, before) = (&mut self.calls, done.len());
        let mut handler = |connection: usize, _: &mut Wire, event: Event<'_>| match event {
            Event::Data { stream, .. } => {
                if let Some(call) = calls[connection].get_mut(&stream) {
                    call.is_answered = true;
                }
                Ok(())
            }
            Event::End { stream } => {
                if let Some(Call { kind, since, is_answered }) = calls[connection].remove(&stream) {
                    done.push(Done { connection, kind, since, at: Instant::now(), is_answered });
                }
                Ok(())
            }
            Event::Closed { reason } => Err(format!("connection {connection} is gone: {reason}").into()),
        };
        let stepped = self.pool.step(Some(until), &mut handler);
        self.in_flight -= done.len() - before;
        stepped
    }
}

/// The figures of a run while it lasts.
struct Record<'a> {
    load: &'a Load,
    outcome: Outcome,
    watched: Vec<Watched>,
    begun: Instant,
    /// When the warm-up ended, or will end.
    measured_from: Instant,
    is_warm: bool,
    counted: u64,
    client_before: Usage,
    second: Tallies,
    second_end: Instant,
    cpu_before: f64,
    /// The measured time is over; answers to what was due in it are waited for until then.
    drain_until: Option<Instant>,
}

impl<'a> Record<'a> {
    fn begin(load: &'a Load) -> Self {
        let used: Vec<_> = load.addresses.iter().take(load.connections).copied().collect();
        let watched: Vec<Watched> = used.into_iter().map(Watched::new).collect();
        let cpu_before = watched.iter().map(Watched::cpu_s).sum();
        let begun = Instant::now();
        Self {
            load,
            outcome: Outcome::default(),
            watched,
            begun,
            measured_from: begun + load.warm_up,
            is_warm: load.warm_up.is_zero(),
            counted: 0,
            client_before: own_usage(),
            second: Tallies::default(),
            second_end: begun + SECOND,
            cpu_before,
            drain_until: None,
        }
    }

    /// What the clock brings: the end of the warm-up, of a second, of the measured time.
    fn look(&mut self, now: Instant, tell: &mut dyn FnMut(&Second)) {
        if !self.is_warm && now >= self.measured_from {
            self.is_warm = true;
            self.measured_from = now;
            self.watched.iter_mut().for_each(Watched::begin);
            self.client_before = own_usage();
        }
        if now >= self.second_end {
            let cpu = self.watched.iter().map(Watched::cpu_s).sum::<f64>();
            let at_s = now.duration_since(self.begun).as_secs_f64() - self.load.warm_up.as_secs_f64();
            let tallies = std::mem::take(&mut self.second);
            let second = Second { at_s, tallies, server_cpu_s: cpu - self.cpu_before };
            self.cpu_before = cpu;
            self.second_end += SECOND;
            tell(&second);
            self.outcome.seconds.extend((at_s > 0.0).then_some(second));
        }
        let is_over = match self.load.total {
            Some(total) => self.counted >= total,
            None => now >= self.measured_from + self.load.duration,
        };
        if self.is_warm && is_over && self.drain_until.is_none() {
            self.close(now);
        }
    }

    /// The measured time is over.
    fn close(&mut self, now: Instant) {
        self.outcome.took = now.saturating_duration_since(self.measured_from);
        self.outcome.servers = self.watched.iter().map(Watched::end).collect();
        self.outcome.client = own_usage().since(self.client_before);
        self.drain_until = Some(now + DRAIN);
    }

    /// Counts a request, if it began in the measured time.
    fn count(&mut self, done: &Done) {
        let latency = done.at.saturating_duration_since(done.since);
        self.second.of(done.kind).count(latency, done.is_answered);
        self.outcome.ended += u64::from(self.is_warm && self.drain_until.is_none());
        if self.is_warm && done.since >= self.measured_from {
            self.outcome.tallies.of(done.kind).count(latency, done.is_answered);
            self.counted += 1;
        }
    }

    /// Ends before the time, for a reason.
    fn cut_short(&mut self, why: String) {
        if self.drain_until.is_none() {
            self.close(Instant::now());
        }
        self.outcome.cut_short = Some(why);
    }
}

fn own_usage() -> Usage {
    Usage::of(std::process::id()).unwrap_or_default()
}

/// Puts the load on. `tell` hears of every second, warm-up included.
///
/// # Errors
/// A server cannot be reached, or the preload fails.
pub fn run(load: &Load, plan: &mut Plan, tell: &mut dyn FnMut(&Second)) -> Result<Outcome, AnyError> {
    let mut pool = Pool::open_with(&load.access, &load.addresses, load.connections, WIDE)?;
    if load.preload {
        preload(&mut pool, plan)?;
    }
    let calls = (0..load.connections).map(|_| AHashMap::new()).collect();
    let mut record = Record::begin(load);
    let mut requests = Requests { load, plan, pool, calls, in_flight: 0, due: record.begun, next_connection: 0 };
    let mut idle: Vec<usize> = (0..load.clients).map(|client| client % load.connections).collect();
    let mut done = Vec::new();
    loop {
        let now = Instant::now();
        record.look(now, tell);
        let until = match record.drain_until {
            None => {
                requests.send(&idle);
                if load.rate.is_some() { requests.due.min(record.second_end) } else { record.second_end }
            }
            // A closed loop has no request that was due.
            Some(_) if load.rate.is_none() || requests.in_flight == 0 => break,
            Some(end) if now >= end => {
                record.cut_short(format!("{} requests had no answer {} s later", requests.in_flight, DRAIN.as_secs()));
                break;
            }
            Some(_) => record.second_end,
        };
        idle.clear();
        let stepped = requests.step(until, &mut done);
        for done in done.drain(..) {
            record.count(&done);
            idle.push(done.connection);
        }
        if let Err(error) = stepped {
            record.cut_short(error.to_string());
            break;
        }
    }
    Ok(record.outcome)
}

/// Writes every key of the key space once.
fn preload(pool: &mut Pool, plan: &mut Plan) -> Result<(), AnyError> {
    let count = plan.key_count();
    let (mut next, mut done) = (0, 0);
    for _ in 0..PRELOAD_STREAMS {
        for connection in &mut pool.connections {
            if next < count && connection.wire.has_room() {
                plan.preload(next, &mut connection.wire);
                next += 1;
            }
        }
    }
    let mut answered = AHashMap::new();
    while done < count {
        let mut handler = |number: usize, wire: &mut Wire, event: Event<'_>| match event {
            Event::Data { stream, .. } => {
                answered.insert((number, stream), ());
                Ok(())
            }
            Event::End { stream } if answered.remove(&(number, stream)).is_none() => {
                Err(AnyError::from("a put of the preload was refused"))
            }
            Event::End { .. } => {
                done += 1;
                if next < count {
                    plan.preload(next, wire);
                    next += 1;
                }
                Ok(())
            }
            Event::Closed { reason } => Err(format!("connection {number} is gone: {reason}").into()),
        };
        pool.step(None, &mut handler)?;
    }
    Ok(())
}
