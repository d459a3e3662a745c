//! Changes on their way from apply to the fronts.

use crate::mvcc::Change;

/// Consecutive revisions, shared by all fronts.
#[derive(Debug)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// `None` if nothing changed. `changes` are in revision order and without gaps.
    #[must_use]
    pub fn new(changes: Vec<Change>) -> Option<Self> {
        (!changes.is_empty()).then_some(Self { changes })
    }

    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Revision of the first change.
    #[must_use]
    pub fn first(&self) -> i64 {
        self.changes.first().map_or(0, |change| change.revision.main)
    }

    /// Revision of the last one.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.changes.last().map_or(0, |change| change.revision.main)
    }

    /// Bytes of memory that the batch holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let records: usize = self.changes.iter().map(|change| change.record.len()).sum();
        records + size_of_val(&self.changes[..])
    }
}
