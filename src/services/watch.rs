//! Watching on one core: the hub, who is woken, and the task that reads history.
//!
//! | what | calls | runs |
//! |---|---|---|
//! | changes from the engine | `on_changes` | within the engine's turn, or on arrival from its core |
//! | requests of a stream | `watch_stream` | in the stream's task |
//! | history for those behind | `read_history` | one task per core, a slice at a time: between two slices everybody else has a turn, however many streams are behind |
//!
//! Other services of this core watch through [`Services::subscribe`].

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use prost::Message;

use crate::{
    apply::View,
    auth::{Access, Requester},
    base::refusal::Refusal,
    metrics::Name,
    mvcc::Failure,
    os::{self, stop},
    proto::{
        etcdserverpb::{WatchCreateRequest, WatchResponse},
        mvccpb::Event,
    },
    services::{
        Services,
        credentials::Credentials,
        waiting::{Door, Guard},
    },
    spans::Span,
    watch::{Batch, Counts, Hub, Response, ResponseKind, StreamKey},
};

/// A stream of this core; closed when it is dropped.
pub(super) struct OpenStream {
    pub(super) front: Rc<Services>,
    pub(super) key: StreamKey,
    pub(super) door: Rc<Door>,
    /// Of the watchers that are traced, by their ids.
    spans: RefCell<BTreeMap<i64, Span>>,
}

/// Events for another service of this core, with the bounds of any watcher: a slow reader gets them from history.
///
/// ```text
///   let mut events = front.subscribe(who, key, range_end, from_revision);    // 0: from the next revision on
///   loop {
///       for event in events.next().await? { .. }                         // mvccpb.Event, whole revisions, in order
///   }
/// ```
pub struct Subscription {
    stream: OpenStream,
    /// It came behind events that were handed out.
    end: Option<SubscriptionEnd>,
}

/// Why there are no more events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionEnd {
    #[error("required revision has been compacted (up to {0})")]
    Compacted(i64),
    #[error("{0}")]
    Refused(String),
    #[error("server stopped")]
    Stopped,
}

impl Services {
    /// Watches `[key, range_end)` from a revision on, 0 for the next one, with the range conventions of a watch request.
    #[must_use]
    pub(super) fn subscribe(
        self: &Rc<Self>,
        who: &Credentials,
        key: &[u8],
        range_end: &[u8],
        from_revision: i64,
    ) -> Subscription {
        let stream = self.open_stream();
        let request = WatchCreateRequest {
            key: key.to_vec().into(),
            range_end: range_end.to_vec().into(),
            start_revision: from_revision,
            ..WatchCreateRequest::default()
        };
        let _id = stream.create(&request, who);
        Subscription { stream, end: None }
    }

    /// The server stops: ends all streams that watch.
    pub(super) fn stop_watching(&self) {
        self.watching.is_closing.set(true);
        for door in self.watching.doors.borrow().iter().flatten() {
            door.ready.notify();
        }
    }

    /// Changes from the engine of this core; they are in the view published last.
    pub fn on_changes(self: &Rc<Self>, batch: &Batch) {
        self.with_hub(|hub, view| hub.on_batch(batch, &view.kv));
    }

    /// The same from the engine of another core.
    pub(super) fn on_far_changes(self: &Rc<Self>, batch: &Arc<Batch>) {
        self.gate().arrived(batch.bytes());
        self.on_changes(batch);
    }

    /// Changes were not sent to this core.
    pub(super) fn on_changes_lost(self: &Rc<Self>) {
        self.gate().found();
        self.with_hub(|hub, _| {
            hub.on_lost();
            Ok(())
        });
    }

    /// With `--auth-recheck-watches`: keeps what a watcher was allowed to watch, to look at it again when users change.
    fn guard(&self, stream: StreamKey, id: i64, request: &WatchCreateRequest, who: &Credentials) {
        if self.shared.auth.recheck_watches {
            let (key, range_end) = (watched_key(request).to_vec().into(), request.range_end.clone());
            let guard = Guard { key, range_end, who: who.clone() };
            self.watching.guards.borrow_mut().insert((stream, id), guard);
        }
    }

