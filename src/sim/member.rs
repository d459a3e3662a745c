//! One simulated member: a replica, and a disk that carries out its effects step by step.
//!
//! | work | one step |
//! |---|---|
//! | batches of the log | some batch in flight arrives, in any order |
//! | background work on the log | one action |
//! | a commit of the page file | one write or sync |
//! | a received state | it replaces the page file |
//!
//! The power can fail between any two steps, and in the middle of a write. The remaining steps are then lost, and `boot` starts again
//! from the content of the disk.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    disk::{Disk, DiskError, FileId, Ticket},
    log_files::{HostError, LogFiles},
};
use crate::{
    apply::View,
    base::{
        log_entry::{ConfState, EntryKind, LogEntry},
        received_state::received_name,
    },
    cluster::membership::{LEARNERS_MAX_DEFAULT, Member as ClusterMember},
    consensus,
    lease::Terms,
    pagefile::{Commit, MemoryImage, PageFile, PageWrite},
    proto::raftpb,
    replica::{self, Effect, Effects, Identity, Input, Opening, OwnIds, ReadMode, Replica, Settings, Stopwatch},
    wal::{self, Action, Metadata, ReplayError, Wal},
};

const DATABASE: &str = "member/snap/db";
const SNAP_DIRECTORY: &str = "member/snap/";
const IMAGE_BYTES: usize = 16 << 20;
pub const CLUSTER_ID: u64 = 0xc1;

/// Settings that a run draws.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    pub catchup_entries: u64,
    pub commit_changes_max: usize,
    pub compaction_batch: usize,
    pub pre_vote: bool,
    pub read_mode: ReadMode,
}

/// A machine that may be running.
pub struct Member {
    pub id: u64,
    pub disk: Disk,
    knobs: Knobs,
    /// Grows with every start.
    pub epoch: u64,
    /// No batch of the log arrives on the disk, and none fails.
    pub is_log_stalled: bool,
    running: Option<Running>,
}

struct Running {
    replica: Replica,
    log: LogFiles,
    database: FileId,
    image: MemoryImage,
    writes: BTreeMap<Ticket, u64>,
    actions: VecDeque<Action>,
    pages: VecDeque<PageStep>,
    install: Option<u64>,
    view: Arc<View>,
}

/// One step of a commit of the page file.
enum PageStep {
    Length(u64),
    Write(PageWrite),
    Sync,
    Committed,
}

/// Why a member stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The power failed, as scheduled.
    #[error("the power failed")]
    Power,
    /// The member failed, which no fault of this world permits.
    #[error("{0}")]
    Failure(String),
}

impl From<DiskError> for Stop {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::PowerOff => Self::Power,
            other => Self::Failure(format!("disk: {other}")),
        }
    }
}

fn failure(error: impl std::fmt::Display) -> Stop {
    Stop::Failure(error.to_string())
}

impl Member {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(id: u64, seed: u64, knobs: Knobs) -> Self {
        Self { id, disk: Disk::new(seed), knobs, epoch: 0, is_log_stalled: false, running: None }
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
        match is_power_cut {
            true => self.disk.power_cut(),
            false => self.disk.kill(),
        }
    }

    // Start.

    /// Starts from the content of the disk; `founders` are the ids of the cluster's first members.
    ///
    /// # Errors
    /// The disk has a content that no crash leaves.
    pub fn boot(&mut self, seed: u64, founders: &[u64]) -> Result<Effects, Stop> {
        self.epoch += 1;
        self.make_database()?;
        let identity = Identity {
            cluster_id: CLUSTER_ID,
            member_id: self.id,
            terms: Terms::default(),
            quota_bytes: -1,
            learners_max: LEARNERS_MAX_DEFAULT,
        };
        let (mut database, mut image, mut opening) = self.open_database()?;
        let config = wal_config(seed);
        let keep_after = opening.state().index.saturating_sub(self.knobs.catchup_entries + 1);
        let (log, wal, actions, initial) = match LogFiles::open(&mut self.disk, config, keep_after) {
            Err(HostError::Replay(ReplayError::Empty)) => self.found_log(config, founders)?,
            Err(error) => return Err(failure(error)),
            Ok((log, wal, actions, contents)) => {
                if let Some(index) = replica::pending_installation(contents.snapshot.as_ref(), opening.state().index) {
                    self.install(index)?;
                    (database, image, opening) = self.open_database()?;
                }
                let state = opening.state();
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
            election_ticks: 10,
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
            image,
            writes: BTreeMap::new(),
            actions: VecDeque::new(),
            pages: VecDeque::new(),
            install: None,
        });
        self.carry_out(effects)
    }

