//! One turn: requests into Raft, Raft's effects to log and peers, committed entries into the state, answers out.
//!
//! Order of a turn's effects: first messages and batches of the log, because peers and the disk need the most time; then the view,
//! its changes, and the answers; then long work.

use super::{
    Answer, AppliedEntry, CoreId, Count, Effect, Effects, Failure, Note, Replica, Request, SlowApply, Timer,
    lease_questions, progress::EXPIRY, proposals::Proposed, reads::Ended,
};
use crate::{
    apply::{Applied, request},
    base::{
        limits,
        log_entry::{EntryKind, LogEntry},
        planted::{self, Bug},
        refusal::Refusal,
    },
    consensus::{self, DropReason, Input as RaftInput},
    lease::LeaseTally,
};

impl Replica {
    /// Queues a request for the next turn. Refuses it at once when too many wait already.
    pub(super) fn submit(&mut self, core: CoreId, request: Request, effects: &mut Effects) {
        match request {
            Request::Propose { id, .. } | Request::ChangeMembers { id, .. } if self.is_overloaded() => {
                let answer = Answer::Proposal { id, outcome: Err(Refusal::TooManyRequests) };
                effects.push(Effect::Answer { core, answer });
            }
            Request::Propose { id, data } => self.proposals.push(self.now_ms, core, id, Proposed::Entry(data)),
            Request::ChangeMembers { id, change } => {
                self.proposals.push(self.now_ms, core, id, Proposed::ConfChange(change));
            }
            Request::TransferLeader { id, to } => self.on_transfer(core, id, to),
            Request::Settle { id } => self.on_settle(core, id, effects),
            Request::ReadIndex { context } => self.reads.begin(self.now_ms, core, context),
            Request::Chore { id, chore } => self.on_chore(core, id, chore),
            Request::Leases { .. } => self.inbox.push_back((core, request)),
        }
    }

    pub(super) fn is_overloaded(&self) -> bool {
        let lag = self.commit_index.saturating_sub(self.applier.index());
        lag > limits::APPLY_BACKLOG_MAX || self.proposals.len() >= limits::PROPOSALS_MAX
    }

    pub(super) fn turn(&mut self, effects: &mut Effects) -> Result<(), Failure> {
        self.confirm_by_mode();
        self.propose();
        self.ask_for_reads(effects);
        self.consensus.turn(&mut self.raft_effects);
        self.carry_out_raft(effects)?;
        self.proposals.taken();
        self.log.release_messages(effects);
        self.install_if_ready(effects);

        let mut answers = Vec::new();
        self.answer_lease_questions(&mut answers);
        self.apply(&mut answers)?;
        self.confirm_reads(&mut answers);
        self.show(answers, effects);

        self.compact_slice(effects)?;
        self.commit_slice(effects)?;
        self.restore_slice(effects)?;
        self.end_transfers(effects);
        self.end_settling(effects);
        if self.has_more() {
            effects.push(Effect::Again);
        }
        Ok(())
    }

