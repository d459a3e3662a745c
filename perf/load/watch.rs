//! Watchers: idle ones, ones that do not read, one that reads history, many of one prefix.

use std::{
    collections::VecDeque,
    io::{self, Write},
    time::{Duration, Instant},
};

use ahash::AHashMap;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use ringd::proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion};

use crate::{
    AnyError, Keys, WIDE,
    calls::Calls,
    here,
    messages::{Assembly, WatchNews},
    pool::{Pool, or_closed},
    prefix_end,
    samples::Samples,
    wire::{Event, Windows, Wire},
};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const PUT: &str = "/etcdserverpb.KV/Put";
/// Bytes after which a watcher counts as stalled: half of its window.
const STALLED_BYTES: usize = 32 * 1024;
/// Limit of the time until then.
const STALLING: Duration = Duration::from_secs(60);
/// Puts of `fanout` that are on their way at once, however many events may be outstanding.
const PUTS_IN_FLIGHT_MAX: u64 = 256;

#[derive(Args)]
pub struct Idle {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Per connection.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Per stream.
    #[arg(long, default_value_t = 100)]
    watches: usize,
    /// Each watches a prefix of its own instead of a key.
    #[arg(long)]
    ranges: bool,
}

#[derive(Args)]
pub struct Stalled {
    #[arg(long)]
    port: u16,
    /// Each on a connection of its own.
    #[arg(long, default_value_t = 20)]
    count: usize,
    #[arg(long, default_value = "/registry/")]
    prefix: String,
    #[arg(long, value_enum, default_value_t = Stall::Stream)]
    stall: Stall,
}

/// The part that a stalled client does not read.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stall {
    /// The stream: its window of 64 kB fills up, the connection continues. An application that does not call receive.
    Stream,
    /// The socket: TCP fills up. A process that is stopped.
    Socket,
}

#[derive(Args)]
pub struct Behind {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value = "/registry/")]
    prefix: String,
    #[arg(long)]
    until: i64,
    #[arg(long)]
    prev_kv: bool,
    /// Begins anew at revision 1 until so many seconds have passed.
    #[arg(long, default_value_t = 0.0)]
    least: f64,
    /// Reads history once, and then what is written, until killed.
    #[arg(long)]
    stay: bool,
    /// Gives up then, and prints how far it came.
    #[arg(long, default_value_t = 600.0)]
    most: f64,
}

#[derive(Args)]
pub struct Fanout {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 20)]
    connections: usize,
    /// On all connections together.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Puts that may be ahead of the slowest stream.
    #[arg(long, default_value_t = 32)]
    lag: u64,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[command(flatten)]
    keys: Keys,
}

impl Idle {
    pub fn run(&self) -> Result<(), AnyError> {
        let begin = Instant::now();
        let mut pool = Pool::open(&here(self.port), self.connections, WIDE)?;
        let mut number = 0;
        for connection in &mut pool.connections {
            for _ in 0..self.streams {
                let stream = connection.wire.call(WATCH, &self.request(number), false);
                for more in 1..self.watches {
                    connection.wire.send(stream, &self.request(number + more), false);
                }
                number += self.watches;
            }
        }
        let mut news = News::default();
        news.wait_for_created(&mut pool, number)?;
        ready(begin)?;
        loop {
            pool.step(None, &mut or_closed(|connection, _, event| news.on(connection, &event, &mut |_| {})))?;
        }
    }

    fn request(&self, number: usize) -> WatchRequest {
        let key = format!("/idle/{number:08}/");
        let range_end = if self.ranges { prefix_end(&key) } else { Bytes::new() };
        create(WatchCreateRequest { key: key.into(), range_end, ..WatchCreateRequest::default() })
    }
}

