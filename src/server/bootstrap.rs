//! From a data directory to a running machine: a new member, or one that continues.
//!
//! ```text
//!   no log   ─▶ page file made new, synced ─▶ log with its first entries, durable ─▶ engine
//!   a log    ─▶ page file opened, index rebuilt ─▶ log replayed from its applied index, repaired ─▶ engine
//! ```
//!
//! The page file comes first and the log last, so a log is the sign that a member exists. A page file with content and no log is
//! somebody else's and refused. Damage ends the start, unless `--heal-from-peers` mends it (`healing`).

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::{
    datadir::{DataDir, DataDirError},
    joining, lone_start,
};
use crate::{
    apply::state::Restored,
    base::{
        limits,
        log_entry::{ConfState, EntryKind, HardState, LogEntry},
    },
    cluster::membership::Member as ClusterMember,
    config::{Config, FirstStart},
    consensus::{self, LogLevel, StartError},
    drive::{
        installation,
        log_files::{self, LogFiles},
        page_file::{OpenPageFile, PageFileError},
    },
    lease::Terms,
    os::{
        self,
        file::{self, FileError, WalMode, sync_directory},
        lock::LockError,
        probe, random,
    },
    pagefile::PageFile,
    proto::raftpb,
    replica::{self, Identity, Opening, OpeningError},
    wal::{self, Action, IssuedBatch, Metadata, Replay, ReplayError, SnapshotMarker, Wal},
};

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error(transparent)]
    Missing(#[from] probe::Missing),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    PageFile(#[from] PageFileError),
    #[error("cannot {operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("database file ({path}) of the backend is missing")]
    DatabaseMissing { path: PathBuf },
    #[error(
        "{path} has content but there is no log beside it: it is not ringd's own; start on an empty --data-dir and load the data there"
    )]
    DatabaseWithoutLog { path: PathBuf },
    #[error("database: {0}")]
    Opening(#[from] OpeningError),
    #[error("log: {0}")]
    Replay(#[from] ReplayError),
    #[error("log: {0}")]
    Append(#[from] wal::AppendError),
    #[error("the log ends at entry {last}, but the database goes up to entry {applied}: entries are lost")]
    LogBehindDatabase { last: u64, applied: u64 },
    #[error("raft: {0}")]
    Raft(#[from] StartError),
    #[error("{0}")]
    Founding(String),
    #[error(transparent)]
    NotWelcome(#[from] joining::NotWelcome),
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
}

/// What of a member's data is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Database,
    /// The log, and perhaps more.
    Log,
}

impl BootError {
    /// What is damaged, if that is why the member cannot start.
    pub(super) fn damage(&self) -> Option<Part> {
        match self {
            Self::DatabaseMissing { .. } | Self::Opening(_) | Self::PageFile(PageFileError::Open { .. }) => {
                Some(Part::Database)
            }
            Self::Replay(ReplayError::NewerFormat { .. } | ReplayError::BlockBytes { .. })
            | Self::Raft(StartError::Settings(_)) => None,
            Self::Replay(_) | Self::Raft(_) | Self::LogBehindDatabase { .. } | Self::DatabaseWithoutLog { .. } => {
                Some(Part::Log)
            }
            // A place on the disk that cannot be read.
            Self::Io { operation: "read", source, .. } if source.raw_os_error() == Some(libc::EIO) => Some(Part::Log),
            Self::NotWelcome(why) if why.has_forgotten => Some(Part::Log),
            _ => None,
        }
    }
}

/// A member that is ready to be driven.
pub struct Booted {
    /// Taken by the replica.
    pub initial: Option<replica::Initial>,
    pub identity: Identity,
    /// Taken by the driver.
    pub disk: Option<(LogFiles, OpenPageFile)>,
    /// Whether this is the first start.
    pub is_new: bool,
    /// It is the only voter.
    pub is_alone: bool,
    /// Members of the cluster that it joins; the log tells of them only later.
    pub remotes: Vec<ClusterMember>,
    /// Where received states are kept.
    pub snap: PathBuf,
    /// Held as long as the member runs.
    pub lock: Rc<DataDir>,
}

/// The page file's side of a member.
struct Database {
    opening: Opening,
    page_file: OpenPageFile,
}

/// A log that was read.
pub(super) struct Replayed {
    recovered: wal::Recovered,
    files: LogFiles,
}

/// The log's side of a member.
struct Log {
    wal: Wal,
    files: LogFiles,
    actions: Vec<Action>,
    metadata: Metadata,
    initial: consensus::Initial,
}

/// Opens or founds the member of this configuration in its directory.
///
/// # Errors
/// The data directory cannot be used, or what is in it is damaged.
pub(super) async fn begin(config: &Config, dir: Rc<DataDir>) -> Result<Booted, BootError> {
    let found = log_files::found(dir.wal())?;
    let has_log = !found.segments.is_empty();
    if wal_mode(config) == WalMode::Direct {
        probe::direct_io(dir.wal())?;
        let written = found.segments.first().map(|segment| dir.wal().join(segment.id.file_name()));
        file::probe_polling(dir.wal(), written.as_deref()).await?;
    }
    prepare_database(&dir, has_log)?;
    let database = open_database(&dir, config.fsync).await?;
    if !has_log && database.opening.state().index > 0 {
        return Err(BootError::DatabaseWithoutLog { path: dir.database() });
    }
    let files = LogFiles::new(dir.wal(), wal_mode(config));
    if has_log {
        match replay(config, &found, files, database.opening.state()).await {
            // A first start that ended before its log had anything.
            Err(BootError::Replay(ReplayError::Empty)) if database.opening.state().index == 0 => {
                log_files::clear(dir.wal())?;
            }
            replayed => return resume(config, dir, database, replayed?).await,
        }
    }
    let (log, remotes) = found_log(config, LogFiles::new(dir.wal(), wal_mode(config))).await?;
    let start = Start { is_new: true, remotes };
    assemble(config, dir, database, log, start).await
}

/// How a member begins this time.
#[derive(Default)]
struct Start {
    is_new: bool,
    remotes: Vec<ClusterMember>,
}

/// Continues with a replayed log: the state that was being installed takes its place first.
async fn resume(
    config: &Config,
    dir: Rc<DataDir>,
    mut database: Database,
    replayed: Replayed,
) -> Result<Booted, BootError> {
    let marker = replayed.recovered.contents.snapshot.as_ref();
    if let Some(index) = replica::pending_installation(marker, database.opening.state().index) {
        tracing::info!(snapshot_index = index, "installing the database that was received before the last stop");
        drop(database);
        installation::rename(dir.snap(), index)?;
        database = open_database(&dir, config.fsync).await?;
    }
    let log = continued(config, replayed, database.opening.state()).await?;
    assemble(config, dir, database, log, Start::default()).await
}

async fn assemble(
    config: &Config,
    dir: Rc<DataDir>,
    mut database: Database,
    log: Log,
    start: Start,
) -> Result<Booted, BootError> {
    let Metadata { cluster_id, member_id } = log.metadata;
    let identity = Identity {
        cluster_id,
        member_id,
        terms: lease_terms(config),
        quota_bytes: config.quota_bytes,
        learners_max: config.learners_max,
    };
    while !database.opening.step()? {
        os::yield_now().await;
    }
    let opened = database.opening.finish(&identity)?;
    check_learners(config, opened.applier.membership().members())?;
    if opened.dangling > 0 {
        tracing::error!(keys = opened.dangling, "failed to attach keys to their leases: no such leases");
    }
    let election_ticks = config.election.as_millis() / config.heartbeat.as_millis().max(1);
    let settings = consensus::Config {
        member_id,
        election_ticks: usize::try_from(election_ticks).unwrap_or(10),
        heartbeat_ticks: 1,
        pre_vote: config.pre_vote,
        seed: random::number(),
        log: raft_log,
    };
    let voters = log.initial.conf_state.voters.clone();
    let initial = replica::Initial::new(opened.applier, log.wal, log.actions, log.initial, &settings)?;
    Ok(Booted {
        initial: Some(initial),
        identity,
        disk: Some((log.files, database.page_file)),
        is_new: start.is_new,
        is_alone: voters == [member_id],
        remotes: start.remotes,
        snap: dir.snap().to_owned(),
        lock: dir,
    })
}

/// Refuses to start where there are more learners than `--max-learners` allows.
fn check_learners<'m>(config: &Config, members: impl Iterator<Item = &'m ClusterMember>) -> Result<(), BootError> {
    match members.filter(|member| member.is_learner).count() > config.learners_max {
        true => Err(BootError::TooManyLearners),
        false => Ok(()),
    }
}

/// The bound on anything that waits for consensus: etcd's, for a disk and two elections.
#[must_use]
pub fn request_timeout(config: &Config) -> Duration {
    Duration::from_secs(5) + 2 * config.election
}

fn lease_terms(config: &Config) -> Terms {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Terms::new(ms(config.heartbeat), ms(config.election), ms(request_timeout(config)))
}

fn raft_log(level: LogLevel, line: &str) {
    match level {
        LogLevel::Error => tracing::error!(logger = "raft", "{line}"),
        LogLevel::Warn => tracing::warn!(logger = "raft", "{line}"),
        LogLevel::Info => tracing::info!(logger = "raft", "{line}"),
    }
}

fn wal_mode(config: &Config) -> WalMode {
    match (config.fsync, config.wal_buffered) {
        (false, _) => WalMode::Unsafe,
        (true, true) => WalMode::Buffered,
        (true, false) => WalMode::Direct,
    }
}

/// Makes an empty page file where there is none. It appears whole or not at all.
fn prepare_database(dir: &DataDir, has_log: bool) -> Result<(), BootError> {
    let path = dir.database();
    if path.exists() {
        return Ok(());
    }
    if has_log {
        return Err(BootError::DatabaseMissing { path });
    }
    let temporary = dir.snap().join("db.new");
    let made = fs::write(&temporary, PageFile::image_of_new_file(limits::PAGE_BYTES))
        .and_then(|()| fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o600)))
        .and_then(|()| fs::File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, &path));
    made.map_err(|source| BootError::Io { operation: "create", path, source })?;
    Ok(sync_directory(dir.snap())?)
}