    /// Cancels the watchers whose right was taken away since the last call.
    pub(super) fn recheck_watches(self: &Rc<Self>) {
        if !self.shared.auth.recheck_watches {
            return;
        }
        let view = self.shared.view.load();
        let (auth, state) = (&*view.auth, (view.auth.is_enabled(), view.auth.revision()));
        if self.watching.checked.replace(state) == state {
            return;
        }
        let refused = |guard: &Guard| {
            let who = Requester { revision: auth.revision(), ..guard.who.user() };
            auth.check(who, &guard.key, &guard.range_end, Access::Read).err()
        };
        let guards = &mut *self.watching.guards.borrow_mut();
        let ended: Vec<_> = guards.iter().filter_map(|(key, guard)| Some((*key, refused(guard)?))).collect();
        for ((stream, id), refusal) in ended {
            guards.remove(&(stream, id));
            self.with_hub(|hub, view| {
                hub.revoke(stream, id, reason(refusal), view.kv.revision());
                Ok(())
            });
        }
    }

    fn gate(&self) -> &super::watch_gate::Gate {
        &self.shared.watch.gates()[usize::from(self.id)]
    }

    pub(super) fn open_stream(self: &Rc<Self>) -> OpenStream {
        let key = self.with_hub(|hub, _| Ok(hub.open()));
        let door = Rc::new(Door::default());
        let doors = &mut *self.watching.doors.borrow_mut();
        if doors.len() <= key.0 {
            doors.resize(key.0 + 1, None);
        }
        doors[key.0] = Some(Rc::clone(&door));
        OpenStream { front: Rc::clone(self), key, door, spans: RefCell::default() }
    }

    /// Calls the hub with the newest view, and lets follow what it asks for.
    pub(super) fn with_hub<R>(self: &Rc<Self>, call: impl FnOnce(&mut Hub, &View) -> Result<R, Failure>) -> R {
        let hub = &mut *self.watching.hub.borrow_mut();
        let outcome = call(hub, &self.shared.view.load());
        let outcome = outcome.unwrap_or_else(|failure| stop::fatal(&failure.to_string()));
        for key in hub.take_ready() {
            if let Some(Some(door)) = self.watching.doors.borrow().get(key.0) {
                door.ready.notify();
            }
        }
        self.count(hub.counts());
        if hub.has_work() && !self.watching.is_reading.replace(true) {
            os::spawn_local(read_history(Rc::clone(self)));
        }
        outcome
    }

    fn count(&self, now: Counts) {
        if now.watchers == 0 {
            self.gate().close();
        }
        let before = self.watching.known.replace(now);
        if before == now {
            return;
        }
        let sheet = &self.meter().sheet;
        sheet.set(Name::MvccWatchStreamTotal, now.streams as i64);
        sheet.set(Name::MvccWatcherTotal, now.watchers as i64);
        sheet.set(Name::MvccSlowWatcherTotal, now.behind as i64);
        sheet.set(Name::MvccPendingEventsTotal, now.events as i64);
    }
}

/// Reads as long as somebody is behind. It begins by yielding, because a task may run at once when it is spawned, and the hub is
/// in use then.
async fn read_history(front: Rc<Services>) {
    loop {
        os::yield_now().await;
        let is_more = front.with_hub(|hub, view| {
            hub.read_gap(&view.kv)?;
            if let Some(stream) = hub.next_reader() {
                hub.read(stream, &view.kv)?;
            }
            Ok(hub.has_work())
        });
        if !is_more {
            break;
        }
    }
    front.watching.is_reading.set(false);
}

