//! How watchers that are behind get what they missed: a slice of history at a time, and none while their client has not taken what
//! was sent before.
//!
//! | stream | by | then |
//! |---|---|---|
//! | nobody is behind | a watcher falls behind, or starts in the past | waits for its turn to read, once its queue is empty |
//! | waits to read | [`Hub::next_reader`], [`Hub::read`]: one slice | its queue has something: sends. Nothing found: waits to read again |
//! | sends | [`Hub::taken`]: all of it is on its way to the client | waits to read again, or nobody is behind any more |
//!
//! The last slice and the change to synced happen in one step on the view published last, and batches reach the hub after the view
//! that has them: what the hub shows afterwards is either in that view, then it is below the watcher's `next`, or it is
//! new. So there is neither a gap nor a second time.

use super::{
    hub::Hub,
    stream::{Response, ResponseKind},
    watcher::{Place, StreamKey, WatcherKey},
};
use crate::mvcc::{Failure, View};

impl Hub {
    /// Streams that have responses since the last call. Each is named once until it was taken.
    pub fn take_ready(&mut self) -> Vec<StreamKey> {
        std::mem::take(&mut self.ready)
    }

    /// Takes what waits for the client of a stream. [`Self::taken`] has to follow when it was sent.
    pub fn take(&mut self, stream: StreamKey) -> Vec<Response> {
        let stream = &mut self.streams[stream.0];
        stream.is_sending = !stream.is_empty();
        self.events -= stream.events();
        stream.take()
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
                    delivery.built.chunks.iter().for_each(|chunk| self.push_events(watcher, chunk));
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

    /// What the watcher has to read is gone.
    fn end_compacted(&mut self, stream: StreamKey, key: WatcherKey, compact_revision: i64) {
        let watch_id = self.watchers[key].id;
        self.remove(stream, watch_id);
        self.push(stream, Response { watch_id, revision: 0, kind: ResponseKind::Compacted { compact_revision } });
    }

    /// A watcher has everything up to `revision`; its run is gone.
    fn catch_up(&mut self, stream: StreamKey, key: WatcherKey, revision: i64) {
        let watcher = &mut self.watchers[key];
        watcher.next = watcher.next.max(revision + 1);
        watcher.place = Place::Synced(self.synced.add(&watcher.span, key));
        self.streams[stream.0].behind -= 1;
        self.behind -= 1;
    }

    /// Lets a stream wait for its turn to read, if it has to and may.
    pub(super) fn schedule(&mut self, key: StreamKey) {
        let stream = &mut self.streams[key.0];
        if !stream.runs.is_empty() && stream.is_empty() && !stream.is_sending && !stream.is_reading {
            stream.is_reading = true;
            self.readers.push_back(key);
        }
    }
}
