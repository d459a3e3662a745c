//! Ground: small values that every floor shares. Nothing here knows etcd's services, a disk or a socket.

pub mod aligned;
pub mod certificates;
pub mod checksum;
pub mod civil_time;
pub mod code;
pub mod go_duration;
pub mod go_quote;
pub mod go_sort;
pub mod go_url;
pub mod human_size;
pub mod interval_tree;
pub mod limits;
pub mod log_entry;
pub mod planted;
pub mod received_state;
pub mod refusal;
pub mod version;

#[cfg(test)]
pub mod script_tests;
