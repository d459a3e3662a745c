//! A front core's door: listen, accept, find out which protocol a client speaks, serve it.
//!
//! ```text
//! listener (one per core, SO_REUSEPORT) --accept--> connection: first bytes
//!                                                     |-- "PRI * HTTP/2.0" --> rpc::Connection (gRPC)
//!                                                     \-- anything else ----> http1 (hyper): /version, /health ...
//! ```
//!
//! A listener may serve one of the two only ([`Traffic`]).
//!
//! Invariants
//! 1. A core holds at most CONNECTIONS_PER_CORE_MAX connections; one more is closed at once.
//! 2. A client that sends nothing costs one socket and one task, and FIRST_BYTES_MS_MAX of them.
//! 3. No error of `accept` ends the listener; it rests and goes on.
//! 4. After [`Front::stop`] nothing new is accepted, what runs may end, and after the bound everything is closed.
//!
//! Deliberately absent: what methods and pages mean (`rpc::Handler`, [`WebHandler`]: the server's).

mod connection;
mod http1;
mod listener;

pub use connection::Traffic;
pub use http1::{WebFuture, WebHandler, WebRequest, WebResponse};
pub use listener::Front;

#[cfg(test)]
mod tests;
