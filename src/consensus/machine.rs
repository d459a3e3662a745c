//! The machine itself: inputs into the crate, the crate's readies into effects.
//!
//! | Role | becomes | when |
//! |---|---|---|
//! | follower | (pre-)candidate | `tick`: timer expired; `step` of `TimeoutNow`; `turn`: sole voter after a start |
//! | pre-candidate | candidate | a quorum would vote for it |
//! | candidate | leader | a quorum voted for it |
//! | any | follower | a message of a later term or of this term's leader; an election timeout after its own removal; a leader without answers of a quorum for an election timeout; `step` of `StepDown` |

use raft::eraftpb::{self, ConfChangeType, EntryType, MessageType};
use raft::{RawNode, StateRole};

use super::election_timer::{ElectionTimer, Era};
use super::held::Held;
use super::in_flight::{InFlight, InFlightAppends};
use super::input::{Append, DropReason, Effect, Effects, Input, Role};
use super::memory_log::MemoryLog;
use super::reads::Reads;
use super::start::{self, Config, Initial, StartError};
use super::validate::{self, Local, Refusal};
use super::{convert, logger};
use crate::base::limits;
use crate::base::log_entry::{ConfState, EntryKind, HardState, LogEntry};
use crate::base::planted::{self, Bug};
use crate::proto::raftpb;

/// One member of a Raft group.
pub struct Consensus {
    raw: RawNode<MemoryLog>,
    timer: ElectionTimer,
    reads: Reads,
    proposals: Proposals,
    held: Held,
    appends: InFlightAppends,
    /// The hard state of the last append that had one.
    written: HardState,
    /// Last entry in a `Commit`, or covered by a snapshot.
    issued: u64,
    /// Conf changes in a `Commit` and not yet applied.
    conf_changes: std::collections::VecDeque<u64>,
    /// Index of the newest snapshot taken from a leader.
    restored: u64,
    /// Leader and term last reported.
    reported: (u64, u64),
    /// A sole voter campaigns at once after its start, without waiting for the timer.
    campaign_at_once: bool,
    /// Ticks for which this leader stays leader after its removal.
    farewell_ticks: usize,
    election_ticks: usize,
}

/// Proposals of one turn, appended together.
#[derive(Default)]
struct Proposals {
    ids: Vec<u64>,
    entries: Vec<eraftpb::Entry>,
    bytes: u64,
}

/// The leader's record of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    pub id: u64,
    /// Last entry known to be durable there.
    pub matched: u64,
    pub is_learner: bool,
    /// A message of it came within the last election timeout.
    pub is_active: bool,
    /// It is being sent a snapshot.
    pub needs_snapshot: bool,
    /// Entries are sent to it as they come, without waiting for its answers.
    pub is_replicating: bool,
    /// The next entry to be sent.
    pub next: u64,
}

/// Why a conf change has no effect; the same on every member.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfChangeError {
    #[error("conf change type {0} is unknown")]
    Kind(i32),
    #[error("conf change: {0}")]
    Refused(String),
}

impl Consensus {
    /// A follower (or a learner, or no member yet) with the state found on disk.
    ///
    /// # Errors
    /// If the settings are invalid or the state contradicts itself.
    pub fn new(config: &Config, initial: Initial) -> Result<Self, StartError> {
        let settings = |error: raft::Error| StartError::Settings(error.to_string());
        let applied = initial.applied;
        let log = initial.into_log()?;
        let crate_config = start::crate_config(config, applied);
        crate_config.validate().map_err(settings)?;
        let crate_logger = logger::forwarding_to(config.log);
        let raw = RawNode::new(&crate_config, log, &crate_logger).map_err(settings)?;
        let campaign_at_once = raw.raft.promotable() && raw.raft.prs().is_singleton();
        let written = convert::hard_state_from_crate(&raw.raft.hard_state());
        Ok(Consensus {
            timer: ElectionTimer::new(config.election_ticks, config.seed, config.member_id),
            reads: Reads::new(config.member_id, config.seed),
            proposals: Proposals::default(),
            held: Held::default(),
            appends: InFlightAppends::default(),
            reported: (0, written.term),
            written,
            issued: applied,
            conf_changes: std::collections::VecDeque::new(),
            restored: 0,
            campaign_at_once,
            farewell_ticks: 0,
            election_ticks: config.election_ticks,
            raw,
        })
    }

