//! Work on the page file that fronts ask for: flushing it, and giving back what it does not need.
//!
//! Defragment rewrites nothing as a whole. The page file moves pages from its end to free places with its ordinary commits, one
//! after the other, and is cut when no reader needs the end any more; between the slices of each commit everybody else runs. A
//! power cut at any moment leaves the last commit. What is asked for while one runs is served together by the next.

use std::{cell::RefCell, rc::Rc, time::Duration};

use crate::{
    base::{human_size::human_size, limits},
    drive::Node,
    metrics::Name,
    os::{self, clock, notify::Notify},
    replica::{Answer, Chore, CoreId},
};

/// Who waits for the defragmenter.
#[derive(Default)]
pub(super) struct Chores {
    defragment: RefCell<Vec<(CoreId, u64)>>,
    wake: Notify,
}

impl Node {
    pub(super) fn take_chore(self: &Rc<Self>, front: CoreId, id: u64, chore: Chore) {
        match chore {
            Chore::Flush => os::spawn_local(Rc::clone(self).flush(front, id)),
            Chore::Defragment => {
                self.chores.defragment.borrow_mut().push((front, id));
                self.chores.wake.notify();
            }
        }
    }

    async fn flush(self: Rc<Self>, front: CoreId, id: u64) {
        self.force_commit().await;
        self.deliver(vec![(front, Answer::ChoreDone { id })]);
    }

    pub(super) async fn defragmenter(self: Rc<Self>) {
        loop {
            self.chores.wake.wait().await;
            let asked = self.chores.defragment.take();
            if asked.is_empty() {
                continue;
            }
            self.defragment().await;
            self.deliver(asked.into_iter().map(|(front, id)| (front, Answer::ChoreDone { id })).collect());
        }
    }

    async fn defragment(&self) {
        let started = clock::now();
        self.sheet().set(Name::DiskDefragInflight, 1);
        self.force_commit().await;
        let (size_before, in_use_before) = self.sizes();
        tracing::info!(
            path = %self.pages.path().display(),
            current_db_size_bytes = size_before,
            current_db_size = human_size(size_before),
            current_db_size_in_use_bytes = in_use_before,
            current_db_size_in_use = human_size(in_use_before),
            "defragmenting"
        );
        self.engine.borrow_mut().start_shrink();
        while self.engine.borrow_mut().is_shrinking() {
            self.commit_wake.notify();
            os::sleep(Duration::from_millis(limits::COMMIT_POLL_MS)).await;
        }
        let took = started.elapsed();
        let (size, in_use) = self.sizes();
        tracing::info!(
            path = %self.pages.path().display(),
            current_db_size_bytes_diff = difference(size, size_before),
            current_db_size_bytes = size,
            current_db_size = human_size(size),
            current_db_size_in_use_bytes_diff = difference(in_use, in_use_before),
            current_db_size_in_use_bytes = in_use,
            current_db_size_in_use = human_size(in_use),
            ?took,
            "finished defragmenting directory"
        );
        self.sheet().set(Name::DiskDefragInflight, 0);
        self.sheet().observe(Name::DiskBackendDefragDurationSeconds, took.as_secs_f64());
    }

    fn sizes(&self) -> (u64, u64) {
        let view = self.shared.view.load();
        let records = view.kv.records();
        (records.size_bytes(), records.in_use_bytes())
    }
}

fn difference(now: u64, before: u64) -> i64 {
    now.cast_signed() - before.cast_signed()
}
