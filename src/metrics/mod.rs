//! Metrics under etcd's names, for Prometheus.
//!
//! ```text
//! core 0: Sheet, Grpc   \
//! core 1: Sheet, Grpc    >  text::render (sums the sheets)  ->  GET /metrics
//! core n: Sheet, Grpc   /        ^ Process: values that the shell has read from the kernel
//! ```
//!
//! Each core counts on a sheet of its own: an increment is one relaxed addition to a cell that no other core
//! writes, found by a constant offset; nothing is hashed or locked. A scrape reads all sheets and adds them up.
//! Cost of an observation: at most 24 comparisons and two such additions.
//!
//! Invariants:
//! 1. A family without labels exists from the start, at 0; so do all series of gRPC methods. A labelled
//!    series exists from the moment its handle was made ([`Sheet::series`]), at start-up.
//! 2. A sheet has one writer, the core it belongs to; a family is written by one core or added up over all. A gauge is either set by
//!    one core alone, or moved up and down by any: the scrape adds the sheets.
//! 3. A scrape sees each cell whole, but not all cells at one instant.
//!
//! Absent: families of things that do not exist here (Go runtime, gRPC proxy, the old store).

pub mod family;
pub mod grpc;
pub mod sheet;
pub mod text;

pub use family::{Family, Name};
pub use grpc::{Grpc, GrpcCounts, GrpcMethod};
pub use sheet::{Series, Sheet};
pub use text::{Process, render};
