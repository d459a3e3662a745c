//! The clients of the scripts in `perf/`: many, fast, slow and stalled ones, in one thread.
//!
//! ```text
//!   put, paced, grant ────────────── calls ────┐
//!   idle, stalled, behind, fanout ── watch ────┤
//!   keepalive ────────────────────── lease ────┼── ringd::load: pool (ppoll, sockets), wire (HTTP/2)
//!   list ─────────────────────────── list ─────┤
//!   read, defragment, snapshot... ── operate ──┘
//!                  messages (gRPC)   samples (latencies, memory, commands)
//! ```
//!
//! Every subcommand prints one line of numbers for the script that called it; its help says which. Times are in
//! microseconds unless the name of the number says otherwise. A "tail" is: p50 p99 p99.9 longest refused.
//!
//! 1. `put`, `grant` and `keepalive` without a rate send the next request when an answer is there. They show throughput;
//!    their latencies are those of a server at its limit.
//! 2. `paced` and `keepalive` with a rate measure from the moment a request was due, not from when it could be sent: a
//!    stall of a second counts for every request that was due in that second.

mod calls;
mod lease;
mod list;
mod messages;
mod operate;
mod samples;
mod watch;

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
};

use clap::{Args, Parser, Subcommand};

pub use ringd::load::AnyError;
use ringd::load::{pool, wire};
use wire::Windows;

/// Windows of a client that reads.
pub const WIDE: Windows = Windows { stream: 1 << 20, connection: 16 << 20, grant: true };

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Puts as fast as answers come. Prints: puts/s, tail, seconds of the command, anonymous MB of the server before and
    /// at most.
    Put(calls::Put),
    /// Puts and linearizable gets at fixed rates. Prints: seconds of the command, anonymous MB of the server before and
    /// at most, then for puts and for gets: count, tail; then 1 if the command failed.
    Paced(calls::Paced),
    /// Grants leases 1, 2, 3... as fast as answers come. Prints as `put` does.
    Grant(calls::Grant),
    /// One call. Prints: seconds, bytes of the answer.
    Operate(operate::Operate),
    /// Watchers of keys that are never written, until killed. Prints when all exist: seconds.
    Idle(watch::Idle),
    /// Watchers of a prefix that do not read, until killed. Prints when all exist: seconds.
    Stalled(watch::Stalled),
    /// A watcher that reads history up to a revision, again and again. Prints: seconds for each time, times, events of
    /// all, last revision.
    Behind(watch::Behind),
    /// Streams that all watch one prefix, and puts into it. Prints: events/s, puts/s, events, events per message,
    /// tail from the put to its last event.
    Fanout(watch::Fanout),
    /// Keeps leases 1, 2, 3... alive. Prints: keepalives/s, tail.
    Keepalive(lease::Keepalive),
    /// Clients that list a prefix at once. Prints: seconds, MB received, anonymous MB of the server before and at most.
    List(list::List),
}

/// The keys, and the size of their values.
#[derive(Args)]
pub struct Keys {
    #[arg(long, default_value = "/registry/")]
    prefix: String,
    /// Number of different keys, which are used in turn.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    #[arg(long, default_value_t = 256)]
    bytes: usize,
}

impl Keys {
    /// The keys in a scattered order, as applications write them.
    pub fn key(&self, number: u64) -> bytes::Bytes {
        format!("{}{:016x}", self.prefix, (number % self.keys).wrapping_mul(0x9e37_79b9_7f4a_7c15)).into()
    }

    pub fn value(&self) -> bytes::Bytes {
        vec![b'v'; self.bytes].into()
    }
}

/// The length of a run: a time, or as long as a command runs.
#[derive(Args)]
pub struct Length {
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Runs this and lasts as long as it does.
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// The server, on this machine.
pub fn here(port: u16) -> [SocketAddr; 1] {
    [(Ipv4Addr::LOCALHOST, port).into()]
}

/// The end of all keys with a prefix.
pub fn prefix_end(prefix: &str) -> bytes::Bytes {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    end.into()
}

fn main() -> Result<(), AnyError> {
    match Arguments::parse().what {
        What::Put(put) => put.run(),
        What::Paced(paced) => paced.run(),
        What::Grant(grant) => grant.run(),
        What::Operate(operate) => operate.run(),
        What::Idle(idle) => idle.run(),
        What::Stalled(stalled) => stalled.run(),
        What::Behind(behind) => behind.run(),
        What::Fanout(fanout) => fanout.run(),
        What::Keepalive(keepalive) => keepalive.run(),
        What::List(list) => list.run(),
    }
}
