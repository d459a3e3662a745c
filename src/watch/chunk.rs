//! Events encoded once for all watchers that get the same events.
//!
//! A [`Chunk`] is the field `events` of a `WatchResponse`, encoded; watchers of a range that were created alike share its bytes. A
//! chunk ends where a revision ends, so none is ever split between two responses.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::{base::limits, mvcc::EventRecord};

/// Tag of `events` in `WatchResponse`: field 11, bytes.
pub(super) const EVENTS_TAG: u8 = 11 << 3 | 2;

/// Whole revisions, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Revision of the first event.
    pub first: i64,
    /// The revision in the header: that of the last event, or for history the store's, as in etcd, though more events may follow.
    pub revision: i64,
    pub events: usize,
    pub body: Bytes,
    /// The start of each revision, if some watchers get only a part.
    marks: Vec<Mark>,
}

impl Chunk {
    /// The part with revisions from `next` on, if there is any.
    pub(super) fn from(&self, next: i64) -> Option<Self> {
        if next <= self.first {
            return Some(self.clone());
        }
        let at = self.marks.partition_point(|mark| mark.revision < next);
        let mark = self.marks.get(at)?;
        Some(Self {
            first: mark.revision,
            revision: self.revision,
            events: self.events - mark.events,
            body: self.body.slice(mark.bytes..),
            marks: Vec::new(),
        })
    }
}

/// Makes chunks of events in revision order.
#[derive(Debug)]
pub(super) struct Builder {
    /// The events are new: those beyond the limits are read from history later.
    is_live: bool,
    /// Some watchers get only the later part.
    has_late: bool,
    marks: Vec<Mark>,
    chunks: Vec<Chunk>,
    /// Bytes of `chunks`.
    bytes: usize,
    /// The chunk being made.
    open: BytesMut,
    events: usize,
    first: i64,
    /// Revision of the last event.
    current: i64,
    /// The part of `open` before that revision.
    mark: Mark,
    missed: Option<i64>,
}

/// A place between two events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    bytes: usize,
    events: usize,
    revision: i64,
}

/// The result of a builder.
pub(super) struct Built {
    pub chunks: Vec<Chunk>,
    /// The first revision that was left out.
    pub missed: Option<i64>,
}

impl Builder {
    pub(super) fn new(is_live: bool, has_late: bool) -> Self {
        Self {
            is_live,
            has_late,
            marks: Vec::new(),
            chunks: Vec::new(),
            bytes: 0,
            open: BytesMut::new(),
            events: 0,
            first: 0,
            current: 0,
            mark: Mark::default(),
            missed: None,
        }
    }

    /// Adds an event, with the record of the version before if one is given. Returns its size.
    pub(super) fn append(&mut self, event: &EventRecord<'_>, previous: Option<&[u8]>) -> usize {
        let revision = event.revision.main;
        assert!(revision >= self.current, "events come in revision order");
        if revision != self.current {
            self.begin(revision);
        }
        if self.missed.is_some() {
            return 0;
        }
        let len = event.encoded_len(previous);
        let size = 1 + encoded_len_varint(len as u64) + len;
        self.open.reserve(size);
        self.open.put_u8(EVENTS_TAG);
        encode_varint(len as u64, &mut self.open);
        event.append(previous, &mut self.open);
        self.events += 1;
        let bytes_of_revision = self.open.len() - self.mark.bytes;
        let is_large = bytes_of_revision > limits::WATCH_LIVE_REVISION_BYTES_MAX
            || self.events - self.mark.events > limits::WATCH_LIVE_REVISION_EVENTS_MAX;
        if self.is_live && is_large {
            self.missed = Some(revision);
            self.drop_current();
        }
        size
    }

    fn begin(&mut self, revision: i64) {
        if self.open.len() >= limits::WATCH_CHUNK_BYTES {
            self.cut();
        }
        if self.is_live && self.missed.is_none() && self.bytes + self.open.len() >= limits::WATCH_QUEUE_BYTES_MAX {
            self.missed = Some(revision);
        }
        if self.missed.is_some() {
            return;
        }
        self.mark = Mark { bytes: self.open.len(), events: self.events, revision: self.current };
        self.current = revision;
        if self.has_late {
            self.marks.push(Mark { revision, ..self.mark });
        }
        if self.events == 0 {
            self.first = revision;
        }
    }

    fn cut(&mut self) {
        if self.events > 0 {
            let body = self.open.split().freeze();
            self.bytes += body.len();
            let (first, revision, events) = (self.first, self.current, self.events);
            self.chunks.push(Chunk { first, revision, events, body, marks: std::mem::take(&mut self.marks) });
        }
        self.events = 0;
        self.mark = Mark { revision: self.current, ..Mark::default() };
    }

