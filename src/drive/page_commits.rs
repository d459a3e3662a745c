//! Commits of the page file, one after the other, off the acknowledged path.

use std::{rc::Rc, time::Duration};

use super::{Driver, or_stop, wait_for_room, work::PageTask};
use crate::{
    base::limits,
    metrics::Name,
    os::{clock, file::FileError},
    pagefile::Commit,
    replica::Input,
};

impl Driver {
    pub(super) async fn commit_pages(self: Rc<Self>) {
        loop {
            self.pages.wake.wait().await;
            while let Some(task) = self.pages.next() {
                match task {
                    PageTask::Commit(commit) => {
                        let started = clock::now();
                        or_stop(self.write_commit(commit).await);
                        self.count_commit(started.elapsed());
                        self.step(Input::PagesCommitted);
                    }
                    PageTask::Cut { length } => {
                        or_stop(self.pages.file().file.cut(length, limits::PAGE_FILE_CUT_BYTES).await);
                    }
                }
            }
        }
    }

    async fn write_commit(&self, commit: Commit) -> Result<(), FileError> {
        let pages = &self.pages;
        let page_file = pages.file();
        let file = &page_file.file;
        if let Some(length) = commit.grow_to {
            while let Err(error) = file.grow(length).await {
                pages.lacks_room.set(error.is_full());
                self.shared.health.set_database_lacks_room(error.is_full());
                wait_for_room(error).await?;
            }
            pages.lacks_room.set(false);
            self.shared.health.set_database_lacks_room(false);
            file.sync().await?;
        }
        for write in commit.pages {
            let (offset, bytes) = write.into_parts();
            file.write(bytes, offset).await?;
        }
        file.sync().await?;
        let (offset, bytes) = commit.meta.into_parts();
        file.write(bytes, offset).await?;
        file.sync().await
    }

    /// Building pages is etcd's spill; merging small ones (its rebalance) is part of it here and not measured apart.
    fn count_commit(&self, writing: Duration) {
        let (sheet, building) = (self.sheet(), self.pages.built.get());
        sheet.observe(Name::DiskBackendCommitSpillDurationSeconds, building.as_secs_f64());
        sheet.observe(Name::DiskBackendCommitWriteDurationSeconds, writing.as_secs_f64());
        sheet.observe(Name::DiskBackendCommitDurationSeconds, (building + writing).as_secs_f64());
    }
}
