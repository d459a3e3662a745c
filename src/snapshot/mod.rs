//! Snapshot: a whole state on its way from one file to another.
//!
//! ```text
//!   image (bytes)      pages as they are, 512-byte multiple ─▶ | pages ... | SHA-256 of them, 32 bytes |     etcd's snapshot file
//!   copy (records)     bucket after bucket, in key order    ─▶ chunk, chunk ...  each becomes one commit of a new file
//! ```
//!
//! A file with a checksum after its pages has a length that leaves 32 when divided by 512; a database file copied
//! from a data directory has none and leaves 0. That is the only difference between the two, and tells them apart.
//!
//! Invariants
//!
//! 1. A copy has every bucket and every record of its source, byte for byte, and nothing else: free pages are not copied.
//! 2. Chunks are bounded by count and bytes, whatever the size of the state.
//! 3. The same source gives the same chunks.
//!
//! Deliberately absent: files and streams (the shell's and the programs'), what a restored state is changed to (`utl`).
//!
//! On neither the read nor the write path.

mod copy;
mod digest;

pub use copy::{CopyError, StateCopy};
pub use digest::{DIGEST_BYTES, Digest, has_digest};
