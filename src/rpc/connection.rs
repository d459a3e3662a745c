//! One HTTP/2 connection: its turns.
//!
//! | phase | in a turn | leaves when |
//! |---|---|---|
//! | handshake | h2 reads the preface, sends settings | done, or FIRST_BYTES_MS_MAX passed |
//! | open | accept, handle, answer | client or h2 closes, drained, keepalive failed |
//! | lingering | send the rest, discard input | the client closes, or LINGER_MS_MAX passed |

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason, RecvStream,
    server::{Builder, Handshake, SendResponse},
};
use http::StatusCode;
use slab::Slab;

use super::{
    answer::{self, Body, Reply, Sending},
    call::{Call, CallReport, Caller, Traffic},
    deadlines::{Deadlines, Expiring},
    drain::{Membership, Stage},
    frame::Payload,
    handler::Handler,
    head::{Abort, Form, Head, Rejected},
    inbox::{CallKey, Inbox, KeptCall, unanswered},
    method::MethodKind,
    packing,
    page::{Exchange, Pages},
    pings::{PingPolicy, too_many_pings},
    ready::ReadySet,
    receiving::{Received, Receiving},
    server::{Server, Settings},
    spans::ServerAddress,
    status::{Code, Status},
    streams::{Inbound, Outbound, StreamState},
    turn_io::{H2Io, TurnIo},
};
use crate::{
    base::limits::{
        ASSEMBLY_BYTES_PER_CONNECTION_MAX, CALLS_PER_CONNECTION_MAX, CONNECTION_WINDOW_BYTES,
        DECOMPRESSED_BYTES_PER_TURN_MAX, FIRST_BYTES_MS_MAX, LINGER_MS_MAX, RESET_STREAMS_BY_FAULT_MAX,
        RESET_STREAMS_PENDING_MAX, SMALL_FRAMES_BUDGET_BYTES, STREAM_SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
        TURN_OUTPUT_BYTES, TURN_REQUESTS_MAX,
    },
    os::{self, Alarm, net::Peer, tls::Stream},
};

/// The cost of compressing a byte, in bytes that are unpacked.
const PACKING_COST: usize = 4;
/// Batches in one turn, before the core's other tasks run.
const BATCHES_PER_TURN: usize = 4;

struct Opened {
    head: Rc<Head>,
    respond: SendResponse<Payload>,
    stream: RecvStream,
}

/// A connection's task. Ends when the connection does.
pub struct Connection<H> {
    server: Rc<Server<H>>,
    peer: Peer,
    /// Of the client's verified certificate.
    common_name: Option<Rc<str>>,
    /// This end, if calls are traced.
    address: Option<ServerAddress>,
    /// For requests that are not gRPC's, which are refused without.
    pages: Option<Rc<dyn Pages>>,
    /// Bytes of the bodies of those requests.
    held_by_pages: Rc<Cell<usize>>,
    membership: Membership,
    io: Rc<RefCell<TurnIo>>,
    phase: Phase,
    now: Instant,
    opened: Instant,

    inbox: Rc<Inbox>,
    /// Calls that need more than one turn of HTTP/2: half messages and large answers.
    slow: Slab<SlowCall>,
    slow_serial: u64,
    ready: Arc<ReadySet>,
    deadlines: Deadlines,
    /// Bytes of half messages in `slow`, and of messages that are compressed there.
    assembling: usize,
    /// Bytes that this turn's messages were unpacked to, and the cost of packing others.
    decompressed: usize,

    alarm: Alarm,
    keepalive: Keepalive,
    pings: PingPolicy,

    /// Requests in the order they came; a turn that has unpacked enough leaves the rest to the next.
    accepted: VecDeque<Opened>,
    // Buffers, emptied in every turn.
    replies: Vec<(CallKey, Reply)>,
    woken: Vec<usize>,
}

enum Phase {
    Handshake(Box<Handshake<H2Io, Payload>>),
    Open(Box<h2::server::Connection<H2Io, Payload>>),
    Lingering { until: Instant },
}

struct SlowCall {
    waker: Waker,
    /// `None` only while it is processed.
    stage: Option<SlowStage>,
}

enum SlowStage {
    Receiving(Box<Receiving>),
    /// With what it holds of `assembling`.
    Sending(Box<Sending>, usize),
}