impl Stalled {
    pub fn run(&self) -> Result<(), AnyError> {
        let begin = Instant::now();
        let windows = match self.stall {
            Stall::Stream => Windows { stream: 65_535, connection: 65_535, grant: false },
            Stall::Socket => WIDE,
        };
        let mut pool = Pool::open(&here(self.port), self.count, windows)?;
        let request = history(&self.prefix, true);
        for connection in &mut pool.connections {
            connection.wire.call(WATCH, &request, false);
        }
        let mut received = vec![0; self.count];
        while received.iter().any(|&bytes| bytes < STALLED_BYTES) {
            if begin.elapsed() > STALLING {
                return Err("the history is too short to stall a watcher, or the server does not send it".into());
            }
            pool.step(
                Some(Instant::now() + Duration::from_millis(10)),
                &mut or_closed(|connection, _, event| {
                    let Event::Data { bytes, .. } = event else { return Err("a watch stream ended".into()) };
                    received[connection] += bytes.len();
                    Ok(())
                }),
            )?;
            if self.stall == Stall::Socket {
                let stalled = received.iter().map(|&bytes| bytes >= STALLED_BYTES);
                pool.connections
                    .iter_mut()
                    .zip(stalled)
                    .for_each(|(connection, stalled)| connection.reading = !stalled);
            }
        }
        ready(begin)?;
        loop {
            pool.step(None, &mut |connection, _, event| {
                // A server may close such connections, which is printed with the figures.
                match event {
                    Event::Data { .. } => {}
                    Event::End { .. } => eprintln!("the server ended stalled stream {connection}"),
                    Event::Closed { reason } => {
                        eprintln!("the server closed stalled connection {connection}: {reason}")
                    }
                }
                Ok(())
            })?;
        }
    }
}

impl Behind {
    pub fn run(&self) -> Result<(), AnyError> {
        let mut pool = Pool::open(&here(self.port), 1, WIDE)?;
        let begin = Instant::now();
        let limit = begin + Duration::from_secs_f64(self.most);
        let least = begin + Duration::from_secs_f64(self.least);
        let (mut times, mut all) = (0, 0);
        let reached = loop {
            let pass = self.pass(&mut pool, limit)?;
            times += 1;
            all += pass.events;
            let now = Instant::now();
            if self.stay || pass.revision < self.until || now >= limit || now >= least {
                break pass.revision;
            }
        };
        println!("{:.4} {times} {all} {reached}", begin.elapsed().as_secs_f64() / f64::from(times));
        io::stdout().flush()?;
        if !self.stay {
            return Ok(());
        }
        loop {
            pool.step(None, &mut or_closed(|_, _, _| Ok(())))?;
        }
    }

    /// From revision 1 to `until`, every revision of which is one put under the prefix, or as far as time allows.
    fn pass(&self, pool: &mut Pool, limit: Instant) -> Result<Pass, AnyError> {
        let stream = pool.connections[0].wire.call(WATCH, &history(&self.prefix, self.prev_kv), false);
        let (mut pass, mut gap) = (Pass { events: 0, revision: 0 }, false);
        let mut news = News::default();
        while pass.revision < self.until && Instant::now() < limit {
            let mut handler = or_closed(|connection, _, event| {
                news.on(connection, &event, &mut |news| {
                    pass.events += news.events;
                    pass.revision = pass.revision.max(news.mod_revision);
                    // The first put makes revision 2.
                    gap |= news.events > 0 && pass.revision != pass.events as i64 + 1;
                })
            });
            pool.step(Some(limit), &mut handler)?;
        }
        if !self.stay {
            pool.connections[0].wire.cancel(stream);
        }
        if gap { Err("the watcher missed an event or got one twice".into()) } else { Ok(pass) }
    }
}

/// The events that a watcher of history has got.
struct Pass {
    events: u64,
    revision: i64,
}

impl Fanout {
    pub fn run(&self) -> Result<(), AnyError> {
        let mut pool = Pool::open(&here(self.port), self.connections + 1, WIDE)?;
        let (key, range_end) = (self.keys.prefix.clone().into(), prefix_end(&self.keys.prefix));
        let request = create(WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() });
        for stream in 0..self.streams {
            pool.connections[stream % self.connections].wire.call(WATCH, &request, false);
        }
        let mut news = News::default();
        news.wait_for_created(&mut pool, self.streams)?;
        let mut deliveries = Deliveries::new(self.streams);
        let mut puts = Calls::new(self.connections + 1);
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(self.seconds);
        loop {
            let now = Instant::now();
            if now < end {
                self.put(&mut pool.connections[self.connections].wire, &mut puts, &mut deliveries, now);
            } else if puts.in_flight == 0 && deliveries.outstanding.is_empty() {
                break;
            }
            let mut handler = or_closed(|connection, _, event| {
                if connection == self.connections {
                    let refused = puts.on(connection, &event).is_some_and(|done| !done.answered);
                    return if refused { Err("a put was refused".into()) } else { Ok(()) };
                }
                let Event::Data { stream, .. } = event else { return Err("a watch stream ended".into()) };
                let mut gap = false;
                news.on(connection, &event, &mut |news| gap |= !deliveries.count((connection, stream), news))?;
                if gap { Err("a stream missed an event or got one twice".into()) } else { Ok(()) }
            });
            pool.step((now < end).then_some(end), &mut handler)?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let puts = deliveries.issued;
        let events = puts * self.streams as u64;
        deliveries.samples.sort();
        let per_message = events as f64 / deliveries.messages.max(1) as f64;
        let (events_rate, puts_rate) = (events as f64 / seconds, puts as f64 / seconds);
        println!("{events_rate:.0} {puts_rate:.0} {events} {per_message:.2} {}", deliveries.samples);
        Ok(())
    }

