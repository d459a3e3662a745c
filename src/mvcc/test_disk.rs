//! A page file in memory, for tests of this module.

use crate::{
    backend::Backend,
    pagefile::{Commit, MemoryImage, PageFile},
};

const IMAGE_BYTES: usize = 8 << 20;

/// A backend over a page file in memory.
pub(crate) struct Disk {
    image: MemoryImage,
    file_len: u64,
    pub(crate) backend: Backend,
    commit: Option<Commit>,
    /// Commits begun, and commits on disk.
    pub(crate) begun: u64,
    pub(crate) durable: u64,
}

impl Disk {
    pub(crate) fn new(content: &[u8]) -> Self {
        let image = MemoryImage::new(content, IMAGE_BYTES);
        let file_len = content.len() as u64;
        let file = PageFile::open(image.map(), file_len).expect("a sound file");
        let backend = Backend::new(file).expect("a sound file");
        Self { image, file_len, backend, commit: None, begun: 0, durable: 0 }
    }

    /// One slice of a commit, or its writes.
    pub(crate) fn advance(&mut self, budget: usize) {
        if let Some(commit) = self.commit.take() {
            self.file_len = commit.grow_to.unwrap_or(self.file_len);
            for write in commit.pages.iter().chain([&commit.meta]) {
                self.image.write(write);
            }
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
        Self::new(&self.image.content(self.file_len as usize))
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(&PageFile::image_of_new_file(4096))
    }
}
