//! The Watch service: one stream, its requests and its responses.
//!
//! Both halves live in one task. The receiving half goes on while the sending half waits for a slow client, until as many answers
//! wait as may; the sending half hands a queue over, and takes the next when the client had room for all of it.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use futures_lite::future;

use crate::{
    base::refusal::Refusal,
    os::{self, clock},
    proto::etcdserverpb::{WatchRequest, watch_request::RequestUnion},
    rpc::{Code, Inbound, Messages, Outbound, Status},
    services::{Services, decode, refuse, watch::OpenStream},
    watch::Response,
};

/// Requests of one stream that are handled before others get their turn.
const REQUESTS_PER_TURN: u32 = 64;

impl Services {
    /// Serves one stream to its end.
    pub(super) async fn watch(self: &Rc<Self>, inbound: &mut Inbound, outbound: &mut Outbound) -> Result<(), Status> {
        let stream = self.open_stream();
        let ended = future::or(stream.receive(inbound), stream.send(outbound)).await;
        // As etcd: what ends a watch by cancellation has a text of its own.
        Err(if ended.code == Code::Canceled { refuse(Refusal::WatchCanceled) } else { ended })
    }
}

/// Why a stream with nothing to send goes on.
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

impl OpenStream {
    async fn receive(&self, inbound: &mut Inbound) -> Status {
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
                Ok(request) => self.handle(request),
                Err(status) => return status,
            }
            handled += 1;
            if handled % REQUESTS_PER_TURN == 0 {
                os::yield_now().await;
            }
        }
    }

    fn handle(&self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(&request),
            Some(RequestUnion::CancelRequest(request)) => self.front.with_hub(|hub, view| {
                hub.cancel(self.key, request.watch_id, view.kv.revision());
                Ok(())
            }),
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
                self.front.with_hub(|hub, view| {
                    hub.tick(self.key, view.kv.revision());
                    Ok(())
                });
            }
            let responses = self.take();
            if responses.is_empty() {
                if let Wake::Closed(status) = self.idle(outbound, &clock).await {
                    return status;
                }
                continue;
            }
            self.door.room.notify();
            if let Err(status) = outbound.send_all(self.encode(responses)).await {
                return status;
            }
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