    /// Takes one input. Most of its effects wait for the next [`Consensus::turn`].
    pub fn step(&mut self, input: Input, effects: &mut Effects) {
        match input {
            Input::Tick => self.tick(),
            Input::Propose { id, data } => {
                let entry = convert::entry_of(EntryType::EntryNormal, data);
                self.propose(id, entry, effects);
            }
            Input::ProposeConfChange { id, change } => self.propose_change(id, &change, effects),
            Input::ReadIndex { context } => self.read_index(context, effects),
            Input::Message(message) => self.receive(message, effects),
            Input::Persisted { append } => self.persisted(append),
            Input::Applied { index } => self.applied_to(index),
            Input::Compact { index } => self.raw.mut_store().compact(index),
            Input::TransferLeader { to } => self.raw.transfer_leader(to),
            Input::Campaign => self.campaign(),
            Input::StepDown => self.step_down(),
            Input::ReportUnreachable { to } => self.raw.report_unreachable(to),
            Input::ReportSnapshot { to, arrived } => {
                let status = match arrived {
                    true => raft::SnapshotStatus::Finish,
                    false => raft::SnapshotStatus::Failure,
                };
                self.raw.report_snapshot(to, status);
            }
        }
        self.tell_leader(effects);
    }

    /// Carries the inputs since the last turn through Raft and appends the effects.
    pub fn turn(&mut self, effects: &mut Effects) {
        self.flush_proposals(effects);
        self.release_held();
        self.release_reads(effects);
        loop {
            while self.raw.has_ready() {
                self.issue(effects);
            }
            if !self.campaign_alone() {
                break;
            }
        }
        self.tell_leader(effects);
    }

    /// Makes the conf change at `index` of the log effective, before `Applied` covers that index. Called for every change in a
    /// `Commit`, with node id 0 for one that the application rejects. Returns the membership after it.
    ///
    /// `None` means that a snapshot just received reaches further and is about to replace the state: neither this
    /// entry nor any after it may be applied to the old state, whose membership is no longer known.
    ///
    /// # Errors
    /// If the change is invalid; the membership is then as before.
    pub fn apply_conf_change(
        &mut self,
        index: u64,
        change: &raftpb::ConfChange,
    ) -> Result<Option<ConfState>, ConfChangeError> {
        if index <= self.restored {
            self.conf_changes.pop_front_if(|first| *first == index);
            return Ok(None);
        }
        let expected = self.conf_changes.pop_front();
        assert_eq!(expected, Some(index), "conf changes are applied once, in order");
        let change = crate_change(change)?;
        let conf_state = self.raw.apply_conf_change(&change);
        let conf_state = conf_state.map_err(|error| ConfChangeError::Refused(error.to_string()))?;
        let conf_state = convert::conf_state_from_crate(&conf_state);
        self.raw.mut_store().set_conf_state(conf_state.clone(), index);
        self.lead_on_if_removed();
        Ok(Some(conf_state))
    }

    /// The leader, or 0.
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Whom this member has voted for in the present term, or 0.
    pub fn vote(&self) -> u64 {
        self.raw.raft.vote
    }

    /// Commit index. Some committed entries may not be in a `Commit` yet.
    pub fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    pub fn applied(&self) -> u64 {
        self.raw.raft.raft_log.applied
    }

    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// First entry still in memory.
    pub fn first_index(&self) -> u64 {
        self.raw.raft.raft_log.first_index()
    }

    /// Membership as of the last conf change applied, ids sorted.
    pub fn conf_state(&self) -> ConfState {
        self.raw.store().conf_state().clone()
    }

