//! Simulation: disks, members and a network in one thread, on which tests run the core. A seed decides everything, so a
//! run repeats exactly.
//!
//! - `disk`: files in memory that tear and lose writes at a power cut, and fail, as real ones do.
//! - `log_files`: the log's files on such a disk.
//! - `wal_host`: a `wal::Wal` alone on such a disk.
//! - `member`: a whole replica on such a disk: log, page file, received states.
//! - `world`: several members, a network that delays, loses, doubles and cuts, clients, and checks.

pub mod disk;
pub mod log_files;
pub mod member;
#[cfg(test)]
mod stall_tests;
pub mod wal_host;
#[cfg(test)]
mod wal_tests;
pub mod world;
#[cfg(test)]
mod world_tests;
