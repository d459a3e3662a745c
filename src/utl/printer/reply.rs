//! The results of commands.

use crate::base::human_size::human_size;

/// The result of `snapshot status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub hash: u32,
    pub revision: i64,
    pub total_keys: u64,
    pub total_size: u64,
    /// Empty before 3.6.
    pub version: String,
}

/// The result of `hashkv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    pub hash: u32,
    pub hash_revision: i64,
    pub compact_revision: i64,
}

/// The result of a command.
pub enum Reply {
    Status(Status),
    Hash(Hash),
}

/// Head and cells, for the formats that are tables.
pub(super) fn row(reply: &Reply) -> (Vec<&'static str>, Vec<String>) {
    match reply {
        Reply::Status(status) => (
            vec!["hash", "revision", "total keys", "total size", "version"],
            vec![
                format!("{:x}", status.hash),
                status.revision.to_string(),
                status.total_keys.to_string(),
                human_size(status.total_size),
                status.version.clone(),
            ],
        ),
        Reply::Hash(hash) => (
            vec!["hash", "hash revision", "compact revision"],
            vec![hash.hash.to_string(), hash.hash_revision.to_string(), hash.compact_revision.to_string()],
        ),
    }
}
