//! Consensus: one Raft member as a pure machine. Inputs go in, effects come out, nothing waits.
//!
//! Raft itself is the `raft` crate (raft-rs), which only this module uses. This module gives it a log in
//! memory, passes it checked messages, numbers the appends, and names for every message the append that it waits for.
//!
//! ```text
//!   ticks, proposals, reads, messages                    effects, in order
//!   ----------------------------------> step -> [raft] -> turn ------------> Send, Append, Commit, ReadReady ...
//!            ^        ^                             |                          |        |        |
//!            |        +---- Persisted{append} ------|---- WAL, page file <-----)--------+        |
//!            +------------- Applied{index} ---------|---- the store <----------)-----------------+
//!                                                   +---- peers <--------------+
//! ```
//!
//! `step` takes one input; `turn` carries a batch of inputs through Raft once, so that proposals which arrive
//! together share one append, one message per peer and one durable write.
//!
//! Invariants
//!
//! 1. Appends are numbered upwards and acknowledged in order; several may be in flight.
//! 2. A message that claims something durable (a vote, an acknowledged entry) names the append it waits for.
//!    A leader's entries do not wait: replication and the leader's own write run side by side (Raft thesis
//!    10.2.1). The exception is a leader whose own term is still being written.
//! 3. Every entry is in one `Commit`, in order, and only when committed and durable here.
//! 4. For every conf change in a `Commit`, `apply_conf_change` is called before `Applied` covers it.
//! 5. Every read context gets exactly one of `ReadReady` and `ReadDropped`.
//! 6. The same configuration, seed and inputs give the same effects, bit for bit. The crate draws its election
//!    timeouts from the thread's random generator, so its timer is never reached and a seeded timer here starts elections.
//! 7. The crate's own protobuf parser reads no bytes: messages are converted field by field from `proto::raftpb`,
//!    and a conf change is in the `context` of the crate's entry, which the crate does not parse.
//! 8. No message from outside reaches an assertion of the crate: [`Refusal`] lists what is refused before.
//!
//! Deliberately absent: the WAL (an `Append` is data for it), the transport, the clock (a `Tick` is an input),
//! snapshots of the database (a `SendSnapshot` asks for one, an `Append` with a snapshot installs one), joint
//! membership changes (etcd makes none), lease reads.
//!
//! Path: every write passes here between `service` and `apply`; a linearizable read passes once per batch.
//! Sketch for a batch of 32 proposals of 300 bytes on one member: one step, one ready, no copy of the data,
//! one reference count each time an entry is passed on; the budget is 1 us per entry from proposal to commit.

mod convert;
mod election_timer;
mod held;
mod in_flight;
mod input;
mod logger;
mod machine;
mod memory_log;
mod reads;
mod start;
mod validate;

#[cfg(test)]
mod cluster_test;
#[cfg(test)]
mod machine_test;
#[cfg(test)]
mod script_tests;

pub use input::{Append, DropReason, Effect, Effects, Input, Role, SnapshotMark};
pub use logger::{LogLevel, LogSink};
pub use machine::{ConfChangeError, Consensus, Follower};
pub use start::{Config, Initial, StartError};
pub use validate::Refusal;