    /// The member to which leadership is being transferred, if any.
    pub fn transferee(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// The leader's records of all members, itself included, sorted by id; empty on other members.
    pub fn followers(&self) -> Vec<Follower> {
        if !self.is_leader() {
            return Vec::new();
        }
        let tracker = self.raw.raft.prs();
        let own = self.raw.raft.id;
        let mut followers: Vec<_> = tracker
            .iter()
            .map(|(id, progress)| Follower {
                id: *id,
                matched: progress.matched,
                is_learner: self.raw.store().conf_state().learners.contains(id),
                is_active: *id == own || progress.recent_active,
                needs_snapshot: progress.state == raft::ProgressState::Snapshot,
                is_replicating: progress.state == raft::ProgressState::Replicate,
                next: progress.next_idx,
            })
            .collect();
        followers.sort_unstable_by_key(|follower| follower.id);
        followers
    }

    // Time and elections.

    fn tick(&mut self) {
        // On a leader: heartbeats and the quorum check. Elsewhere only the count of ticks, see `election_timer`.
        self.raw.tick();
        self.held.tick(2 * self.election_ticks);
        if self.is_farewell() {
            self.tick_farewell();
        }
        if self.is_leader() {
            return;
        }
        let era = Era { term: self.term(), leader: self.leader(), role: self.role() };
        let elapsed = self.raw.raft.election_elapsed;
        if self.timer.expired(elapsed, era) && self.raw.raft.promotable() {
            self.raw.raft.election_elapsed = 0;
            self.campaign();
        }
    }

    fn campaign(&mut self) {
        if self.may_campaign() {
            // The crate itself refuses while committed conf changes wait; the next timeout tries again.
            let _ = self.raw.campaign();
        }
    }

    /// Whether the crate's assumptions about a candidate hold. It reads the entries not yet applied, so a snapshot
    /// must be in place; and a sole voter wins on the spot, so its own log must be durable.
    fn may_campaign(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        let is_installed = log.applied + 1 >= log.first_index();
        let is_alone = self.raw.raft.prs().is_singleton();
        let is_durable = self.appends.is_empty() && log.persisted == log.last_index();
        is_installed && (!is_alone || is_durable)
    }

    /// Elects a sole voter right after its start, as soon as all committed entries are applied. True if it tried.
    fn campaign_alone(&mut self) -> bool {
        let is_settled = self.conf_changes.is_empty() && self.issued == self.commit();
        if !self.campaign_at_once || !is_settled {
            return false;
        }
        if !self.raw.raft.promotable() || !self.raw.raft.prs().is_singleton() {
            self.campaign_at_once = false;
            return false;
        }
        self.campaign_at_once = false;
        self.campaign();
        true
    }

    /// A leader that has removed itself leads for another election timeout: the others may not know yet that the change
    /// is committed, and of two voters the remaining one could not elect itself without knowing. The crate keeps
    /// such a leader, but has dropped the record of its own progress and would panic at its next commit; so a record
    /// is put back, without the membership.
    fn lead_on_if_removed(&mut self) {
        let raft = &mut self.raw.raft;
        if raft.promotable() || raft.state != StateRole::Leader {
            return;
        }
        self.farewell_ticks = self.election_ticks;
        let own = raft.id;
        if raft.prs().get(own).is_some() {
            return;
        }
        let conf = raft.prs().conf().clone();
        let record = single_change(ConfChangeType::AddLearnerNode, own);
        let addition = raft::Changer::new(raft.prs()).simple(&[record]);
        let (_, record) = addition.expect("a learner can always be added");
        let last_index = raft.raft_log.last_index();
        raft.mut_prs().apply_conf(conf, record, last_index);
    }

    /// Whether this is a leader that has removed itself. It must not answer reads: the crate would treat it as a sole voter.
    fn is_farewell(&self) -> bool {
        self.is_leader() && !self.raw.raft.promotable()
    }

    fn tick_farewell(&mut self) {
        self.farewell_ticks = self.farewell_ticks.saturating_sub(1);
        if self.farewell_ticks == 0 {
            self.step_down();
        }
    }

    /// The same as the crate does with a leader that no quorum answers.
    fn step_down(&mut self) {
        if self.is_leader() {
            let term = self.term();
            self.raw.raft.become_follower(term, 0);
        }
    }

    fn tell_leader(&mut self, effects: &mut Effects) {
        let (leader, term) = (self.leader(), self.term());
        if self.reported == (leader, term) {
            return;
        }
        self.reported = (leader, term);
        effects.push(Effect::LeaderChanged { leader, term });
        self.reads.drop_all(effects);
    }

    // Proposals.

    fn propose(&mut self, id: u64, entry: eraftpb::Entry, effects: &mut Effects) {
        let size = (entry.data.len() + entry.context.len()) as u64;
        if self.proposals.bytes + size > limits::RAFT_PROPOSALS_BYTES_MAX {
            self.flush_proposals(effects);
        }
        self.proposals.bytes += size;
        self.proposals.ids.push(id);
        self.proposals.entries.push(entry);
    }

    /// Drops a change that the crate refuses now, because the crate would append an empty entry in its place.
    fn propose_change(&mut self, id: u64, change: &raftpb::ConfChange, effects: &mut Effects) {
        self.flush_proposals(effects);
        if self.is_leader() && self.raw.raft.has_pending_conf() {
            let reason = DropReason::ConfChangePending;
            effects.push(Effect::ProposalDropped { id, reason });
            return;
        }
        let data = prost::Message::encode_to_vec(change);
        let entry = convert::entry_of(EntryType::EntryConfChange, data.into());
        self.propose(id, entry, effects);
        self.flush_proposals(effects);
    }

    fn flush_proposals(&mut self, effects: &mut Effects) {
        if self.proposals.ids.is_empty() {
            return;
        }
        self.proposals.bytes = 0;
        let mut message = eraftpb::Message::new();
        message.msg_type = MessageType::MsgPropose;
        message.from = self.raw.raft.id;
        message.entries = std::mem::take(&mut self.proposals.entries).into();
        let reason = self.drop_reason();
        let is_taken = !self.is_farewell() && self.raw.raft.step(message).is_ok();
        for id in self.proposals.ids.drain(..) {
            if !is_taken {
                effects.push(Effect::ProposalDropped { id, reason });
            }
        }
    }

    /// Why a proposal is dropped now.
    fn drop_reason(&self) -> DropReason {
        if !self.is_leader() {
            DropReason::NoLeader
        } else if self.is_farewell() {
            DropReason::Removed
        } else {
            DropReason::Transferring
        }
    }

    // Reads.

    fn read_index(&mut self, context: u64, effects: &mut Effects) {
        if self.leader() == 0 || self.is_farewell() {
            let reason = match self.is_farewell() {
                true => DropReason::Removed,
                false => DropReason::NoLeader,
            };
            effects.push(Effect::ReadDropped { context, reason });
            return;
        }
        let is_too_new = planted::has(Bug::ReadBeforeTermCommit) && !self.raw.raft.commit_to_current_term();
        if self.is_leader() && (is_too_new || planted::has(Bug::SkipReadQuorum)) {
            effects.push(Effect::ReadReady { context, index: self.commit() });
            return;
        }
        let request = self.reads.ask(context);
        self.step_read(request, effects);
    }

    /// A new leader does not know the commit index until an entry of its own term is committed; reads wait for that.
    fn step_read(&mut self, request: eraftpb::Message, effects: &mut Effects) {
        if self.is_leader() && !self.raw.raft.commit_to_current_term() {
            self.reads.wait(request, effects);
        } else {
            // The crate has no error for reads: it answers, forwards or (without a leader) forgets them.
            let _ = self.raw.raft.step(request);
        }
    }

    fn release_reads(&mut self, effects: &mut Effects) {
        if self.is_farewell() {
            self.reads.drop_all(effects);
        }
        if self.reads.has_waiting() && self.raw.raft.commit_to_current_term() {
            for request in self.reads.take_waiting() {
                self.step_read(request, effects);
            }
        }
    }

    // Messages.

    fn receive(&mut self, message: raftpb::Message, effects: &mut Effects) {
        let local = Local {
            id: self.raw.raft.id,
            term: self.term(),
            last_index: self.last_index(),
            is_leader: self.is_leader(),
        };
        let from = message.from();
        if let Err(refusal) = validate::check(&message, &local) {
            effects.push(Effect::MessageRefused { from, refusal });
            return;
        }
        let message = convert::message_to_crate(message);
        match message.msg_type {
            MessageType::MsgPropose | MessageType::MsgReadIndex if self.is_farewell() => {}
            MessageType::MsgPropose if !self.takes_forwarded() => self.held.push(message),
            MessageType::MsgReadIndex => self.step_read(message, effects),
            MessageType::MsgSnapshot => self.receive_snapshot(message, effects),
            // The crate panics if it forwards this message once more.
            MessageType::MsgTransferLeader if !self.is_leader() => {}
            MessageType::MsgRequestVote if message.term < self.term() => self.tell_term(message.from, effects),
            // This message starts an election, which has conditions.
            MessageType::MsgTimeoutNow if !self.may_campaign() => {}
            // Another error is a forwarded proposal that cannot be appended: its member times out.
            _ => {
                if let Err(raft::Error::StepPeerNotFound) = self.raw.step(message) {
                    let refusal = Refusal::UnknownSender;
                    effects.push(Effect::MessageRefused { from, refusal });
                }
            }
        }
    }

    /// Refuses a vote in an old term with the present one, as in Ongaro's thesis (3.4); the crate, like etcd's, says nothing. A voter
    /// that does not know of its present fellows may be needed by them, campaign among others and be ahead of them; without pre-vote
    /// they would campaign behind its term for as long as chance wants.
    fn tell_term(&self, to: u64, effects: &mut Effects) {
        let answer = eraftpb::Message {
            msg_type: MessageType::MsgRequestVoteResponse,
            from: self.raw.raft.id,
            to,
            term: self.term(),
            reject: true,
            ..eraftpb::Message::default()
        };
        send_all(vec![answer], None, effects);
    }

    /// Whether a proposal of another member can go somewhere: into the log, or on to the leader.
    fn takes_forwarded(&self) -> bool {
        self.leader() != 0 && !(self.is_leader() && self.transferee().is_some())
    }

    fn release_held(&mut self) {
        if self.held.is_empty() || !self.takes_forwarded() || self.is_farewell() {
            return;
        }
        for mut message in self.held.take() {
            if !self.is_leader() {
                message.from = self.raw.raft.id;
            }
            // One that cannot be taken after all is lost, as any message may be.
            let _ = self.raw.step(message);
        }
    }

    fn receive_snapshot(&mut self, message: eraftpb::Message, effects: &mut Effects) {
        let index = message.get_snapshot().get_metadata().index;
        let before = self.pending_snapshot_index();
        let _ = self.raw.step(message);
        let pending = self.pending_snapshot_index();
        if pending == Some(index) {
            self.restored = index;
        } else if !self.appends.installs(index) {
            effects.push(Effect::SnapshotIgnored { index });
        }
        // A snapshot that was accepted in the same turn and reaches less far.
        if let Some(index) = before.filter(|_| before != pending) {
            effects.push(Effect::SnapshotIgnored { index });
        }
    }

    fn pending_snapshot_index(&self) -> Option<u64> {
        let snapshot = self.raw.snap()?;
        Some(snapshot.get_metadata().index)
    }

    // Progress of the rest of the member.

    fn persisted(&mut self, append: u64) {
        let settled = self.appends.settle(append);
        self.raw.on_persist_ready(settled.ready);
        if settled.snapshot_index > self.applied() {
            self.raw.advance_apply_to(settled.snapshot_index);
            self.raw.mut_store().set_applied(settled.snapshot_index);
        }
    }

    fn applied_to(&mut self, index: u64) {
        // After a snapshot has overtaken it, an older report may still come.
        if index <= self.applied() {
            return;
        }
        assert!(index <= self.issued, "applied {index} of {} issued", self.issued);
        let waiting = self.conf_changes.front();
        assert!(
            waiting.is_none_or(|change| *change > index),
            "the conf change at {waiting:?} comes before applied {index}"
        );
        self.raw.advance_apply_to(index);
        self.raw.mut_store().set_applied(index);
    }

    // Readies.

    fn issue(&mut self, effects: &mut Effects) {
        let mut ready = self.raw.ready();
        for state in ready.take_read_states() {
            self.reads.answer(state, effects);
        }
        let committed = ready.take_committed_entries();
        let append = self.append_of(&mut ready);
        let mut messages = ready.take_messages();
        messages.append(&mut ready.take_persisted_messages());

        // Messages that need not wait are sent before this member's own write.
        let (now, later) = self.split_messages(messages);
        send_all(now, None, effects);
        let number = ready.number();
        self.raw.advance_append_async(ready);
        match append {
            Some(append) => effects.push(Effect::Append(append)),
            None if self.appends.note_empty(number) => self.raw.on_persist_ready(number),
            None => {}
        }
        send_all(later, self.appends.last(), effects);
        self.hand_out_committed(committed, effects);
    }

    /// The append of a ready, if it has anything to write. The crate reads the entries from the log in memory from now on.
    fn append_of(&mut self, ready: &mut raft::Ready) -> Option<Append> {
        if !ready.must_sync() {
            return None;
        }
        let snapshot = Some(ready.snapshot()).filter(|snapshot| !snapshot.is_empty());
        let snapshot = snapshot.map(convert::snapshot_from_crate);
        if let Some(mark) = &snapshot {
            self.raw.mut_store().restart_after(mark);
            self.issued = mark.index;
            self.conf_changes.clear();
        }
        let entries = ready.take_entries();
        let copies = entries.iter().cloned();
        let log_entries = copies.map(convert::log_entry_from_crate).collect();
        self.raw.mut_store().append(entries);

        let hard_state = convert::hard_state_from_crate(&self.raw.raft.hard_state());
        let carries_vote = (hard_state.term, hard_state.vote) != (self.written.term, self.written.vote);
        let is_new = hard_state != self.written;
        self.written = hard_state;
        self.appends.push(InFlight {
            number: ready.number(),
            carries_vote,
            snapshot_index: snapshot.as_ref().map_or(0, |mark| mark.index),
        });
        Some(Append {
            number: ready.number(),
            hard_state: is_new.then_some(hard_state),
            snapshot,
            entries: log_entries,
        })
    }

    /// Splits messages into those that may leave now and those that must wait for the appends in flight.
    ///
    /// All messages of a leader leave now, unless its own term is not durable yet: only a sole voter with learners can be
    /// in that state, and it could otherwise send two different entries of one term before and after a crash. Of another member's
    /// messages those that promise nothing about its disk leave now: forwarded requests, and answers to
    /// heartbeats, which only state that this member knows no later term.
    fn split_messages(&self, mut messages: Vec<eraftpb::Message>) -> (Vec<eraftpb::Message>, Vec<eraftpb::Message>) {
        // The crate addresses members in hash order; per member its order is kept.
        messages.sort_by_key(|message| message.to);
        if self.appends.is_empty() {
            return (messages, Vec::new());
        }
        if self.is_leader() {
            return match self.appends.last_vote() {
                None => (messages, Vec::new()),
                Some(_) => (Vec::new(), messages),
            };
        }
        messages.into_iter().partition(|message| {
            matches!(
                message.msg_type,
                MessageType::MsgPropose
                    | MessageType::MsgReadIndex
                    | MessageType::MsgTransferLeader
                    | MessageType::MsgHeartbeatResponse
            )
        })
    }

    fn hand_out_committed(&mut self, entries: Vec<eraftpb::Entry>, effects: &mut Effects) {
        let Some(last) = entries.last() else { return };
        assert_eq!(entries[0].index, self.issued + 1, "entries are issued without gaps");
        self.issued = last.index;
        let entries: Vec<LogEntry> = entries.into_iter().map(convert::log_entry_from_crate).collect();
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::ConfChange);
        self.conf_changes.extend(changes.map(|entry| entry.index));
        effects.push(Effect::Commit { entries });
    }
}

