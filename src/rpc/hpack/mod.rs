//! HPACK (RFC 7541), decoding only: header blocks become fields.
//!
//! | first bits | meaning |
//! |---|---|
//! | `1` | a field of the tables |
//! | `01` | a field to be added to the table: name from the tables or as text, value as text |
//! | `001` | a new size of the table |
//! | `0000`, `0001` | a field that is not added: name from the tables or as text, value as text |
//!
//! Invariants
//! 1. After every field the table equals the other side's, whether the field is used or not.
//! 2. A decoder holds the table, at most 4 KiB, and room for one field.
//!
//! The integration tests read both servers' answers with it.
//!
//! The total size is not limited here: the caller counts the fields, and may stop. A literal longer than
//! HEADER_LITERAL_BYTES_MAX is an error, because it could not be skipped without holding it.

mod decoder;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub(super) use table::ENTRY_COST_BYTES;

/// The block is no HPACK. The two sides do not agree on the table any more, which ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;
