//! ringd: an etcd v3 server on io_uring, one pinned thread per core.

pub mod base;
pub mod frontend;
pub mod os;
pub mod proto;
pub mod rpc;
