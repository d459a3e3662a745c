//! Printing: every command returns a [`Reply`], and the chosen [`Format`] writes it.

mod fields;
mod json;
mod protobuf;
mod reply;
mod simple;
pub(crate) mod table;

use std::io::Write;

use super::exit::Exit;
pub use reply::{EndpointHash, EndpointStatus, Health, Reply};

/// `--write-out`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Simple { hex: bool, value_only: bool },
    Fields { hex: bool },
    Json { hex: bool },
    Protobuf,
    Table,
}

impl Format {
    pub fn by_name(name: &str, hex: bool) -> Option<Self> {
        Some(match name {
            "simple" => Self::Simple { hex, value_only: false },
            "fields" => Self::Fields { hex },
            "json" => Self::Json { hex },
            "protobuf" => Self::Protobuf,
            "table" => Self::Table,
            _ => return None,
        })
    }
}

/// Writes `reply`. A format that cannot show it ends the command with status 4.
pub fn print(format: &Format, reply: &Reply, output: &mut dyn Write, errors: &mut dyn Write) -> Result<(), Exit> {
    match format {
        Format::Simple { hex, value_only } => simple::print(reply, *hex, *value_only, output, errors),
        Format::Fields { hex } => fields::print(reply, *hex, output),
        Format::Json { hex } => json::print(reply, *hex, output),
        Format::Protobuf => protobuf::print(reply, output),
        Format::Table => table::print(reply, output),
    }
}
