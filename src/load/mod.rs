//! `ringbench`: a load for an etcd or a ringd, and how long each request took.
//!
//! ```text
//!   plan (what to send) ─▶ run: closed loop, or open loop at a rate ─▶ tally (a histogram for each kind of request) ─▶ report
//!                           ├ pool (ppoll, sockets) ── wire (HTTP/2)
//!                           └ machine: what both sides used, from /proc and /metrics
//!   host: what of this machine spoils latencies
//!   compare: servers beside each other, in rounds, and a page about it
//! ```
//!
//! | loop | the next request is sent | latency counts from | shows |
//! |---|---|---|---|
//! | closed | when one of the clients has its answer | its sending | throughput, and latency at that throughput |
//! | open, `--rate` | when it is due, whatever is still unanswered | the moment it was due | what clients of a given rate see, stalls included |
//!
//! A closed loop, and a tool that starts its clock when its limiter lets a request go, send nothing while the server stands still, and
//! so count a stall of a second once instead of for every request of that second ("coordinated omission", Gil Tene).
//!
//! One thread, because the server needs the other cores.

pub mod compare;
pub mod host;
pub mod machine;
pub mod plan;
pub mod pool;
pub mod report;
pub mod run;
pub mod tally;
pub mod wire;

/// Whatever ends a program that only measures.
pub type AnyError = Box<dyn std::error::Error>;
