//! The engine: the one owner of consensus, log and state, as a sync machine that the shell's tasks drive.
//!
//! ```text
//!   fronts ── Propose, ReadIndex ──▶ inbox ─┐
//!   log writes ── written ──────────────────┤          ┌─▶ writes  (several in flight)  ─▶ log files
//!   clock ── tick ──────────────────────────┼─▶ turn ──┼─▶ actions (background)         ─▶ log files
//!   page-file commits ── committed ─────────┘          ├─▶ answers                      ─▶ fronts
//!                                                      └─▶ view    (published)          ─▶ fronts
//! ```
//!
//! One turn carries everything that waits through Raft once, so proposals that arrive together share one batch of the log, one
//! durable write and one published view. Order: a view is published before the answers that depend on it are delivered, and
//! an answer is delivered only after its entry is durable and applied.
//!
//! Budget of a put in a batch of 32 on one core: no hop, 1/32 write, 1 allocation for the entry, 1 for the record, 1 for the
//! answer.

use std::{collections::VecDeque, sync::Arc};

use ahash::{HashMap, HashMapExt};
use bytes::Bytes;

use crate::{
    apply::{Applied, Applier, RaftStatus, View},
    base::{
        limits,
        log_entry::{EntryKind, LogEntry},
        refusal::Refusal,
    },
    consensus::{Consensus, DropReason, Effect, Input},
    lease::Lessor,
    meters::apply_watch::ApplyWatch,
    mvcc::{Change, CompactStep},
    pagefile::{Commit, CommitError, Corrupt},
    replica::{Answer, Chore, CoreId, Request, lease_questions},
    wal::{Action, IssuedBatch, Prepare, Wal},
};

/// The machine.
pub struct Engine {
    consensus: Consensus,
    wal: Wal,
    applier: Applier,
    effects: Vec<Effect>,
    inbox: VecDeque<(CoreId, Request)>,
    /// Appends handed to the log, oldest first: Raft's number and the batch that makes it durable.
    appends: VecDeque<(u64, u64)>,
    /// Committed and not applied yet.
    committed: VecDeque<LogEntry>,
    /// Applied in part.
    unfinished: Option<LogEntry>,
    commit_index: u64,
    /// Which front waits for which proposal.
    proposers: HashMap<u64, CoreId>,
    readers: HashMap<u64, CoreId>,
    /// Confirmed reads that wait for the applied index.
    reads: Vec<(u64, u64)>,
    leader: u64,
    term: u64,
    retained: Retained,
    watch: ApplyWatch,
    output: Output,
}

/// What the shell has to do after a turn, in this order: publish, write, carry out, announce the changes, deliver.
#[derive(Default)]
pub struct Output {
    pub view: Option<Arc<View>>,
    /// What the view has that the one before had not.
    pub changes: Vec<Change>,
    pub answers: Vec<(CoreId, Answer)>,
    pub writes: Vec<IssuedBatch>,
    pub actions: Vec<Action>,
    pub chores: Vec<(CoreId, u64, Chore)>,
    /// There is more to apply: call `turn` again after letting others run.
    pub more: bool,
}

