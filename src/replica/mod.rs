//! The replica: one member's decisions, and the order of their effects.
//!
//! ```text
//!   services ── Request ──▶ ┐                                   ┌─▶ Publish, Announce, Answer ──▶ services
//!   peers ── Message ─────▶ │        ┌── consensus ──┐          ├─▶ Send, SendSnapshot ─────────▶ peers
//!   log ── LogWritten ────▶ ├─ step ─┤   log, apply  ├─ effects ┼─▶ WriteLog, LogTask ──────────▶ log files
//!   pages ── PagesCommitted ▶        │ lease, pages  │          ├─▶ CommitPages, CutPages ──────▶ page file
//!   clock ── Timer ───────▶ ┘        └───────────────┘          └─▶ SetTimer, Note, Count ──────▶ clock, log lines, metrics
//! ```
//!
//! `step(now, input, &mut effects)` takes one input. Requests and messages only queue; `Input::Turn` carries all that wait through
//! Raft once, so proposals that arrive together share one batch of the log, one durable write and one published view, and
//! then does one slice of each long work: an entry with many keys, a commit of the page file, a compaction, a received state.
//!
//! | file | holds |
//! |---|---|
//! | `input`, `effect`, `message` | inputs, effects, and messages of the services |
//! | `turn` | the order of a turn; from committed entries to answers |
//! | `log` | appends in flight, and the messages that wait for them |
//! | `read_modes` | quorum rounds, leases, reads through the log |
//! | `proposals`, `reads` | requests that wait for consensus, and their time-outs |
//! | `members` | changes of membership and leadership |
//! | `heartbeats` | whether a leader's heartbeats leave it in time |
//! | `stall` | a leader whose disk stalls stops leading |
//! | `settling` | waits until what is committed is applied |
//! | `commits` | commits of the page file, flushes, defragmentation |
//! | `compaction`, `expiry` | old revisions, expired leases |
//! | `progress` | how far each of these works is, between two inputs |
//! | `snapshots`, `opening` | whole states from and to other members, and from the page file |
//! | `unsent` | forwarded proposals that did not reach the leader |
//! | `retained` | entries kept in memory for followers that lag |
//! | `lease_questions` | questions of the services about leases |
//! | `posture` | what a replica is in the middle of, for the simulator |
//!
//! Invariants
//!
//! 1. An answer follows the view that it depends on, and that view holds only entries that are durable here and committed.
//! 2. A message or an acknowledgement that claims something durable is held until it is.
//! 3. Every wait ends: that of a proposal, a read and a transfer by their time-outs, that of a flush by the next commit.
//! 4. No clock, no channel, no log line inside: time is an argument, lines and metrics are effects. The stopwatch only measures;
//!    no decision depends on it.
//! 5. The same inputs give the same effects.
//!
//! Deliberately absent: disks and sockets (`drive/`, `peer/`), checks that need no state (`service/`).
//!
//! Budget of a put in a batch of 32 on one core: no hop, 1/32 write, 1 allocation for the entry, 1 for the record, 1 for the
//! answer.

mod commits;
mod compaction;
mod effect;
mod expiry;
mod heartbeats;
mod input;
pub mod lease_questions;
mod log;
mod members;
mod message;
mod opening;
mod posture;
mod progress;
mod proposals;
mod read_modes;
mod reads;
mod retained;
mod settling;
mod snapshots;
mod stall;
mod turn;
mod unsent;

use std::{collections::VecDeque, sync::Arc};

pub use self::{
    effect::{AppliedEntry, Count, Effect, Effects, Note, Sizes, SlowApply},
    input::{Input, Timer},
    message::{Answer, Chore, CoreId, Request, SELF, Standing},
    opening::{Identity, Opened, Opening, OpeningError},
    posture::{Backlog, Posture},
    progress::ReadMode,
};
use self::{
    log::Log,
    progress::{Compaction, Expiry, Heartbeats, Lease, PageCommits, Settling, Snapshots, Stall, Transfer, Unsent},
    proposals::Proposals,
    reads::ReadRounds,
    retained::Retained,
};
pub use crate::consensus::{Follower, Role};
use crate::{
    apply::{Applier, ApplyFailure, RaftStatus, View},
    base::{limits, log_entry::LogEntry},
    consensus::{self, Consensus, SnapshotMark, StartError},
    mvcc::Change,
    pagefile::{CommitError, Corrupt},
    wal::{Action, AppendError, Prepare, SnapshotMarker, Wal},
};

