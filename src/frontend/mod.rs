//! The listeners of a front core: accept, detect the protocol of each client, serve it.
//!
//! ```text
//! listener (one per core, SO_REUSEPORT) --accept--> handshake, if there is TLS --> connection: first bytes, or the handshake's word
//!                                                                                   |-- "PRI * HTTP/2.0" --> rpc::Connection (gRPC)
//!                                                                                   |                           \-- with TLS, http2: /version ...
//!                                                                                   \-- anything else ----> http1 (hyper): /version ...
//! ```
//!
//! A listener may be limited to one of the two ([`Traffic`]), and may take connections with TLS, without, or both ([`Door`]).
//!
//! Invariants
//! 1. A core holds at most CONNECTIONS_PER_CORE_MAX connections; one more is closed at once.
//! 2. A client that sends nothing costs one socket and one task, and FIRST_BYTES_MS_MAX of them.
//! 3. No error of `accept` ends the listener; it pauses and continues.
//! 4. At most TLS_HANDSHAKES_PER_CORE_MAX handshakes are under way; when there are so many, those that take long are given up.
//! 5. After [`Front::stop`] nothing new is accepted, running calls may end, and after the bound everything is closed.
//!
//! Deliberately absent: the meaning of methods and pages (`rpc::Handler` and [`WebHandler`], implemented by the server).

mod connection;
mod handshakes;
mod http1;
mod http1_io;
mod http2;
mod listener;

pub use connection::{Door, Traffic};
pub use http1::{More, Takeover, WebFuture, WebHandler, WebIdentity, WebPieces, WebRequest, WebResponse};
pub use http1_io::ClientWatch;
pub use listener::Front;

#[cfg(test)]
mod tests;
