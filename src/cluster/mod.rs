//! Who belongs to the cluster: ids, members, what each change of them means and when it is allowed.
//!
//! ```text
//!   --initial-cluster ─▶ initial ─▶ ids ─▶ the first members
//!   conf change ─▶ change (what it means) ─▶ rules (whether it is allowed) ─▶ membership ─▶ what is to be stored
//! ```
//!
//! On the write path: between a committed conf change and the buckets `members` and `members_removed`.

pub mod change;
pub mod ids;
pub mod initial;
pub mod membership;
pub mod rules;

#[cfg(test)]
mod script_tests;
