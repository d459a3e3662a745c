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
    messages::{Assembly, WatchNews},
    pool::{Pool, or_closed},
    prefix_end,
    samples::Samples,
    wire::{Event, Windows, Wire},
};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const PUT: &str = "/etcdserverpb.KV/Put";
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

/// What a stalled client does not read.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stall {
    /// The stream: its window of 64 kB fills up, the connection goes on. An application that does not call receive.
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
    /// Gives up then, and prints how far it came.
    #[arg(long, default_value_t = 600.0)]
    seconds: f64,
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
        let mut pool = Pool::open(self.port, self.connections, WIDE)?;
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
        let mut pool = Pool::open(self.port, self.count, windows)?;
        let request = history(&self.prefix, true);
        for connection in &mut pool.connections {
            connection.wire.call(WATCH, &request, false);
        }
        News::default().wait_for_created(&mut pool, self.count)?;
        if self.stall == Stall::Socket {
            pool.connections.iter_mut().for_each(|connection| connection.reading = false);
        }
        ready(begin)?;
        loop {
            pool.step(None, &mut |connection, _, event| {
                // A server may part with such clients; whoever reads the figures must know.
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
        let mut pool = Pool::open(self.port, 1, WIDE)?;
        let begin = Instant::now();
        let limit = begin + Duration::from_secs_f64(self.seconds);
        pool.connections[0].wire.call(WATCH, &history(&self.prefix, self.prev_kv), false);
        let (mut events, mut last) = (0, 0);
        let mut news = News::default();
        while last < self.until && Instant::now() < limit {
            let mut handler = or_closed(|connection, _, event| {
                news.on(connection, &event, &mut |news| {
                    events += news.events;
                    last = last.max(news.mod_revision);
                })
            });
            pool.step(Some(limit), &mut handler)?;
        }
        println!("{:.3} {events} {last}", begin.elapsed().as_secs_f64());
        Ok(())
    }
}

impl Fanout {
    pub fn run(&self) -> Result<(), AnyError> {
        let mut pool = Pool::open(self.port, self.connections + 1, WIDE)?;
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
                news.on(connection, &event, &mut |news| deliveries.count((connection, stream), news.events))
            });
            pool.step((now < end).then_some(end), &mut handler)?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let puts = deliveries.issued;
        let events = puts * self.streams as u64;
        deliveries.samples.sort();
        println!("{:.0} {:.0} {events} {}", events as f64 / seconds, puts as f64 / seconds, deliveries.samples);
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

/// Which puts have reached which streams. All puts come in one order on every stream, so a count per stream is enough.
struct Deliveries {
    streams: u32,
    issued: u64,
    /// Of puts that some stream has not seen, oldest first: when it was sent and how many streams have seen one more.
    outstanding: VecDeque<(Instant, u32)>,
    seen: AHashMap<(usize, u32), u64>,
    samples: Samples,
}

impl Deliveries {
    fn new(streams: usize) -> Deliveries {
        let (outstanding, seen, samples) = (VecDeque::new(), AHashMap::new(), Samples::default());
        Deliveries { streams: streams as u32, issued: 0, outstanding, seen, samples }
    }

    fn issue(&mut self, now: Instant) {
        self.outstanding.push_back((now, 0));
        self.issued += 1;
    }

    fn count(&mut self, stream: (usize, u32), events: u64) {
        let first = self.issued - self.outstanding.len() as u64;
        let seen = self.seen.entry(stream).or_default();
        for number in *seen..*seen + events {
            self.outstanding[(number - first) as usize].1 += 1;
        }
        *seen += events;
        while let Some(&(sent, streams)) = self.outstanding.front()
            && streams == self.streams
        {
            self.samples.add(sent.elapsed());
            self.outstanding.pop_front();
        }
    }
}

/// The watch responses of all streams, put together.
#[derive(Default)]
struct News {
    streams: AHashMap<(usize, u32), Assembly>,
}

impl News {
    /// Cancelled watches and ended streams are errors: nobody here asks for them.
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
