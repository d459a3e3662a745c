//! x
pub mod config;
pub mod datadir;
pub mod log;
pub mod notify;
