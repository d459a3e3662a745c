//! From a page file to the state that it holds: at the start of a member, and after a received state has replaced the file.
//!
//! | state | in a slice | next |
//! |---|---|---|
//! | reading | some records go into the index | reading, or all are read |
//! | all are read | `finish`: leases are attached, the small buckets become members, alarms and versions | |

use crate::{
    apply::{
        Applier,
        state::{self, Restored, StateError},
    },
    backend::Backend,
    base::limits,
    lease::{Lessor, Terms},
    mvcc::{self, Restore},
    pagefile::{Corrupt, PageFile},
};

/// A page file being read.
pub struct Opening {
    backend: Backend,
    state: Restored,
    restore: Restore,
}

/// Why a page file holds no state.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Mvcc(#[from] mvcc::Failure),
    #[error(transparent)]
    State(#[from] StateError),
}

/// Who the member is, and the limits of its state.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub terms: Terms,
    /// Negative: none.
    pub quota_bytes: i64,
    pub learners_max: usize,
}

/// A state, ready for entries.
pub struct Opened {
    pub applier: Applier,
    /// Number of keys that name a lease which does not exist.
    pub dangling: usize,
}

impl Opening {
    /// Reads the small buckets.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn new(file: PageFile) -> Result<Self, OpeningError> {
        let backend = Backend::new(file)?;
        let state = state::restore(&backend.view())?;
        let restore = Restore::new(backend.view())?;
        Ok(Self { backend, state, restore })
    }

    /// The content of the small buckets.
    #[must_use]
    pub fn state(&self) -> &Restored {
        &self.state
    }

    /// Reads a slice of the records; true when all are read.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn step(&mut self) -> Result<bool, OpeningError> {
        Ok(self.restore.step(limits::RESTORE_RECORDS_PER_SLICE)?)
    }

    /// The state, after all records were read.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn finish(mut self, identity: &Identity) -> Result<Opened, OpeningError> {
        let (store, attachments) = self.restore.finish(&mut self.backend)?;
        let mut membership = self.state.membership(identity.cluster_id, identity.member_id);
        membership.learners_max = identity.learners_max;
        let mut lessor = Lessor::new(identity.terms);
        let dangling = lessor.restore(&self.state.leases, &attachments);
        let applier =
            Applier::new(store, self.backend, self.state, membership, lessor).with_quota(identity.quota_bytes);
        Ok(Opened { applier, dangling })
    }
}
