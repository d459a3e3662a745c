//! The front of one core: what a call means, what it waits for, and what answers it.
//!
//! ```text
//!   call ─ admit ─ decode ─ check ─┬─ serializable read ─▶ view ─▶ answer, in the same turn
//!                                  ├─ linearizable read ─▶ round of this core ─ ReadConfirmed ─▶ view ─▶ answer
//!                                  └─ write ─▶ proposal ─ applied ─▶ answer
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `handler` | from a method's id to the function that serves it |
//! | `reads` | rounds: what waits until this member may answer a linearizable read |
//! | `proposals` | what waits until its entry is applied |
//! | `watch`, `watch_stream`, `watch_gate` | watchers of this core, their streams, and how changes reach them |
//! | `lock`, `election` | the services that stand on the store, and `store`, what they ask of it |
//! | `spans` | tracing spans of requests, inside those of their calls |
//! | `quota` | what is refused because the database is full |
//! | `auth` | users and roles |
//! | `credentials`, `identify` | who calls, and whether it may |
//! | `tokens`, `passwords`, `password_queue` | what clients show, and how it is checked |
//! | `condition` | whether clients should use this member |
//! | `health` | the gRPC health service |
//! | `hashes`, `versions` | what other members say of their data and programs |
//! | `peers` | what this member asks of others over HTTP |
//! | `standing` | what a member that has lost its data asks of the others |
//! | `lease_forward` | leases between members: what followers ask the leader |
//! | `kv`, `lease`, `members`, `maintenance`, `downgrade` | the services |
//! | `waiting` | the state of all of these between two calls |
//!
//! Every call that waits for consensus is answered within the request timeout. What comes after consensus may take longer: a
//! physical compaction, a Defragment, somebody else's lock.

mod auth;
mod condition;
mod credentials;
mod downgrade;
mod election;
mod handler;
pub mod hashes;
mod health;
mod identify;
mod kv;
mod lease;
pub mod lease_forward;
mod lock;
mod maintenance;
pub mod members;
pub mod methods;
mod password_queue;
mod passwords;
pub mod peers;
mod proposals;
pub mod quota;
mod reads;
pub mod request_log;
mod spans;
pub mod standing;
mod store;
pub mod tokens;
mod versions;
mod waiting;
mod watch;
mod watch_gate;
mod watch_stream;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message;

use self::waiting::{HealthWatches, LeaseQuestions, Maintenance, MemberRequests, Proposals, Quota, Reads, Watching};
pub use self::{
    condition::Health,
    handler::ServiceHandler,
    watch::{Subscription, SubscriptionEnd},
    watch_gate::{Admission, Gate, WatchShared},
};
use self::{credentials::Seen, password_queue::Passwords, tokens::Tokens};
/// What [`Services::settled`] tells.
pub use crate::replica::{Follower, Role, Standing};
use crate::{
    apply::View,
    base::refusal::Refusal,
    meters::{ClientVersions, CoreMeter, Meters},
    os::{self, notify::Notify, stop},
    peer::Activity,
    replica::{Answer, CoreId, Request},
    rpc::{Body, Call, Code, Reply, Responder, Status},
    service::kv::ReadStop,
    spans::Queue,
};

/// What all fronts of a member share.
pub struct Shared {
    /// The newest published state.
    pub view: ArcSwap<View>,
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    pub quota_bytes: i64,
    /// The bound on anything that waits for consensus.
    pub request_timeout: Duration,
    pub meters: Arc<Meters>,
    pub watch: WatchShared,
    pub health: Health,
    /// Which members are connected.
    pub activity: Arc<Activity>,
    pub cluster: ClusterRules,
    pub tokens: Tokens,
    pub auth: AuthRules,
    /// `None`: nothing is traced.
    pub spans: Option<Arc<Queue>>,
}

/// What the flags say of a cluster of several members.
#[derive(Clone, Copy, Debug)]
pub struct ClusterRules {
    /// `--strict-reconfig-check`
    pub strict_reconfiguration: bool,
    /// `FastLeaseKeepAlive`: a lease that is there is renewed at once.
    pub fast_keep_alive: bool,
}

/// What the flags say of users and their tokens.
#[derive(Clone, Copy, Debug)]
pub struct AuthRules {
    pub bcrypt_cost: u32,
    /// The common name of a client's certificate is a user.
    pub client_cert_auth: bool,
    /// A watch whose right was taken away is cancelled.
    pub recheck_watches: bool,
}

/// One core's front.
pub struct Services {
    id: CoreId,
    shared: Arc<Shared>,
    /// Raised when `take_requests` has something.
    pub outgoing: Rc<Notify>,
    requests: RefCell<Vec<Request>>,
    proposals: RefCell<Proposals>,
    next_id: Cell<u64>,
    id_step: u64,
    reads: RefCell<Reads>,
    leases: RefCell<LeaseQuestions>,
    clients: RefCell<ClientVersions>,
    watching: Watching,
    maintenance: Maintenance,
    members: MemberRequests,
    quota: Quota,
    health: HealthWatches,
    seen: Seen,
    /// Calls that wait for the entry of their token.
    seen_waiting: Cell<usize>,
    passwords: Passwords,
}