/// The member cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error(transparent)]
    Append(#[from] crate::wal::AppendError),
    #[error(transparent)]
    Apply(#[from] crate::apply::ApplyFailure),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Database(#[from] Corrupt),
    #[error(transparent)]
    ConfChange(#[from] crate::consensus::ConfChangeError),
}

impl Engine {
    #[must_use]
    pub fn new(consensus: Consensus, wal: Wal, applier: Applier, catchup_entries: u64, watch: ApplyWatch) -> Self {
        let commit_index = applier.index();
        let (leader, term) = (consensus.leader(), consensus.term());
        Self {
            consensus,
            wal,
            applier,
            effects: Vec::new(),
            inbox: VecDeque::new(),
            appends: VecDeque::new(),
            committed: VecDeque::new(),
            unfinished: None,
            commit_index,
            proposers: HashMap::new(),
            readers: HashMap::new(),
            reads: Vec::new(),
            leader,
            term,
            retained: Retained { entries_max: catchup_entries, ..Retained::default() },
            watch,
            output: Output::default(),
        }
    }

    /// Queues a front's request for the next turn. Refused at once when too much waits already.
    pub fn submit(&mut self, front: CoreId, request: Request) {
        if let Request::Propose { id, .. } = request
            && self.is_overloaded()
        {
            let answer = Answer::Proposal { id, outcome: Err(Refusal::TooManyRequests) };
            self.output.answers.push((front, answer));
            return;
        }
        self.inbox.push_back((front, request));
    }

    fn is_overloaded(&self) -> bool {
        let behind = self.commit_index.saturating_sub(self.applier.index());
        behind > limits::APPLY_BACKLOG_MAX || self.proposers.len() >= limits::PROPOSALS_MAX
    }

    /// One heartbeat interval went by.
    ///
    /// # Errors
    /// None today; a tick is an input like others.
    pub fn tick(&mut self) {
        self.applier.lessor().on_tick();
        self.consensus.step(Input::Tick, &mut self.effects);
    }

    /// Starts an election without waiting for the timer (a member alone at boot).
    pub fn campaign(&mut self) {
        self.consensus.step(Input::Campaign, &mut self.effects);
    }

    /// A batch of the log is on stable storage.
    pub fn on_written(&mut self, sequence: u64) {
        let durable = self.wal.on_written(sequence);
        let mut last = None;
        while let Some((append, needs)) = self.appends.front().copied()
            && needs <= durable
        {
            last = Some(append);
            self.appends.pop_front();
        }
        if let Some(append) = last {
            self.consensus.step(Input::Persisted { append }, &mut self.effects);
        }
    }

    /// A segment that was asked for is there.
    pub fn on_prepared(&mut self, segment: crate::wal::SegmentId) {
        self.wal.on_prepared(segment);
    }

    /// Whether batches may be written to this segment yet.
    #[must_use]
    pub fn is_segment_ready(&self, segment: crate::wal::SegmentId) -> bool {
        self.wal.is_ready(segment)
    }

    /// Has a preparation take a released segment instead of a new file. False: there is none.
    pub fn reuse_segment(&mut self, prepare: &mut Prepare) -> bool {
        self.wal.reuse(prepare)
    }

    /// Changes that the page file does not have yet.
    #[must_use]
    pub fn pending_changes(&mut self) -> usize {
        self.applier.backend().pending_changes()
    }

    /// Seals what is to be committed to the page file. The index up to which it goes, or nothing to commit.
    pub fn begin_commit(&mut self) -> Option<u64> {
        let index = self.applier.index();
        self.applier.begin_commit().then_some(index)
    }

    /// Builds on at the commit.
    ///
    /// # Errors
    /// The member cannot go on.
    pub fn step_commit(&mut self, budget: usize) -> Result<Option<Commit>, Fatal> {
        Ok(self.applier.backend().step_commit(budget)?)
    }

    /// The commit up to `index` is stable: new views read it from the page file, and the log may let go of it.
    ///
    /// # Errors
    /// The member cannot go on.
    pub fn on_committed(&mut self, index: u64) -> Result<(Arc<View>, Vec<Action>), Fatal> {
        self.applier.backend().on_committed()?;
        let actions = self.wal.release(index);
        if let Some(behind) = self.retained.let_go(index) {
            self.consensus.step(Input::Compact { index: behind }, &mut self.effects);
        }
        Ok((Arc::new(self.applier.view(self.raft_status())), actions))
    }

    /// Lets the next commits of the page file give back what it does not need.
    pub fn start_shrink(&mut self) {
        self.applier.backend().start_shrink();
    }

    /// Whether commits are still needed for that.
    #[must_use]
    pub fn is_shrinking(&mut self) -> bool {
        self.applier.backend().is_shrinking()
    }

    /// The leases.
    #[must_use]
    pub fn lessor(&mut self) -> &mut Lessor {
        self.applier.lessor()
    }

    /// Whether an entry is applied in part, so that nothing can be committed to the page file now.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.applier.is_midway()
    }

    /// States of the page file that somebody reads.
    #[must_use]
    pub fn open_read_transactions(&mut self) -> usize {
        self.applier.backend().open_read_transactions()
    }

    /// One slice of the compaction under way.
    ///
    /// # Errors
    /// The member cannot go on.
    pub fn compact_step(&mut self, budget: usize) -> Result<CompactStep, Fatal> {
        if self.is_midway() {
            return Ok(CompactStep::Working);
        }
        Ok(self.applier.compact_step(budget)?)
    }

    /// Answers those that waited for a compaction up to `revision` to be in the page file.
    pub fn on_compacted(&mut self, revision: i64) -> Vec<(CoreId, Answer)> {
        let compacted = self.applier.take_compacted(revision, self.raft_status());
        let mut answers = Vec::new();
        for (id, response) in compacted {
            if let Some(front) = self.proposers.remove(&id) {
                answers.push((front, Answer::Proposal { id, outcome: Ok(response) }));
            }
        }
        answers
    }

    /// Says in the log that everything in it is durable, if it is quiet and was not said yet.
    pub fn confirm_log(&mut self) -> Vec<IssuedBatch> {
        self.wal.confirm().map(|append| append.writes).unwrap_or_default()
    }

    /// The state as it is now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::new(self.applier.view(self.raft_status()))
    }

    /// Whether a compaction is under way.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.applier.is_compacting()
    }

    /// Carries everything that waits through Raft once.
    ///
    /// # Errors
    /// The member cannot go on.
    pub fn turn(&mut self) -> Result<Output, Fatal> {
        self.take_inbox();
        self.consensus.turn(&mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            self.carry_out(effect)?;
        }
        let applied = self.apply()?;
        self.output.changes = self.applier.take_changes();
        if applied || self.output.view.is_some() {
            self.output.view = Some(Arc::new(self.applier.view(self.raft_status())));
        }
        self.confirm_reads();
        self.watch.leases(&self.applier.lessor().take_tally());
        self.output.more =
            !self.committed.is_empty() || self.is_midway() || (!self.inbox.is_empty() && self.has_room());
        Ok(std::mem::take(&mut self.output))
    }

    /// Whether another batch may go to the log. Beyond the limit proposals wait and the next batch grows.
    fn has_room(&self) -> bool {
        self.appends.len() < limits::APPENDS_IN_FLIGHT_MAX
    }

    fn take_inbox(&mut self) {
        let room = self.has_room();
        let mut kept = VecDeque::new();
        let mut bytes = 0;
        while let Some((front, request)) = self.inbox.pop_front() {
            match request {
                Request::ReadIndex { context } => {
                    self.readers.insert(context, front);
                    self.consensus.step(Input::ReadIndex { context }, &mut self.effects);
                }
                Request::Propose { id, data } if room && bytes < limits::PROPOSAL_BYTES_PER_TURN => {
                    bytes += data.len();
                    self.proposers.insert(id, front);
                    self.consensus.step(Input::Propose { id, data }, &mut self.effects);
                }
                Request::Chore { id, chore } => self.output.chores.push((front, id, chore)),
                Request::Propose { .. } => kept.push_back((front, request)),
                Request::Leases { questions } => {
                    // What hangs on a lease is not to be seen half-way.
                    let is_midway = self.is_midway();
                    let (later, now): (Vec<_>, Vec<_>) =
                        questions.into_iter().partition(|(_, question)| is_midway && question.wants_keys());
                    let answers = lease_questions::answer(self.applier.lessor(), now);
                    self.output.answers.push((front, Answer::Leases { answers }));
                    if !later.is_empty() {
                        kept.push_back((front, Request::Leases { questions: later }));
                    }
                }
            }
        }
        self.inbox = kept;
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), Fatal> {
        match effect {
            Effect::Append(append) => {
                let issued = self.wal.append(append.hard_state, &append.entries)?;
                self.appends.push_back((append.number, issued.sequence));
                self.output.writes.extend(issued.writes);
                self.output.actions.extend(issued.actions);
            }
            Effect::Commit { entries } => {
                self.commit_index = entries.last().map_or(self.commit_index, |entry| entry.index);
                self.committed.extend(entries);
            }
            Effect::ReadReady { context, index } => self.reads.push((context, index)),
            Effect::ReadDropped { context, reason } => self.drop_read(context, reason),
            Effect::ProposalDropped { id, reason } => self.drop_proposal(id, reason),
            Effect::LeaderChanged { leader, term } => {
                self.on_leader(leader, term);
            }
            Effect::Send { .. } | Effect::SendSnapshot { .. } | Effect::SnapshotIgnored { .. } => {
                // A cluster of one has nobody to send to: the configuration refuses more members.
            }
            Effect::MessageRefused { from, refusal } => {
                tracing::warn!(from, %refusal, "refused a raft message");
            }
        }
        Ok(())
    }

    fn on_leader(&mut self, leader: u64, term: u64) {
        if leader != self.leader && leader != 0 {
            self.watch.leader_changed();
            tracing::info!(
                "raft.node: {:x} elected leader {leader:x} at term {term}",
                self.applier.membership().local_id
            );
        }
        self.leader = leader;
        self.term = term;
        if !self.is_leader() {
            self.applier.lessor().demote();
        }
        self.output.view = Some(Arc::new(self.applier.view(self.raft_status())));
    }

    fn is_leader(&self) -> bool {
        self.leader == self.applier.membership().local_id
    }

    fn raft_status(&self) -> RaftStatus {
        RaftStatus { leader: self.leader, term: self.term, committed: self.commit_index }
    }

    fn drop_proposal(&mut self, id: u64, reason: DropReason) {
        let Some(front) = self.proposers.remove(&id) else { return };
        let error = match reason {
            DropReason::NoLeader => Refusal::NoLeader,
            _ => Refusal::ProposalDropped,
        };
        self.output.answers.push((front, Answer::Proposal { id, outcome: Err(error) }));
    }

    fn drop_read(&mut self, context: u64, reason: DropReason) {
        let Some(front) = self.readers.remove(&context) else { return };
        let error = match reason {
            DropReason::LeaderChanged => Refusal::LeaderChanged,
            DropReason::TooMany => Refusal::TooManyRequests,
            _ => Refusal::Timeout,
        };
        self.output.answers.push((front, Answer::ReadFailed { context, error }));
    }

    /// Applies a bounded number of committed entries. Says whether any was.
    fn apply(&mut self) -> Result<bool, Fatal> {
        let mut cost = 0;
        let mut any = false;
        if !self.is_midway() {
            self.watch.begin();
        }
        while cost < limits::APPLY_BYTES_PER_TURN
            && let Some(entry) = self.unfinished.take().or_else(|| self.committed.pop_front())
        {
            cost += entry.data.len() + limits::APPLY_ENTRY_COST;
            let Some(applied) = self.apply_slice(&entry)? else {
                self.unfinished = Some(entry);
                break;
            };
            self.retained.push(entry.index, entry.data.len());
            any = true;
            self.on_applied(&entry, applied)?;
        }
        if any {
            let index = self.applier.index();
            self.consensus.step(Input::Applied { index }, &mut self.effects);
        }
        Ok(any)
    }

    /// Applies an entry, or goes on with it. Nothing if more is left of it.
    fn apply_slice(&mut self, entry: &LogEntry) -> Result<Option<Applied>, Fatal> {
        let status = self.raft_status();
        let proposers = &self.proposers;
        let waits = |id| proposers.contains_key(&id);
        let applied = match self.applier.is_midway() {
            true => self.applier.go_on(status, waits)?,
            false => self.applier.apply(entry, status, waits)?,
        };
        Ok(Some(applied).filter(|_| !self.is_midway()))
    }

    fn on_applied(&mut self, entry: &LogEntry, applied: Applied) -> Result<(), Fatal> {
        self.watch.applied(entry, &applied);
        if self.is_leader() && is_first_of(self.term, entry) {
            self.applier.lessor().promote();
        }
        match applied {
            Applied::Nothing | Applied::Unfinished => {}
            Applied::ConfChange { change, .. } => {
                if let Some(conf_state) = self.consensus.apply_conf_change(entry.index, &change)? {
                    self.applier.set_conf_state(&conf_state);
                }
            }
            Applied::Deferred { id } => {
                let front = self.proposers.get(&id);
                self.output.answers.extend(front.map(|front| (*front, Answer::ProposalDeferred { id })));
            }
            Applied::Answered { id, outcome } => self.answer(id, outcome),
        }
        Ok(())
    }

    fn answer(&mut self, id: u64, outcome: Result<Bytes, Refusal>) {
        if let Some(front) = self.proposers.remove(&id) {
            self.output.answers.push((front, Answer::Proposal { id, outcome }));
        }
    }

    fn confirm_reads(&mut self) {
        let applied = self.applier.index();
        // An entry that takes many slices does not hold up reads of a member that is alone: whatever is not applied here was
        // answered to nobody and is to be seen nowhere, so each of these reads may come before it.
        let is_early = self.is_midway() && self.applier.membership().members().count() == 1;
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.reads).into_iter().partition(|(_, index)| *index <= applied || is_early);
        self.reads = waiting;
        for (context, _) in ready {
            if let Some(front) = self.readers.remove(&context) {
                self.output.answers.push((front, Answer::ReadConfirmed { context }));
            }
        }
    }
}

