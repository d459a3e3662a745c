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
mod event;
mod hash;
mod key_block;
mod key_index;
mod range;
mod range_order;
mod record;
mod restore;
mod revision;
mod scan;
mod tree_cursor;
mod tree_index;
mod tree_node;
mod view;
mod write;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
pub(crate) mod test_disk;

use std::{collections::VecDeque, sync::Arc};

pub use self::{
    bump::{Bump, BumpError, bump_revision},
    compact::{CompactStep, CompactionReport},
    event::{Change, ChangeKind, EventReader, EventRecord},
    hash::{HashReader, HashResult, KeyValueHash},
    key_index::KeyVersion,
    range::{Measured, Piece, RangeOptions, RangeReader, RangeResult, collect},
    record::{BadRecord, RecordFields},
    restore::{Attachment, Restore},
    revision::{BadRevisionKey, RecordKey, Revision},
    scan::{RecordScan, StoredRecord},
    tree_cursor::{TreeCursor, TreeEntry},
    tree_index::{CountSlice, KeyRange, TreeIndex},
    view::View,
    write::{Committed, Deleted, PausedTxn, WriteTxn},
};
use crate::{backend::Backend, base::refusal, pagefile};

/// Revision of a store nothing was ever written to.
pub const FIRST_REVISION: i64 = 1;
/// Compact revision of a store that was never compacted.
pub const NEVER_COMPACTED: i64 = -1;

/// The writer's side of the key space. The backend is shared with other floors, so it is passed in.
#[derive(Debug)]
pub struct Store {
    index: TreeIndex,
    revision: i64,
    compact_revision: i64,
    compactions: VecDeque<compact::Compaction>,
    hashes: Arc<Vec<KeyValueHash>>,
}

/// What a client did wrong; the same on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
}

impl From<Refusal> for refusal::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Compacted => Self::Compacted,
            Refusal::FutureRevision => Self::FutureRevision,
        }
    }
}

/// The database is not what it should be; the member has to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Corrupt(#[from] pagefile::Corrupt),
    #[error("bucket key: {0}")]
    BadKey(#[from] BadRevisionKey),
    #[error("record {revision}: {source}")]
    BadRecord { revision: Revision, source: BadRecord },
    #[error("record {0} follows a later one or one of the same revision")]
    OutOfOrder(Revision),
    #[error("record {0} is in the index but not in the database")]
    RecordMissing(Revision),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Default for Store {
    fn default() -> Self {
        Self {
            index: TreeIndex::default(),
            revision: FIRST_REVISION,
            compact_revision: NEVER_COMPACTED,
            compactions: VecDeque::new(),
            hashes: Arc::default(),
        }
    }
}

impl Store {
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    #[must_use]
    pub fn index(&self) -> &TreeIndex {
        &self.index
    }

    /// The state as it is now, for readers on any core.
    #[must_use]
    pub fn view(&self, backend: &Backend) -> View {
        self.view_at(backend, self.revision)
    }

    fn view_at(&self, backend: &Backend, revision: i64) -> View {
        View {
            index: self.index.clone(),
            records: backend.view(),
            revision,
            compact_revision: self.compact_revision,
            hashes: Arc::clone(&self.hashes),
        }
    }

    /// Opens a write transaction.
    pub fn write<'s>(&'s mut self, backend: &'s mut Backend) -> WriteTxn<'s> {
        WriteTxn::new(self, backend)
    }

    /// Goes on with a write transaction.
    pub fn resume<'s>(&'s mut self, backend: &'s mut Backend, paused: PausedTxn) -> WriteTxn<'s> {
        WriteTxn::resumed(self, backend, paused)
    }
}

impl RecordFields<'_> {
    fn of(record: &[u8], revision: Revision) -> Result<RecordFields<'_>, Failure> {
        RecordFields::parse(record).map_err(|source| Failure::BadRecord { revision, source })
    }
}