impl OpenStream {
    /// Creates a watcher, if the caller may read what it watches: all of the range as the request has it, unlike in etcd 3.7.0. Returns
    /// its id.
    pub(super) fn create(&self, request: &WatchCreateRequest, who: &Credentials) -> Option<i64> {
        // Before the view is loaded: see `watch_gate`.
        self.front.gate().open();
        self.front.with_hub(|hub, view| {
            if let Err(refusal) = may_watch(view, who, request) {
                hub.refuse(self.key, reason(refusal), view.kv.revision());
                return Ok(None);
            }
            let id = hub.create(self.key, request, &view.kv);
            if let Some(id) = id {
                self.front.guard(self.key, id, request, who);
            }
            Ok(id)
        })
    }

    /// Keeps the span of a watcher until it is cancelled.
    pub(super) fn trace(&self, watch_id: i64, span: Span) {
        self.spans.borrow_mut().insert(watch_id, span);
    }

    /// Cancels a watcher for the client.
    pub(super) fn cancel(&self, watch_id: i64) {
        self.front.watching.guards.borrow_mut().remove(&(self.key, watch_id));
        self.spans.borrow_mut().remove(&watch_id);
        self.front.with_hub(|hub, view| {
            hub.cancel(self.key, watch_id, view.kv.revision());
            Ok(())
        });
    }

    /// What waits to be sent.
    pub(super) fn take(&self) -> Vec<Response> {
        let responses = self.front.with_hub(|hub, _| Ok(hub.take(self.key)));
        let events: usize = responses.iter().map(Response::events).sum();
        self.front.meter().sheet.add(Name::MvccEventsTotal, events as u64);
        responses
    }

    /// What was taken is on its way.
    pub(super) fn taken(&self) {
        self.front.with_hub(|hub, _| {
            hub.taken(self.key);
            Ok(())
        });
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.front.watching.guards.borrow_mut().retain(|(stream, _), _| *stream != self.key);
        self.front.watching.doors.borrow_mut()[self.key.0] = None;
        self.front.with_hub(|hub, _| {
            hub.close(self.key);
            Ok(())
        });
    }
}

impl Subscription {
    /// The next events: one revision or more, all of it.
    ///
    /// # Errors
    /// There will be none.
    pub async fn next(&mut self) -> Result<Vec<Event>, SubscriptionEnd> {
        loop {
            if self.stream.front.watching.is_closing() {
                return Err(SubscriptionEnd::Stopped);
            }
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            let responses = self.stream.take();
            if responses.is_empty() {
                self.stream.door.ready.wait().await;
                continue;
            }
            self.stream.taken();
            let mut events = Vec::new();
            for response in responses {
                match response.kind {
                    ResponseKind::Events { body, .. } => {
                        let message = WatchResponse::decode(body).expect("it was encoded here");
                        events.extend(message.events);
                    }
                    ResponseKind::Compacted { compact_revision } => {
                        self.end = Some(SubscriptionEnd::Compacted(compact_revision));
                    }
                    ResponseKind::Refused(reason) | ResponseKind::Revoked(reason) => {
                        self.end = Some(SubscriptionEnd::Refused(reason));
                    }
                    ResponseKind::Created | ResponseKind::Progress | ResponseKind::Canceled => {}
                }
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}

/// As for a range, at the creation only. A start that is compacted is refused before.
fn may_watch(view: &View, who: &Credentials, request: &WatchCreateRequest) -> Result<(), Refusal> {
    let auth = &*view.auth;
    if !auth.is_enabled() || request.start_revision < 0 {
        return Ok(());
    }
    auth.check(who.requester(auth)?, watched_key(request), &request.range_end, Access::Read)
}

/// An empty key stands for the least one.
fn watched_key(request: &WatchCreateRequest) -> &[u8] {
    if request.key.is_empty() { b"\0" } else { &request.key }
}

/// A refusal as the reason of an answer, in the words of etcd's gRPC library.
fn reason(refusal: Refusal) -> String {
    format!("rpc error: code = {} desc = {}", refusal.code().name(), refusal.text())
}
