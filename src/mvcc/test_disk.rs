//! A backend over a page file on a simulated disk, for tests.

use crate::{
    backend::Backend,
    pagefile::{Commit, PageFile},
    sim::page_files::LonePageFile,
};

const IMAGE_BYTES: usize = 8 << 20;

/// A backend on a disk of its own.
pub(crate) struct Disk {
    pages: LonePageFile,
    pub(crate) backend: Backend,
    commit: Option<Commit>,
    /// Commits begun, and commits on disk.
    pub(crate) begun: u64,
    pub(crate) durable: u64,
}

impl Disk {
    fn new((pages, file): (LonePageFile, PageFile)) -> Self {
        let backend = Backend::new(file).expect("a sound file");
        Self { pages, backend, commit: None, begun: 0, durable: 0 }
    }

    /// One slice of a commit, or its writes.
    pub(crate) fn advance(&mut self, budget: usize) {
        if let Some(commit) = self.commit.take() {
            self.pages.carry_out(commit).expect("a disk without faults");
            self.backend.on_committed().expect("a sound file");
            self.durable += 1;
        } else {
            self.begun += u64::from(self.backend.begin_commit());
            if !self.backend.is_committing() {
                return;
            }
            self.commit = self.backend.step_commit(budget).expect("a sound file");
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.backend.is_committing() || self.backend.pending_changes() > 0
    }

    pub(crate) fn commit(&mut self) {
        while self.has_pending() {
            self.advance(1000);
        }
    }

    /// The disk as a start after a power cut finds it.
    pub(crate) fn reopened(&self) -> Self {
        Self::new(self.pages.after_power_cut().expect("a sound file"))
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(LonePageFile::new(&PageFile::image_of_new_file(4096), IMAGE_BYTES).expect("a sound file"))
    }
}
