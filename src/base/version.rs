//! Versions that clients, tools and stored data are checked against.

/// The etcd release whose behaviour this server has (`Status.version`, `/version`).
pub const SERVER: &str = "3.7.3";
/// The cluster version of a cluster of such members.
pub const CLUSTER: &str = "3.7.0";
/// The schema of the page file.
pub const STORAGE: &str = "3.7.0";
/// The oldest cluster version whose members we can talk to.
pub const CLUSTER_MIN: &str = "3.0.0";
