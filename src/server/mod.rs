//! The shell: a configuration becomes a running member.
//!
//! ```text
//!   config ─▶ bootstrap (data directory, page file, log) ─▶ replica ─▶ driver: tasks on the replica's core
//!   links  ─▶ the other members
//!   cores  ─▶ services: one per core, connected to the replica by calls (same core) or channels
//!   ready  ─▶ attributes and cluster version through the log ─▶ listeners accept ─▶ signal ─▶ drain ─▶ last commit
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `auth` | the keys of tokens |
//! | `datadir` | layout and lock of the data directory |
//! | `bootstrap` | from a data directory to a machine |
//! | `lone_start` | `--force-new-cluster` |
//! | `healing` | `--heal-from-peers` |
//! | `joining` | what a new member asks the others first |
//! | `links` | the links to the other members |
//! | `secrets` | certificates, read or made at start |
//! | `publish` | what a member tells the cluster before it serves |
//! | `fronts` | the cores that serve clients |
//! | `cores` | which core runs what |
//! | `listening` | which listener serves what |
//! | `log`, `rotation`, `journal` | log lines, files that are full, and systemd's journal |

mod auth;
pub mod bootstrap;
pub mod cores;
pub mod datadir;
mod fronts;
mod healing;
mod joining;
mod journal;
mod links;
mod listening;
pub mod log;
mod lone_start;
mod publish;
mod rotation;
mod secrets;

use std::{convert::Infallible, io, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    base::{limits, version},
    config::{self, Config},
    drive::{self, CoreLink, Driver, End, corruption::Contradiction},
    meters::Meters,
    os::{
        self, clock,
        executor::{self, Seat},
        probe, signal,
        tls::TlsError,
    },
    otlp::{self, Exporter},
    peer::Activity,
    replica::{self, Identity, OwnIds, ReadMode, Replica, Stopwatch},
    server::{
        cores::Layout,
        listening::{Doors, PeerDoors},
    },
    services::{
        self, ClusterRules, Health, Services, Shared, WatchShared,
        tokens::{JwtError, Tokens},
    },
};

