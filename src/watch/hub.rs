//! All watchers of one front core.

use std::collections::VecDeque;

use slab::Slab;

use super::{
    batch::Batch,
    chunk::Chunk,
    index::{Delivery, Feed, Index},
    run::Reading,
    span::Span,
    stream::{NO_WATCHER, QueueLimit, Response, ResponseKind, Stream},
    watcher::{Place, Seat, StreamKey, Watcher, WatcherKey, Wish},
};
use crate::{
    base::{
        limits,
        planted::{self, Bug},
        refusal::Refusal,
    },
    mvcc::{Failure, View},
    proto::etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType},
};

/// The machine. It never waits: the caller asks for the next work by [`Hub::take_ready`] and [`Hub::next_reader`].
#[derive(Debug, Default)]
pub struct Hub {
    pub(super) streams: Slab<Stream>,
    pub(super) watchers: Slab<Watcher>,
    pub(super) synced: Index,
    /// Every change up to this revision was delivered to the synced watchers.
    pub(super) seen: i64,
    /// Changes were lost on the way: they are read from views, and batches are ignored meanwhile.
    pub(super) gap: Option<Reading>,
    pub(super) ready: Vec<StreamKey>,
    pub(super) readers: VecDeque<StreamKey>,
    /// Streams whose progress request waits.
    awaiting_progress: Vec<StreamKey>,
    pub(super) behind: usize,
    /// Events in all queues.
    pub(super) events: usize,
    pub queue_limit: QueueLimit,
}

/// Numbers of streams, watchers and events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub streams: usize,
    pub watchers: usize,
    /// Watchers that are behind.
    pub behind: usize,
    /// Events that wait for clients.
    pub events: usize,
}

