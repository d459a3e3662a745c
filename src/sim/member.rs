//! One simulated member: a replica, and a disk that carries out its effects step by step.
//!
//! | work | one step |
//! |---|---|
//! | batches of the log | some batch in flight arrives, in any order |
//! | background work on the log | one action |
//! | a commit of the page file | one write or sync |
//! | a received state | it replaces the page file |
//!
//! The process or the machine can end between any two effects and any two steps, and in the middle of a write. The remaining steps are
//! then lost, and `boot` starts again from the content of the disk.
//!
//! | the disk says | the member |
//! |---|---|
//! | no space | tries the step again later: writes wait |
//! | error of a write | ends, as the shell does; what was written may be in the cache |
//! | error of a sync | ends, and its machine with it, because Linux shows content that a failed sync has not stored |

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    disk::{Disk, DiskError, Ticket},
    log_files::{self, HostError, LogFiles},
    options::Knobs,
    page_files::{self, OpenFailure, PageDisk},
};
use crate::{
    apply::{RaftStatus, View},
    base::{
        log_entry::{ConfState, EntryKind, LogEntry},
        received_state::received_name,
    },
    cluster::membership::{LEARNERS_MAX_DEFAULT, Member as ClusterMember},
    consensus,
    lease::Terms,
    pagefile::{MemoryImage, PageFile},
    proto::raftpb,
    replica::{self, Effect, Effects, Identity, Input, Opening, OwnIds, Replica, Settings, Stopwatch},
    wal::{self, Action, Metadata, ReplayError, Wal},
};

const DATABASE: &str = "member/snap/db";
const PARTIAL: &str = ".part";
const SNAP_DIRECTORY: &str = "member/snap/";
pub const CLUSTER_ID: u64 = 0xc1;
pub const TICK_MS: u64 = 100;
/// The limit on everything that waits for consensus.
pub const REQUEST_TIMEOUT_MS: u64 = 7000;

/// A machine that may be running.
pub struct Member {
    pub id: u64,
    pub disk: Disk,
    knobs: Knobs,
    start: Start,
    /// Grows with every start.
    pub epoch: u64,
    /// No batch of the log arrives on the disk, and none fails.
    pub is_log_stalled: bool,
    /// The process ends when so many more effects have been started.
    pub ends_after: Option<u64>,
    running: Option<Running>,
}

/// How a member without a log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It founds a cluster of these members.
    Found(Vec<u64>),
    /// It joins a cluster, which knows it already.
    Join,
}

/// What an input leads to: effects that do not concern the disk, and then perhaps the end of the process.
#[derive(Default)]
pub struct Outcome {
    pub effects: Effects,
    pub stop: Option<Stop>,
}

struct Running {
    replica: Replica,
    log: LogFiles,
    database: PageDisk,
    writes: BTreeMap<Ticket, u64>,
    actions: VecDeque<Action>,
    install: Option<u64>,
    view: Arc<View>,
}

/// Why a member stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The machine lost its power, as scheduled, or has to.
    #[error("the power failed")]
    Power,
    /// The process ended, as scheduled, or because the disk failed.
    #[error("the process was ended")]
    Killed,
    /// The log is damaged, which no fault but a flipped bit leaves.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The member failed, which no fault permits.
    #[error("{0}")]
    Failure(String),
}

impl From<DiskError> for Stop {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::PowerOff => Self::Power,
            DiskError::Io | DiskError::NoSpace => Self::Killed,
            other => Self::Failure(format!("disk: {other}")),
        }
    }
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        Self { effects: Effects::new(), stop: Some(stop) }
    }
}

fn failure(error: impl std::fmt::Display) -> Stop {
    Stop::Failure(error.to_string())
}

fn log_failure(error: HostError) -> Stop {
    match error {
        HostError::Disk(error) => error.into(),
        HostError::Replay(error) => Stop::Damaged(error.to_string()),
        HostError::Append(error) => failure(error),
    }
}

