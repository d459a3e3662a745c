//! ringd: an etcd v3 server on io_uring, one pinned thread per core.

pub mod base;
pub mod client;
pub mod ctl;
pub mod metrics;
pub mod proto;
