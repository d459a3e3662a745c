//! Links between members, in the peer protocol of etcd 3.7 (rafthttp), byte for byte, so that ringd and etcd can be members of one
//! cluster.
//!
//! ```text
//!   send ──▶ table: which member? ──▶ outgoing: the stream that it has opened here    appends on one, the rest on another
//!                                 \─▶ pipeline: a post                                where it has opened none
//!   send_snapshot ──▶ snapshot_sender: a post of the whole database, in slices
//!
//!   incoming: the two streams that we open there ──┐
//!   server: posts to us                            ├──▶ codec ──▶ reports ──▶ the member
//!   snapshot_receiver: a database, to a file       ┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `peers`, `table` | what the member calls; who there is to talk to |
//! | `link` | what all ways to one member share: its URLs, whether it is connected, its end |
//! | `outgoing`, `incoming`, `pipeline` | the ways of messages |
//! | `snapshot_sender`, `snapshot_receiver`, `received_file` | the ways of whole states |
//! | `images`, `image_body`, `image_server`, `image_client` | whole states that a ringd fetches from another one |
//! | `prober` | round trips and clocks |
//! | `server`, `answers` | the peer port and its checks |
//! | `codec`, `headers`, `picker`, `wall` | framings, headers and their checks, which URL, times as text; sans I/O |
//! | `client`, `http_io`, `bodies` | HTTP/1.1 by hyper on the streams of `os` |
//! | `reports`, `activity`, `settings` | to the member, to other cores, from the member |
//!
//! Invariants
//! 1. Sending never waits and never calls the member back: what cannot be sent is dropped, counted and reported from another task.
//! 2. Votes and heartbeats of Raft never stand behind entries or states: they have a stream of their own.
//! 3. What waits for a member is bounded by count and bytes, and so is what any stranger can make this member remember.
//! 4. Bytes from outside are decoded by prost, within limits, and never end the process.
//! 5. A received state has its name only when every page of it was read and it is durable.
//!
//! Cost of a message: one encoding into the stream's buffer, and one send for all messages of a turn.
//!
//! Deliberately absent: what messages mean (`consensus`), pages of the peer port that are not of Raft (`web`).
//!
//! On the write path: between the log and its quorum.

mod activity;
mod answers;
mod bodies;
pub mod client;
mod codec;
mod headers;
mod http_io;
mod image_body;
mod image_client;
mod image_server;
mod images;
mod incoming;
mod link;
mod outgoing;
mod peers;
mod picker;
mod pipeline;
mod prober;
mod received_file;
mod reports;
mod server;
mod settings;
mod snapshot_offer;
mod snapshot_receiver;
mod snapshot_sender;
mod table;
mod wall;

pub use self::{
    activity::Activity,
    image_client::{Asking, FetchError, fetch},
    images::{Image, ImageFuture, ImageSource},
    peers::{NoSecrets, Peers},
    settings::{Event, Settings, Sink},
};

#[cfg(test)]
mod tests;