impl Services {
    /// The front of core `id` of `count`; `first_id` is where this start's proposal ids begin, `outgoing` who is to be woken.
    #[must_use]
    pub fn new(id: CoreId, count: u64, first_id: u64, shared: Arc<Shared>, outgoing: Rc<Notify>) -> Rc<Self> {
        Rc::new(Self {
            id,
            shared,
            outgoing,
            requests: RefCell::default(),
            proposals: RefCell::default(),
            next_id: Cell::new(first_id + u64::from(id)),
            id_step: count,
            reads: RefCell::default(),
            leases: RefCell::default(),
            clients: RefCell::default(),
            watching: Watching::new(id),
            maintenance: Maintenance::default(),
            members: MemberRequests::default(),
            quota: Quota::default(),
            health: HealthWatches::default(),
            seen: Seen::default(),
            seen_waiting: Cell::new(0),
            passwords: Passwords::default(),
        })
    }

    #[must_use]
    pub fn id(&self) -> CoreId {
        self.id
    }

    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Where this core counts.
    #[must_use]
    pub fn meter(&self) -> &CoreMeter {
        self.shared.meters.front(self.id)
    }

    /// What the engine is to be told. The round of reads that wait begins here, not before.
    pub fn take_requests(&self) -> Vec<Request> {
        let mut requests = std::mem::take(&mut *self.requests.borrow_mut());
        requests.extend(self.begin_round());
        requests.extend(self.take_questions());
        requests
    }

    /// The engine's answer to one of the requests.
    pub fn on_answer(self: &Rc<Self>, answer: Answer) {
        match answer {
            Answer::Proposal { id, outcome } => self.on_proposal(id, outcome),
            Answer::ReadConfirmed { context } => self.on_confirmed(context),
            Answer::ReadFailed { context, error } => self.on_read_failed(context, error),
            Answer::Changes(batch) => self.on_far_changes(&batch),
            Answer::ChangesLost => self.on_changes_lost(),
            Answer::Settled { id, outcome } => self.on_settled(id, outcome),
            Answer::ChoreDone { id } => self.on_chore_done(id),
            Answer::Leases { answers } => self.on_lease_answers(answers),
        }
    }

    /// Ends what has waited for longer than the request timeout, and looks at the health. Called at every tick.
    pub fn expire(self: &Rc<Self>, now: Instant) {
        self.expire_quota(now);
        self.expire_reads(now);
        self.observe_health(now);
        self.sweep_tokens(now);
        self.recheck_watches();
    }

    /// The server stops: ends the streams that have no end of their own.
    pub fn stop_streams(&self) {
        self.stop_watching();
        self.stop_keep_alives();
        self.stop_health_watches();
    }

    fn is_late(&self, now: Instant, since: Instant) -> bool {
        now.saturating_duration_since(since) >= self.shared.request_timeout
    }

    /// Queues something for the engine.
    fn tell_engine(&self, request: Request) {
        self.requests.borrow_mut().push(request);
        self.outgoing.notify();
    }

    /// Answers a unary call by a task of its own: it decodes the request, serves it and sends the reply. A request that cannot be
    /// decoded is answered at once.
    fn answer_later<M, S>(self: &Rc<Self>, message: Bytes, responder: Responder, serve: S) -> Option<Reply>
    where
        M: Message + Default + 'static,
        S: AsyncFnOnce(&Rc<Self>, M, &Responder) -> Reply + 'static,
    {
        let request = match decode::<M>(message) {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        let front = Rc::clone(self);
        os::spawn_local(async move {
            let reply = serve(&front, request, &responder).await;
            responder.send(reply);
        });
        None
    }

    /// The checks that every call passes before its own, in etcd's order. `kind` is `unary` or `stream`, `learner_serves` whether
    /// a learner serves it.
    fn admit(
        &self,
        call: &Call,
        kind: &'static str,
        view: &View,
        learner_serves: impl FnOnce() -> bool,
    ) -> Result<(), Refusal> {
        if view.membership.version.is_none() {
            return Err(Refusal::NotCapable);
        }
        if view.membership.local_is_learner() && !learner_serves() {
            return Err(Refusal::NotSupportedForLearner);
        }
        let version = call.client_api_version();
        if version.is_some_and(|version| std::str::from_utf8(version).is_err()) {
            return Err(Refusal::InvalidClientApiVersion);
        }
        self.clients.borrow_mut().count(&self.meter().sheet, kind, version);
        if call.has_leader() && view.raft.leader == 0 {
            return Err(Refusal::NoLeader);
        }
        Ok(())
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}

fn encoded(message: &impl Message) -> Reply {
    Ok(Body::Message(message.encode_to_vec().into()))
}

fn refuse(refusal: Refusal) -> Status {
    Status::new(refusal.code(), refusal.text())
}

/// A refusal goes to the client; damage stops the member.
fn ended(stop: ReadStop) -> Status {
    match stop {
        ReadStop::Refused(refusal) => refuse(refusal),
        ReadStop::Failed(text) => stop::fatal(&text),
    }
}
