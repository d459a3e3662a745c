//! Membership.
pub mod membership;
