//! The front of one core: what a call means, what it waits for, and what answers it.
//!
//! ```text
//!   call ─ admit ─ decode ─ check ─┬─ serializable read ─▶ view ─▶ answer, in the same turn
//!                                  ├─ linearizable read ─▶ round of this core ─ ReadConfirmed ─▶ view ─▶ answer
//!                                  └─ write ─▶ proposal ─ applied ─▶ answer
//! ```
//!
//! 1. A read joins a round only before the round is handed to the engine, so its read index is never older than the read.
//! 2. One round per core is in flight; what comes meanwhile shares the next one.
//! 3. Every call that waits is answered within the request timeout.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::{HashMap, HashMapExt};
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::{
    apply::{
        View, alarms,
        request::{self, Kind},
        txn,
    },
    base::{limits, refusal::Refusal},
    metrics::Name,
    os::{self, clock},
    proto::{
        etcdserverpb::{
            AlarmRequest, CompactionRequest, DeleteRangeRequest, MemberListRequest, PutRequest, RangeRequest,
            TxnRequest,
        },
        grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus},
    },
    rpc::{
        Body, Call, CallReport, Code, Description, Handler, Inbound, MethodId, Outbound, Producer, Reply, Responder,
        Status,
    },
    server::{
        engine::FrontId,
        mailbox::{Answer, Request},
        meters::{ClientVersions, FrontMeter, Meters},
        methods,
        notify::Notify,
        request_log::{self, Reading},
        stop,
    },
    service::{
        check,
        kv::{self, RangeAnswer, RangeJob, RangeStreamJob, ReadStop},
        status,
    },
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
}

/// One core's front.
pub struct Front {
    id: FrontId,
    shared: Arc<Shared>,
    /// Raised when `take_requests` has something.
    pub outgoing: Rc<Notify>,
    requests: RefCell<Vec<Request>>,
    writes: RefCell<HashMap<u64, Write>>,
    next_id: Cell<u64>,
    id_step: u64,
    reads: RefCell<Reads>,
    clients: RefCell<ClientVersions>,
}

struct Write {
    kind: Kind,
    responder: Responder,
    since: Instant,
}

/// Linearizable reads of this core.
#[derive(Default)]
struct Reads {
    /// The round in flight.
    context: Option<u64>,
    round: Vec<Read>,
    /// For the next round.
    waiting: Vec<Read>,
    rounds: u64,
}

struct Read {
    work: Work,
    since: Instant,
}

enum Work {
    Range {
        request: RangeRequest,
        responder: Responder,
    },
    Txn {
        request: TxnRequest,
        responder: Responder,
    },
    MemberList {
        responder: Responder,
    },
    /// A task of its own waits.
    Task(Rc<Ticket>),
}

/// Where a task finds the outcome of its round.
#[derive(Default)]
struct Ticket {
    outcome: Cell<Option<Result<(), Refusal>>>,
    done: Notify,
}

impl Front {
    /// The front of core `id` of `count`; `first_id` is where this start's proposal ids begin, `outgoing` who is to be woken.
    #[must_use]
    pub fn new(id: FrontId, count: u64, first_id: u64, shared: Arc<Shared>, outgoing: Rc<Notify>) -> Rc<Self> {
        Rc::new(Self {
            id,
            shared,
            outgoing,
            requests: RefCell::default(),
            writes: RefCell::new(HashMap::new()),
            next_id: Cell::new(first_id + u64::from(id)),
            id_step: count,
            reads: RefCell::default(),
            clients: RefCell::default(),
        })
    }

    #[must_use]
    pub fn id(&self) -> FrontId {
        self.id
    }

    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Where this core counts.
    #[must_use]
    pub fn meter(&self) -> &FrontMeter {
        self.shared.meters.front(self.id)
    }

