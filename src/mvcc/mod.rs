//! Multi-version key space: every change gets a revision, every revision can be read until it is compacted.
//!
//! ```text
//!                 write.rs                       view.rs  range.rs  scan.rs  hash.rs
//!   apply ---> WriteTxn ---+--- changes          View (immutable, any core) <--- service, watch
//!                          |                       |  index root      records
//!                          v                       v        |            |
//!   tree_index.rs   key -> latest stamp, history   <--------+            |      in memory only
//!   backend         revision -> record             <---------------------+      pages and read buffer
//!                          ^
//!   compact.rs ------------+   in slices, between batches          restore.rs: pages -> index, at start
//! ```
//!
//! Invariants
//!
//! 1. A transaction that changes something takes the next main revision and numbers its changes by sub from 0;
//!    one that changes nothing takes none.
//! 2. For every stamp in the index there is a record under the same revision, until compaction drops the stamp and then the record.
//! 3. A view never changes. What it can read stays readable through it, whatever is written or compacted later.
//! 4. The compact revision only rises. Reads at it work, reads below it are refused, even if the records are still there.
//! 5. The state after a list of operations, and every answer, is the same on every member: no clock, no randomness, no hash order.
//!
//! Deliberately absent: validation of requests (service), leases (only their ids pass through, in [`Change`]), quotas, watchers,
//! the consistent index (apply writes it in the same backend batch).
//!
//! Path of a read: service -> [`View::point`] or [`RangeReader`] -> index -> record -> response bytes. Per point read: no allocation,
//! no lock, no copy but the one into the response. Path of a write: apply -> [`WriteTxn`] -> one allocation for the record, which
//! backend, watch and lease share.

mod bump;
mod compact;
mod compaction;
mod error;
mod event;
mod hash;
mod hash_reader;
mod key_block;
mod key_index;
mod range;
mod range_order;
mod record;
mod restore;
mod revision;
mod scan;
mod store;
mod tree_cursor;
mod tree_index;
mod tree_node;
mod view;
mod write;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod script_tests;
#[cfg(test)]
pub(crate) mod test_disk;

pub use self::{
    bump::{Bump, BumpError, bump_revision},
    compact::CompactStep,
    compaction::CompactionReport,
    error::{Error, Failure, Refusal},
    event::{Change, ChangeKind, EventReader, EventRecord},
    hash::KeyValueHash,
    hash_reader::{HashReader, HashResult},
    key_index::KeyVersion,
    range::{Measured, Piece, RangeOptions, RangeReader, RangeResult, collect},
    record::{BadRecord, RecordFields},
    restore::{Attachment, Restore},
    revision::{BadRevisionKey, RecordKey, Revision},
    scan::{RecordScan, StoredRecord},
    store::{FIRST_REVISION, NEVER_COMPACTED, Store},
    tree_cursor::{TreeCursor, TreeEntry},
    tree_index::{CountSlice, KeyRange, TreeIndex},
    view::View,
    write::{Committed, Deleted, PausedTxn, WriteTxn},
};

impl RecordFields<'_> {
    fn of(record: &[u8], revision: Revision) -> Result<RecordFields<'_>, Failure> {
        RecordFields::parse(record).map_err(|source| Failure::BadRecord { revision, source })
    }
}
