//! Watch: new changes are delivered to the watchers of their keys, and watchers that lag read them from history.
//!
//! ```text
//!                        ┌─ index: keys by hash, ranges by interval tree ─▶ one chunk per group of like watchers ─┐
//!   apply ─ batch ─▶ hub ┤                                                                                        ▼
//!                        └─ no room: behind, at the first revision missed          stream: a bounded queue of responses
//!   newest view ─ slice of history, when the queue is empty ─▶ run ───────────────────────────────────────────────┘
//! ```
//!
//! Every front core has a [`Hub`] of its own, which shares nothing. The states of a watcher:
//!
//! | state | transition | by |
//! |---|---|---|
//! | (none) | start revision in the future or none: synced; in the past: behind | [`Hub::create`] |
//! | synced | its stream has no room for a chunk, or the revision is too large for one delivery: behind | [`Hub::on_batch`] |
//! | behind | its run has read up to the newest view: synced | [`Hub::read`] |
//! | behind | its next revision is compacted: removed, with the compact revision as answer | [`Hub::read`] |
//! | any | canceled, or its stream ends: removed | [`Hub::cancel`], [`Hub::close`] |
//!
//! Invariants
//!
//! 1. A watcher gets every event of its span at or above its start, in revision order, each once; a revision's events in one response.
//! 2. The memory per client is bounded: a queue ([`WATCH_QUEUE_BYTES_MAX`] and one chunk), as much that is being sent, and one
//!    slice, whose bytes its watchers share; a revision larger than that is read when it is that watcher's turn.
//! 3. A watcher that lags causes no work until its client has taken what was sent.
//! 4. Progress at a revision is queued after every event up to it.
//!
//! Costs. An event: one hash, one walk down the tree, and per group of like watchers one copy of the record; per watcher a response
//! of [`WATCH_RESPONSE_COST`] bytes that refers to the shared ones. An idle watcher: about 240 bytes, and if no other watcher
//! watches its span, about 300 more and the span itself; an idle stream about 250.
//!
//! Deliberately absent: tasks, sockets, time (ticks are calls), permissions (the caller asks before it creates).
//!
//! On the write path: between the published view and the answers.
//!
//! [`WATCH_QUEUE_BYTES_MAX`]: crate::base::limits::WATCH_QUEUE_BYTES_MAX
//! [`WATCH_RESPONSE_COST`]: crate::base::limits::WATCH_RESPONSE_COST

mod batch;
mod catch_up;
mod chunk;
mod hub;
mod index;
mod run;
mod span;
mod stream;
mod watcher;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod script_tests;

pub use self::{
    batch::Batch,
    hub::{Counts, Hub},
    stream::{NO_WATCHER, QueueLimit, Response, ResponseKind},
    watcher::StreamKey,
};