/// The server's own pings.
struct Keepalive {
    handle: Option<PingPong>,
    last_input: Instant,
    sent: Option<Instant>,
}

/// What follows a turn of an open connection.
enum Turn {
    Wait,
    /// Another turn, after other tasks have run.
    Again,
    Close,
}

impl<H: Handler> Connection<H> {
    /// Serves gRPC, and maybe pages, on `stream`, from which `first` was read already. Poll it on the core of `server`.
    pub fn new(
        server: Rc<Server<H>>,
        pages: Option<Rc<dyn Pages>>,
        stream: Stream,
        first: Bytes,
        membership: Membership,
    ) -> Connection<H> {
        let now = Instant::now();
        let (peer, common_name) = (stream.peer(), stream.common_name());
        let is_traced = server.interceptors.tracer.is_some();
        let address = is_traced.then(|| stream.local_address()).and_then(Result::ok).map(ServerAddress::from);
        let io = Rc::new(RefCell::new(TurnIo::new(stream, first, server.buffers.clone())));
        let handshake = builder(&server.settings).handshake(H2Io(io.clone()));
        Connection {
            peer,
            common_name,
            address,
            pages,
            held_by_pages: Rc::default(),
            membership,
            io,
            phase: Phase::Handshake(Box::new(handshake)),
            now,
            opened: now,
            inbox: Inbox::new(),
            slow: Slab::new(),
            slow_serial: 0,
            ready: Arc::default(),
            deadlines: Deadlines::default(),
            assembling: 0,
            decompressed: 0,
            alarm: Alarm::default(),
            keepalive: Keepalive { handle: None, last_input: now, sent: None },
            pings: PingPolicy::new(server.settings.keepalive_min_time),
            accepted: VecDeque::new(),
            replies: Vec::new(),
            woken: Vec::new(),
            server,
        }
    }

