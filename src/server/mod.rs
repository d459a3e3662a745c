//! The shell: a configuration becomes a running member.
//!
//! ```text
//!   config ─▶ bootstrap (data directory, page file, log) ─▶ replica ─▶ driver: tasks on the replica's core
//!   cores  ─▶ fronts: one per core, connected to the engine by calls (same core) or channels
//!   ready  ─▶ attributes and cluster version through the log ─▶ listeners accept ─▶ signal ─▶ drain ─▶ last commit
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `datadir` | layout and lock of the data directory |
//! | `bootstrap` | from a data directory to a machine |
//! | `cores` | which core runs what |
//! | `listening` | which listener serves what |
//! | `log` | log lines |

pub mod bootstrap;
pub mod cores;
pub mod datadir;
mod listening;
pub mod log;

use std::{convert::Infallible, io, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prost::Message;

use crate::{
    apply::request::{self, Kind},
    base::{limits, version},
    config::Config,
    drive::{self, CoreLink, Driver, mailbox::MailboxToCore},
    frontend,
    meters::Meters,
    os::{
        self,
        channel::{ReceiverSeat, SenderSeat, channel},
        clock,
        executor::{self, Seat},
        notify::Notify,
        probe, signal,
    },
    peer::Activity,
    proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest},
    replica::{self, Answer, Identity, OwnIds, Replica, Request, SELF, Stopwatch},
    rpc::{Server, Settings},
    server::{
        bootstrap::boot,
        cores::Layout,
        listening::{Doors, OfFront},
    },
    services::{self, ClusterRules, Health, ServiceHandler, Services, Shared, WatchShared},
};

/// Why a server does not come up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Missing(#[from] probe::Missing),
    #[error(transparent)]
    Boot(#[from] bootstrap::BootError),
    #[error("{0}")]
    Bind(#[from] listening::BindError),
    #[error("{0}")]
    Layout(io::Error),
    #[error("cannot start an executor: {0}")]
    Executor(io::Error),
}

/// Serves until a signal, which then ends the process.
///
/// # Errors
/// The server cannot come up.
pub fn serve(config: Config) -> Result<Infallible, ServeError> {
    probe::io_uring()?;
    signal::install().map_err(ServeError::Executor)?;
    let layout = Layout::choose(&config.cores).map_err(ServeError::Layout)?;
    let doors = Doors::open(&config.listen, layout.front_count())?;
    let seat = Seat { name: "ringd-0".to_owned(), cpu: Some(layout.engine), spin: Duration::ZERO };
    executor::run(&seat, serve_on(Arc::new(config), layout, doors)).map_err(ServeError::Executor)?
}

/// Runs on the engine's core.
async fn serve_on(config: Arc<Config>, layout: Layout, mut doors: Doors) -> Result<Infallible, ServeError> {
    log_start(&config);
    services::quota::log_quota(config.quota_bytes);
    let meters =
        Meters::new(layout.front_count(), &services::methods::MEASURED, config.extensive_metrics, config.warning_apply);
    meters.show_gates(config.gates.iter().map(|(name, (stage, open))| (*name, *stage, *open)));
    let booted = boot(&config).await?;
    let (locks, identity, is_new) = (booted.locks, booted.identity, booted.is_new);
    let text = if is_new { "starting local member" } else { "restarting local member" };
    tracing::info!(
        local_member_id = format!("{:x}", identity.member_id),
        cluster_id = format!("{:x}", identity.cluster_id),
        "{text}"
    );
    let first_id = first_proposal_id(identity.member_id);
    let (ids, count) = (first_id + OWN_IDS, layout.proposers());
    let own_ids = OwnIds { next: ids + layout.front_count() as u64, step: count };
    let mut effects = Vec::new();
    let settings = replica_settings(&config, identity, own_ids);
    let replica = Replica::start(settings, booted.initial, stopwatch(), &mut effects);
    let shared = Arc::new(Shared {
        view: ArcSwap::new(replica.view()),
        request_bytes_max: config.request_bytes_max,
        txn_ops_max: config.txn_ops_max,
        quota_bytes: config.quota_bytes,
        request_timeout: bootstrap::request_timeout(&config),
        meters,
        watch: WatchShared::new(layout.front_count(), config.watch_progress, config.request_bytes_max),
        health: health(&config),
        activity: Arc::new(Activity::default()),
        cluster: cluster_rules(&config),
    });
    let driver = Driver::new(replica, booted.files, booted.pages, Arc::clone(&shared));
    driver.start(effects);
    driver.campaign();
    publish(&config, &driver, &shared, first_id).await;

    let own = layout.engine_serves.then(|| doors.of_fronts.remove(0));
    let mut own_front = None;
    if let Some(own) = own {
        let front = Services::new(0, count, ids, Arc::clone(&shared), Rc::clone(&driver.wake));
        driver.connect(CoreLink::Here(Rc::clone(&front)));
        own_front = Some((Rc::clone(&front), start_front(&config, front, own)));
    }
    let of_fronts = std::mem::take(&mut doors.of_fronts);
    let threads = start_other_fronts(&config, &layout, &driver, &shared, ids, of_fronts)?;
    doors.log();
    signal::remember();
    tracing::info!("ready to serve client requests");
    notify_supervisor();

    let signal = driver.stop_signal().await;
    tracing::info!(signal = signal::name(signal), "received signal; shutting down");
    if let Some((front, server)) = own_front {
        front.stop_streams();
        server.stop(Duration::from_millis(limits::SHUTDOWN_GRACE_MS)).await;
    }
    while threads.iter().any(|thread| !thread.is_finished()) {
        os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
    }
    driver.finish().await;
    tracing::info!(name = config.name, data_dir = %config.data_dir.display(), "closed etcd server");
    // Held until here: the data directory and the sockets' files are ours to the last write.
    drop((locks, doors));
    os::stop::by_signal(signal)
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
    }
}

