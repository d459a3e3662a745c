//! Spans of distributed tracing: which requests are traced, and what is known of them when they end.
//!
//! ```text
//!   head of a call ── traceparent ──▶ SpanContext ─┐
//!                                                  ├─ Tracer::begin ─▶ None: not sampled, nothing else happens
//!   no traceparent: a new trace, sampled by rate ──┘        │
//!                                                           └▶ Span ── child ─▶ Span      each is queued when it is dropped
//!                                                                                  │
//!   core 0, core 1, .. ── Queue: bounded, one lock for a push ◀───────────────────┘
//!                           └──▶ the exporter's thread (`otlp`), in batches
//! ```
//!
//! 1. A core never waits for the exporter: a span that finds the queue full is counted as lost.
//! 2. The decision is made once per trace, by OpenTelemetry's `ParentBased(TraceIDRatioBased)`: what the caller's `traceparent` says,
//!    else by the trace's id and the rate.
//! 3. A request that is not sampled costs the look for its `traceparent` and a random number; without tracing, one branch.
//!
//! Absent: events, links and baggage, which etcd does not use. Not on the read or write path.

mod context;
mod finished;
mod queue;
mod tracer;

pub use context::SpanContext;
pub use finished::{Attribute, Finished, Kind, Scope, Value};
pub use queue::{Counts, Queue};
pub use tracer::{Span, Tracer};
