//! Who belongs to the cluster: ids and members.

pub mod ids;
pub mod membership;

#[cfg(test)]
mod script_tests;
