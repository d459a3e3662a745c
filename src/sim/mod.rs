//! Simulation: whole clusters in one thread, on which tests run the core. A seed decides everything, so a run repeats exactly.
//!
//! ```text
//!   options ─▶ world ─▶ machines: member (a replica of the core) on a disk, with a clock ─┐
//!                │                                                                        ├─▶ checkers ─▶ report, or a story
//!                ├────▶ network ───────────────────────────────────────────────────────────┤
//!                └────▶ clients ───────────────────────────────────────────────────────────┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `disk` | files in memory that tear and lose writes at a power cut, and fail, as real ones do |
//! | `network`, `clock` | links that lose, double, delay, reorder and cut; clocks that drift and jump |
//! | `log_files`, `page_files`, `member` | the log and the page file on such a disk; a whole replica on it |
//! | `options` | what a run draws: faults, settings, clients |
//! | `world/` | a cluster at work, in three phases |
//! | `checkers/` | what must hold |
//! | `story`, `minimise` | a failed run for people, and the smallest one that fails alike |
//! | `wal_host` | a `wal::Wal` alone on such a disk |
//!
//! What is simulated is the core, from `replica` down, with the hub of `watch` at each member. The shell (sockets, io_uring, tasks) is
//! not; `tests/integration` has that.

pub mod checkers;
pub mod clock;
pub mod disk;
pub mod log_files;
pub mod member;
pub mod minimise;
#[cfg(test)]
mod mutation_tests;
pub mod network;
pub mod options;
pub mod page_files;
#[cfg(test)]
mod stall_tests;
pub mod story;
pub mod wal_host;
#[cfg(test)]
mod wal_tests;
pub mod world;
#[cfg(test)]
mod world_tests;