/// Removes received states that did not arrive whole.
fn remove_partial(snap: &Path) -> Result<(), BootError> {
    let failed = |source| BootError::Io { operation: "tidy", path: snap.to_owned(), source };
    for entry in fs::read_dir(snap).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "part") {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

async fn open_database(dir: &DataDir, sync: bool) -> Result<Database, BootError> {
    remove_partial(dir.snap())?;
    let (page_file, file) = OpenPageFile::open(&dir.database(), sync).await?;
    let opening = Opening::new(file)?;
    Ok(Database { opening, page_file })
}

/// A new log: its first segment, and for a founder the conf changes that make the first members. Who joins a cluster begins with
/// nothing, and knows its members from them.
async fn found_log(config: &Config, files: LogFiles) -> Result<(Log, Vec<ClusterMember>), BootError> {
    let first = config.founding.first_start(&config.name, &config.cluster_token, &config.advertise_peer_urls);
    let (cluster, initial, remotes) = match first.map_err(|refused| BootError::Founding(refused.text))? {
        FirstStart::Found(cluster) => {
            joining::check_not_bootstrapped(&cluster).await?;
            // Client URLs are published later, through the log.
            let initial = consensus::Initial::of_new_cluster(cluster.founders());
            (cluster, initial, Vec::new())
        }
        FirstStart::Join(cluster) => {
            let cluster = joining::join(cluster, request_timeout(config)).await?;
            check_learners(config, cluster.members.iter())?;
            let remotes = cluster.members.clone();
            (cluster, consensus::Initial::default(), remotes)
        }
    };
    let metadata = Metadata { cluster_id: cluster.cluster_id, member_id: cluster.local_id };
    let (mut wal, actions) = Wal::create(wal::Config::new(salt()), metadata);
    prepare(&files, &mut wal, &actions).await?;
    let append = wal.append(Some(initial.hard_state), &initial.entries)?;
    write_all(&files, &mut wal, append.writes).await?;
    Ok((Log { wal, files, actions: append.actions, metadata, initial }, remotes))
}

async fn write_all(files: &LogFiles, wal: &mut Wal, batches: Vec<IssuedBatch>) -> Result<(), BootError> {
    for batch in batches {
        files.write(batch.write).await?;
        wal.on_written(batch.sequence);
    }
    Ok(())
}

/// Reads the log, from as far before the page file's state as followers may lag.
async fn replay(
    config: &Config,
    found: &log_files::Found,
    files: LogFiles,
    state: &Restored,
) -> Result<Replayed, BootError> {
    let keep_after = state.index.saturating_sub(config.snapshot_catchup_entries.saturating_add(1));
    read_log(found, files, keep_after, state.index == 0).await
}

/// With `is_state_empty` nothing but the log can say that the member has been founded, so it must say so.
async fn read_log(
    found: &log_files::Found,
    files: LogFiles,
    keep_after: u64,
    is_state_empty: bool,
) -> Result<Replayed, BootError> {
    sync_directory(files.directory())?;
    let mut replay = Replay::new(found.segments.clone(), keep_after)?;
    while let Some(read) = replay.next_read() {
        let path = files.directory().join(read.segment.file_name());
        replay.feed(&read_slice(&path, read.offset, read.length)?)?;
        os::yield_now().await;
    }
    let recovered = replay.finish(wal::Config::new(salt()), &found.spares)?;
    if recovered.contents.is_blank() && is_state_empty {
        return Err(ReplayError::Empty.into());
    }
    if let Some(cut) = recovered.contents.cut {
        tracing::warn!(
            segment = cut.segment.file_name(),
            offset = cut.offset,
            damage = %cut.damage,
            "cut a torn tail off the log; nothing in it was acknowledged"
        );
    }
    for segment in &found.segments {
        files.open(segment.id).await?;
    }
    for segment in &recovered.repair.sync {
        files.sync(*segment).await?;
    }
    Ok(Replayed { recovered, files })
}

/// Reads the log once more, to see what it holds after an entry.
pub(super) async fn replay_again(config: &Config, dir: &DataDir, keep_after: u64) -> Result<Replayed, BootError> {
    let found = log_files::found(dir.wal())?;
    read_log(&found, LogFiles::new(dir.wal(), wal_mode(config)), keep_after, false).await
}

/// Where the end of a state is in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The log has the state's last entry, at the term that the state names: it continues the state.
    Inside,
    /// The log begins later.
    Before,
    /// The log ends earlier, or has another entry there.
    Beyond,
}

