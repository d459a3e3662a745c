//! A page file in memory, for tests of this floor.

use crate::{
    backend::Backend,
    pagefile::{Commit, MemoryImage, PageFile},
};

const IMAGE_BYTES: usize = 8 << 20;

/// A backend over a page file in memory.
pub(super) struct Disk {
    image: MemoryImage,
    file_len: u64,
    pub(super) backend: Backend,
    commit: Option<Commit>,
}

impl Disk {
    pub(super) fn new(content: &[u8]) -> Self {
        let image = MemoryImage::new(content, IMAGE_BYTES);
        let file_len = content.len() as u64;
        let file = PageFile::open(image.map(), file_len).expect("a sound file");
        let backend = Backend::new(file).expect("a sound file");
        Self { image, file_len, backend, commit: None }
    }

    /// One slice of a commit, or its writes.
    pub(super) fn advance(&mut self, budget: usize) {
        if let Some(commit) = self.commit.take() {
            self.file_len = commit.grow_to.unwrap_or(self.file_len);
            for write in commit.pages.iter().chain([&commit.meta]) {
                self.image.write(write);
            }
            self.backend.on_committed().expect("a sound file");
        } else if self.backend.is_committing() || self.backend.begin_commit() {
            self.commit = self.backend.step_commit(budget).expect("a sound file");
        }
    }

    pub(super) fn commit(&mut self) {
        while self.backend.is_committing() || self.backend.pending_changes() > 0 {
            self.advance(1000);
        }
    }

    pub(super) fn reopened(&self) -> Self {
        Self::new(&self.image.content(self.file_len as usize))
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(&PageFile::image_of_new_file(4096))
    }
}
