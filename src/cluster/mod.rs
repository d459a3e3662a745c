//! Who belongs to the cluster.

pub mod ids;
