//! The compaction under way, in slices with pauses.
//!
//! | state | moves on by | next |
//! |---|---|---|
//! | idle | an entry that compacts was applied | due |
//! | due | `Turn`: one slice | pausing, awaiting, due, or idle |
//! | pausing | `Timer::Compact` | due |
//! | awaiting | the flush of the page file is done | due |
//!
//! When all records are deleted, the waiting answers follow after one more flush.

use super::{
    Answer, Count, Effect, Effects, Failure, Note, Replica, Timer,
    progress::{Compaction, CompactionState as State, FlushPurpose},
};
use crate::mvcc::{CompactStep, CompactionReport};

impl Replica {
    /// Whether a slice can be done at once.
    pub(super) fn has_compaction_work(&self) -> bool {
        self.compaction.state == State::Due && !self.is_midway() && !self.is_installing()
    }

    pub(super) fn compact_slice(&mut self, effects: &mut Effects) -> Result<(), Failure> {
        if self.compaction.state == State::Idle && self.applier.is_compacting() {
            self.compaction.state = State::Due;
        }
        if !self.has_compaction_work() {
            return Ok(());
        }
        self.compaction.started_ms.get_or_insert(self.now_ms);
        self.stopwatch.lap();
        let step = self.applier.compact_step(self.settings.compaction_batch)?;
        let took_ns = self.stopwatch.lap();
        if step != CompactStep::Idle {
            let of_index = step == CompactStep::Indexing;
            effects.push(Effect::Count(Count::CompactionSlice { of_index, took_ns }));
        }
        match step {
            CompactStep::Idle => self.compaction = Compaction::default(),
            CompactStep::Indexing | CompactStep::Working if self.settings.compaction_pause_ms == 0 => {}
            CompactStep::Indexing | CompactStep::Working => {
                self.compaction.state = State::Pausing;
                let after_ms = self.settings.compaction_pause_ms;
                effects.push(Effect::SetTimer { timer: Timer::Compact, after_ms });
            }
            CompactStep::AwaitsCommit => {
                self.compaction.state = State::Awaiting;
                self.flush(FlushPurpose::Compaction);
            }
            CompactStep::Finished(report) => self.end_compaction(report, effects),
        }
        Ok(())
    }

    fn end_compaction(&mut self, report: CompactionReport, effects: &mut Effects) {
        let started_ms = self.compaction.started_ms.take().unwrap_or(self.now_ms);
        let took_ms = self.now_ms.saturating_sub(started_ms);
        let sizes = self.sizes();
        effects.push(Effect::Note(Note::Compacted { report, took_ms, sizes }));
        self.flush(FlushPurpose::Compacted { revision: report.revision });
    }

    /// The pause or the flush has ended.
    pub(super) fn resume_compaction(&mut self) {
        if matches!(self.compaction.state, State::Pausing | State::Awaiting) {
            self.compaction.state = State::Due;
        }
    }

    /// A compaction up to `revision` is in the page file.
    pub(super) fn answer_compacted(&mut self, revision: i64, effects: &mut Effects) {
        let status = self.raft_status();
        for (id, response) in self.applier.take_compacted(revision, status) {
            if let Some(core) = self.proposals.end(id) {
                effects.push(Effect::Answer { core, answer: Answer::Proposal { id, outcome: Ok(response) } });
            }
        }
    }
}