/// Why a server does not come up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Missing(#[from] probe::Missing),
    #[error("{0}")]
    Bind(#[from] listening::BindError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("--auth-token: {0}")]
    Tokens(#[from] JwtError),
    #[error("{0}")]
    Layout(io::Error),
    #[error("cannot start an executor: {0}")]
    Executor(io::Error),
    #[error("checkInitialHashKV failed: {0}")]
    Inconsistent(Contradiction),
    #[error("checkInitialHashKV failed: {0}; {hint}", hint = healing::HINT)]
    Outvoted(Contradiction),
    #[error(transparent)]
    Boot(#[from] healing::HealError),
    /// The page file was moved aside, and the start begins again.
    #[error("the database was moved aside")]
    SetAside,
}

/// Serves until a signal, which then ends the process.
///
/// # Errors
/// The server cannot come up.
pub fn serve(config: Config) -> Result<Infallible, ServeError> {
    probe::io_uring()?;
    signal::install().map_err(ServeError::Executor)?;
    os::process::allow_files();
    let config = Arc::new(config);
    let exporter = exporter(&config)?;
    loop {
        match serve_once(&config, exporter.as_ref()) {
            Err(ServeError::SetAside) => {}
            ended => return ended,
        }
    }
}

/// Before the cores have their CPUs, which its thread would take over.
fn exporter(config: &Config) -> Result<Option<Exporter>, ServeError> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let settings = otlp::Settings {
        collector: traces.collector.clone(),
        service_name: traces.service_name.clone(),
        instance_id: traces.instance_id.clone(),
    };
    let exporter = Exporter::start(settings).map_err(ServeError::Executor)?;
    tracing::info!(address = traces.collector, sampling_rate = traces.per_million, "distributed tracing setup enabled");
    Ok(Some(exporter))
}

fn serve_once(config: &Arc<Config>, exporter: Option<&Exporter>) -> Result<Infallible, ServeError> {
    let (layout, _claim) = Layout::choose(&config.cores).map_err(ServeError::Layout)?;
    let secrets = secrets::of_clients(config)?;
    let doors = Doors::open(config, layout.serving_count(), &secrets)?;
    let peer_doors = PeerDoors::open(config)?;
    let seat = Seat { name: "ringd-0".to_owned(), cpu: Some(layout.engine), spin: Duration::ZERO };
    let served = serve_on(Arc::clone(config), layout, doors, peer_doors, exporter);
    executor::run(&seat, served).map_err(ServeError::Executor)?
}

/// Runs on the replica's core.
async fn serve_on(
    config: Arc<Config>,
    layout: Layout,
    mut doors: Doors,
    peer_doors: PeerDoors,
    exporter: Option<&Exporter>,
) -> Result<Infallible, ServeError> {
    log_start(&config);
    services::quota::log_quota(config.quota_bytes);
    let cores = layout.core_count();
    let meters = Meters::new(cores, &services::methods::MEASURED, config.extensive_metrics, config.warning_apply);
    meters.show_gates(config.gates.iter().map(|(name, (stage, open))| (*name, *stage, *open)));
    let secrets = secrets::of_peers(&config)?;
    let tokens = auth::tokens(&config.auth)?;
    let mut booted = healing::boot(&config, secrets.clone()).await?;
    let identity = booted.identity;
    let text = if booted.is_new { "starting local member" } else { "restarting local member" };
    tracing::info!(
        local_member_id = format!("{:x}", identity.member_id),
        cluster_id = format!("{:x}", identity.cluster_id),
        "{text}"
    );
    let (ids, count) = (first_proposal_id(identity.member_id), layout.proposers());
    let own_ids = OwnIds { next: ids + cores as u64, step: count };
    let mut effects = Vec::new();
    let settings = replica_settings(&config, identity, own_ids);
    let replica = Replica::start(settings, booted.initial.take().expect("just booted"), stopwatch(), &mut effects);
    let shared = Arc::new(Shared {
        view: ArcSwap::new(replica.view()),
        request_bytes_max: config.request_bytes_max,
        txn_ops_max: config.txn_ops_max,
        quota_bytes: config.quota_bytes,
        request_timeout: bootstrap::request_timeout(&config),
        meters,
        watch: WatchShared::new(cores, config.watch_progress, config.request_bytes_max),
        health: health(&config),
        activity: Arc::new(Activity::default()),
        cluster: cluster_rules(&config),
        tokens: Tokens::new(tokens),
        auth: auth::rules(&config.auth),
        spans: exporter.map(Exporter::queue),
    });
    let (files, page_file) = booted.disk.take().expect("just booted");
    let driver = Driver::new(replica, files, page_file, Arc::clone(&shared));
    let own = Services::new(0, count, ids, Arc::clone(&shared), Rc::clone(&driver.wake));
    driver.connect(CoreLink::Here(Rc::clone(&own)));
    os::spawn_local(drive::expire_calls(Rc::clone(&own), config.heartbeat));
    if !booted.is_new && is_open(&config, "InitialCorruptCheck") {
        check_data(&config, &booted, &own).await?;
    }
    let peers = links::start(&config, &booted, &driver, &own, peer_doors, secrets);
    driver.start(effects);
    let hasten = {
        let (config, driver, own) = (Arc::clone(&config), Rc::clone(&driver), Rc::clone(&own));
        async move { links::hasten_election(&config, &driver, &own, booted.is_alone).await }
    };
    os::spawn_local(hasten);
    watch_over_cluster(&config, &own);
    let served = async {
        publish::publish(&config, &own).await;
        serve_clients(&config, &layout, &driver, &shared, &own, &mut doors, ids)
    };
    let clients = futures_lite::future::or(async { Ok(Some(served.await?)) }, async {
        driver.end().await;
        Ok::<_, ServeError>(None)
    });
    let clients = clients.await?;
    let end = driver.end().await;
    if let End::Signal(signal) = end {
        tracing::info!(signal = signal::name(signal), "received signal; shutting down");
    }
    os::stop::begin();
    let handing_over = async {
        if clients.is_some() && matches!(end, End::Signal(_)) {
            hand_over(&own).await;
        }
    };
    futures_lite::future::zip(handing_over, drain(&own, &clients)).await;
    driver.finish().await;
    peers.stop().await;
    send_last_spans(exporter).await;
    tracing::info!(name = config.name, data_dir = %config.data_dir.display(), "closed etcd server");
    // Held until here: the data directory and the sockets' files are ours to the last write.
    drop((booted, doors));
    match end {
        End::Signal(signal) => os::stop::by_signal(signal),
        End::Removed => os::stop::normal(),
    }
}

/// Compares this member's data with that of the others. With `--heal-from-peers` a majority that agrees on other data is believed.
async fn check_data(config: &Config, booted: &bootstrap::Booted, services: &Services) -> Result<(), ServeError> {
    let Err(contradiction) = drive::corruption::check_at_start(services).await else { return Ok(()) };
    match (contradiction.by_majority, config.heal_from_peers) {
        (false, _) => Err(ServeError::Inconsistent(contradiction)),
        (true, false) => Err(ServeError::Outvoted(contradiction)),
        (true, true) => {
            tracing::error!(error = %contradiction, "healing this member from the others");
            healing::set_aside_database(&booted.lock.database())?;
            Err(ServeError::SetAside)
        }
    }
}

/// What the leader does for the cluster; every member is ready for it.
fn watch_over_cluster(config: &Config, services: &Rc<Services>) {
    let services = || Rc::clone(services);
    os::spawn_local(drive::version_monitor::run(services()));
    os::spawn_local(drive::version_monitor::end_downgrades(services(), config.downgrade_check));
    os::spawn_local(drive::corruption::check_periodically(services(), config.corrupt_check));
    if is_open(config, "CompactHashCheck") {
        os::spawn_local(drive::corruption::check_compactions(services(), config.compact_hash_check));
    }
}

/// Ends what clients have open on this core, and waits for the others, which drain since the signal.
async fn drain(services: &Services, clients: &Option<Clients>) {
    let Some((server, threads)) = clients else { return };
    services.stop_streams();
    if let Some(server) = server {
        server.stop(Duration::from_millis(limits::SHUTDOWN_GRACE_MS)).await;
    }
    while threads.iter().any(|thread| !thread.is_finished()) {
        os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
    }
}

/// Lets the collector have what it did not get yet. The exporter bounds the time.
async fn send_last_spans(exporter: Option<&Exporter>) {
    let Some(exporter) = exporter else { return };
    exporter.close();
    while !exporter.has_ended() {
        os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
    }
}

/// Before a planned stop another member leads, so that clients of the others hardly notice.
async fn hand_over(services: &Services) {
    if let Err(error) = services.hand_over_leadership().await {
        tracing::warn!(%error, "leadership transfer failed");
    }
}

type Clients = (Option<Rc<fronts::FrontServer>>, fronts::Threads);

/// Everything that a member does once it is part of its cluster.
fn serve_clients(
    config: &Arc<Config>,
    layout: &Layout,
    driver: &Rc<Driver>,
    shared: &Arc<Shared>,
    own: &Rc<Services>,
    doors: &mut Doors,
    ids: u64,
) -> Result<Clients, ServeError> {
    if let Some(policy) = config.retention {
        os::spawn_local(drive::auto_compaction::run(Rc::clone(own), policy));
    }
    let mut of_fronts = std::mem::take(&mut doors.of_fronts);
    let server = layout.engine_serves.then(|| fronts::start_front(config, Rc::clone(own), of_fronts.remove(0)));
    let threads = fronts::start_other_fronts(config, layout, driver, shared, ids, of_fronts);
    let threads = threads.map_err(ServeError::Executor)?;
    doors.log();
    signal::remember();
    tracing::info!("ready to serve client requests");
    notify_supervisor();
    Ok((server, threads))
}

fn log_start(config: &Config) {
    tracing::info!(
        etcd_version = version::SERVER,
        ringd_version = env!("CARGO_PKG_VERSION"),
        name = config.name,
        data_dir = %config.data_dir.display(),
        quota_backend_bytes = config.quota_bytes,
        pre_vote = config.pre_vote,
        snapshot_catchup_entries = config.snapshot_catchup_entries,
        "starting an etcd server"
    );
}

/// etcd ends streams that need a leader after three election timeouts without one.
fn health(config: &Config) -> Health {
    Health::new(3 * config.election, is_open(config, "StopGRPCServiceOnDefrag"))
}

fn cluster_rules(config: &Config) -> ClusterRules {
    let fast_keep_alive = is_open(config, "FastLeaseKeepAlive");
    ClusterRules { strict_reconfiguration: config.strict_reconfiguration, fast_keep_alive }
}

fn is_open(config: &Config, gate: &str) -> bool {
    config.gates.get(gate).is_some_and(|(_, open)| *open)
}

fn replica_settings(config: &Config, identity: Identity, own_ids: OwnIds) -> replica::Settings {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    replica::Settings {
        identity,
        request_timeout_ms: ms(bootstrap::request_timeout(config)),
        tick_ms: ms(config.heartbeat),
        election_ms: ms(config.election),
        commit_interval_ms: ms(config.commit_interval),
        commit_changes_max: config.commit_changes_max,
        compaction_batch: config.compaction_batch,
        compaction_pause_ms: ms(config.compaction_pause),
        catchup_entries: config.snapshot_catchup_entries,
        slow_apply_ns: u64::try_from(config.warning_apply.as_nanos()).unwrap_or(u64::MAX),
        own_ids,
        read_mode: match config.read_mode {
            config::ReadMode::Index => ReadMode::Index,
            config::ReadMode::Lease => ReadMode::Lease,
            config::ReadMode::Log => ReadMode::Log,
        },
    }
}

fn stopwatch() -> Stopwatch {
    let started = clock::now();
    Stopwatch::new(Box::new(move || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)))
}

/// etcd's scheme: two bytes of the member, five of the time, one that counts. Unique across restarts.
fn first_proposal_id(member_id: u64) -> u64 {
    (member_id << 48) | ((clock::unix_ms() & 0xff_ffff_ffff) << 8)
}

/// Tells systemd (`Type=notify`) that the server is ready.
fn notify_supervisor() {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let sent = std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.send_to(b"READY=1", &path));
    match sent {
        Ok(_) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::warn!(%error, "failed to notify init daemon"),
    }
}