/// One member.
pub struct Replica {
    settings: Settings,
    consensus: Consensus,
    raft_effects: consensus::Effects,
    log: Log,
    applier: Applier,
    stopwatch: Stopwatch,
    own_ids: OwnIds,
    /// The time of the present step.
    now_ms: u64,
    inbox: VecDeque<(CoreId, Request)>,
    proposals: Proposals,
    reads: ReadRounds,
    lease: Lease,
    unsent: Unsent,
    /// Time of the first step.
    started_ms: Option<u64>,
    transfers: Vec<Transfer>,
    stall: Stall,
    heartbeats: Heartbeats,
    settling: Vec<Settling>,
    /// Committed and not applied yet.
    committed: VecDeque<LogEntry>,
    /// Applied in part.
    unfinished: Option<LogEntry>,
    commit_index: u64,
    retained: Retained,
    commits: PageCommits,
    compaction: Compaction,
    expiry: Expiry,
    snapshots: Snapshots,
    leader: u64,
    term: u64,
    /// When the present leader was found.
    led_since_ms: u64,
    /// This member is no longer in the cluster.
    is_removed: bool,
    /// Something that views show has changed since the last one was published.
    is_view_due: bool,
    /// Changes of the entries applied in the present turn.
    changes: Vec<Change>,
    applied_entries: Vec<AppliedEntry>,
}

/// Settings of a member.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub identity: Identity,
    /// The time-out of requests that wait for consensus.
    pub request_timeout_ms: u64,
    pub tick_ms: u64,
    pub election_ms: u64,
    pub commit_interval_ms: u64,
    pub commit_changes_max: usize,
    pub compaction_batch: usize,
    pub compaction_pause_ms: u64,
    /// Entries kept for followers that lag.
    pub catchup_entries: u64,
    /// Applying an entry for longer than this is logged.
    pub slow_apply_ns: u64,
    /// How linearizable reads are confirmed.
    pub read_mode: ReadMode,
    /// The ids of proposals of the member itself.
    pub own_ids: OwnIds,
}

/// Ids that no other proposer uses: `next`, and then in steps.
#[derive(Clone, Copy, Debug)]
pub struct OwnIds {
    pub next: u64,
    pub step: u64,
}

impl OwnIds {
    fn take(&mut self) -> u64 {
        let id = self.next;
        self.next = id.wrapping_add(self.step);
        id
    }
}

/// Measures how long work takes. No decision depends on it.
pub struct Stopwatch {
    read_ns: Box<dyn FnMut() -> u64>,
    last_ns: u64,
}

impl Stopwatch {
    /// From a function that reads a steady clock in nanoseconds.
    #[must_use]
    pub fn new(read_ns: Box<dyn FnMut() -> u64>) -> Self {
        Self { read_ns, last_ns: 0 }
    }

    /// A stopwatch that stands still.
    #[must_use]
    pub fn still() -> Self {
        Self::new(Box::new(|| 0))
    }

    /// Nanoseconds since the last lap.
    fn lap(&mut self) -> u64 {
        let now_ns = (self.read_ns)();
        let took_ns = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        took_ns
    }
}

/// The state that a member continues from.
pub struct Initial {
    pub consensus: Consensus,
    pub wal: Wal,
    pub applier: Applier,
    /// Index and length of the applied entries that the log in memory holds.
    pub retained: Vec<(u64, usize)>,
    /// The last entry that the page file has.
    pub committed: SnapshotMark,
    /// Work on the log's files that its replay left.
    pub actions: Vec<Action>,
}

impl Initial {
    /// From a page file's state and a replayed (or new) log.
    ///
    /// # Errors
    /// The log and the state contradict each other.
    pub fn new(
        applier: Applier,
        wal: Wal,
        actions: Vec<Action>,
        log: consensus::Initial,
        config: &consensus::Config,
    ) -> Result<Self, StartError> {
        let applied = applier.index();
        let kept = log.entries.iter().take_while(|entry| entry.index <= applied);
        let retained = kept.map(|entry| (entry.index, entry.data.len())).collect();
        let committed = SnapshotMark { index: applied, term: applier.term(), conf_state: log.conf_state.clone() };
        let consensus = Consensus::new(config, log)?;
        Ok(Self { consensus, wal, applier, retained, committed, actions })
    }
}

/// The index of a received state that a crash kept from taking the page file's place: the log's marker names it, and the page file
/// does not reach it.
#[must_use]
pub fn pending_installation(marker: Option<&SnapshotMarker>, database_index: u64) -> Option<u64> {
    // The last marker may be the one that a later segment repeats.
    marker.filter(|marker| marker.index > database_index).map(|marker| marker.index)
}

/// The member cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Apply(#[from] ApplyFailure),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Database(#[from] Corrupt),
    #[error("the received state: {0}")]
    Opening(#[from] OpeningError),
    #[error("the received state goes up to entry {found}, its message said {expected}")]
    WrongSnapshot { expected: u64, found: u64 },
}

