//! Work on the files that waits for its task.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::page_file::OpenPageFile;
use crate::{
    base::limits,
    os::{self, notify::Notify},
    pagefile::Commit,
    wal::Action,
};

/// Work on the log's files that is still to be done, oldest first.
#[derive(Default)]
pub(super) struct LogTasks {
    pub(super) waiting: RefCell<VecDeque<Action>>,
    pub(super) wake: Notify,
}

impl LogTasks {
    pub fn push(&self, action: Action) {
        self.waiting.borrow_mut().push_back(action);
        self.wake.notify();
    }

    pub(super) fn next(&self) -> Option<Action> {
        self.waiting.borrow_mut().pop_front()
    }
}

/// The page file, and the work on it.
pub(super) struct PageTasks {
    file: RefCell<Rc<OpenPageFile>>,
    /// It stays the same when a received state takes the file's place.
    path: PathBuf,
    waiting: RefCell<VecDeque<PageTask>>,
    pub(super) wake: Notify,
    /// How long the commit handed out last took to build.
    pub built: Cell<Duration>,
    /// The commit under way waits for room on the disk.
    pub(super) lacks_room: Cell<bool>,
}

pub(super) enum PageTask {
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

    pub(super) fn next(&self) -> Option<PageTask> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Returns when a commit waits for room on the disk.
    pub async fn until_room_is_lacking(&self) {
        while !self.lacks_room.get() {
            os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
        }
    }
}
