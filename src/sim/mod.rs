//! The other world: what the core runs on when there is no machine. Everything in here is a value with a seed, so a
//! run repeats exactly.
//!
//! - `disk`: files in memory that tear, lose and refuse what real ones do at a power cut.
//! - `log_files`: the log's files on such a disk.
//! - `wal_host`: a `wal::Wal` alone on such a disk.
//! - `member`: a whole replica on such a disk: log, page file, received states.
//! - `world`: several members, a network that delays, loses, doubles and cuts, clients, and what must hold.

pub mod disk;
pub mod log_files;
pub mod member;
pub mod wal_host;
#[cfg(test)]
mod wal_tests;
pub mod world;
#[cfg(test)]
mod world_tests;