impl Replayed {
    pub(super) fn metadata(&self) -> Metadata {
        self.recovered.contents.metadata
    }

    /// Where entry `index` of this term is in a log that was read from the entry before on.
    pub(super) fn place_of(&self, index: u64, term: u64) -> Place {
        let contents = &self.recovered.contents;
        let marker = contents.snapshot.as_ref();
        let is_marked = marker.is_some_and(|marker| (marker.index, marker.term) == (index, term));
        let begins = contents.entries.first().map_or(contents.last_index + 1, |first| first.index);
        match contents.entries.first() {
            _ if is_marked && begins == index + 1 => Place::Inside,
            _ if begins > index + 1 || marker.is_some_and(|marker| marker.index > index) => Place::Before,
            Some(first) if (first.index, first.term) == (index, term) => Place::Inside,
            Some(first) if first.index > index => Place::Before,
            _ => Place::Beyond,
        }
    }

    /// Makes the log begin anew after a state, durably. It keeps term and vote.
    pub(super) async fn restart_after(self, marker: SnapshotMarker) -> Result<(), BootError> {
        let Self { recovered, files } = self;
        let mut repair = recovered.repair;
        for write in std::mem::take(&mut repair.writes) {
            files.write(write).await?;
        }
        let (mut wal, actions) = repair.done();
        let append = wal.save_snapshot_marker(marker, None)?;
        write_in_order(&files, &mut wal, actions, append).await
    }
}