fn send_all(messages: Vec<eraftpb::Message>, after: Option<u64>, effects: &mut Effects) {
    let mut messages = messages.into_iter().peekable();
    while let Some(message) = messages.next() {
        let is_covered = messages.peek().is_some_and(|next| covers(next, &message));
        if is_covered {
            continue;
        }
        let is_snapshot = message.msg_type == MessageType::MsgSnapshot;
        let message = convert::message_from_crate(message);
        effects.push(match is_snapshot {
            true => Effect::SendSnapshot { after, message },
            false => Effect::Send { after, message },
        });
    }
}

/// Whether `next` makes `message` redundant: an append without entries, sent for its commit index only, directly before one with
/// entries from the same index.
fn covers(next: &eraftpb::Message, message: &eraftpb::Message) -> bool {
    message.msg_type == MessageType::MsgAppend
        && next.msg_type == MessageType::MsgAppend
        && message.entries.is_empty()
        && (message.to, message.term, message.index) == (next.to, next.term, next.index)
}

/// The crate has no update of a member's URLs. It changes no quorum, so it becomes a change of node 0.
fn crate_change(change: &raftpb::ConfChange) -> Result<eraftpb::ConfChangeV2, ConfChangeError> {
    use raftpb::ConfChangeType as Wire;

    let number = change.r#type.unwrap_or_default();
    let kind = Wire::try_from(number).map_err(|_| ConfChangeError::Kind(number))?;
    let (kind, node_id) = match kind {
        Wire::ConfChangeAddNode => (ConfChangeType::AddNode, change.node_id()),
        Wire::ConfChangeRemoveNode => (ConfChangeType::RemoveNode, change.node_id()),
        Wire::ConfChangeAddLearnerNode => (ConfChangeType::AddLearnerNode, change.node_id()),
        Wire::ConfChangeUpdateNode => (ConfChangeType::AddNode, 0),
    };
    let mut result = eraftpb::ConfChangeV2::new();
    result.changes = vec![single_change(kind, node_id)].into();
    Ok(result)
}

fn single_change(kind: ConfChangeType, node_id: u64) -> eraftpb::ConfChangeSingle {
    let mut single = eraftpb::ConfChangeSingle::new();
    single.change_type = kind;
    single.node_id = node_id;
    single
}
