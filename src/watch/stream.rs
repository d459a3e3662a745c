//! One stream: its watchers, and the responses that wait for its client.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use prost::Message;

use super::{
    chunk::{Chunk, fragments},
    run::Run,
    watcher::WatcherKey,
};
use crate::{
    base::limits,
    proto::etcdserverpb::{ResponseHeader, WatchResponse},
};

/// Bytes of live events that may wait for one client. The simulator sets lower ones, so that watchers fall behind.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimit(pub usize);

impl Default for QueueLimit {
    fn default() -> Self {
        Self(limits::WATCH_QUEUE_BYTES_MAX)
    }
}

/// Watch id of answers that belong to no watcher, or to all of them.
pub const NO_WATCHER: i64 = -1;

/// A response before it is encoded: a few words, and shared bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub watch_id: i64,
    /// Of the header.
    pub revision: i64,
    pub kind: ResponseKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    Created,
    /// The watcher was not created.
    Refused(String),
    Events {
        body: Bytes,
        count: usize,
        /// May be sent in pieces.
        fragment: bool,
    },
    /// All events up to the revision were sent.
    Progress,
    /// By the client.
    Canceled,
    /// By the server: the user's right to read this range was taken away.
    Revoked(String),
    /// The next revision of the watcher is compacted.
    Compacted {
        compact_revision: i64,
    },
}

impl Response {
    /// Events in it.
    #[must_use]
    pub fn events(&self) -> usize {
        match self.kind {
            ResponseKind::Events { count, .. } => count,
            _ => 0,
        }
    }

    fn cost(&self) -> usize {
        let body = match &self.kind {
            ResponseKind::Events { body, .. } => body.len(),
            ResponseKind::Refused(reason) | ResponseKind::Revoked(reason) => reason.len(),
            _ => 0,
        };
        body + limits::WATCH_RESPONSE_COST
    }

    fn is_answer(&self) -> bool {
        !matches!(self.kind, ResponseKind::Events { .. })
    }

    /// Calls `show` with the `WatchResponse` messages of this response, each as its first fields and its encoded events. A message with
    /// more than one event that may be sent in pieces stays below `fragment_bytes`, as in etcd.
    pub fn encode(self, header: ResponseHeader, fragment_bytes: usize, mut show: impl FnMut(&[u8], Bytes)) {
        let mut message = WatchResponse { header: Some(header), watch_id: self.watch_id, ..WatchResponse::default() };
        let mut body = Bytes::new();
        match self.kind {
            ResponseKind::Events { body: events, count, fragment } => {
                let head = message.encoded_len();
                if fragment && count > 1 && head + events.len() >= fragment_bytes {
                    // The field `fragment` itself takes two bytes.
                    let room = fragment_bytes.saturating_sub(head + 2);
                    let mut pieces = fragments(&events, room).into_iter().peekable();
                    while let Some(piece) = pieces.next() {
                        message.fragment = pieces.peek().is_some();
                        show(&message.encode_to_vec(), piece);
                    }
                    return;
                }
                body = events;
            }
            ResponseKind::Created => message.created = true,
            ResponseKind::Refused(reason) => {
                (message.created, message.canceled) = (true, true);
                message.cancel_reason = reason;
            }
            ResponseKind::Progress => {}
            ResponseKind::Canceled => message.canceled = true,
            ResponseKind::Revoked(reason) => {
                message.canceled = true;
                message.cancel_reason = reason;
            }
            ResponseKind::Compacted { compact_revision } => {
                message.canceled = true;
                message.compact_revision = compact_revision;
            }
        }
        show(&message.encode_to_vec(), body);
    }
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    queue: VecDeque<Response>,
    bytes: usize,
    events: usize,
    answers: usize,
    pub watchers: BTreeMap<i64, WatcherKey>,
    /// Ids of watchers that a compaction ended: as in etcd they stay taken until the client cancels them.
    pub ended: BTreeSet<i64>,
    next_id: i64,
    /// Number of watchers with progress notifications.
    pub notifying: usize,
    /// Readings of history for watchers that lag; the first is next.
    pub runs: VecDeque<Run>,
    pub run_ids: u64,
    pub behind: usize,
    /// The responses taken last are not sent yet.
    pub is_sending: bool,
    /// It waits for a slice of history.
    pub is_reading: bool,
    /// It was reported as ready since responses were taken last.
    pub is_ready: bool,
    /// A progress request waits until the hub has seen this revision.
    pub progress_at: Option<i64>,
}

impl Stream {
    /// As in etcd: the id of the request, or the lowest that was not used yet. `None` if it is in use.
    pub(super) fn choose_id(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.is_taken(wanted)).then_some(wanted);
        }
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }

    /// A compaction ended the watcher with this id.
    pub(super) fn end(&mut self, id: i64) {
        if self.ended.len() >= limits::WATCHES_ENDED_MAX {
            self.ended.pop_first();
        }
        self.ended.insert(id);
    }

    pub(super) fn push(&mut self, response: Response) {
        self.bytes += response.cost();
        self.events += response.events();
        self.answers += usize::from(response.is_answer());
        self.queue.push_back(response);
    }

    /// Whether another chunk may be queued. An empty queue takes one of any size.
    pub(super) fn has_room(&self, chunk: &Chunk, limit: QueueLimit) -> bool {
        let cost = chunk.body.len() + limits::WATCH_RESPONSE_COST;
        self.queue.is_empty() || self.bytes + cost <= limit.0
    }

    pub(super) fn has_room_for_answers(&self) -> bool {
        self.answers < limits::WATCH_ANSWERS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Events that wait.
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// The oldest responses, about as many as may wait. Bytes that several watchers share are counted for each.
    pub(super) fn take(&mut self) -> Vec<Response> {
        self.is_ready = false;
        let (mut taken, mut cost) = (Vec::new(), 0);
        while cost < limits::WATCH_QUEUE_BYTES_MAX
            && let Some(response) = self.queue.pop_front()
        {
            cost += response.cost();
            self.events -= response.events();
            self.answers -= usize::from(response.is_answer());
            taken.push(response);
        }
        self.bytes -= cost;
        taken
    }

    /// Delays a pending progress response until the hub has seen `revision`, which a watcher has read already.
    pub(super) fn delay_progress(&mut self, revision: i64) {
        self.progress_at = self.progress_at.map(|at| at.max(revision));
    }

    pub(super) fn run(&mut self, id: u64) -> &mut Run {
        self.runs.iter_mut().find(|run| run.id == id).expect("a watcher's run exists")
    }

    /// The run that a watcher joins which misses events from `next` on.
    pub(super) fn run_for(&mut self, next: i64) -> &mut Run {
        let at = match self.runs.iter().position(|run| run.suits(next)) {
            Some(at) => at,
            None if self.runs.len() < limits::WATCH_RUNS_PER_STREAM_MAX => {
                self.run_ids += 1;
                self.runs.push_back(Run::new(self.run_ids, next));
                self.runs.len() - 1
            }
            None => {
                // The nearest run below; else the nearest above, which must go back.
                let distance = |run: &Run| (run.reading.position > next, run.reading.position.abs_diff(next));
                let nearest = self.runs.iter().enumerate().min_by_key(|(_, run)| distance(run));
                nearest.expect("there are as many as there may be").0
            }
        };
        let run = &mut self.runs[at];
        run.admit(next);
        run
    }
}
