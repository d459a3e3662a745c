//! The writer's side of the key space, and the views it publishes.

use std::{collections::VecDeque, sync::Arc};

use super::{compaction::Compaction, hash::KeyValueHash, tree_index::TreeIndex, view::View};
use crate::backend::Backend;

/// Revision of an empty store.
pub const FIRST_REVISION: i64 = 1;
/// Compact revision of a store that was never compacted.
pub const NEVER_COMPACTED: i64 = -1;

/// The writer's side of the key space. The backend is shared with other modules, so it is an argument.
#[derive(Debug)]
pub struct Store {
    pub(super) index: TreeIndex,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    pub(super) compactions: VecDeque<Compaction>,
    pub(super) hashes: Arc<Vec<KeyValueHash>>,
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

    pub(super) fn view_at(&self, backend: &Backend, revision: i64) -> View {
        View {
            index: self.index.clone(),
            records: backend.view(),
            revision,
            compact_revision: self.compact_revision,
            hashes: Arc::clone(&self.hashes),
        }
    }
}