    fn poll_connection(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.now = Instant::now();
        if let Phase::Lingering { until } = self.phase {
            return self.poll_linger(context, until);
        }
        self.inbox.wake_up(context.waker());
        self.ready.wake_up();
        let begun = self.io.borrow_mut().begin(context);
        let Ok(received) = begun else { return self.gone() };
        if received > 0 {
            self.keepalive.last_input = self.now;
            self.keepalive.sent = None;
        }
        let turn = self.turn(context);
        let Ok(more_input) = self.io.borrow_mut().end(context) else { return self.gone() };
        match turn {
            Turn::Close => {
                self.drop_calls();
                let until = self.now + Duration::from_millis(LINGER_MS_MAX);
                self.phase = Phase::Lingering { until };
                self.poll_linger(context, until)
            }
            Turn::Wait if !more_input => {
                self.rest(context);
                Poll::Pending
            }
            Turn::Wait | Turn::Again => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Registers the task with the socket, replies, streams, timer and drain, one of which wakes it.
    fn rest(&mut self, context: &mut Context<'_>) {
        self.inbox.rest();
        if !self.ready.rest(context.waker()) {
            context.waker().wake_by_ref();
        }
        let due = self.next_due();
        self.alarm.arm(context, self.now, due);
    }

    fn next_due(&self) -> Instant {
        let settings = &self.server.settings;
        let own = match (&self.phase, self.keepalive.sent) {
            (Phase::Handshake(_), _) => self.opened + Duration::from_millis(FIRST_BYTES_MS_MAX),
            (_, Some(sent)) => sent + settings.keepalive_timeout,
            (_, None) => self.keepalive.last_input + settings.keepalive_interval,
        };
        self.deadlines.next().map_or(own, |deadline| deadline.min(own))
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Turn {
        let stage = self.membership.watch(context.waker());
        if let Phase::Handshake(handshake) = &mut self.phase {
            match Pin::new(&mut **handshake).poll(context) {
                Poll::Ready(Ok(connection)) => self.phase = Phase::Open(Box::new(connection)),
                Poll::Ready(Err(_)) => return Turn::Close,
                Poll::Pending => {
                    let late = self.now >= self.opened + Duration::from_millis(FIRST_BYTES_MS_MAX);
                    return if late || stage > Stage::Open { Turn::Close } else { Turn::Wait };
                }
            }
        }
        let Phase::Open(connection) = &mut self.phase else { return Turn::Close };
        match stage {
            Stage::Open => {}
            Stage::Draining => connection.graceful_shutdown(),
            Stage::Aborting => return Turn::Close,
        }
        if !self.keep_alive() {
            return Turn::Close;
        }
        self.expire();
        let turn = self.batches(context);
        if self.pings_too_often() || self.is_broken(context) { Turn::Close } else { turn }
    }

    /// Takes requests, handles them, answers; the last poll of h2 finds nothing new and writes everything.
    fn batches(&mut self, context: &mut Context<'_>) -> Turn {
        self.decompressed = 0;
        for _ in 0..BATCHES_PER_TURN {
            if !self.accept(context) {
                return Turn::Close;
            }
            self.inbox.drain(&mut self.replies);
            self.ready.drain(&mut self.woken);
            if self.accepted.is_empty() && self.replies.is_empty() && self.woken.is_empty() {
                return Turn::Wait;
            }
            while !self.has_unpacked_enough()
                && let Some(accepted) = self.accepted.pop_front()
            {
                self.on_request(accepted);
            }
            self.on_replies();
            self.on_woken();
            if self.has_unpacked_enough() {
                break;
            }
        }
        // This poll writes the answers of the last batch. New requests wait in h2 or in `accepted`.
        if self.accept(context) { Turn::Again } else { Turn::Close }
    }

    fn has_unpacked_enough(&self) -> bool {
        self.decompressed >= DECOMPRESSED_BYTES_PER_TURN_MAX
    }

    /// Collects up to a batch of requests. `false` when the connection has ended.
    fn accept(&mut self, context: &mut Context<'_>) -> bool {
        let Phase::Open(connection) = &mut self.phase else { return false };
        while self.accepted.len() < TURN_REQUESTS_MAX {
            match connection.poll_accept(context) {
                Poll::Pending => {
                    self.io.borrow_mut().intake.on_all_accepted();
                    return true;
                }
                Poll::Ready(Some(Ok((request, mut respond)))) => {
                    // The request with the head that `intake` took out of it.
                    let stream = request.into_body();
                    let head = self.io.borrow_mut().intake.head(stream.stream_id().as_u32());
                    match head {
                        Some(head) => self.accepted.push_back(Opened { head, respond, stream }),
                        None => respond.send_reset(Reason::INTERNAL_ERROR),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(remote = %self.peer, %error, "connection failed");
                    return false;
                }
                Poll::Ready(None) => return false,
            }
        }
        true
    }

    fn on_request(&mut self, Opened { head, mut respond, stream }: Opened) {
        let accepted = match &head.outcome {
            Ok(accepted) => accepted,
            Err(Rejected::Reset(reason)) => return respond.send_reset(*reason),
            Err(Rejected::Foreign(_)) if self.pages.is_some() => {
                return self.show_page(Opened { head, respond, stream });
            }
            Err(Rejected::Abort(abort) | Rejected::Foreign(abort)) => {
                let Abort { http, content_type, status } = abort;
                return answer::send_status(&mut respond, *http, content_type, status);
            }
        };
        let refuse = |mut respond, status: &Status| {
            answer::send_status(&mut respond, StatusCode::OK, &accepted.form.content_type, status);
        };
        if accepted.timeout == Some(Duration::ZERO) {
            return refuse(respond, &Status::deadline_exceeded());
        }
        let method = match self.server.table.find(&accepted.path) {
            Ok(method) => method,
            Err(status) => return refuse(respond, &status),
        };
        if let Err(status) = &accepted.encoding {
            return refuse(respond, status);
        }
        if self.inbox.calls.borrow().len() + self.slow.len() >= CALLS_PER_CONNECTION_MAX {
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        let form = accepted.form.clone();
        let caller = Caller { peer: self.peer, common_name: self.common_name.clone() };
        let call = Call::new(method, caller, self.now, accepted.timeout, head);
        let call = self.server.interceptors.trace(call, self.server.table.path(method), self.address.as_ref());
        match self.server.table.method(method).kind {
            MethodKind::Unary => self.receive(Receiving::new(call, form, respond, stream)),
            MethodKind::ServerStream | MethodKind::BidiStream => self.start_stream(call, form, respond, stream),
        }
    }

    fn show_page(&self, Opened { head, respond, stream }: Opened) {
        if let Some(pages) = &self.pages {
            os::spawn_local(pages.serve(Exchange::new(head, respond, stream, &self.held_by_pages)));
        }
    }

    /// Receives a message, which usually has arrived as a whole.
    fn receive(&mut self, mut receiving: Receiving) {
        let limit = self.server.settings.receive_bytes_max;
        let received = receiving.proceed(&mut Context::from_waker(Waker::noop()), limit);
        if matches!(received, Received::Waiting) {
            self.wait_for_message(receiving);
        } else {
            self.on_received(receiving, received);
        }
    }

    /// Keeps a call whose message is not complete.
    fn wait_for_message(&mut self, mut receiving: Receiving) {
        self.slow_serial += 1;
        receiving.serial = self.slow_serial;
        let number = self.slow.vacant_key();
        if let Some(due) = receiving.call.deadline {
            let what = Expiring::Half { number, serial: receiving.serial };
            self.add_deadline(due, what);
        }
        self.assembling += receiving.held();
        self.slow_insert(SlowStage::Receiving(Box::new(receiving)));
    }

    /// Stores a slow call. The next batch polls it, which registers its waker.
    fn slow_insert(&mut self, stage: SlowStage) {
        let number = self.slow.vacant_key();
        let waker = self.ready.waker(number);
        waker.wake_by_ref();
        self.slow.insert(SlowCall { waker, stage: Some(stage) });
    }

    fn on_woken(&mut self) {
        let mut woken = mem::take(&mut self.woken);
        for number in woken.drain(..) {
            let enough = self.has_unpacked_enough();
            let Some(slow) = self.slow.get_mut(number) else { continue };
            if enough {
                slow.waker.wake_by_ref();
                continue;
            }
            let (Some(stage), waker) = (slow.stage.take(), slow.waker.clone()) else { continue };
            let stage = match stage {
                SlowStage::Sending(mut sending, held) => {
                    if sending.is_packing() {
                        self.decompressed += packing::SLICE_BYTES * PACKING_COST;
                    }
                    if sending.proceed(&waker) {
                        self.assembling -= held;
                        None
                    } else {
                        Some(SlowStage::Sending(sending, held))
                    }
                }
                SlowStage::Receiving(receiving) => self.receive_more(receiving, &waker),
            };
            match (stage, self.slow.get_mut(number)) {
                (Some(stage), Some(slow)) => slow.stage = Some(stage),
                _ => drop(self.slow.try_remove(number)),
            }
        }
        self.woken = woken;
    }

    fn receive_more(&mut self, mut receiving: Box<Receiving>, waker: &Waker) -> Option<SlowStage> {
        let before = receiving.held();
        let limit = self.server.settings.receive_bytes_max;
        let mut received = receiving.proceed(&mut Context::from_waker(waker), limit);
        self.assembling -= before;
        if matches!(received, Received::Waiting) {
            self.assembling += receiving.held();
            if self.assembling <= ASSEMBLY_BYTES_PER_CONNECTION_MAX {
                return Some(SlowStage::Receiving(receiving));
            }
            self.assembling -= receiving.held();
            let text = "too many half-sent requests on this connection";
            received = Received::Refused(Status::new(Code::ResourceExhausted, text));
        }
        self.on_received(*receiving, received);
        None
    }

    fn on_received(&mut self, mut receiving: Receiving, received: Received) {
        self.decompressed += receiving.decompressed();
        match received {
            Received::Message(message) => {
                self.handle_unary(receiving.call, receiving.form, receiving.respond, message);
            }
            Received::Refused(status) => {
                self.server.interceptors.refused(&receiving.call, &status);
                answer::send_status(&mut receiving.respond, StatusCode::OK, &receiving.form.content_type, &status);
            }
            Received::Gone | Received::Waiting => {}
        }
    }

    fn handle_unary(&mut self, call: Call, form: Form, respond: SendResponse<Payload>, message: Bytes) {
        self.server.interceptors.started(call.method);
        let request = message.clone();
        let (key, responder) = self.inbox.begin();
        let reply = self.server.handler.unary(&call, message, responder);
        let kept = self.inbox.end();
        let kept_call = KeptCall { serial: key.serial, call, request, form, respond, abandoned: None };
        match reply {
            Some(reply) => self.answer(kept_call, reply),
            None if !kept => self.answer(kept_call, Err(unanswered())),
            None => {
                if let Some(due) = kept_call.call.deadline {
                    self.add_deadline(due, Expiring::Unary(key));
                }
                self.inbox.keep(key, kept_call);
            }
        }
    }

    fn on_replies(&mut self) {
        let mut replies = mem::take(&mut self.replies);
        for (key, reply) in replies.drain(..) {
            if let Some(kept) = self.inbox.take(key) {
                self.answer(kept, reply);
            }
        }
        self.replies = replies;
    }

    fn answer(&mut self, kept: KeptCall, reply: Reply) {
        let KeptCall { call, request, form, mut respond, .. } = kept;
        let (code, sent) = match &reply {
            Ok(body) => (Code::Ok, Traffic::one(body.length())),
            Err(status) => (status.code, Traffic::default()),
        };
        let report = self.report(&call, code, Traffic::one(request.len() as u64), sent);
        self.server.interceptors.finished_unary(&self.server.handler, &report, &request, &reply);
        let length = reply.as_ref().map_or(0, Body::length);
        let mut packing = 0;
        if packing::packs(form.encoding, length) {
            packing = length as usize;
        }
        let room_to_pack = self.assembling + packing <= ASSEMBLY_BYTES_PER_CONNECTION_MAX;
        match answer::send(&mut respond, &form, room_to_pack, reply) {
            Ok(Some(sending)) => {
                let held = if sending.is_packing() { packing } else { 0 };
                self.assembling += held;
                self.slow_insert(SlowStage::Sending(Box::new(sending), held));
            }
            Ok(None) => self.decompressed += packing.min(packing::SLICE_BYTES) * PACKING_COST,
            // The client has reset the stream.
            Err(_) => {}
        }
    }

    fn report<'a>(&'a self, call: &'a Call, code: Code, received: Traffic, sent: Traffic) -> CallReport<'a> {
        CallReport {
            method: call.method,
            path: self.server.table.path(call.method),
            peer: self.peer,
            code,
            started: call.started,
            finished: Instant::now(),
            received,
            sent,
            span: call.span.as_deref(),
        }
    }

    fn start_stream(&mut self, call: Call, form: Form, respond: SendResponse<Payload>, stream: RecvStream) {
        let state = Rc::new(StreamState::new());
        if let Some(due) = call.deadline {
            self.add_deadline(due, Expiring::Stream(Rc::downgrade(&state)));
        }
        self.server.interceptors.started(call.method);
        let (server, method, peer, started) = (self.server.clone(), call.method, self.peer, self.now);
        let span = call.span.clone();
        let on_end = move |status: &Status, received, sent| {
            let path = server.table.path(method);
            let (code, finished, span) = (status.code, Instant::now(), span.as_deref());
            let report = CallReport { method, path, peer, code, started, finished, received, sent, span };
            server.interceptors.finished_stream(&server.handler, &report, status);
        };
        let inbound = Inbound::new(stream, form.encoding, self.server.settings.receive_bytes_max, state.clone());
        let outbound = Outbound::new(respond, form, state, Box::new(on_end));
        self.server.handler.streaming(call, inbound, outbound);
    }

    fn add_deadline(&mut self, due: Instant, what: Expiring) {
        let (inbox, slow) = (&self.inbox, &self.slow);
        self.deadlines.add(due, what, |what| match what {
            Expiring::Unary(key) => inbox.calls.borrow().get(key.slot).is_some_and(|call| call.serial == key.serial),
            Expiring::Stream(state) => state.strong_count() > 0,
            Expiring::Half { number, serial } => is_half(slow, *number, *serial),
        });
    }

    /// Ends the calls whose deadline has passed.
    fn expire(&mut self) {
        while let Some(what) = self.deadlines.pop(self.now) {
            match what {
                Expiring::Unary(key) => {
                    if let Some(kept) = self.inbox.take(key) {
                        self.answer(kept, Err(Status::deadline_exceeded()));
                    }
                }
                Expiring::Stream(state) => {
                    if let Some(state) = state.upgrade() {
                        state.expire();
                    }
                }
                Expiring::Half { number, serial } if is_half(&self.slow, number, serial) => {
                    if let Some(SlowStage::Receiving(receiving)) = self.slow.remove(number).stage {
                        self.assembling -= receiving.held();
                        self.on_received(*receiving, Received::Refused(Status::deadline_exceeded()));
                    }
                }
                Expiring::Half { .. } => {}
            }
        }
    }

    /// Pings a silent client. `false` if it did not answer.
    fn keep_alive(&mut self) -> bool {
        let settings = &self.server.settings;
        let keepalive = &mut self.keepalive;
        if let Some(sent) = keepalive.sent {
            return self.now < sent + settings.keepalive_timeout;
        }
        if self.now < keepalive.last_input + settings.keepalive_interval {
            return true;
        }
        let Phase::Open(connection) = &mut self.phase else { return false };
        if keepalive.handle.is_none() {
            keepalive.handle = connection.ping_pong();
        }
        if let Some(handle) = &mut keepalive.handle {
            // The pong of the ping before, if there was one, is taken first.
            let _ = handle.poll_pong(&mut Context::from_waker(Waker::noop()));
            let _ = handle.send_ping(Ping::opaque());
        }
        keepalive.sent = Some(self.now);
        true
    }

    /// Counts the client's pings of this turn; at the third strike writes grpc-go's GOAWAY.
    fn pings_too_often(&mut self) -> bool {
        let pings = self.io.borrow_mut().intake.take_pings();
        let Phase::Open(connection) = &self.phase else { return false };
        if pings > 0 && self.io.borrow_mut().output_walker.take_on_stream() {
            self.pings.forgive();
        }
        for _ in 0..pings {
            if self.pings.on_ping(self.now, connection.has_streams()) {
                let mut io = self.io.borrow_mut();
                // With so few bytes waiting, h2 was not stopped in the middle of a frame.
                if io.waiting() < TURN_OUTPUT_BYTES / 2 {
                    let frame = too_many_pings(io.intake.last_stream);
                    io.write(&frame);
                }
                tracing::debug!(remote = %self.peer, "got too many pings from the client");
                return true;
            }
        }
        false
    }

    /// Sends a GOAWAY to a client whose frames can no longer be decoded.
    fn is_broken(&mut self, context: &mut Context<'_>) -> bool {
        let Some(reason) = self.io.borrow().intake.broken() else { return false };
        tracing::debug!(remote = %self.peer, %reason, "connection failed");
        if let Phase::Open(connection) = &mut self.phase {
            connection.abrupt_shutdown(reason);
            let _ = connection.poll_accept(context);
        }
        true
    }

    fn poll_linger(&mut self, context: &mut Context<'_>, until: Instant) -> Poll<()> {
        if self.now >= until || self.io.borrow_mut().poll_linger(context).is_ready() {
            return Poll::Ready(());
        }
        self.alarm.arm(context, self.now, until);
        Poll::Pending
    }

    /// The socket is dead.
    fn gone(&mut self) -> Poll<()> {
        self.io.borrow_mut().forget();
        self.drop_calls();
        Poll::Ready(())
    }

    /// Drops this connection's calls.
    fn drop_calls(&mut self) {
        self.slow.clear();
        self.accepted.clear();
        for (_, kept) in self.inbox.close() {
            self.answer(kept, Err(Status::canceled()));
        }
    }
}

impl<H: Handler> Future for Connection<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.get_mut().poll_connection(context)
    }
}

impl<H> Unpin for Connection<H> {}

fn is_half(slow: &Slab<SlowCall>, number: usize, serial: u64) -> bool {
    let stage = slow.get(number).and_then(|slow| slow.stage.as_ref());
    matches!(stage, Some(SlowStage::Receiving(receiving)) if receiving.serial == serial)
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    let streams_max = settings.concurrent_streams_max.min(CALLS_PER_CONNECTION_MAX as u32);
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(streams_max)
        .max_send_buffer_size(STREAM_SEND_BUFFER_BYTES)
        .data_frame_budget(SMALL_FRAMES_BUDGET_BYTES)
        .max_local_error_reset_streams(Some(RESET_STREAMS_BY_FAULT_MAX))
        .max_pending_accept_reset_streams(RESET_STREAMS_PENDING_MAX);
    builder
}