/// The empty entry that a leader's term begins with: once it is applied, everything of the terms before is.
fn is_first_of(term: u64, entry: &LogEntry) -> bool {
    entry.kind == EntryKind::Normal && entry.data.is_empty() && entry.term == term
}

/// Applied entries that the log in memory still holds, for followers that are slow: bounded in number and bytes.
#[derive(Debug, Default)]
struct Retained {
    entries_max: u64,
    entries: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Retained {
    fn push(&mut self, index: u64, bytes: usize) {
        self.entries.push_back((index, bytes));
        self.bytes += bytes;
    }

    /// The index up to which the log in memory may go, none of it beyond what is in the page file.
    fn let_go(&mut self, committed: u64) -> Option<u64> {
        let mut behind = None;
        while let Some((index, bytes)) = self.entries.front().copied()
            && index <= committed
            && (self.entries.len() as u64 > self.entries_max || self.bytes > limits::RETAINED_BYTES_MAX)
        {
            self.entries.pop_front();
            self.bytes -= bytes;
            behind = Some(index);
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_retained_is_bounded_and_never_uncommitted() {
        let mut retained = Retained { entries_max: 2, ..Retained::default() };
        (1..=5).for_each(|index| retained.push(index, 10));
        assert_eq!(retained.let_go(2), Some(2));
        assert_eq!(retained.let_go(5), Some(3));
        assert_eq!(retained.let_go(5), None);
        retained.push(6, limits::RETAINED_BYTES_MAX);
        assert_eq!(retained.let_go(6), Some(5));
    }
}