    /// Publishes the view with its tokens, its changes, and the answers that depend on it.
    fn show(&mut self, answers: Effects, effects: &mut Effects) {
        let tokens = self.applier.take_token_changes();
        if !tokens.is_empty() {
            effects.push(Effect::Tokens(tokens));
        }
        if self.is_view_due {
            self.publish(effects);
        }
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            effects.push(Effect::Announce(changes));
        }
        effects.extend(answers);
        let applied = std::mem::take(&mut self.applied_entries);
        if !applied.is_empty() {
            effects.push(Effect::Count(Count::Applied(applied)));
        }
        let tally = self.applier.lessor().take_tally();
        if tally != LeaseTally::default() {
            effects.push(Effect::Count(Count::Leases(tally)));
        }
    }

    fn has_more(&self) -> bool {
        let can_apply = !self.is_installing() && (!self.committed.is_empty() || self.is_midway());
        let can_ask = self.reads.has_unasked() && self.leader != 0;
        can_apply
            || self.can_propose()
            || can_ask
            || self.has_compaction_work()
            || self.has_commit_work()
            || self.has_restore_work()
            || !self.raft_effects.is_empty()
    }

    /// Whether a proposal waits that consensus can take: none while leadership is handed over.
    fn can_propose(&self) -> bool {
        let is_led = self.leader != 0 && self.consensus.transferee().is_none();
        is_led && self.log.has_room() && self.proposals.has_queued()
    }

    // Into Raft.

    /// Proposals wait while no leader is known, as etcd's do, and while the log has no room, so that the next batch grows.
    fn propose(&mut self) {
        if !self.can_propose() {
            return;
        }
        for (id, proposed) in self.proposals.take_batch() {
            let is_own = self.expiry.is_own(id);
            if is_own && !self.consensus.is_leader() && !planted::has(Bug::ExpireAsFollower) {
                self.proposals.end(id);
                continue;
            }
            let input = match proposed {
                Proposed::Entry(data) => RaftInput::Propose { id, data },
                Proposed::ConfChange(change) => RaftInput::ProposeConfChange { id, change },
            };
            self.consensus.step(input, &mut self.raft_effects);
        }
    }

    fn ask_for_reads(&mut self, effects: &mut Effects) {
        if self.reads.is_empty() || self.leader == 0 {
            return;
        }
        let (contexts, repeated) = self.reads.take_due(self.now_ms);
        for context in contexts {
            self.consensus.step(RaftInput::ReadIndex { context }, &mut self.raft_effects);
        }
        if repeated > 0 {
            effects.push(Effect::Count(Count::ReadIndexSlow));
        }
    }

    /// Lease questions see whole entries only.
    fn answer_lease_questions(&mut self, answers: &mut Effects) {
        for (core, request) in std::mem::take(&mut self.inbox) {
            let Request::Leases { questions } = request else { unreachable!("only questions are queued here") };
            let is_midway = self.is_midway();
            let (later, now): (Vec<_>, Vec<_>) =
                questions.into_iter().partition(|(_, question)| is_midway && question.wants_keys());
            let answered = lease_questions::answer(&mut self.applier, now);
            answers.push(Effect::Answer { core, answer: Answer::Leases { answers: answered } });
            if !later.is_empty() {
                self.inbox.push_back((core, Request::Leases { questions: later }));
            }
        }
    }

    // Out of Raft.

    fn carry_out_raft(&mut self, effects: &mut Effects) -> Result<(), Failure> {
        for effect in std::mem::take(&mut self.raft_effects) {
            match effect {
                consensus::Effect::Append(append) => {
                    let installs = append.snapshot.as_ref().map(|mark| mark.index);
                    self.log.append(append, effects)?;
                    if let Some(index) = installs {
                        self.begin_install(index, effects);
                    }
                }
                consensus::Effect::Commit { entries } => {
                    self.commit_index = entries.last().map_or(self.commit_index, |entry| entry.index);
                    self.committed.extend(entries);
                }
                consensus::Effect::Send { after, message } => {
                    self.time_heartbeat(&message, effects);
                    self.log.send(after, message, effects);
                }
                // The image is of a later commit of the page file, which follows every append before it.
                consensus::Effect::SendSnapshot { after: _, message } => self.want_snapshot(message),
                consensus::Effect::SnapshotIgnored { index } => effects.push(Effect::DiscardSnapshot { index }),
                consensus::Effect::ReadReady { context, index } => self.on_read_index(context, index),
                // The attempt stays open, so that the next one follows after the retry time.
                consensus::Effect::ReadDropped { reason: DropReason::TooMany, .. } => {}
                consensus::Effect::ReadDropped { context, .. } => self.reads.on_dropped(context),
                consensus::Effect::ProposalDropped { id, reason } => self.on_proposal_dropped(id, reason, effects),
                consensus::Effect::LeaderChanged { leader, term } => self.on_leader(leader, term, effects),
                consensus::Effect::MessageRefused { from, refusal } => {
                    effects.push(Effect::Note(Note::MessageRefused { from, refusal }));
                }
            }
        }
        Ok(())
    }

    fn on_proposal_dropped(&mut self, id: u64, reason: DropReason, effects: &mut Effects) {
        match reason {
            DropReason::NoLeader | DropReason::Transferring | DropReason::ConfChangePending => {
                self.proposals.requeue(id);
            }
            DropReason::LeaderChanged | DropReason::Removed | DropReason::TooMany => {
                self.answer(id, Err(Refusal::ProposalDropped), effects);
            }
        }
    }

    fn on_leader(&mut self, leader: u64, term: u64, effects: &mut Effects) {
        let local = self.settings.identity.member_id;
        if leader != self.leader && leader != 0 {
            self.led_since_ms = self.now_ms;
            effects.push(Effect::Count(Count::LeaderChanged));
            effects.push(Effect::Note(Note::LeaderElected { local, leader, term }));
        } else if leader == 0 && self.leader != 0 {
            effects.push(Effect::Note(Note::LeaderLost { local, term }));
        }
        self.leader = leader;
        self.term = term;
        self.heartbeats.clear();
        if !self.is_leader() && !planted::has(Bug::ExpireAsFollower) {
            self.applier.lessor().demote();
        }
        self.is_view_due = true;
    }

    // Into the state.

    /// Applies a bounded number of committed entries.
    fn apply(&mut self, answers: &mut Effects) -> Result<(), Failure> {
        if self.is_installing() {
            return Ok(());
        }
        let mut cost = 0;
        if !self.is_midway() {
            self.stopwatch.lap();
        }
        let mut any = false;
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
            self.on_applied(entry, applied, answers)?;
        }
        self.changes.append(&mut self.applier.take_changes());
        if any {
            let index = self.applier.index();
            self.consensus.step(RaftInput::Applied { index }, &mut self.raft_effects);
            self.is_view_due = true;
        }
        Ok(())
    }

    /// Applies an entry, or resumes it. `None` if more slices are left.
    fn apply_slice(&mut self, entry: &LogEntry) -> Result<Option<Applied>, Failure> {
        let status = self.raft_status();
        let proposals = &self.proposals;
        let waits = |id| proposals.is_waiting(id);
        let applied = match self.applier.is_midway() {
            true => self.applier.resume(status, waits)?,
            false => self.applier.apply(entry, status, waits)?,
        };
        Ok(Some(applied).filter(|_| !self.is_midway()))
    }

    fn on_applied(&mut self, entry: LogEntry, applied: Applied, answers: &mut Effects) -> Result<(), Failure> {
        self.measure(&entry, &applied, answers);
        if self.is_leader() && is_first_of(self.term, &entry) {
            self.applier.lessor().promote();
        }
        match applied {
            Applied::Nothing | Applied::Unfinished => {}
            Applied::ConfChange { change, outcome, .. } => self.on_conf_change(&entry, &change, outcome, answers)?,
            Applied::Deferred { id } => {
                self.proposals.defer(id);
            }
            Applied::Answered { id, outcome } => self.answer(id, outcome, answers),
        }
        Ok(())
    }

    /// Ends a proposal, if one of this member waits under this id.
    pub(super) fn answer(&mut self, id: u64, outcome: Result<bytes::Bytes, Refusal>, effects: &mut Effects) {
        match self.proposals.end(id) {
            Some(EXPIRY) => self.on_own_outcome(id, outcome.err(), effects),
            Some(core) => effects.push(Effect::Answer { core, answer: Answer::Proposal { id, outcome } }),
            None => {}
        }
    }

    /// The time of an entry for the metrics, and a line for one that was slow or refused.
    fn measure(&mut self, entry: &LogEntry, applied: &Applied, effects: &mut Effects) {
        let took_ns = self.stopwatch.lap();
        if entry.kind != EntryKind::Normal || entry.data.is_empty() {
            return;
        }
        let (refusal, response_bytes) = match applied {
            Applied::Answered { outcome: Err(refusal), .. } => (Some(*refusal), None),
            Applied::Answered { outcome: Ok(response), .. } => (None, Some(response.len())),
            _ => (None, None),
        };
        // A compaction of a compacted revision is no failure.
        let failed = refusal.is_some_and(|refusal| refusal != Refusal::Compacted);
        let operation = request::operation_field(&entry.data);
        self.applied_entries.push(AppliedEntry { operation, is_ok: !failed, took_ns });
        let is_slow = took_ns > self.settings.slow_apply_ns;
        if is_slow || failed {
            let entry = entry.clone();
            let note = SlowApply { entry, took_ns, is_slow, response_bytes, refusal, failed };
            effects.push(Effect::Note(Note::Applied(note)));
        }
    }

    fn confirm_reads(&mut self, answers: &mut Effects) {
        if self.reads.is_empty() {
            return;
        }
        // An entry that takes many slices does not delay reads of a single member: an entry that is not applied here was answered to no
        // client and is visible nowhere, so each of these reads may precede it.
        let is_early =
            planted::has(Bug::ReadOlderView) || self.is_midway() && self.applier.membership().members().count() == 1;
        for Ended { core, context, since_ms } in self.reads.take_confirmed(self.applier.index(), is_early) {
            self.applier.lessor().on_confirmed(since_ms);
            answers.push(Effect::Answer { core, answer: Answer::ReadConfirmed { context } });
        }
    }

    // Time.

    pub(super) fn tick(&mut self, effects: &mut Effects) {
        effects.push(Effect::SetTimer { timer: Timer::Tick, after_ms: self.settings.tick_ms });
        self.applier.lessor().on_tick();
        self.consensus.step(RaftInput::Tick, &mut self.raft_effects);
        self.log.tick();
        self.check_stall(effects);
        self.log.confirm(effects);
        self.resend_unsent();
        self.expire(effects);
        self.end_if_removed(effects);
    }

    /// Ends proposals and reads that have waited for longer than the request timeout.
    fn expire(&mut self, effects: &mut Effects) {
        let Some(before_ms) = self.now_ms.checked_sub(self.settings.request_timeout_ms) else { return };
        while let Some((core, id, since_ms)) = self.proposals.expire(before_ms) {
            let refusal = self.timeout_refusal(since_ms);
            match core {
                EXPIRY => self.on_own_outcome(id, Some(refusal), effects),
                core => {
                    effects.push(Effect::Answer { core, answer: Answer::Proposal { id, outcome: Err(refusal) } });
                }
            }
        }
        self.proposals.tidy();
        for Ended { core, context, .. } in self.reads.take_expired(before_ms) {
            effects.push(Effect::Count(Count::ReadIndexFailed));
            effects.push(Effect::Answer { core, answer: Answer::ReadFailed { context, error: Refusal::Timeout } });
        }
    }

    /// etcd's text: a proposal that began while the leader before was failing has a refusal of its own.
    fn timeout_refusal(&self, since_ms: u64) -> Refusal {
        let lost_ms = self.led_since_ms.saturating_sub(2 * self.settings.election_ms);
        match (lost_ms..self.led_since_ms).contains(&since_ms) {
            true => Refusal::TimeoutLeaderFail,
            false => Refusal::Timeout,
        }
    }
}

/// Whether this is the empty entry at the start of a leader's term. Once it is applied, all entries of earlier terms are.
fn is_first_of(term: u64, entry: &LogEntry) -> bool {
    entry.kind == EntryKind::Normal && entry.data.is_empty() && entry.term == term
}
