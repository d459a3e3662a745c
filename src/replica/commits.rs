//! Commits of the page file: their start, the requests that wait for them, and their effects.
//!
//! | state | moves on by | next |
//! |---|---|---|
//! | idle | `Turn`, when a commit is due and no entry is applied in part | building |
//! | building | `Turn`: one slice | building, or writing |
//! | writing | `PagesCommitted` | idle; the view is published, the log released, waiting requests are answered |
//!
//! A commit is due when the interval has passed, when enough changes wait, when the file is shrinking, or when a flush is requested.
//! A flush ends with the first commit that began after the request, or at once when there is nothing to commit.

use super::{
    Answer, Chore, CoreId, Count, Effect, Effects, Failure, Note, Replica, Sizes, Timer,
    progress::{CommitState as State, Defragmenting, Flush, FlushPurpose},
};
use crate::base::{
    limits,
    planted::{self, Bug},
};

impl Replica {
    pub(super) fn on_chore(&mut self, core: CoreId, id: u64, chore: Chore) {
        match chore {
            Chore::Flush => self.flush(FlushPurpose::Chore { core, id }),
            Chore::Image => {
                self.commits.is_forced = true;
                self.flush(FlushPurpose::Chore { core, id });
            }
            Chore::Defragment => self.commits.defragment.asked.push((core, id)),
        }
    }

    pub(super) fn on_commit_timer(&mut self, effects: &mut Effects) {
        self.commits.is_due = true;
        let after_ms = self.settings.commit_interval_ms;
        effects.push(Effect::SetTimer { timer: Timer::Commit, after_ms });
    }

    /// Requests a commit, after which `purpose` is carried out.
    pub(super) fn flush(&mut self, purpose: FlushPurpose) {
        let commit = self.commits.begun + 1;
        self.commits.is_forced |= matches!(purpose, FlushPurpose::Image);
        self.commits.is_due = true;
        self.commits.flushes.push(Flush { commit, purpose });
    }

    /// One slice of a commit under way, or the beginning of one that is due.
    pub(super) fn commit_slice(&mut self, effects: &mut Effects) -> Result<(), Failure> {
        self.begin_defragment(effects);
        if self.applier.backend().pending_changes() >= self.settings.commit_changes_max
            || self.applier.backend().is_shrinking()
        {
            self.commits.is_due = true;
        }
        let may_begin = self.commits.is_due && !self.is_midway() && !self.is_installing();
        match &mut self.commits.state {
            State::Idle if may_begin => {
                self.begin_commit(effects);
                Ok(())
            }
            State::Building { mark, took_ns } => {
                self.stopwatch.lap();
                let built = self.applier.backend().step_commit(limits::COMMIT_CHANGES_PER_SLICE)?;
                *took_ns += self.stopwatch.lap();
                if let Some(commit) = built {
                    let (mark, took_ns) = (std::mem::take(mark), *took_ns);
                    self.commits.state = State::Writing { mark, truncate_to: commit.truncate_to };
                    effects.push(Effect::Count(Count::CommitBuilt { took_ns }));
                    effects.push(Effect::CommitPages(commit));
                }
                Ok(())
            }
            State::Idle | State::Writing { .. } => Ok(()),
        }
    }

    fn begin_commit(&mut self, effects: &mut Effects) {
        let mark = self.applied_mark();
        self.commits.is_due = false;
        let is_forced = std::mem::take(&mut self.commits.is_forced) && mark.index > self.commits.committed.index;
        if self.applier.begin_commit(is_forced) {
            self.commits.begun += 1;
            self.commits.state = State::Building { mark, took_ns: 0 };
        } else {
            // Everything is in the page file already.
            self.end_flushes(self.commits.begun + 1, effects);
        }
    }

    /// Whether a slice of a commit can be done at once.
    pub(super) fn has_commit_work(&self) -> bool {
        match self.commits.state {
            State::Idle => self.commits.is_due && !self.is_midway() && !self.is_installing(),
            State::Building { .. } => true,
            State::Writing { .. } => false,
        }
    }

    /// The commit in flight is durable.
    pub(super) fn on_pages_committed(&mut self, effects: &mut Effects) -> Result<(), Failure> {
        let State::Writing { mark, truncate_to } = std::mem::replace(&mut self.commits.state, State::Idle) else {
            panic!("no commit of the page file is in flight")
        };
        self.applier.backend().on_committed()?;
        self.commits.committed = mark;
        self.publish(effects);
        self.release_log(effects);
        if let Some(length) = truncate_to {
            effects.push(Effect::CutPages { length });
        }
        let open = self.applier.backend().open_read_transactions();
        effects.push(Effect::Count(Count::OpenReadTransactions(open)));
        self.end_flushes(self.commits.begun, effects);
        Ok(())
    }

