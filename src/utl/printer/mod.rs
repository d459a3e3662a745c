//! Results on their way to the user, one file per format.

mod fields;
mod json;
mod simple;
mod table;

use std::io::Write;

use super::session::Session;
use crate::{
    base::human_size::human_size,
    ctl::session::{BAD_FEATURE, Exit},
};

/// `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// What `snapshot status` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub hash: u32,
    pub revision: i64,
    pub total_keys: u64,
    pub total_size: u64,
    /// Empty before 3.6.
    pub version: String,
}

/// What `hashkv` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    pub hash: u32,
    pub hash_revision: i64,
    pub compact_revision: i64,
}

/// What there is to show.
pub enum Reply {
    Status(Status),
    Hash(Hash),
}

impl Format {
    /// The one that was asked for.
    pub fn of(session: &Session) -> Result<Self, Exit> {
        Ok(match session.flags.text("write-out") {
            "simple" => Self::Simple,
            "fields" => Self::Fields,
            "json" => Self::Json,
            "protobuf" => Self::Protobuf,
            "table" => Self::Table,
            _ => return Err(Exit::new(BAD_FEATURE, "unsupported output format")),
        })
    }

    pub fn print(self, reply: &Reply, output: &mut dyn Write) -> Result<(), Exit> {
        let text = match self {
            Self::Simple => simple::text(reply),
            Self::Fields => fields::text(reply),
            Self::Json => json::text(reply),
            Self::Table => table::text(reply),
            Self::Protobuf => return Err(Exit::new(BAD_FEATURE, "protobuf not supported as output format")),
        };
        output.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// Head and cells, for the formats that are tables.
fn row(reply: &Reply) -> (Vec<&'static str>, Vec<String>) {
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