impl Replica {
    /// Starts the member; the effects set its timers and resume the work on the log's files.
    #[must_use]
    pub fn start(settings: Settings, initial: Initial, stopwatch: Stopwatch, effects: &mut Effects) -> Self {
        let Initial { consensus, wal, applier, retained, committed, actions } = initial;
        effects.extend(actions.into_iter().map(Effect::LogTask));
        for (timer, after_ms) in [
            (Timer::Tick, settings.tick_ms),
            (Timer::Commit, settings.commit_interval_ms),
            (Timer::Expire, limits::LEASE_SCAN_MS),
        ] {
            effects.push(Effect::SetTimer { timer, after_ms });
        }
        let mut kept = Retained::new(settings.catchup_entries);
        retained.into_iter().for_each(|(index, bytes)| kept.push(index, bytes));
        let (leader, term) = (consensus.leader(), consensus.term());
        let is_removed = applier.membership().is_removed(settings.identity.member_id);
        Self {
            own_ids: settings.own_ids,
            raft_effects: Vec::new(),
            log: Log::new(wal),
            stopwatch,
            now_ms: 0,
            inbox: VecDeque::new(),
            proposals: Proposals::new(),
            reads: ReadRounds::default(),
            lease: Lease::default(),
            unsent: Unsent::default(),
            started_ms: None,
            transfers: Vec::new(),
            stall: Stall::default(),
            heartbeats: Heartbeats::default(),
            settling: Vec::new(),
            committed: VecDeque::new(),
            unfinished: None,
            commit_index: applier.index(),
            retained: kept,
            commits: PageCommits::new(committed),
            compaction: Compaction::default(),
            expiry: Expiry::default(),
            snapshots: Snapshots::default(),
            leader,
            term,
            led_since_ms: 0,
            is_removed,
            is_view_due: false,
            changes: Vec::new(),
            applied_entries: Vec::new(),
            settings,
            consensus,
            applier,
        }
    }

    /// Takes one input at a time in milliseconds from an arbitrary start, which never goes back.
    ///
    /// # Errors
    /// The member cannot continue, and takes no further input.
    pub fn step(&mut self, now_ms: u64, input: Input, effects: &mut Effects) -> Result<(), Failure> {
        self.now_ms = self.now_ms.max(now_ms);
        self.started_ms.get_or_insert(self.now_ms);
        self.applier.lessor().on_time(self.now_ms);
        match input {
            Input::Request { core, request } => self.submit(core, request, effects),
            Input::Turn => self.turn(effects)?,
            Input::Timer(timer) => self.on_timer(timer, effects),
            Input::LogWritten { sequence } => {
                let acknowledged = self.log.on_written(sequence);
                self.persisted(acknowledged);
            }
            Input::SegmentPrepared { segment } => self.log.on_prepared(segment, effects),
            Input::PagesCommitted => self.on_pages_committed(effects)?,
            Input::Message(message) | Input::SnapshotReceived(message) => {
                if let Some(message) = self.filter_message(message, effects) {
                    self.consensus.step(consensus::Input::Message(message), &mut self.raft_effects);
                }
            }
            Input::Unsent(message) => self.on_unsent(message, effects),
            Input::SnapshotInstalled(file) => self.on_snapshot_installed(file)?,
            Input::PeerUnreachable { to } => {
                self.consensus.step(consensus::Input::ReportUnreachable { to }, &mut self.raft_effects);
            }
            Input::SnapshotSent { to, arrived } => self.on_snapshot_sent(to, arrived, effects),
            Input::Advance { ticks } => {
                (0..ticks).for_each(|_| self.consensus.step(consensus::Input::Tick, &mut self.raft_effects));
            }
            Input::Campaign => self.consensus.step(consensus::Input::Campaign, &mut self.raft_effects),
            Input::Stop => self.stop(),
        }
        Ok(())
    }

    fn persisted(&mut self, append: Option<u64>) {
        if let Some(append) = append {
            self.consensus.step(consensus::Input::Persisted { append }, &mut self.raft_effects);
        }
    }

    fn on_timer(&mut self, timer: Timer, effects: &mut Effects) {
        match timer {
            Timer::Tick => self.tick(effects),
            Timer::Commit => self.on_commit_timer(effects),
            Timer::Compact => self.resume_compaction(),
            Timer::Expire => self.on_expire_timer(effects),
        }
    }

    /// The state as it is now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::new(self.applier.view(self.raft_status()))
    }

    /// Lets a preparation take a released segment instead of a new file. False: there is none.
    pub fn reuse_segment(&mut self, prepare: &mut Prepare) -> bool {
        self.log.reuse(prepare)
    }

    /// Whether batches of the log wait for a segment to be prepared.
    #[must_use]
    pub fn holds_batches(&self) -> bool {
        self.log.holds_batches()
    }

    /// Consensus, for tests and metrics.
    #[must_use]
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    fn raft_status(&self) -> RaftStatus {
        RaftStatus { leader: self.leader, term: self.term, committed: self.commit_index }
    }

    fn is_leader(&self) -> bool {
        self.leader == self.settings.identity.member_id
    }

    /// Whether an entry is applied in part.
    fn is_midway(&self) -> bool {
        self.applier.is_midway()
    }

    /// The last applied entry.
    fn applied_mark(&self) -> SnapshotMark {
        SnapshotMark { index: self.applier.index(), term: self.applier.term(), conf_state: self.consensus.conf_state() }
    }

    fn publish(&mut self, effects: &mut Effects) {
        self.is_view_due = false;
        effects.push(Effect::Publish(self.view()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_that_a_later_segment_repeats_still_asks_for_the_installation() {
        let conf_state = crate::base::log_entry::ConfState::default();
        let repeated = SnapshotMarker { index: 16, term: 4, conf_state, restarts_log: false };
        assert_eq!(pending_installation(Some(&repeated), 0), Some(16));
        assert_eq!(pending_installation(Some(&repeated), 16), None);
    }
}