    fn put(&self, wire: &mut Wire, puts: &mut Calls, deliveries: &mut Deliveries, now: Instant) {
        while (deliveries.outstanding.len() as u64) < self.lag
            && (puts.in_flight as u64) < PUTS_IN_FLIGHT_MAX
            && wire.has_room()
        {
            let (key, value) = (self.keys.key(deliveries.issued), self.keys.value());
            let stream = wire.call(PUT, &PutRequest { key, value, ..PutRequest::default() }, true);
            puts.add(self.connections, stream, now);
            deliveries.issue(now);
        }
    }
}

/// The puts that have reached each stream. All puts come in one order on every stream, so a count per stream suffices.
struct Deliveries {
    streams: u32,
    issued: u64,
    /// Of puts that some stream has not seen, oldest first: when it was sent and how many streams have seen one more.
    outstanding: VecDeque<(Instant, u32)>,
    seen: AHashMap<(usize, u32), u64>,
    /// The revision before the first put. There is no other writer, so put N makes this plus N + 1.
    revision: Option<i64>,
    /// Responses that had events.
    messages: u64,
    samples: Samples,
}

impl Deliveries {
    fn new(streams: usize) -> Deliveries {
        let (outstanding, seen, samples) = (VecDeque::new(), AHashMap::new(), Samples::default());
        Deliveries { streams: streams as u32, issued: 0, outstanding, seen, revision: None, messages: 0, samples }
    }

    fn issue(&mut self, now: Instant) {
        self.outstanding.push_back((now, 0));
        self.issued += 1;
    }

    /// False if these are not the next events of this stream.
    fn count(&mut self, stream: (usize, u32), news: &WatchNews) -> bool {
        if news.events == 0 {
            return true;
        }
        let first = self.issued - self.outstanding.len() as u64;
        let seen = self.seen.entry(stream).or_default();
        let before = *seen;
        *seen += news.events;
        let revision = *self.revision.get_or_insert(news.mod_revision - *seen as i64);
        if news.mod_revision != revision + *seen as i64 || *seen > self.issued {
            return false;
        }
        self.messages += 1;
        for number in before..*seen {
            self.outstanding[(number - first) as usize].1 += 1;
        }
        while let Some(&(sent, streams)) = self.outstanding.front()
            && streams == self.streams
        {
            self.samples.add(sent.elapsed());
            self.outstanding.pop_front();
        }
        true
    }
}

/// Joins the watch responses of all streams.
#[derive(Default)]
struct News {
    streams: AHashMap<(usize, u32), Assembly>,
}

impl News {
    /// Cancelled watches and ended streams are errors, because this program never requests them.
    fn on(&mut self, connection: usize, event: &Event<'_>, each: &mut dyn FnMut(&WatchNews)) -> Result<(), AnyError> {
        let Event::Data { stream, bytes } = event else { return Err("a watch stream ended".into()) };
        let mut canceled = false;
        self.streams.entry((connection, *stream)).or_default().push(bytes, &mut |message| {
            let news = WatchNews::of(message);
            canceled |= news.canceled;
            each(&news);
        });
        if canceled { Err("a watch was cancelled".into()) } else { Ok(()) }
    }

    fn wait_for_created(&mut self, pool: &mut Pool, count: usize) -> Result<(), AnyError> {
        let mut created = 0;
        while created < count {
            let mut handler = or_closed(|connection, _, event| {
                self.on(connection, &event, &mut |news| created += usize::from(news.created))
            });
            pool.step(None, &mut handler)?;
        }
        Ok(())
    }
}

fn history(prefix: &str, prev_kv: bool) -> WatchRequest {
    let (key, range_end) = (prefix.to_owned().into(), prefix_end(prefix));
    create(WatchCreateRequest { key, range_end, start_revision: 1, prev_kv, ..WatchCreateRequest::default() })
}

fn create(request: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

fn ready(begin: Instant) -> io::Result<()> {
    println!("{:.3}", begin.elapsed().as_secs_f64());
    io::stdout().flush()
}