fn stopwatch() -> Stopwatch {
    let started = clock::now();
    Stopwatch::new(Box::new(move || u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)))
}

/// Proposal ids that the member keeps for itself, before those of its fronts.
const OWN_IDS: u64 = 16;

/// etcd's scheme: two bytes of the member, five of the time, one that counts. Unique across restarts.
fn first_proposal_id(member_id: u64) -> u64 {
    (member_id << 48) | ((clock::unix_ms() & 0xff_ffff_ffff) << 8)
}

/// Waits for leadership and tells the cluster name, client URLs and version; only then clients are served.
async fn publish(config: &Config, driver: &Rc<Driver>, shared: &Shared, first_id: u64) {
    let poll = Duration::from_millis(limits::PUBLISH_POLL_MS);
    while shared.view.load().raft.leader == 0 {
        os::sleep(poll).await;
    }
    let local_id = shared.view.load().membership.local_id;
    let attributes = Attributes { name: config.name.clone(), client_urls: config.advertise_client_urls.clone() };
    let set = ClusterMemberAttrSetRequest { member_id: local_id, member_attributes: Some(attributes) };
    propose_own(driver, first_id, Kind::ClusterMemberAttrSet, &set);
    if shared.view.load().membership.version.is_none() {
        tracing::info!(cluster_version = version::CLUSTER, "setting up initial cluster version using v3 API");
        let set = ClusterVersionSetRequest { ver: version::CLUSTER.to_owned() };
        propose_own(driver, first_id + 1, Kind::ClusterVersionSet, &set);
    }
    let published = || {
        let view = shared.view.load();
        let member = view.membership.member(local_id);
        view.membership.version.is_some() && member.is_some_and(|m| m.client_urls == config.advertise_client_urls)
    };
    while !published() {
        os::sleep(poll).await;
    }
    tracing::info!(local_member_id = format!("{local_id:x}"), "published local member to cluster through raft");
}

fn propose_own(driver: &Rc<Driver>, id: u64, kind: Kind, message: &impl Message) {
    driver.submit(SELF, Request::Propose { id, data: request::wrap(id, kind, &message.encode_to_vec()) });
}

type FrontServer = frontend::Front<ServiceHandler>;

/// Serves `listeners` on this core.
fn start_front(config: &Config, front: Rc<Services>, doors: OfFront) -> Rc<FrontServer> {
    let settings = Settings {
        receive_bytes_max: config.request_bytes_max + limits::REQUEST_OVERHEAD_BYTES,
        concurrent_streams_max: config.streams_max,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        keepalive_min_time: config.keepalive_min_time,
        slow_request: config.warning_unary,
    };
    os::spawn_local(drive::expire_calls(Rc::clone(&front), config.heartbeat));
    if front.id() == 0 {
        watch_over_cluster(config, &front);
    }
    if let (0, Some(policy)) = (front.id(), config.retention) {
        os::spawn_local(drive::auto_compaction::run(Rc::clone(&front), policy));
    }
    let server = Server::new(services::methods::METHODS, ServiceHandler(Rc::clone(&front)), settings);
    front.meter().connect(server.counters());
    let served = frontend::Front::new(server);
    doors.serve(&served, &front);
    served
}

