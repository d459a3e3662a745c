//! Printed results, one file per format.

mod fields;
mod json;
mod reply;
mod simple;
mod table;

use std::io::Write;

use super::session::Session;
use crate::ctl::exit::{BAD_FEATURE, Exit};
pub use reply::{Hash, Reply, Status};

/// `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    /// The format of the flag.
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
