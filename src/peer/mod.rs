//! Links between members, in the peer protocol of etcd 3.7 (rafthttp), byte for byte.

mod activity;
pub mod client;
mod peers;
mod settings;

pub use self::{
    activity::Activity,
    peers::Peers,
    settings::{Event, Settings, Sink},
};
