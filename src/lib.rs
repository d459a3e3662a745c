//! ringd: an etcd v3 server on io_uring, one pinned thread per core.

pub mod backend;
pub mod base;
pub mod pagefile;
pub mod proto;