/// What the leader does for the cluster; every member is ready for it.
fn watch_over_cluster(config: &Config, front: &Rc<Services>) {
    let front = || Rc::clone(front);
    os::spawn_local(drive::version_monitor::run(front()));
    os::spawn_local(drive::version_monitor::end_downgrades(front(), config.downgrade_check));
    os::spawn_local(drive::corruption::check_periodically(front(), config.corrupt_check));
    if is_open(config, "CompactHashCheck") {
        os::spawn_local(drive::corruption::check_compactions(front(), config.compact_hash_check));
    }
}

type Threads = Vec<std::thread::JoinHandle<io::Result<()>>>;

fn start_other_fronts(
    config: &Arc<Config>,
    layout: &Layout,
    driver: &Rc<Driver>,
    shared: &Arc<Shared>,
    ids: u64,
    doors: Vec<OfFront>,
) -> Result<Threads, ServeError> {
    let count = layout.front_count();
    let first = count - layout.fronts.len();
    let mut threads = Vec::new();
    for ((number, cpu), doors) in (first..).zip(&layout.fronts).zip(doors) {
        let (to_engine, from_front) = channel(limits::MAILBOX_MESSAGES_MAX);
        let (to_front, from_engine) = channel(limits::MAILBOX_MESSAGES_MAX);
        let id = u16::try_from(number).expect("cores are counted in u16");
        let mailbox = MailboxToCore::default();
        os::spawn_local(mailbox.clone().carry(to_front));
        os::spawn_local(receive_requests(Rc::clone(driver), id, from_front));
        driver.connect(CoreLink::Away(mailbox));
        let seat = Seat { name: format!("ringd-{number}"), cpu: Some(*cpu), spin: Duration::ZERO };
        let (config, shared) = (Arc::clone(config), Arc::clone(shared));
        let far = FarFront { id, count: layout.proposers(), ids, to_engine, from_engine, doors };
        let thread = executor::spawn(seat, move || far.run(config, shared)).map_err(ServeError::Executor)?;
        threads.push(thread);
    }
    Ok(threads)
}

async fn receive_requests(driver: Rc<Driver>, front: u16, seat: ReceiverSeat<Request>) {
    let receiver = seat.connect().await;
    while let Some(request) = receiver.receive().await {
        driver.submit(front, request);
    }
}

/// A front on a core of its own, before it runs.
struct FarFront {
    id: u16,
    count: u64,
    ids: u64,
    to_engine: SenderSeat<Request>,
    from_engine: ReceiverSeat<Answer>,
    doors: OfFront,
}

impl FarFront {
    async fn run(self, config: Arc<Config>, shared: Arc<Shared>) {
        let outgoing = Rc::new(Notify::default());
        let front = Services::new(self.id, self.count, self.ids, shared, Rc::clone(&outgoing));
        os::spawn_local(send_requests(Rc::clone(&front), outgoing, self.to_engine));
        os::spawn_local(receive_answers(Rc::clone(&front), self.from_engine));
        let served = start_front(&config, Rc::clone(&front), self.doors);
        while signal::received().is_none() {
            os::sleep(Duration::from_millis(limits::SIGNAL_POLL_MS)).await;
        }
        front.stop_streams();
        served.stop(Duration::from_millis(limits::SHUTDOWN_GRACE_MS)).await;
    }
}

async fn send_requests(front: Rc<Services>, outgoing: Rc<Notify>, seat: SenderSeat<Request>) {
    let sender = seat.connect().await;
    loop {
        outgoing.wait().await;
        for request in front.take_requests() {
            if !sender.send(request).await {
                return;
            }
        }
    }
}

async fn receive_answers(front: Rc<Services>, seat: ReceiverSeat<Answer>) {
    let receiver = seat.connect().await;
    while let Some(answer) = receiver.receive().await {
        front.on_answer(answer);
    }
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