    /// What the engine is to be told. The round of reads that wait begins here, not before.
    pub fn take_requests(&self) -> Vec<Request> {
        let mut requests = std::mem::take(&mut *self.requests.borrow_mut());
        let reads = &mut *self.reads.borrow_mut();
        if reads.context.is_none() && !reads.waiting.is_empty() {
            reads.rounds += 1;
            let context = (u64::from(self.id) << 48) | reads.rounds;
            reads.context = Some(context);
            reads.round = std::mem::take(&mut reads.waiting);
            requests.push(Request::ReadIndex { context });
        }
        requests
    }

    /// The engine's answer to one of the requests.
    pub fn on_answer(self: &Rc<Self>, answer: Answer) {
        match answer {
            Answer::Proposal { id, outcome } => {
                if let Some(write) = self.writes.borrow_mut().remove(&id) {
                    self.count_write(&write, clock::now(), outcome.as_ref().err().copied());
                    write.responder.send(outcome.map(Body::Message).map_err(refuse));
                }
            }
            Answer::ReadConfirmed { context } => {
                for read in self.end_round(context) {
                    self.run(read);
                }
            }
            Answer::ReadFailed { context, error: Refusal::LeaderChanged } => {
                self.meter().sheet.add(Name::ServerReadIndexesFailedTotal, 1);
                for read in self.end_round(context) {
                    read.work.fail(Refusal::LeaderChanged);
                }
            }
            // No leader yet: the same reads try again in the next round, until their time is up.
            Answer::ReadFailed { context, .. } => {
                self.meter().sheet.add(Name::ServerSlowReadIndexesTotal, 1);
                let round = self.end_round(context);
                self.reads.borrow_mut().waiting.extend(round);
            }
        }
    }

    fn end_round(&self, context: u64) -> Vec<Read> {
        let reads = &mut *self.reads.borrow_mut();
        if reads.context != Some(context) {
            return Vec::new();
        }
        reads.context = None;
        if !reads.waiting.is_empty() {
            self.outgoing.notify();
        }
        std::mem::take(&mut reads.round)
    }

    /// Ends what has waited for longer than the request timeout. Called at every tick.
    pub fn expire(&self, now: Instant) {
        let late = |since: Instant| now.saturating_duration_since(since) >= self.shared.request_timeout;
        let expired: Vec<u64> =
            self.writes.borrow().iter().filter(|(_, write)| late(write.since)).map(|(id, _)| *id).collect();
        for id in expired {
            if let Some(write) = self.writes.borrow_mut().remove(&id) {
                self.count_write(&write, now, Some(Refusal::Timeout));
                write.responder.send(Err(refuse(Refusal::Timeout)));
            }
        }
        let reads = &mut *self.reads.borrow_mut();
        for list in [&mut reads.round, &mut reads.waiting] {
            let (expired, kept): (Vec<Read>, Vec<Read>) =
                std::mem::take(list).into_iter().partition(|read| late(read.since));
            *list = kept;
            if !expired.is_empty() {
                self.meter().sheet.add(Name::ServerSlowReadIndexesTotal, 1);
                self.meter().sheet.add(Name::ServerReadIndexesFailedTotal, 1);
            }
            expired.into_iter().for_each(|read| read.work.fail(Refusal::Timeout));
        }
        if reads.context.is_none() && !reads.waiting.is_empty() {
            self.outgoing.notify();
        }
    }

    /// A proposal is over.
    fn count_write(&self, write: &Write, now: Instant, refusal: Option<Refusal>) {
        let meter = self.meter();
        meter.sheet.change(Name::ServerProposalsPending, -1);
        if matches!(refusal, Some(Refusal::NoLeader | Refusal::ProposalDropped | Refusal::Timeout)) {
            meter.sheet.add(Name::ServerProposalsFailedTotal, 1);
        }
        meter.answered(write.kind.into(), refusal.is_none(), now.saturating_duration_since(write.since));
    }