impl Member {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(id: u64, seed: u64, knobs: Knobs, start: Start) -> Self {
        let disk = Disk::new(seed);
        Self { id, disk, knobs, start, epoch: 0, is_log_stalled: false, ends_after: None, running: None }
    }

    /// The next start has these settings.
    pub fn set_knobs(&mut self, knobs: Knobs) {
        self.knobs = knobs;
    }

    #[must_use]
    pub fn start(&self) -> &Start {
        &self.start
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The view published last.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.running.as_ref().map(|running| Arc::clone(&running.view))
    }

    #[must_use]
    pub fn replica(&self) -> Option<&Replica> {
        self.running.as_ref().map(|running| &running.replica)
    }

    /// The process ends at once; with a power cut, the machine too.
    pub fn crash(&mut self, is_power_cut: bool) {
        self.running = None;
        self.ends_after = None;
        match is_power_cut {
            true => self.disk.power_cut(),
            false => self.disk.kill(),
        }
    }

    // Start.

    /// Starts from the content of the disk.
    pub fn boot(&mut self, seed: u64) -> Outcome {
        match self.start_replica(seed) {
            Ok(effects) => self.carry_out(effects),
            // It may have been a sync that failed.
            Err(Stop::Killed) => Stop::Power.into(),
            Err(stop) => stop.into(),
        }
    }

    fn start_replica(&mut self, seed: u64) -> Result<Effects, Stop> {
        self.epoch += 1;
        page_files::create(&mut self.disk, DATABASE)?;
        self.remove_partial()?;
        let identity = identity(self.id, &self.knobs);
        let (mut database, mut opening) = self.open_database()?;
        let config = wal_config(&self.knobs, seed);
        let keep_after = opening.state().index.saturating_sub(self.knobs.catchup_entries + 1);
        let (log, wal, actions, initial) = match LogFiles::open(&mut self.disk, config, keep_after) {
            Err(HostError::Replay(ReplayError::Empty)) => self.found_log(config)?,
            Err(error) => return Err(log_failure(error)),
            Ok((.., contents)) if contents.is_blank() && opening.state().index == 0 => {
                LogFiles::clear(&mut self.disk)?;
                self.found_log(config)?
            }
            Ok((log, wal, actions, contents)) => {
                if let Some(index) = replica::pending_installation(contents.snapshot.as_ref(), opening.state().index) {
                    self.install(index)?;
                    (database, opening) = self.open_database()?;
                }
                let state = opening.state();
                if contents.last_index < state.index {
                    let last = contents.last_index;
                    return Err(failure(format!("the log ends at {last}, before the page file's {}", state.index)));
                }
                let fallback = || founding_conf_state(&contents.entries);
                let conf_state = state.conf_state.clone().unwrap_or_else(fallback);
                let applied = (state.index, state.term);
                let initial = consensus::Initial::continuing(
                    contents.hard_state,
                    conf_state,
                    applied,
                    contents.entries,
                    usize::MAX,
                );
                (log, wal, actions, initial)
            }
        };
        while !opening.step().map_err(failure)? {}
        let applier = opening.finish(&identity).map_err(failure)?.applier;
        let raft = consensus::Config {
            member_id: self.id,
            election_ticks: (self.knobs.election_ms / TICK_MS) as usize,
            heartbeat_ticks: 1,
            pre_vote: self.knobs.pre_vote,
            seed,
            log: |_, _| {},
        };
        let initial = replica::Initial::new(applier, wal, actions, initial, &raft).map_err(failure)?;
        let mut effects = Effects::new();
        let settings = self.settings(identity);
        let replica = Replica::start(settings, initial, Stopwatch::still(), &mut effects);
        self.running = Some(Running {
            view: replica.view(),
            replica,
            log,
            database,
            writes: BTreeMap::new(),
            actions: VecDeque::new(),
            install: None,
        });
        Ok(effects)
    }

