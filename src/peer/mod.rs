//! Links between members, in the peer protocol of etcd 3.7 (rafthttp), byte for byte.

mod activity;
mod answers;
mod bodies;
pub mod client;
mod codec;
mod headers;
mod http_io;
mod incoming;
mod link;
mod outgoing;
mod peers;
mod picker;
mod pipeline;
mod prober;
mod reports;
mod server;
mod settings;
mod snapshot_receiver;
mod snapshot_sender;
mod table;
mod wall;

pub use self::{
    activity::Activity,
    peers::Peers,
    settings::{Event, Settings, Sink},
};

#[cfg(test)]
mod tests;
