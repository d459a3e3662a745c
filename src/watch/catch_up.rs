//! Watchers that lag read history in slices, and only when their client has taken what was sent before.
//!
//! | stream | by | then |
//! |---|---|---|
//! | no watcher is behind | a watcher falls behind, or starts in the past | waits for its turn to read, once its queue is empty |
//! | waits to read | [`Hub::next_reader`], [`Hub::read`]: one slice | its queue has responses: sends. No event found: waits to read again |
//! | sends | [`Hub::taken`]: all responses are on their way to the client | waits to read again, or no watcher is behind |
//!
//! The last slice and the change to synced happen in one step on the view published last, and batches reach the hub after the view
//! that has them. So each change in a later batch is either in that view, and then below the watcher's `next`, or new: no change is
//! missed or delivered twice.

use super::{
    hub::Hub,
    stream::{Response, ResponseKind},
    watcher::{Place, StreamKey, WatcherKey},
};
use crate::{
    base::planted::{self, Bug},
    mvcc::{Failure, View},
};

impl Hub {
    /// Streams that have responses since the last call. Each is named once until it was taken.
    pub fn take_ready(&mut self) -> Vec<StreamKey> {
        std::mem::take(&mut self.ready)
    }

    /// Takes responses that wait for the client of a stream. The caller calls [`Self::taken`] when they are sent, and takes again until
    /// none are left.
    pub fn take(&mut self, stream: StreamKey) -> Vec<Response> {
        let stream = &mut self.streams[stream.0];
        stream.is_sending = !stream.is_empty();
        let taken = stream.take();
        self.events -= taken.iter().map(Response::events).sum::<usize>();
        taken
    }

    /// The client has room for more.
    pub fn taken(&mut self, stream: StreamKey) {
        self.streams[stream.0].is_sending = false;
        self.schedule(stream);
    }

    /// Whether a stream should read more requests from its client.
    #[must_use]
    pub fn has_room_for_answers(&self, stream: StreamKey) -> bool {
        self.streams[stream.0].has_room_for_answers()
    }

    /// Whether there is history to read.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.has_gap() || !self.readers.is_empty()
    }

    /// The stream whose turn it is to read history.
    pub fn next_reader(&mut self) -> Option<StreamKey> {
        self.readers.pop_front()
    }

    /// Reads one slice for one run of a stream. `view` is the newest.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn read(&mut self, key: StreamKey, view: &View) -> Result<(), Failure> {
        self.streams[key.0].is_reading = false;
        while let Some(run) = self.streams[key.0].runs.front_mut() {
            let compacted = run.skip_compacted(view, &self.watchers);
            if compacted.is_empty() {
                break;
            }
            compacted.into_iter().for_each(|watcher| self.end_compacted(key, watcher, view.compact_revision()));
        }
        if let Some(mut run) = self.streams[key.0].runs.pop_front() {
            let slice = run.reading.read(&mut run.index, false, view, &self.watchers)?;
            for delivery in slice.deliveries {
                for watcher in delivery.members {
                    let next = self.watchers[watcher].next;
                    let chunks = delivery.built.chunks.iter().filter_map(|chunk| chunk.from(next));
                    chunks.for_each(|chunk| self.push_events(watcher, chunk));
                }
            }
            if slice.is_caught_up {
                run.index.members().into_iter().for_each(|watcher| self.catch_up(key, watcher, view.revision()));
            } else {
                self.streams[key.0].runs.push_back(run);
            }
        }
        self.schedule(key);
        Ok(())
    }

    /// Ends a watcher whose next revision is compacted.
    fn end_compacted(&mut self, stream: StreamKey, key: WatcherKey, compact_revision: i64) {
        let watch_id = self.watchers[key].id;
        self.remove(stream, watch_id);
        self.streams[stream.0].end(watch_id);
        self.push(stream, Response { watch_id, revision: 0, kind: ResponseKind::Compacted { compact_revision } });
    }

    /// Makes a watcher synced that has everything up to `revision`; its run has ended.
    fn catch_up(&mut self, stream: StreamKey, key: WatcherKey, revision: i64) {
        let watcher = &mut self.watchers[key];
        if !planted::has(Bug::WatchTwice) {
            watcher.next = watcher.next.max(revision + 1);
        }
        watcher.place = Place::Synced(self.synced.add(&watcher.span, key));
        let stream = &mut self.streams[stream.0];
        stream.delay_progress(revision);
        stream.behind -= 1;
        self.behind -= 1;
    }

    /// Queues a stream for reading, if one of its watchers lags and its client has taken everything.
    pub(super) fn schedule(&mut self, key: StreamKey) {
        let stream = &mut self.streams[key.0];
        if !stream.runs.is_empty() && stream.is_empty() && !stream.is_sending && !stream.is_reading {
            stream.is_reading = true;
            self.readers.push_back(key);
        }
    }
}
