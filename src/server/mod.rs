//! x
pub mod bootstrap;
pub mod config;
pub mod datadir;
pub mod engine;
pub mod front;
pub mod log;
pub mod log_files;
pub mod mailbox;
pub mod methods;
pub mod node;
pub mod notify;
pub mod stop;