    fn drop_current(&mut self) {
        self.open.truncate(self.mark.bytes);
        self.events = self.mark.events;
        self.marks.pop_if(|mark| mark.revision == self.current);
        self.current = self.mark.revision;
    }

    /// The chunks, without the events of a revision that may not be complete.
    pub(super) fn finish(mut self, incomplete: Option<i64>) -> Built {
        if incomplete == Some(self.current) {
            self.drop_current();
        }
        self.cut();
        Built { chunks: self.chunks, missed: self.missed }
    }
}

/// Cuts the events of one response into pieces below `limit` bytes each where that is possible, at least one event per piece.
pub(super) fn fragments(body: &Bytes, limit: usize) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < body.len() {
        let mut rest = &body[at + 1..];
        let before = rest.len();
        let len = prost::encoding::decode_varint(&mut rest).expect("events are encoded here") as usize;
        let end = at + 1 + (before - rest.len()) + len;
        if end - start >= limit && at > start {
            pieces.push(body.slice(start..at));
            start = at;
        }
        at = end;
    }
    pieces.push(body.slice(start..));
    pieces
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{
        mvcc::{ChangeKind, RecordFields, Revision},
        proto::etcdserverpb::WatchResponse,
    };

    fn add(builder: &mut Builder, main: i64, sub: i64, value_len: usize) {
        let value = vec![7; value_len];
        let fields = RecordFields { key: b"k", mod_revision: main, value: &value, ..RecordFields::default() };
        let record = fields.to_record();
        let event = EventRecord {
            kind: ChangeKind::Put,
            revision: Revision::new(main, sub),
            key: b"k",
            record: &record,
            created: 1,
        };
        let before = builder.open.len();
        let size = builder.append(&event, None);
        assert!(builder.missed.is_some() || builder.open.len() == size || builder.open.len() == before + size);
    }

    fn revisions(chunk: &Chunk) -> Vec<i64> {
        let response = WatchResponse::decode(chunk.body.clone()).unwrap();
        assert_eq!(response.events.len(), chunk.events);
        response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect()
    }

    #[test]
    fn a_revision_is_never_split() {
        let mut builder = Builder::new(false, true);
        let half = limits::WATCH_CHUNK_BYTES / 2;
        for (main, sub) in [(2, 0), (3, 0), (3, 1), (3, 2), (3, 3), (4, 0), (5, 0), (5, 1)] {
            add(&mut builder, main, sub, half);
        }
        let built = builder.finish(Some(5));
        assert_eq!(built.missed, None);
        let parts: Vec<Vec<i64>> = built.chunks.iter().map(revisions).collect();
        assert_eq!(parts, [vec![2, 3, 3, 3, 3], vec![4]]);
        assert_eq!((built.chunks[0].first, built.chunks[0].revision), (2, 3));
        let later = built.chunks[0].from(3).unwrap();
        assert_eq!((later.first, revisions(&later)), (3, vec![3, 3, 3, 3]));
        assert_eq!(built.chunks[0].from(1), Some(built.chunks[0].clone()));
        assert_eq!(built.chunks[0].from(4), None);
    }

    #[test]
    fn live_events_beyond_the_limits_are_left_to_history() {
        let mut builder = Builder::new(true, false);
        for main in 2..100_000 {
            add(&mut builder, main, 0, 100);
        }
        let built = builder.finish(None);
        let last = built.chunks.last().unwrap().revision;
        assert_eq!(built.missed, Some(last + 1));
        assert!(built.chunks.iter().map(|chunk| chunk.body.len()).sum::<usize>() < 2 * limits::WATCH_QUEUE_BYTES_MAX);

        let mut builder = Builder::new(true, false);
        add(&mut builder, 2, 0, 10);
        for sub in 0..=limits::WATCH_LIVE_REVISION_EVENTS_MAX {
            add(&mut builder, 3, sub as i64, 0);
        }
        add(&mut builder, 4, 0, 10);
        let built = builder.finish(None);
        assert_eq!(built.missed, Some(3));
        assert_eq!(built.chunks.iter().map(revisions).collect::<Vec<_>>(), [[2]]);
    }

    #[test]
    fn fragments_stay_below_the_limit_and_hold_everything() {
        let mut builder = Builder::new(false, true);
        for sub in 0..50 {
            add(&mut builder, 2, sub, 10 * sub as usize);
        }
        let body = builder.finish(None).chunks.remove(0).body;
        for limit in [1, 100, 700, body.len(), body.len() + 1] {
            let pieces = fragments(&body, limit);
            assert_eq!(pieces.concat(), body);
            let events = |piece: &Bytes| WatchResponse::decode(piece.clone()).unwrap().events.len();
            assert!(pieces.iter().all(|piece| piece.len() < limit || events(piece) == 1));
            assert_eq!(pieces.iter().map(events).sum::<usize>(), 50);
        }
    }
}
