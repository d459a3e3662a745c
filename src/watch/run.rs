//! Reading history in slices.
//!
//! A [`Reading`] is little more than a position: every slice reads from the newest view, so no old state is kept for a client
//! that does not read. A slice ends where a revision ends; only a revision larger than a slice keeps its reader and the events found
//! until the next slice.
//!
//! A [`Run`] is a reading for the lagging watchers of one stream. Watchers with a higher `next` skip the events that they have.

use slab::Slab;

use super::{
    index::{Delivery, Feed, Index},
    watcher::{Watcher, WatcherKey},
};
use crate::{
    base::{
        limits,
        planted::{self, Bug},
    },
    mvcc::{EventReader, Failure, View},
};

#[derive(Debug)]
pub(super) struct Reading {
    /// Everything below was delivered.
    pub position: i64,
    /// In a revision larger than a slice: its reader, and the last revision it reads.
    midst: Option<(EventReader, i64)>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub id: u64,
    pub reading: Reading,
    pub index: Index,
}

/// The result of one slice.
pub(super) struct Slice {
    pub deliveries: Vec<Delivery>,
    /// The reading has everything of the view.
    pub is_caught_up: bool,
}

impl Reading {
    pub(super) fn new(position: i64) -> Self {
        Self { position, midst: None }
    }

    /// Reads a slice for the watchers of `index`. The caller has checked that it is not compacted.
    pub(super) fn read(
        &mut self,
        index: &mut Index,
        is_live: bool,
        view: &View,
        watchers: &Slab<Watcher>,
    ) -> Result<Slice, Failure> {
        assert!(self.position >= view.compact_revision(), "what is compacted was given up");
        let feed = Feed { floor: self.position, is_live };
        let (mut reader, last) =
            self.midst.take().unwrap_or_else(|| (EventReader::new(view, self.position), view.revision()));
        let (mut records, mut bytes, mut budget) = (0, 0, limits::WATCH_SLICE_RECORDS_FIRST);
        let is_done = loop {
            let mut failed = None;
            let is_done = reader.step(view, budget, &mut |event| {
                if failed.is_none() {
                    match index.feed(&event, feed, view, watchers) {
                        Ok(added) => bytes += added,
                        Err(failure) => failed = Some(failure),
                    }
                }
            })?;
            if let Some(failure) = failed {
                return Err(failure);
            }
            records += budget;
            if is_done || records >= limits::WATCH_SLICE_RECORDS || bytes >= limits::WATCH_CHUNK_BYTES {
                break is_done;
            }
            // Few large records fill a slice, so the budget starts small.
            budget = (budget * 2).min(limits::WATCH_SLICE_RECORDS - records);
        };
        Ok(self.end_slice(index, reader, last, is_done, view))
    }

    fn end_slice(&mut self, index: &mut Index, reader: EventReader, last: i64, is_done: bool, view: &View) -> Slice {
        let at = reader.position();
        let (position, incomplete) = match at.sub {
            _ if is_done => (self.position.max(last + 1), None),
            0 => (at.main, None),
            _ => (at.main, Some(at.main)),
        };
        if incomplete.is_some() && position == self.position {
            self.midst = Some((reader, last));
            return Slice { deliveries: Vec::new(), is_caught_up: false };
        }
        self.position = position;
        let mut deliveries = index.finish(incomplete);
        let is_caught_up = position > view.revision();
        let chunks = deliveries.iter_mut().flat_map(|delivery| &mut delivery.built.chunks);
        chunks.for_each(|chunk| chunk.revision = view.revision());
        Slice { deliveries, is_caught_up }
    }
}

impl Run {
    pub(super) fn new(id: u64, position: i64) -> Self {
        Self { id, reading: Reading::new(position), index: Index::default() }
    }

    /// Whether a watcher that misses events from `next` on can join without making the others wait.
    pub(super) fn suits(&self, next: i64) -> bool {
        let position = self.reading.position;
        self.reading.midst.is_none() && (position..=position + limits::WATCH_RUN_REVISIONS).contains(&next)
    }

    /// Makes room for a watcher that misses events from `next` on.
    pub(super) fn admit(&mut self, next: i64) {
        if self.reading.midst.take().is_some() {
            // The events found so far do not include those of the new watcher: the revision is read again.
            self.index.forget();
        }
        self.reading.position = self.reading.position.min(next);
    }

    /// Skips compacted revisions. Returns the watchers that needed them.
    pub(super) fn skip_compacted(&mut self, view: &View, watchers: &Slab<Watcher>) -> Vec<WatcherKey> {
        let compacted = view.compact_revision();
        if self.reading.position >= compacted {
            return Vec::new();
        }
        self.reading = Reading::new(compacted);
        self.index.forget();
        let is_ended = |key: &WatcherKey| watchers[*key].next < compacted && !planted::has(Bug::WatchCompacted);
        self.index.members().into_iter().filter(is_ended).collect()
    }
}