    /// The checks that every call passes before its own, in etcd's order. `kind` is `unary` or `stream`.
    fn admit(&self, call: &Call, kind: &'static str, view: &View) -> Result<(), Refusal> {
        if view.membership.version.is_none() {
            return Err(Refusal::NotCapable);
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

    fn range(self: &Rc<Self>, call: &Call, view: &View, message: Bytes, responder: Responder) -> Option<Reply> {
        let request = match decode::<RangeRequest>(message) {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        if let Err(refusal) = check::range(&request) {
            return Some(Err(refuse(refusal)));
        }
        if request.serializable {
            let reading = Reading { called: call.started, began: clock::now() };
            return match start_range(view, &request) {
                Started::Answered(reply) => {
                    reading.count_range(self, &request, &reply);
                    Some(reply)
                }
                Started::Measuring(job) => {
                    os::spawn_local(measure_on(Rc::clone(self), reading, request, job, responder));
                    None
                }
            };
        }
        self.join_round(Work::Range { request, responder }, call.started);
        None
    }

    fn put(&self, call: &Call, view: &View, message: Bytes, responder: Responder) -> Option<Reply> {
        let checked = decode::<PutRequest>(message.clone()).and_then(|request| {
            self.check_quota(view, alarms::put_cost(&request)).map_err(refuse)?;
            check::put(&request).map_err(refuse)
        });
        self.propose_if(checked, call, Kind::Put, &message, responder)
    }

    fn delete_range(&self, call: &Call, message: &Bytes, responder: Responder) -> Option<Reply> {
        let checked = decode::<DeleteRangeRequest>(message.clone())
            .and_then(|request| check::delete_range(&request).map_err(refuse));
        self.propose_if(checked, call, Kind::DeleteRange, message, responder)
    }

    fn txn(self: &Rc<Self>, call: &Call, view: &View, message: &Bytes, responder: Responder) -> Option<Reply> {
        let request = match decode::<TxnRequest>(message.clone()) {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        let checked = self
            .check_quota(view, alarms::txn_cost(&request))
            .and_then(|()| check::txn(&request, self.shared.txn_ops_max))
            .map_err(refuse);
        if checked.is_err() || !txn::is_read_only(&request) {
            return self.propose_if(checked, call, Kind::Txn, message, responder);
        }
        if txn::is_serializable(&request) {
            return Some(self.read_txn(view, &request, call.started));
        }
        self.join_round(Work::Txn { request, responder }, call.started);
        None
    }

    /// etcd's early check: a write that would pass the quota is refused before it is proposed.
    fn check_quota(&self, view: &View, cost: usize) -> Result<(), Refusal> {
        let quota = self.shared.quota_bytes;
        if cost == 0 || quota < 0 {
            return Ok(());
        }
        let size = view.kv.records().size_bytes().saturating_add(cost as u64);
        if size < quota.cast_unsigned() {
            return Ok(());
        }
        self.raise_no_space(view);
        Err(Refusal::NoSpace)
    }

    /// Tells the cluster that this member is full; nobody waits for the answer.
    fn raise_no_space(&self, view: &View) {
        if view.alarms.is_full() {
            return;
        }
        let alarm = AlarmRequest { action: 1, member_id: view.membership.local_id, alarm: 1 };
        let id = self.take_id();
        let data = request::wrap(id, Kind::Alarm, &alarm.encode_to_vec());
        self.requests.borrow_mut().push(Request::Propose { id, data });
        self.outgoing.notify();
    }

    fn propose_if(
        &self,
        checked: Result<(), Status>,
        call: &Call,
        kind: Kind,
        message: &Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        if let Err(status) = checked {
            return Some(Err(status));
        }
        let id = self.take_id();
        let data = request::wrap(id, kind, message);
        if data.len() > self.shared.request_bytes_max {
            return Some(Err(refuse(Refusal::RequestTooLarge)));
        }
        self.writes.borrow_mut().insert(id, Write { kind, responder, since: call.started });
        self.meter().sheet.change(Name::ServerProposalsPending, 1);
        self.requests.borrow_mut().push(Request::Propose { id, data });
        self.outgoing.notify();
        None
    }

    fn take_id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(self.id_step));
        id
    }

    fn join_round(&self, work: Work, since: Instant) {
        let reads = &mut *self.reads.borrow_mut();
        reads.waiting.push(Read { work, since });
        if reads.context.is_none() {
            self.outgoing.notify();
        }
    }

    fn run(self: &Rc<Self>, read: Read) {
        let view = self.shared.view.load();
        match read.work {
            Work::Range { request, responder } => {
                let reading = Reading { called: read.since, began: clock::now() };
                match start_range(&view, &request) {
                    Started::Answered(reply) => {
                        reading.count_range(self, &request, &reply);
                        responder.send(reply);
                    }
                    Started::Measuring(job) => {
                        os::spawn_local(measure_on(Rc::clone(self), reading, request, job, responder));
                    }
                }
            }
            Work::Txn { request, responder } => responder.send(self.read_txn(&view, &request, read.since)),
            Work::MemberList { responder } => responder.send(encoded(&status::member_list(&view))),
            Work::Task(ticket) => ticket.end(Ok(())),
        }
    }

    fn read_txn(&self, view: &View, request: &TxnRequest, called: Instant) -> Reply {
        let reading = Reading { called, began: clock::now() };
        let reply = kv::read_txn(view, request).map(Body::Message).map_err(ended);
        reading.count_txn(self, request, &reply);
        reply
    }

    fn member_list(&self, call: &Call, view: &View, message: Bytes, responder: Responder) -> Option<Reply> {
        match decode::<MemberListRequest>(message) {
            Ok(MemberListRequest { linearizable: true }) => {
                self.join_round(Work::MemberList { responder }, call.started);
                None
            }
            Ok(_) => Some(encoded(&status::member_list(view))),
            Err(status) => Some(Err(status)),
        }
    }

    /// Waits until this member may answer a linearizable read.
    ///
    /// # Errors
    /// No quorum confirmed it in time.
    pub async fn confirmed(&self, since: Instant) -> Result<(), Refusal> {
        let ticket = Rc::new(Ticket::default());
        self.join_round(Work::Task(Rc::clone(&ticket)), since);
        loop {
            if let Some(outcome) = ticket.outcome.take() {
                return outcome;
            }
            ticket.done.wait().await;
        }
    }

    async fn range_stream(&self, call: &Call, inbound: &mut Inbound, outbound: &mut Outbound) -> Result<(), Status> {
        let request = decode::<RangeRequest>(inbound.only().await?)?;
        check::range_stream(&request).map_err(refuse)?;
        if !request.serializable {
            self.confirmed(call.started).await.map_err(refuse)?;
        }
        let mut job = RangeStreamJob::new(request, self.shared.request_bytes_max);
        loop {
            let (message, last) = job.next(&self.shared.view.load()).map_err(ended)?;
            outbound.send(message).await?;
            if last {
                return Ok(());
            }
            os::yield_now().await;
        }
    }
}

impl Work {
    fn fail(self, refusal: Refusal) {
        match self {
            Self::Range { responder, .. } | Self::Txn { responder, .. } | Self::MemberList { responder } => {
                responder.send(Err(refuse(refusal)));
            }
            Self::Task(ticket) => ticket.end(Err(refusal)),
        }
    }
}

impl Ticket {
    fn end(&self, outcome: Result<(), Refusal>) {
        self.outcome.set(Some(outcome));
        self.done.notify();
    }
}

/// The handler that the gRPC server of one core calls.
pub struct FrontHandler(pub Rc<Front>);

impl Handler for FrontHandler {
    fn unary(&self, call: &Call, message: Bytes, responder: Responder) -> Option<Reply> {
        let front = &self.0;
        let view = front.shared.view.load();
        if let Err(refusal) = front.admit(call, "unary", &view) {
            return Some(Err(refuse(refusal)));
        }
        match call.method {
            methods::RANGE => front.range(call, &view, message, responder),
            methods::PUT => front.put(call, &view, message, responder),
            methods::DELETE_RANGE => front.delete_range(call, &message, responder),
            methods::TXN => front.txn(call, &view, &message, responder),
            methods::COMPACT => {
                let checked = decode::<CompactionRequest>(message.clone()).map(|_| ());
                front.propose_if(checked, call, Kind::Compaction, &message, responder)
            }
            methods::ALARM => {
                let checked = decode::<AlarmRequest>(message.clone()).map(|_| ());
                front.propose_if(checked, call, Kind::Alarm, &message, responder)
            }
            methods::STATUS => Some(encoded(&status::status(&view, front.shared.quota_bytes))),
            methods::MEMBER_LIST => front.member_list(call, &view, message, responder),
            methods::HEALTH_CHECK => Some(health(message)),
            _ => Some(Err(Status::new(Code::Unimplemented, "not a unary method"))),
        }
    }

    fn streaming(&self, call: Call, mut inbound: Inbound, mut outbound: Outbound) {
        let front = Rc::clone(&self.0);
        if let Err(refusal) = front.admit(&call, "stream", &front.shared.view.load()) {
            outbound.finish(Err(refuse(refusal)));
            return;
        }
        os::spawn_local(async move {
            let result = match call.method {
                methods::RANGE_STREAM => front.range_stream(&call, &mut inbound, &mut outbound).await,
                _ => Err(Status::new(Code::Unimplemented, "not a streaming method")),
            };
            outbound.finish(result);
        });
    }

    fn handled(&self, report: &CallReport<'_>) {
        self.0.meter().handled(report);
    }

    fn describe(&self, method: MethodId, request: &Bytes, reply: &Reply) -> Description {
        request_log::describe(method, request, reply)
    }
}

fn health(message: Bytes) -> Reply {
    let request = decode::<HealthCheckRequest>(message)?;
    if !request.service.is_empty() {
        return Err(Status::new(Code::NotFound, "unknown service"));
    }
    encoded(&HealthCheckResponse { status: ServingStatus::Serving as i32 })
}

enum Started {
    Answered(Reply),
    Measuring(Box<RangeJob>),
}

/// Answers a small range at once; what is left of a larger one goes to a task of its own.
fn start_range(view: &View, request: &RangeRequest) -> Started {
    let started = kv::range(view, request).and_then(|answer| match answer {
        RangeAnswer::Whole(bytes) => Ok(Started::Answered(Ok(Body::Message(bytes)))),
        RangeAnswer::Job(mut job) => Ok(match job.measure(limits::RANGE_KEYS_PER_SLICE)? {
            true => Started::Answered(body(job)),
            false => Started::Measuring(job),
        }),
    });
    started.unwrap_or_else(|stop| Started::Answered(Err(ended(stop))))
}

/// Goes on measuring between the turns of others.
async fn measure_on(
    front: Rc<Front>,
    reading: Reading,
    request: RangeRequest,
    mut job: Box<RangeJob>,
    responder: Responder,
) {
    let reply = loop {
        os::yield_now().await;
        if responder.is_canceled() {
            return;
        }
        match job.measure(limits::RANGE_KEYS_PER_SLICE) {
            Ok(true) => break body(job),
            Ok(false) => {}
            Err(stop) => break Err(ended(stop)),
        }
    };
    reading.count_range(&front, &request, &reply);
    responder.send(reply);
}

fn body(job: Box<RangeJob>) -> Reply {
    if job.length() <= limits::WHOLE_ANSWER_BYTES_MAX {
        return job.whole().map(Body::Message).map_err(ended);
    }
    Ok(Body::Large(Box::new(LargeRange(job))))
}

/// A range that is encoded while the client reads.
struct LargeRange(Box<RangeJob>);

impl Producer for LargeRange {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn fill(&mut self, out: &mut BytesMut, room: usize) {
        if let Err(ReadStop::Failed(text)) = self.0.fill(out, room) {
            stop::fatal(&text);
        }
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
