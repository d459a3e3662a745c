//! The Watch service: one stream, its requests and its responses.
//!
//! Both halves live in one task. The receiving half handles requests while the sending half waits for a slow client, until the
//! queue of answers is full; the sending half sends one queue, and takes the next once the client had room for all of it.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use futures_lite::future;

use crate::{
    base::refusal::Refusal,
    metrics::{Name, Sheet},
    os::{self, clock},
    proto::etcdserverpb::{WatchRequest, watch_request::RequestUnion},
    rpc::{Call, Code, Inbound, Messages, Outbound, Status},
    services::{Services, decode, refuse, spans, watch::OpenStream},
    watch::{Response, ResponseKind},
};

/// Requests of one stream that are handled before others get their turn.
const REQUESTS_PER_TURN: u32 = 64;

impl Services {
    /// Serves one stream to its end.
    pub(super) async fn watch(
        self: &Rc<Self>,
        call: &Call,
        inbound: &mut Inbound,
        outbound: &mut Outbound,
    ) -> Result<(), Status> {
        let stream = self.open_stream();
        let ended = future::or(stream.receive(call, inbound), stream.send(outbound)).await;
        // As etcd: what ends a watch by cancellation has a text of its own.
        Err(if ended.code == Code::Canceled { refuse(Refusal::WatchCanceled) } else { ended })
    }
}

/// What one turn of the sending half has sent: all that was queued.
struct Sent {
    /// Of changes, or of an end by compaction.
    has_changes: bool,
    /// Answers to requests.
    has_answers: bool,
    events: usize,
}

/// What ended the wait of a stream that had nothing to send.
enum Wake {
    Ready,
    Tick,
    Closed(Status),
}

/// When quiet watchers are told of progress.
struct ProgressClock {
    next: Instant,
    period: Duration,
}

impl Sent {
    fn of(responses: &[Response]) -> Self {
        let is_answer = |response: &Response| {
            matches!(
                response.kind,
                ResponseKind::Created | ResponseKind::Refused(_) | ResponseKind::Canceled | ResponseKind::Revoked(_)
            )
        };
        Self {
            has_changes: !responses.iter().all(is_answer),
            has_answers: responses.iter().any(is_answer),
            events: responses.iter().map(Response::events).sum(),
        }
    }

    /// etcd measures each response, and answers apart.
    fn count(&self, sheet: &Sheet, took: Duration) {
        let seconds = took.as_secs_f64();
        if self.has_answers {
            sheet.observe(Name::ServerWatchSendLoopControlStreamDurationSeconds, seconds);
        }
        if self.has_changes {
            sheet.observe(Name::ServerWatchSendLoopWatchStreamDurationSeconds, seconds);
        }
        if self.events > 0 {
            let per_event = seconds / self.events as f64;
            sheet.observe(Name::ServerWatchSendLoopWatchStreamDurationPerEventSeconds, per_event);
        }
    }
}

impl OpenStream {
    async fn receive(&self, call: &Call, inbound: &mut Inbound) -> Status {
        let mut handled = 0;
        loop {
            while !self.front.with_hub(|hub, _| Ok(hub.has_room_for_answers(self.key))) {
                self.door.room.wait().await;
            }
            let request = match inbound.next().await {
                Ok(Some(message)) => decode::<WatchRequest>(message),
                // The client has no more requests; it still listens.
                Ok(None) => future::pending().await,
                Err(status) => return status,
            };
            match request {
                Ok(request) => self.handle(call, request).await,
                Err(status) => return status,
            }
            handled += 1;
            if handled % REQUESTS_PER_TURN == 0 {
                os::yield_now().await;
            }
        }
    }

    /// The credentials of the stream are looked at for each watcher: its token may have ended.
    async fn handle(&self, call: &Call, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                let who = self.front.identify_fully(call).await;
                if let Some(id) = self.create(&request, &who)
                    && let Some(span) = spans::step(call, &request)
                {
                    self.trace(id, span);
                }
            }
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.front.with_hub(|hub, view| {
                hub.request_progress(self.key, view.kv.revision());
                Ok(())
            }),
            None => {}
        }
    }

    async fn send(&self, outbound: &mut Outbound) -> Status {
        let mut clock = ProgressClock::new(&self.front);
        loop {
            if self.front.watching.is_closing() {
                return refuse(Refusal::Stopped);
            }
            if clock.is_due() {
                let started = clock::now();
                self.front.with_hub(|hub, view| {
                    hub.tick(self.key, view.kv.revision());
                    Ok(())
                });
                let sheet = &self.front.meter().sheet;
                sheet.observe(Name::ServerWatchSendLoopProgressDurationSeconds, started.elapsed().as_secs_f64());
            }
            let started = clock::now();
            let responses = self.take();
            if responses.is_empty() {
                if let Wake::Closed(status) = self.idle(outbound, &clock).await {
                    return status;
                }
                continue;
            }
            self.door.room.notify();
            let sent = Sent::of(&responses);
            if let Err(status) = outbound.send_all(self.encode(responses)).await {
                return status;
            }
            sent.count(&self.front.meter().sheet, started.elapsed());
            self.taken();
        }
    }

    async fn idle(&self, outbound: &mut Outbound, clock: &ProgressClock) -> Wake {
        let ready = async {
            self.door.ready.wait().await;
            Wake::Ready
        };
        let wake = future::or(ready, async { Wake::Closed(outbound.closed().await) });
        if !self.front.with_hub(|hub, _| Ok(hub.wants_ticks(self.key))) {
            return wake.await;
        }
        os::timeout(clock.remaining(), wake).await.unwrap_or(Wake::Tick)
    }

    fn encode(&self, responses: Vec<Response>) -> Messages {
        let shared = self.front.shared();
        let view = shared.view.load();
        let mut messages = Messages::default();
        for response in responses {
            let header = view.header(response.revision);
            response.encode(header, shared.watch.fragment_bytes, |head, body| messages.push(head, body));
        }
        messages
    }
}

impl ProgressClock {
    fn new(front: &Services) -> Self {
        let interval = front.shared().watch.progress;
        // As etcd: clients that came back at the same moment are not told at the same moment.
        let period = interval + front.watching.jitter(interval / 10);
        Self { next: clock::now() + period, period }
    }

    /// Whether a moment came since the last call.
    fn is_due(&mut self) -> bool {
        let now = clock::now();
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.period;
        }
        is_due
    }

    fn remaining(&self) -> Duration {
        self.next.saturating_duration_since(clock::now())
    }
}
