//! One stream: its watchers, and the responses that wait for its client.

use std::collections::{BTreeMap, VecDeque};

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
    /// The client did it.
    Canceled,
    /// What the watcher would have to read is gone.
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
            ResponseKind::Refused(reason) => reason.len(),
            _ => 0,
        };
        body + limits::WATCH_RESPONSE_COST
    }

    fn is_answer(&self) -> bool {
        !matches!(self.kind, ResponseKind::Events { .. })
    }

    /// Shows the `WatchResponse` messages it becomes, each as its first fields and its encoded events. A message with more than
    /// one event that may be sent in pieces stays below `fragment_bytes`, as etcd's do.
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
    queue: Vec<Response>,
    bytes: usize,
    events: usize,
    answers: usize,
    pub watchers: BTreeMap<i64, WatcherKey>,
    next_id: i64,
    /// Watchers that want to hear of progress from time to time.
    pub notifying: usize,
    /// Readings of history for watchers that are behind; the first is next.
    pub runs: VecDeque<Run>,
    pub run_ids: u64,
    pub behind: usize,
    /// Its client has not taken yet what was handed out last.
    pub is_sending: bool,
    /// It waits for a slice of history.
    pub is_reading: bool,
    /// It was reported as ready since the last taking.
    pub is_ready: bool,
    /// A progress request waits until the hub has seen this revision.
    pub progress_at: Option<i64>,
}

impl Stream {
    /// As etcd: the id of the request, or the lowest that was not given out yet. `None` if it is in use.
    pub(super) fn choose_id(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.watchers.contains_key(&wanted)).then_some(wanted);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    pub(super) fn push(&mut self, response: Response) {
        self.bytes += response.cost();
        self.events += response.events();
        self.answers += usize::from(response.is_answer());
        self.queue.push(response);
    }

    /// Whether another chunk may wait here: always one.
    pub(super) fn has_room(&self, chunk: &Chunk) -> bool {
        let cost = chunk.body.len() + limits::WATCH_RESPONSE_COST;
        self.queue.is_empty() || self.bytes + cost <= limits::WATCH_QUEUE_BYTES_MAX
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

    pub(super) fn take(&mut self) -> Vec<Response> {
        (self.bytes, self.events, self.answers) = (0, 0, 0);
        self.is_ready = false;
        std::mem::take(&mut self.queue)
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
                // The nearest below; else one that has to go back.
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