impl Hub {
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { streams: self.streams.len(), watchers: self.watchers.len(), behind: self.behind, events: self.events }
    }

    /// A new stream without watchers.
    pub fn open(&mut self) -> StreamKey {
        StreamKey(self.streams.insert(Stream::default()))
    }

    /// Removes a stream and its watchers.
    pub fn close(&mut self, stream: StreamKey) {
        while let Some((id, _)) = self.streams[stream.0].watchers.first_key_value() {
            let id = *id;
            self.remove(stream, id);
        }
        self.readers.retain(|other| *other != stream);
        self.ready.retain(|other| *other != stream);
        self.awaiting_progress.retain(|other| *other != stream);
        self.events -= self.streams.remove(stream.0).events();
    }

    /// Creates a watcher as etcd does, and queues the answer: its id, if it was created. `view` is the newest.
    pub fn create(&mut self, stream: StreamKey, request: &WatchCreateRequest, view: &View) -> Option<i64> {
        let now = view.revision();
        match self.try_create(stream, request, view) {
            Ok(key) => {
                let (watch_id, next) = (self.watchers[key].id, self.watchers[key].next);
                self.push(stream, Response { watch_id, revision: now, kind: ResponseKind::Created });
                if next <= now {
                    self.leave_behind(key, next);
                } else {
                    let seat = self.synced.add(&self.watchers[key].span, key);
                    self.watchers[key].place = Place::Synced(seat);
                }
                Some(watch_id)
            }
            Err(reason) => {
                self.refuse(stream, reason, now);
                None
            }
        }
    }

    /// Queues the refusal of a creation. `revision` is the newest.
    pub fn refuse(&mut self, stream: StreamKey, reason: String, revision: i64) {
        self.push(stream, Response { watch_id: NO_WATCHER, revision, kind: ResponseKind::Refused(reason) });
    }

    /// A watcher that has no seat yet.
    fn try_create(
        &mut self,
        stream: StreamKey,
        request: &WatchCreateRequest,
        view: &View,
    ) -> Result<WatcherKey, String> {
        let start = request.start_revision;
        if start < 0 {
            return Err(Refusal::Compacted.text().to_owned());
        }
        let span = Span::new(&request.key, &request.range_end).map_err(|error| error.to_string())?;
        if self.watchers.len() >= limits::WATCHERS_PER_CORE_MAX {
            return Err(Refusal::TooManyRequests.text().to_owned());
        }
        let id = self.streams[stream.0]
            .choose_id(request.watch_id)
            .ok_or("mvcc: duplicate watch ID provided on the WatchStream")?;
        if self.watchers.is_empty() {
            // Without watchers, batches that are still on their way are ignored.
            (self.seen, self.gap) = (view.revision(), None);
        }
        let is_filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        let watcher = Watcher {
            stream,
            id,
            span,
            wish: Wish {
                prev_kv: request.prev_kv,
                no_put: is_filtered(FilterType::Noput),
                no_delete: is_filtered(FilterType::Nodelete),
            },
            fragment: request.fragment,
            notify: request.progress_notify,
            is_quiet: request.progress_notify,
            start,
            next: if start == 0 { view.revision() + 1 } else { start },
            place: Place::Nowhere,
        };
        let key = self.watchers.insert(watcher);
        let stream = &mut self.streams[stream.0];
        stream.delay_progress(view.revision());
        stream.watchers.insert(id, key);
        stream.notifying += usize::from(request.progress_notify);
        Ok(key)
    }

    /// Cancels a watcher and queues the answer; an id that is not in use has none. `revision` is the newest.
    pub fn cancel(&mut self, stream: StreamKey, watch_id: i64, revision: i64) {
        let is_watching = self.streams[stream.0].watchers.contains_key(&watch_id);
        if is_watching {
            self.remove(stream, watch_id);
        }
        if is_watching || self.streams[stream.0].ended.remove(&watch_id) {
            self.push(stream, Response { watch_id, revision, kind: ResponseKind::Canceled });
        }
    }

    /// Cancels a watcher on behalf of the server, and queues the reason. `revision` is the newest.
    pub fn revoke(&mut self, stream: StreamKey, watch_id: i64, reason: String, revision: i64) {
        if self.streams[stream.0].watchers.contains_key(&watch_id) {
            self.remove(stream, watch_id);
            self.push(stream, Response { watch_id, revision, kind: ResponseKind::Revoked(reason) });
        }
    }

    /// Answers a progress request, if all watchers of the stream have everything up to `revision`, the newest. If only changes on their
    /// way to this core are missing, the answer follows them.
    pub fn request_progress(&mut self, stream: StreamKey, revision: i64) {
        if !self.may_tell_progress(stream, revision) {
            return;
        }
        if self.seen >= revision || planted::has(Bug::ProgressEarly) {
            self.push(stream, Response { watch_id: NO_WATCHER, revision, kind: ResponseKind::Progress });
        } else if self.streams[stream.0].progress_at.replace(revision).is_none() {
            self.awaiting_progress.push(stream);
        }
    }

    fn may_tell_progress(&self, stream: StreamKey, revision: i64) -> bool {
        let stream = &self.streams[stream.0];
        let mut watchers = stream.watchers.values().map(|key| &self.watchers[*key]);
        stream.behind == 0 && !stream.watchers.is_empty() && watchers.all(|watcher| watcher.start <= revision)
    }

    fn answer_progress(&mut self) {
        for stream in std::mem::take(&mut self.awaiting_progress) {
            match self.streams[stream.0].progress_at {
                Some(revision) if self.seen < revision => self.awaiting_progress.push(stream),
                Some(_) => {
                    self.streams[stream.0].progress_at = None;
                    self.request_progress(stream, self.seen);
                }
                None => {}
            }
        }
    }

    /// Whether a watcher of the stream asked for progress notifications.
    #[must_use]
    pub fn wants_ticks(&self, stream: StreamKey) -> bool {
        self.streams[stream.0].notifying > 0
    }

    /// Queues progress notifications for watchers without events since the last tick. `revision` is the newest.
    pub fn tick(&mut self, stream: StreamKey, revision: i64) {
        // Changes on their way to this core may hold events, so the notification only covers those that were delivered.
        let revision = revision.min(self.seen);
        let keys: Vec<WatcherKey> = self.streams[stream.0].watchers.values().copied().collect();
        for key in keys {
            let watcher = &mut self.watchers[key];
            let was_quiet = std::mem::replace(&mut watcher.is_quiet, true);
            let is_synced = matches!(watcher.place, Place::Synced(_));
            if watcher.notify && was_quiet && is_synced && watcher.start <= revision && watcher.next <= revision + 1 {
                let watch_id = watcher.id;
                self.push(stream, Response { watch_id, revision, kind: ResponseKind::Progress });
            }
        }
    }

    /// Delivers changes to the synced watchers. `view` is the newest, and has them.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn on_batch(&mut self, batch: &Batch, view: &View) -> Result<(), Failure> {
        if batch.revision() <= self.seen || self.gap.is_some() || self.watchers.is_empty() {
            return Ok(());
        }
        if batch.first() > self.seen + 1 {
            self.on_lost();
            return Ok(());
        }
        let feed = Feed { floor: self.seen + 1, is_live: true };
        for change in batch.changes().iter().filter(|change| change.revision.main > self.seen) {
            self.synced.feed(&change.event(), feed, view, &self.watchers)?;
        }
        self.seen = batch.revision();
        let deliveries = self.synced.finish(None);
        self.deliver_live(deliveries);
        self.answer_progress();
        Ok(())
    }

    /// Changes were lost on the way here. The caller calls [`Self::read_gap`] until it is done.
    pub fn on_lost(&mut self) {
        if self.gap.is_none() && !self.watchers.is_empty() {
            self.gap = Some(Reading::new(self.seen + 1));
        }
    }

    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Reads a slice of the lost changes from `view`, the newest.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn read_gap(&mut self, view: &View) -> Result<(), Failure> {
        let Some(mut gap) = self.gap.take() else { return Ok(()) };
        if gap.position < view.compact_revision() {
            // Every watcher may have missed changes: those that did find the compaction when they read history.
            let position = gap.position;
            self.synced.forget();
            for key in self.synced.members() {
                let next = self.watchers[key].next.max(position);
                if next <= view.revision() {
                    self.fall_behind(key, next);
                }
            }
            self.seen = view.revision();
            return Ok(());
        }
        let slice = gap.read(&mut self.synced, true, view, &self.watchers)?;
        self.seen = self.seen.max(gap.position - 1);
        if !slice.is_caught_up {
            self.gap = Some(gap);
        }
        self.deliver_live(slice.deliveries);
        self.answer_progress();
        Ok(())
    }

    fn deliver_live(&mut self, deliveries: Vec<Delivery>) {
        for Delivery { members, built } in deliveries {
            for key in members {
                let stream = self.watchers[key].stream;
                let next = self.watchers[key].next;
                let mut missed = built.missed;
                for chunk in built.chunks.iter().filter_map(|chunk| chunk.from(next)) {
                    if !self.streams[stream.0].has_room(&chunk, self.queue_limit) {
                        missed = Some(chunk.first);
                        break;
                    }
                    self.push_events(key, chunk);
                }
                // A watcher with a future start misses nothing yet.
                if let Some(missed) = missed
                    && next <= self.seen
                {
                    self.fall_behind(key, missed.max(next) + i64::from(planted::has(Bug::WatchSkip)));
                }
            }
        }
    }

    pub(super) fn push_events(&mut self, key: WatcherKey, chunk: Chunk) {
        let watcher = &mut self.watchers[key];
        watcher.is_quiet = false;
        let (stream, watch_id, fragment) = (watcher.stream, watcher.id, watcher.fragment);
        let kind = ResponseKind::Events { body: chunk.body, count: chunk.events, fragment };
        self.push(stream, Response { watch_id, revision: chunk.revision, kind });
    }

    pub(super) fn push(&mut self, key: StreamKey, response: Response) {
        self.events += response.events();
        let stream = &mut self.streams[key.0];
        stream.push(response);
        if !std::mem::replace(&mut stream.is_ready, true) {
            self.ready.push(key);
        }
    }

    /// A synced watcher misses events from `next` on.
    fn fall_behind(&mut self, key: WatcherKey, next: i64) {
        if let Place::Synced(seat) = self.watchers[key].place {
            let moved = self.synced.remove(seat);
            self.reseat(moved, seat);
            self.leave_behind(key, next);
        }
    }

    /// A watcher without a seat misses events from `next` on: it joins those of its stream that read history.
    fn leave_behind(&mut self, key: WatcherKey, next: i64) {
        let watcher = &mut self.watchers[key];
        watcher.next = next;
        let stream = &mut self.streams[watcher.stream.0];
        let run = stream.run_for(next);
        let seat = run.index.add(&watcher.span, key);
        watcher.place = Place::Behind { run: run.id, seat };
        stream.behind += 1;
        self.behind += 1;
        let stream = watcher.stream;
        self.schedule(stream);
    }

    /// Updates the watcher that was moved into the seat of a removed one.
    fn reseat(&mut self, moved: Option<WatcherKey>, to: Seat) {
        if let Some(moved) = moved {
            match &mut self.watchers[moved].place {
                Place::Synced(seat) | Place::Behind { seat, .. } => *seat = to,
                Place::Nowhere => unreachable!("only watchers with a seat are moved"),
            }
        }
    }

    /// Removes a watcher.
    pub(super) fn remove(&mut self, stream: StreamKey, watch_id: i64) {
        let key = self.streams[stream.0].watchers.remove(&watch_id).expect("the watcher exists");
        match self.watchers[key].place {
            Place::Synced(seat) => {
                let moved = self.synced.remove(seat);
                self.reseat(moved, seat);
            }
            Place::Behind { run, seat } => {
                let stream = &mut self.streams[stream.0];
                let moved = stream.run(run).index.remove(seat);
                stream.runs.retain(|run| !run.index.is_empty());
                stream.behind -= 1;
                self.behind -= 1;
                self.reseat(moved, seat);
            }
            Place::Nowhere => {}
        }
        let watcher = self.watchers.remove(key);
        self.streams[stream.0].notifying -= usize::from(watcher.notify);
    }
}