/// A new log that begins after a state, durable when this returns.
pub(super) async fn new_log(
    config: &Config,
    dir: &DataDir,
    metadata: Metadata,
    marker: SnapshotMarker,
    hard_state: HardState,
) -> Result<(), BootError> {
    let files = LogFiles::new(dir.wal(), wal_mode(config));
    let (mut wal, actions) = Wal::create(wal::Config::new(salt()), metadata);
    prepare(&files, &mut wal, &actions).await?;
    let append = wal.save_snapshot_marker(marker, Some(hard_state))?;
    write_in_order(&files, &mut wal, Vec::new(), append).await
}

/// Writes an append, after the segments that it needs are prepared.
async fn write_in_order(
    files: &LogFiles,
    wal: &mut Wal,
    mut actions: Vec<Action>,
    append: wal::Append,
) -> Result<(), BootError> {
    actions.extend(append.actions);
    prepare(files, wal, &actions).await?;
    write_all(files, wal, append.writes).await
}

async fn prepare(files: &LogFiles, wal: &mut Wal, actions: &[Action]) -> Result<(), BootError> {
    for action in actions {
        if let Some(segment) = files.carry_out(action).await? {
            wal.on_prepared(segment);
        }
    }
    Ok(())
}

/// The members that the page file names, if it can be read.
pub(super) async fn members_on_disk(dir: &DataDir) -> Vec<ClusterMember> {
    match open_database(dir, true).await {
        Ok(database) => database.opening.state().members.clone(),
        Err(_) => Vec::new(),
    }
}