    fn settings(&self, identity: Identity) -> Settings {
        Settings {
            identity,
            request_timeout_ms: REQUEST_TIMEOUT_MS,
            tick_ms: TICK_MS,
            election_ms: self.knobs.election_ms,
            commit_interval_ms: 100,
            commit_changes_max: self.knobs.commit_changes_max,
            compaction_batch: self.knobs.compaction_batch,
            compaction_pause_ms: 10,
            catchup_entries: self.knobs.catchup_entries,
            slow_apply_ns: u64::MAX,
            read_mode: self.knobs.read_mode,
            own_ids: OwnIds { next: (self.id << 48) | (self.epoch << 32) | (1 << 31), step: 1 },
        }
    }

    /// Removes received states that did not arrive whole.
    fn remove_partial(&mut self) -> Result<(), Stop> {
        for (name, _) in self.disk.list()? {
            if name.starts_with(SNAP_DIRECTORY) && name.ends_with(PARTIAL) {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    fn open_database(&mut self) -> Result<(PageDisk, Opening), Stop> {
        let (database, file) = self.map_database()?;
        Ok((database, Opening::new(file).map_err(failure)?))
    }

    fn map_database(&mut self) -> Result<(PageDisk, PageFile), Stop> {
        PageDisk::open(&mut self.disk, DATABASE, self.knobs.image_bytes).map_err(|error| match error {
            OpenFailure::Disk(error) => error.into(),
            OpenFailure::File(error) => failure(error),
        })
    }

    fn found_log(&mut self, config: wal::Config) -> Result<(LogFiles, Wal, Vec<Action>, consensus::Initial), Stop> {
        let mut log = LogFiles::create(&mut self.disk).map_err(log_failure)?;
        let metadata = Metadata { cluster_id: CLUSTER_ID, member_id: self.id };
        let context = |id: &u64| (*id, Bytes::from(cluster_member(*id).to_json()));
        let initial = match &self.start {
            Start::Found(founders) => consensus::Initial::of_new_cluster(founders.iter().map(context).collect()),
            Start::Join => consensus::Initial::default(),
        };
        let (mut wal, actions) = Wal::create(config, metadata);
        for action in &actions {
            if let Some(segment) = log.carry_out(&mut self.disk, action)? {
                wal.on_prepared(segment);
            }
        }
        let append = wal.append(Some(initial.hard_state), &initial.entries).map_err(failure)?;
        for batch in append.writes {
            log.submit(&mut self.disk, &batch)?;
            while let Some(completion) = self.disk.complete()? {
                completion.result?;
            }
            wal.on_written(batch.sequence);
        }
        Ok((log, wal, append.actions, initial))
    }

    // Inputs and effects.

    /// Passes an input to the replica.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Outcome {
        let Some(running) = &mut self.running else { return Outcome::default() };
        let mut effects = Effects::new();
        match running.replica.step(now_ms, input, &mut effects) {
            Ok(()) => self.carry_out(effects),
            Err(error) => failure(error).into(),
        }
    }

    /// Starts the effects in their order, until the process ends.
    fn carry_out(&mut self, effects: Effects) -> Outcome {
        let mut outcome = Outcome::default();
        for effect in effects {
            let ended = match &mut self.ends_after {
                Some(0) => Err(Stop::Killed),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            };
            match ended.and_then(|()| self.start_effect(effect)) {
                Ok(effect) => outcome.effects.extend(effect),
                Err(stop) => {
                    outcome.stop = Some(stop);
                    break;
                }
            }
        }
        outcome
    }

    /// Starts one effect, or returns it if it does not concern the disk.
    fn start_effect(&mut self, effect: Effect) -> Result<Option<Effect>, Stop> {
        let running = self.running.as_mut().expect("only a running member has effects");
        match effect {
            Effect::WriteLog(batch) => {
                let ticket = running.log.submit(&mut self.disk, &batch)?;
                running.writes.insert(ticket, batch.sequence);
            }
            Effect::LogTask(action) => running.actions.push_back(action),
            Effect::CommitPages(commit) => running.database.queue(commit),
            Effect::CutPages { length } => running.database.queue_cut(length),
            Effect::InstallSnapshot { index } => running.install = Some(index),
            Effect::DiscardSnapshot { index } => {
                let name = received_path(index);
                if self.disk.open(&name).is_ok() {
                    self.disk.remove(&name)?;
                }
            }
            Effect::Publish(view) => {
                running.view = Arc::clone(&view);
                return Ok(Some(Effect::Publish(view)));
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// How many kinds of work wait for the disk.
    #[must_use]
    pub fn work(&self) -> usize {
        let Some(running) = &self.running else { return 0 };
        usize::from(!running.writes.is_empty() && !self.is_log_stalled)
            + usize::from(!running.actions.is_empty())
            + usize::from(running.database.has_work())
            + usize::from(running.install.is_some())
    }

    /// Does one step of the `choice`-th kind of work that waits.
    pub fn do_work(&mut self, now_ms: u64, choice: usize) -> Outcome {
        match self.disk_step(choice) {
            Ok(Some(input)) => self.step(now_ms, input),
            Ok(None) => Outcome::default(),
            Err(stop) => stop.into(),
        }
    }

    fn disk_step(&mut self, choice: usize) -> Result<Option<Input>, Stop> {
        let Some(running) = &mut self.running else { return Ok(None) };
        let kinds = [
            !running.writes.is_empty() && !self.is_log_stalled,
            !running.actions.is_empty(),
            running.database.has_work(),
            running.install.is_some(),
        ];
        let waiting: Vec<usize> = (0..kinds.len()).filter(|kind| kinds[*kind]).collect();
        Ok(match waiting.get(choice % waiting.len().max(1)) {
            None => None,
            Some(0) => {
                let completion = self.disk.complete()?.expect("a batch is in flight");
                completion.result?;
                let sequence = running.writes.remove(&completion.ticket).expect("only batches are in flight");
                Some(Input::LogWritten { sequence })
            }
            Some(1) => {
                let action = running.actions.front().expect("looked at above");
                let ready = match running.log.carry_out(&mut self.disk, action) {
                    Err(DiskError::NoSpace) => return Ok(None),
                    done => done.map_err(sync_failure)?,
                };
                running.actions.pop_front();
                ready.map(|segment| Input::SegmentPrepared { segment })
            }
            Some(2) => match running.database.step(&mut self.disk) {
                Err(DiskError::NoSpace) => None,
                done => done.map_err(sync_failure)?.then_some(Input::PagesCommitted),
            },
            Some(_) => {
                let index = running.install.take().expect("looked at above");
                self.install(index)?;
                let (database, file) = self.map_database()?;
                self.running.as_mut().expect("it runs").database = database;
                Some(Input::SnapshotInstalled(file))
            }
        })
    }

    fn install(&mut self, index: u64) -> Result<(), Stop> {
        self.disk.rename(&received_path(index), DATABASE)?;
        self.disk.sync_directory().map_err(sync_failure)
    }

    /// A whole state has arrived: it is stored, then the replica learns of it. False: it was not stored, because the disk is full.
    pub fn receive_state(&mut self, now_ms: u64, message: raftpb::Message, image: &[u8]) -> (bool, Outcome) {
        if self.running.is_none() {
            return (false, Outcome::default());
        }
        let metadata = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
        let name = received_path(metadata.map_or(0, raftpb::SnapshotMetadata::index));
        match self.store_state(&name, image) {
            Ok(()) => (true, self.step(now_ms, Input::SnapshotReceived(message))),
            Err(DiskError::NoSpace) => {
                let removed = self.disk.remove(&format!("{name}{PARTIAL}"));
                (false, removed.err().map_or(Outcome::default(), |error| Stop::from(error).into()))
            }
            Err(error) => (false, sync_failure(error).into()),
        }
    }

    fn store_state(&mut self, name: &str, image: &[u8]) -> Result<(), DiskError> {
        let temporary = format!("{name}{PARTIAL}");
        let file = self.disk.create(&temporary)?;
        self.disk.write(file, 0, image)?;
        self.disk.sync(file)?;
        self.disk.rename(&temporary, name)?;
        self.disk.sync_directory()
    }

    /// Flips a bit in a part of the log that later batches confirm: the first half of its oldest segment. False: there is no such part.
    pub fn damage_log(&mut self, at: u64, bit: u8) -> bool {
        let Ok(list) = self.disk.list() else { return false };
        let segments: Vec<_> = list.iter().filter(|(name, _)| log_files::is_segment(name)).collect();
        let [(oldest, bytes), _, ..] = segments[..] else { return false };
        let Ok(file) = self.disk.open(oldest) else { return false };
        self.disk.flip_bit(file, at % (bytes / 2), bit).is_ok()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.disk.list().map_or(0, |list| list.iter().map(|(_, bytes)| bytes).sum())
    }
}

/// An error in the middle of a task that may have been a sync's.
fn sync_failure(error: DiskError) -> Stop {
    match error {
        DiskError::Io => Stop::Power,
        other => other.into(),
    }
}

fn received_path(index: u64) -> String {
    format!("{SNAP_DIRECTORY}{}", received_name(index))
}

/// The state of a page file, as a member that starts from it alone would show it.
///
/// # Errors
/// It is damaged.
pub fn view_of_image(id: u64, knobs: &Knobs, image: &[u8]) -> Result<View, String> {
    let file = PageFile::open(MemoryImage::new(image, image.len()).map(), image.len() as u64);
    let file = file.map_err(|error| error.to_string())?;
    if let Some(violation) = file.check().first() {
        return Err(format!("{violation:?}"));
    }
    let mut opening = Opening::new(file).map_err(|error| error.to_string())?;
    while !opening.step().map_err(|error| error.to_string())? {}
    let opened = opening.finish(&identity(id, knobs)).map_err(|error| error.to_string())?;
    Ok(opened.applier.view(RaftStatus::default()))
}

fn identity(id: u64, knobs: &Knobs) -> Identity {
    Identity {
        cluster_id: CLUSTER_ID,
        member_id: id,
        terms: Terms::new(TICK_MS, knobs.election_ms, REQUEST_TIMEOUT_MS),
        quota_bytes: knobs.quota_bytes,
        learners_max: LEARNERS_MAX_DEFAULT,
    }
}

/// Small segments, so that a run sees many of them.
fn wal_config(knobs: &Knobs, seed: u64) -> wal::Config {
    wal::Config {
        segment_bytes: knobs.segment_bytes,
        first_segment_bytes: 16 << 10,
        batch_bytes_max: knobs.batch_bytes_max,
        salt: (seed >> 32) as u32,
    }
}

/// A member as the cluster knows it.
#[must_use]
pub fn cluster_member(id: u64) -> ClusterMember {
    ClusterMember {
        id,
        peer_urls: vec![format!("http://{id}.test:2380")],
        name: format!("m{id}"),
        ..ClusterMember::default()
    }
}

/// The conf state of a cluster whose page file has none yet: the conf changes at the head of its log.
fn founding_conf_state(entries: &[LogEntry]) -> ConfState {
    let changes = entries.iter().take_while(|entry| entry.kind == EntryKind::ConfChange);
    let voters = changes.filter_map(|entry| {
        let change = <raftpb::ConfChange as prost::Message>::decode(entry.data.clone()).ok()?;
        Some(change.node_id())
    });
    ConfState { voters: voters.collect(), ..ConfState::default() }
}
