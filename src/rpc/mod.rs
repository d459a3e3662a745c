//! gRPC on HTTP/2 (crate `h2`), ignorant of etcd.
//!
//! ```text
//!                     one task per connection, one turn per wake-up
//!  socket --recv--> intake --> h2 --> accept all requests that are there ----> handler.unary(..) -> Some(reply) --\
//!                                        |  (half messages wait in `slow`)            \-> None: Responder kept      |
//!                                        \-> streaming: Inbound/Outbound to the handler's task        |            |
//!                     inbox (replies from other tasks) <---------------------------------------------/            |
//!  socket <--send-- turn_io <-- h2 <-- answers: message, trailers, pieces of large messages <----------------------/
//! ```
//!
//! **The unit of work is the batch per connection and turn**: one receive, all complete requests handled one after the
//! other, all ready answers written, one send. Answering each request when h2 returns it makes one send per
//! response and less than half the throughput.
//!
//! Invariants
//! 1. A turn makes at most one receive and, below TURN_OUTPUT_BYTES of output, one send.
//! 2. A call that reached the handler is counted as started once and as handled once.
//! 3. The memory that a client can make the server hold is bounded: windows, half messages, unanswered calls, unsent bytes
//!    (`base::limits`).
//! 4. A connection's task never runs for more than a bounded batch before the core's other tasks get their turn.
//!
//! Per unary request answered in its turn: no task, no timer, no lock shared between threads; allocations are those of
//! h2's header maps for the answer and the answer's bytes.
//!
//! Requests that are not gRPC's are refused, or go to the pages of the connection, if it has any (`page`).
//! Another front of the same core makes the same calls without a connection (`local`).
//!
//! Deliberately absent: client-streaming kind (no method of etcd's), reflection.
//! On the read and the write path this is the second step and the last.

mod answer;
mod call;
mod connection;
mod deadlines;
mod drain;
mod encoding;
mod frame;
mod handler;
mod head;
pub mod hpack;
mod inbox;
mod intake;
mod interceptors;
mod local;
mod local_reply;
mod local_stream;
mod messages;
mod method;
mod packing;
mod page;
mod pings;
mod quoted;
mod ready;
mod receiving;
mod server;
mod spans;
mod status;
mod streams;
mod turn_io;

pub use answer::{Body, Producer, Reply};
pub use call::{Call, CallReport, Traffic};
pub use connection::Connection;
pub use drain::{Drain, Membership, Stage};
pub use handler::{Description, Handler};
pub use inbox::{Principal, Responder};
pub use interceptors::{CallCounters, MethodCounts};
pub use local::{LocalCall, LocalExchange};
pub use messages::Messages;
pub use method::{Method, MethodId, MethodKind, MethodTable};
pub use page::{Exchange, Gone, Pages};
pub use server::{Server, Settings};
pub use spans::{CallSpan, ServerAddress};
pub use status::{Code, Status};
pub use streams::{Inbound, Outbound};
