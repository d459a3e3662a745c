//! Background work on the log's files: segments are prepared and retired, one task after the other.

use std::{collections::VecDeque, rc::Rc};

use super::{Driver, or_stop, wait_for_room};
use crate::{replica::Input, wal::Action};

impl Driver {
    pub(super) async fn keep_log(self: Rc<Self>) {
        loop {
            self.log_tasks.wake.wait().await;
            while let Some(mut action) = self.log_tasks.next() {
                let done = loop {
                    match self.files.carry_out(&action).await {
                        Ok(done) => break done,
                        Err(error) if error.is_full() && self.reuse(&mut action).await => {}
                        Err(error) => {
                            // Preparing ahead may wait as long as no batch needs the segment.
                            let holds_up = error.is_full() && self.replica.borrow().holds_batches();
                            self.shared.health.set_log_lacks_room(holds_up);
                            or_stop(wait_for_room(error).await);
                        }
                    }
                };
                self.shared.health.set_log_lacks_room(false);
                if let Some(segment) = done {
                    self.step(Input::SegmentPrepared { segment });
                }
            }
        }
    }

    /// For a preparation that lacks room: releases all segments that the log does not need any more, and gives it one of
    /// them, if need be from the next preparation. False: there is none.
    async fn reuse(&self, action: &mut Action) -> bool {
        let Action::Prepare(prepare) = action else { return false };
        if prepare.spare.is_some() {
            return false;
        }
        // A spare is taken only after its release was carried out, so all releases come first. A released segment is never the
        // one being prepared.
        loop {
            let (later, releases): (VecDeque<_>, VecDeque<_>) =
                self.log_tasks.waiting.take().into_iter().partition(|next| matches!(next, Action::Prepare(_)));
            *self.log_tasks.waiting.borrow_mut() = later;
            if releases.is_empty() {
                break;
            }
            for release in releases {
                or_stop(self.files.carry_out(&release).await);
            }
        }
        for next in &mut *self.log_tasks.waiting.borrow_mut() {
            if let Action::Prepare(next) = next
                && prepare.spare.is_none()
                && prepare.size_bytes == next.size_bytes
            {
                prepare.spare = next.spare.take();
            }
        }
        prepare.spare.is_some() || self.replica.borrow_mut().reuse_segment(prepare)
    }
}