/// Repairs the log's torn end, and continues from the page file's state.
async fn continued(config: &Config, replayed: Replayed, state: &Restored) -> Result<Log, BootError> {
    let Replayed { recovered, files } = replayed;
    let contents = recovered.contents;
    if contents.last_index < state.index {
        return Err(BootError::LogBehindDatabase { last: contents.last_index, applied: state.index });
    }
    let conf_state = state.conf_state.clone().unwrap_or_else(|| founders(&contents.entries));
    let mut initial = consensus::Initial::continuing(
        contents.hard_state,
        conf_state,
        (state.index, state.term),
        contents.entries,
        limits::RETAINED_BYTES_MAX,
    );
    let mut repair = recovered.repair;
    for write in std::mem::take(&mut repair.writes) {
        files.write(write).await?;
    }
    let (mut wal, mut actions) = repair.done();
    if config.force_new_cluster {
        let Metadata { cluster_id, member_id } = contents.metadata;
        let fallback =
            ClusterMember { id: member_id, peer_urls: config.advertise_peer_urls.clone(), ..ClusterMember::default() };
        let local = state.membership(cluster_id, member_id).member(member_id).cloned().unwrap_or(fallback);
        let forced = lone_start::force(&mut initial, &local);
        let append = wal.append(Some(forced.hard_state), &forced.entries)?;
        write_all(&files, &mut wal, append.writes).await?;
        actions.extend(append.actions);
        tracing::info!(
            cluster_id = format!("{cluster_id:x}"),
            local_member_id = format!("{member_id:x}"),
            commit_index = forced.hard_state.commit,
            "forcing restart member"
        );
    }
    Ok(Log { wal, files, actions, metadata: contents.metadata, initial })
}

/// Who founded a cluster whose page file has no membership yet: the conf changes at the head of its log.
fn founders(entries: &[LogEntry]) -> ConfState {
    let changes = entries.iter().take_while(|entry| entry.kind == EntryKind::ConfChange);
    let voters = changes.filter_map(|entry| {
        let change = <raftpb::ConfChange as prost::Message>::decode(entry.data.clone()).ok()?;
        Some(change.node_id())
    });
    ConfState { voters: voters.collect(), ..ConfState::default() }
}

fn read_slice(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, BootError> {
    let mut bytes = vec![0; length];
    let read = fs::File::open(path).and_then(|file| file.read_exact_at(&mut bytes, offset));
    read.map_err(|source| BootError::Io { operation: "read", path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Random enough that no client can guess what a batch of this opening looks like.
fn salt() -> u32 {
    u32::try_from(random::number() >> 32).expect("half of the bits")
}
