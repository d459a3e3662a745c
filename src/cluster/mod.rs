//! Membership.
pub mod membership;
//! Who belongs to the cluster.

pub mod ids;