    fn settings(&self, identity: Identity) -> Settings {
        Settings {
            identity,
            request_timeout_ms: 7000,
            tick_ms: 100,
            election_ms: 1000,
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

    fn make_database(&mut self) -> Result<(), Stop> {
        if self.disk.open(DATABASE).is_ok() {
            return Ok(());
        }
        let name = format!("{DATABASE}.new");
        let file = self.disk.create(&name)?;
        self.disk.write(file, 0, &PageFile::image_of_new_file(4096))?;
        self.disk.sync(file)?;
        self.disk.rename(&name, DATABASE)?;
        Ok(self.disk.sync_directory()?)
    }

    fn open_database(&mut self) -> Result<(FileId, MemoryImage, Opening), Stop> {
        let (database, image, file) = self.map_database()?;
        Ok((database, image, Opening::new(file).map_err(failure)?))
    }

    fn map_database(&mut self) -> Result<(FileId, MemoryImage, PageFile), Stop> {
        let database = self.disk.open(DATABASE)?;
        let length = self.disk.length(database)?;
        let content = self.disk.read(database, 0, length as usize)?;
        let image = MemoryImage::new(content, IMAGE_BYTES);
        let file = PageFile::open(image.map(), length).map_err(failure)?;
        Ok((database, image, file))
    }

    fn found_log(
        &mut self,
        config: wal::Config,
        founders: &[u64],
    ) -> Result<(LogFiles, Wal, Vec<Action>, consensus::Initial), Stop> {
        let mut log = LogFiles::create(&mut self.disk).map_err(failure)?;
        let metadata = Metadata { cluster_id: CLUSTER_ID, member_id: self.id };
        let context = |id: &u64| (*id, Bytes::from(founder(*id).to_json()));
        let initial = consensus::Initial::of_new_cluster(founders.iter().map(context).collect());
        let (mut wal, actions) = Wal::create(config, metadata);
        for action in &actions {
            if let Some(segment) = log.carry_out(&mut self.disk, action)? {
                wal.on_prepared(segment);
            }
        }
        let append = wal.append(Some(initial.hard_state), &initial.entries).map_err(failure)?;
        for batch in append.writes {
            log.submit(&mut self.disk, &batch)?;
            while self.disk.complete()?.is_some() {}
            wal.on_written(batch.sequence);
        }
        Ok((log, wal, append.actions, initial))
    }

    // Inputs and effects.

    /// Passes an input to the replica. Returns the effects that do not concern the disk.
    ///
    /// # Errors
    /// The power failed, or the member failed.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Result<Effects, Stop> {
        let Some(running) = &mut self.running else { return Ok(Effects::new()) };
        let mut effects = Effects::new();
        running.replica.step(now_ms, input, &mut effects).map_err(failure)?;
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Effects) -> Result<Effects, Stop> {
        let running = self.running.as_mut().expect("only a running member has effects");
        let mut rest = Effects::new();
        for effect in effects {
            match effect {
                Effect::WriteLog(batch) => {
                    let ticket = running.log.submit(&mut self.disk, &batch)?;
                    running.writes.insert(ticket, batch.sequence);
                }
                Effect::LogTask(action) => running.actions.push_back(action),
                Effect::CommitPages(commit) => running.pages.extend(steps(commit)),
                Effect::CutPages { length } => running.pages.push_back(PageStep::Length(length)),
                Effect::InstallSnapshot { index } => running.install = Some(index),
                Effect::DiscardSnapshot { index } => {
                    let name = received_path(index);
                    if self.disk.open(&name).is_ok() {
                        self.disk.remove(&name)?;
                    }
                }
                Effect::Publish(view) => {
                    running.view = Arc::clone(&view);
                    rest.push(Effect::Publish(view));
                }
                other => rest.push(other),
            }
        }
        Ok(rest)
    }

    /// How many kinds of work wait for the disk.
    #[must_use]
    pub fn work(&self) -> usize {
        let Some(running) = &self.running else { return 0 };
        usize::from(!running.writes.is_empty() && !self.is_log_stalled)
            + usize::from(!running.actions.is_empty())
            + usize::from(!running.pages.is_empty())
            + usize::from(running.install.is_some())
    }

    /// Does one step of the `choice`-th kind of work that waits.
    ///
    /// # Errors
    /// The power failed, or the member failed.
    pub fn do_work(&mut self, now_ms: u64, choice: usize) -> Result<Effects, Stop> {
        let Some(running) = &mut self.running else { return Ok(Effects::new()) };
        let kinds = [
            !running.writes.is_empty() && !self.is_log_stalled,
            !running.actions.is_empty(),
            !running.pages.is_empty(),
            running.install.is_some(),
        ];
        let waiting: Vec<usize> = (0..kinds.len()).filter(|kind| kinds[*kind]).collect();
        let input = match waiting.get(choice % waiting.len().max(1)) {
            None => return Ok(Effects::new()),
            Some(0) => {
                let completion = self.disk.complete()?.expect("a batch is in flight");
                completion.result?;
                let sequence = running.writes.remove(&completion.ticket).expect("only batches are in flight");
                Some(Input::LogWritten { sequence })
            }
            Some(1) => {
                let action = running.actions.pop_front().expect("looked at above");
                let ready = running.log.carry_out(&mut self.disk, &action)?;
                ready.map(|segment| Input::SegmentPrepared { segment })
            }
            Some(2) => {
                let step = running.pages.pop_front().expect("looked at above");
                do_page_step(&mut self.disk, running.database, &mut running.image, step)?
            }
            Some(_) => {
                let index = running.install.take().expect("looked at above");
                self.install(index)?;
                let (database, image, file) = self.map_database()?;
                let running = self.running.as_mut().expect("it runs");
                (running.database, running.image) = (database, image);
                Some(Input::SnapshotInstalled(file))
            }
        };
        match input {
            Some(input) => self.step(now_ms, input),
            None => Ok(Effects::new()),
        }
    }

    fn install(&mut self, index: u64) -> Result<(), Stop> {
        self.disk.rename(&received_path(index), DATABASE)?;
        Ok(self.disk.sync_directory()?)
    }

    /// A whole state has arrived: it is stored, then the replica learns of it.
    ///
    /// # Errors
    /// The power failed, or the member failed.
    pub fn receive_state(&mut self, now_ms: u64, message: raftpb::Message, image: &[u8]) -> Result<Effects, Stop> {
        if self.running.is_none() {
            return Ok(Effects::new());
        }
        let metadata = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
        let name = received_path(metadata.map_or(0, raftpb::SnapshotMetadata::index));
        let temporary = format!("{name}.part");
        let file = self.disk.create(&temporary)?;
        self.disk.write(file, 0, image)?;
        self.disk.sync(file)?;
        self.disk.rename(&temporary, &name)?;
        self.disk.sync_directory()?;
        self.step(now_ms, Input::SnapshotReceived(message))
    }
}

fn received_path(index: u64) -> String {
    format!("{SNAP_DIRECTORY}{}", received_name(index))
}

fn steps(commit: Commit) -> Vec<PageStep> {
    let mut steps = Vec::new();
    if let Some(length) = commit.grow_to {
        steps.extend([PageStep::Length(length), PageStep::Sync]);
    }
    steps.extend(commit.pages.into_iter().map(PageStep::Write));
    steps.extend([PageStep::Sync, PageStep::Write(commit.meta), PageStep::Sync, PageStep::Committed]);
    steps
}

fn do_page_step(
    disk: &mut Disk,
    database: FileId,
    image: &mut MemoryImage,
    step: PageStep,
) -> Result<Option<Input>, DiskError> {
    match step {
        PageStep::Length(length) => disk.set_length(database, length)?,
        PageStep::Write(write) => {
            disk.write(database, write.offset(), write.bytes())?;
            image.write(&write);
        }
        PageStep::Sync => disk.sync(database)?,
        PageStep::Committed => return Ok(Some(Input::PagesCommitted)),
    }
    Ok(None)
}

/// Small segments, so that a run sees many of them.
fn wal_config(seed: u64) -> wal::Config {
    wal::Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 16 << 10,
        batch_bytes_max: 8 << 10,
        salt: (seed >> 32) as u32,
    }
}

/// A member as the cluster knows it.
#[must_use]
pub fn founder(id: u64) -> ClusterMember {
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
