//! Commits of the page file, one after the other, off the acknowledged path.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{Driver, or_stop, page_file::OpenPageFile, wait_for_room};
use crate::{
    base::limits,
    metrics::Name,
    os::{self, clock, file::FileError, notify::Notify},
    pagefile::Commit,
    replica::Input,
};

/// The page file, and the work on it.
pub(super) struct PageTasks {
    file: RefCell<Rc<OpenPageFile>>,
    /// It stays the same when a received state takes the file's place.
    path: PathBuf,
    waiting: RefCell<VecDeque<PageTask>>,
    wake: Notify,
    /// How long the commit handed out last took to build.
    pub built: Cell<Duration>,
    /// The commit under way waits for room on the disk.
    lacks_room: Cell<bool>,
}

enum PageTask {
    Commit(Commit),
    Cut { length: u64 },
}

impl PageTasks {
    pub fn new(file: OpenPageFile) -> Self {
        Self {
            path: file.file.path().to_owned(),
            file: RefCell::new(Rc::new(file)),
            waiting: RefCell::default(),
            wake: Notify::default(),
            built: Cell::default(),
            lacks_room: Cell::new(false),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> Rc<OpenPageFile> {
        Rc::clone(&self.file.borrow())
    }

    /// Commits go to this file from now on.
    pub fn replace(&self, file: OpenPageFile) {
        *self.file.borrow_mut() = Rc::new(file);
    }

    pub fn push_commit(&self, commit: Commit) {
        self.push(PageTask::Commit(commit));
    }

    pub fn push_cut(&self, length: u64) {
        self.push(PageTask::Cut { length });
    }

    fn push(&self, task: PageTask) {
        self.waiting.borrow_mut().push_back(task);
        self.wake.notify();
    }

    fn next(&self) -> Option<PageTask> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Returns when a commit waits for room on the disk.
    pub async fn until_room_is_lacking(&self) {
        while !self.lacks_room.get() {
            os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
        }
    }
}

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
