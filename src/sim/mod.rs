//! The other world: what the core runs on when there is no machine. Everything in here is a value with a seed, so a
//! run repeats exactly.
//!
//! - `disk`: files in memory that tear, lose and refuse what real ones do at a power cut.
//! - `wal_host`: carries out what a `wal::Wal` asks for on such a disk, in place of the shell.

pub mod disk;
pub mod wal_host;
#[cfg(test)]
mod wal_tests;