    /// Releases entries that the page file covers from the log: on disk those that no peer needs either, in memory those beyond the limits.
    pub(super) fn release_log(&mut self, effects: &mut Effects) {
        let index = match planted::has(Bug::ReleaseEarly) {
            false => self.commits.committed.index,
            true => self.applier.index(),
        };
        let near = self.settings.catchup_entries / 2;
        let needed = self.snapshots.needed(|| self.consensus.followers(), near, self.applier.index(), self.now_ms);
        if let Some(index) = self.retained.release(index, needed) {
            self.consensus.step(crate::consensus::Input::Compact { index }, &mut self.raft_effects);
        }
        let is_alone = self.applier.membership().members().count() <= 1;
        let first = self.retained.first().filter(|_| !is_alone);
        self.log.release(first.map_or(index, |first| index.min(first - 1)), effects);
    }

    /// Ends the flushes that need no later commit than number `commit`.
    pub(super) fn end_flushes(&mut self, commit: u64, effects: &mut Effects) {
        let (ended, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.commits.flushes).into_iter().partition(|flush| flush.commit <= commit);
        self.commits.is_due |= !waiting.is_empty();
        self.commits.flushes = waiting;
        for flush in ended {
            self.end_flush(flush.purpose, effects);
        }
        self.end_defragment(effects);
    }

    /// All flushes are done: the state was replaced by one that is in the page file.
    pub(super) fn end_all_flushes(&mut self, effects: &mut Effects) {
        self.end_flushes(u64::MAX, effects);
    }

    fn end_flush(&mut self, purpose: FlushPurpose, effects: &mut Effects) {
        match purpose {
            FlushPurpose::Chore { core, id } => effects.push(Effect::Answer { core, answer: Answer::ChoreDone { id } }),
            FlushPurpose::Defragment => self.start_shrink(effects),
            FlushPurpose::Compaction => self.resume_compaction(),
            FlushPurpose::Compacted { revision } => self.answer_compacted(revision, effects),
            FlushPurpose::Image => self.send_snapshots(effects),
            FlushPurpose::Stop => effects.push(Effect::Stopped),
        }
    }

    /// Requests the last commit before the process ends.
    pub(super) fn stop(&mut self) {
        self.flush(FlushPurpose::Stop);
    }

    // Defragmentation: the page file moves pages from its end to free places with ordinary commits, one after the other, and
    // is cut when no reader needs the end any more.

    fn begin_defragment(&mut self, effects: &mut Effects) {
        let defragment = &mut self.commits.defragment;
        if defragment.progress.is_some() || defragment.asked.is_empty() {
            return;
        }
        defragment.served = std::mem::take(&mut defragment.asked);
        defragment.progress = Some(Defragmenting { started_ms: self.now_ms, before: None });
        effects.push(Effect::Count(Count::DefragmentStarted));
        self.flush(FlushPurpose::Defragment);
    }

    fn start_shrink(&mut self, effects: &mut Effects) {
        let before = self.sizes();
        effects.push(Effect::Note(Note::Defragmenting(before)));
        if let Some(progress) = &mut self.commits.defragment.progress {
            progress.before = Some(before);
        }
        self.applier.backend().start_shrink();
        self.commits.is_due = true;
    }

    fn end_defragment(&mut self, effects: &mut Effects) {
        let Some(Defragmenting { started_ms, before: Some(before) }) = self.commits.defragment.progress else { return };
        if self.applier.backend().is_shrinking() {
            return;
        }
        self.commits.defragment.progress = None;
        let took_ms = self.now_ms.saturating_sub(started_ms);
        let after = self.sizes();
        effects.push(Effect::Note(Note::Defragmented { before, after, took_ms }));
        effects.push(Effect::Count(Count::DefragmentEnded { took_ms }));
        for (core, id) in std::mem::take(&mut self.commits.defragment.served) {
            effects.push(Effect::Answer { core, answer: Answer::ChoreDone { id } });
        }
    }

    pub(super) fn sizes(&mut self) -> Sizes {
        let view = self.applier.backend().view();
        Sizes { bytes: view.size_bytes(), in_use_bytes: view.in_use_bytes() }
    }
}
