//! RangeStream: a range in pieces, all of one revision.
//!
//! ```text
//!   RangeStreamResponse = prefix | [header] | kvs, each a copy of its stored record | [more | count]
//!                                  in the last one                                    in the last one
//! ```
//!
//! Every piece is read from the newest view, so a slow client keeps no old view. All pieces are of the revision of the
//! first one, and a compaction past that ends the stream, as in etcd. A piece is read once and copied once: the records are written
//! after a gap, and the fields before them are put into the gap when their size is known.
//!
//! The last piece has the number of keys. Keys that were not sent are counted before it, in slices, on the view of that piece.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, encoding::encode_varint};

use super::kv::{ReadStop, put_header, tail};
use crate::{
    apply::View,
    base::{
        limits::{RANGE_KEYS_PER_SLICE, RANGE_STREAM_PIECE_BYTES},
        refusal::Refusal,
    },
    mvcc::{self, RangeOptions, RangeReader},
    proto::etcdserverpb::{
        RangeRequest, RangeResponse, ResponseHeader,
        range_request::{SortOrder, SortTarget},
    },
};

const RANGE_RESPONSE_TAG: u8 = 0x0a;
/// Room for a prefix and a header: three lengths of at most ten bytes, and four numbers with their tags.
const GAP_BYTES: usize = 96;
/// Keys in the first piece of a range by another target than the key; later ones adapt to their size.
const FIRST_PIECE_KEYS: i64 = 10;

/// One RangeStream on its way.
pub struct RangeStreamJob {
    request: RangeRequest,
    header: Option<ResponseHeader>,
    limit: i64,
    sent: i64,
    target_bytes: usize,
    last: Option<LastPiece>,
}

/// The last piece, without the count of the keys that were not sent.
struct LastPiece {
    rest: RangeReader,
    header: ResponseHeader,
    /// Records after a gap.
    out: BytesMut,
    more: bool,
}

/// The next message.
pub struct StreamPiece {
    /// `None`: one turn's keys were visited without finding a key, or without counting all.
    pub message: Option<Bytes>,
    pub last: bool,
}

impl RangeStreamJob {
    /// A stream for a checked request; `target_bytes` is `--max-request-bytes`.
    #[must_use]
    pub fn new(request: RangeRequest, target_bytes: usize) -> Self {
        let limit = if request.limit > 0 { request.limit } else { i64::MAX };
        let mut job = Self { request, header: None, limit, sent: 0, target_bytes, last: None };
        if !job.is_by_key() {
            job.request.limit = FIRST_PIECE_KEYS.min(limit);
        }
        job
    }

    /// The next piece.
    ///
    /// # Errors
    /// The revision is not there (any more), or the database is damaged.
    pub fn next(&mut self, view: &View) -> Result<StreamPiece, ReadStop> {
        if self.last.is_none() {
            let piece = if self.request.count_only {
                self.only_count(view)
            } else if self.is_by_key() {
                self.next_by_key(view)
            } else {
                self.next_by_target(view)
            }?;
            if let Some(piece) = piece {
                return Ok(piece);
            }
        }
        self.resume_counting()
    }

    fn is_by_key(&self) -> bool {
        self.request.sort_target() == SortTarget::Key && self.request.sort_order() != SortOrder::Descend
    }

    /// Counts for a while; the last piece when all is counted.
    fn resume_counting(&mut self) -> Result<StreamPiece, ReadStop> {
        let last = self.last.as_mut().expect("there is no other piece");
        let Some(rest) = last.rest.measure(RANGE_KEYS_PER_SLICE)? else {
            return Ok(StreamPiece { message: None, last: false });
        };
        let tail = tail(last.more, self.sent + rest.count);
        let message = framed(std::mem::take(&mut last.out), Some(&last.header), &tail);
        Ok(StreamPiece { message: Some(message), last: true })
    }

    fn only_count(&mut self, view: &View) -> Result<Option<StreamPiece>, ReadStop> {
        let rest = RangeReader::new(view.kv.clone(), self.options()?).map_err(Refusal::from)?;
        let header = view.header(rest.revision());
        self.last = Some(LastPiece { rest, header, out: after_gap(0), more: false });
        Ok(None)
    }

    fn options(&self) -> Result<RangeOptions, ReadStop> {
        Ok(RangeOptions::from_request(&self.request).ok_or(Refusal::InvalidSortOption)?)
    }

    fn next_by_key(&mut self, view: &View) -> Result<Option<StreamPiece>, ReadStop> {
        let options = self.options()?;
        let mut reader = RangeReader::new(view.kv.clone(), options).map_err(Refusal::from)?;
        let header = *self.header.get_or_insert_with(|| view.header(reader.revision()));
        let mut out = after_gap(RANGE_STREAM_PIECE_BYTES);
        let piece = reader.first_piece(&mut out, RANGE_KEYS_PER_SLICE, RANGE_STREAM_PIECE_BYTES)?;
        self.sent += i64::try_from(piece.kvs).expect("fits");
        if let (Some(next), false) = (&piece.next, piece.cut_off) {
            self.continue_from(next.clone(), header.revision);
            if self.limit != i64::MAX {
                self.request.limit = self.limit - self.sent;
            }
            let message = (piece.kvs > 0).then(|| framed(out, None, &Bytes::new()));
            return Ok(Some(StreamPiece { message, last: false }));
        }
        self.finish(view, piece.next, header, out, piece.cut_off)
    }

    /// The last piece holds what is in `out`; the keys from `next` on are only counted.
    fn finish(
        &mut self,
        view: &View,
        next: Option<Bytes>,
        header: ResponseHeader,
        out: BytesMut,
        more: bool,
    ) -> Result<Option<StreamPiece>, ReadStop> {
        let Some(key) = next else {
            let message = framed(out, Some(&header), &tail(more, self.sent));
            return Ok(Some(StreamPiece { message: Some(message), last: true }));
        };
        let revision = if self.request.revision == 0 { header.revision } else { self.request.revision };
        let range_end = self.request.range_end.clone();
        let options = RangeOptions { key, range_end, revision, count_only: true, ..RangeOptions::default() };
        let rest = RangeReader::new(view.kv.clone(), options).map_err(Refusal::from)?;
        self.last = Some(LastPiece { rest, header, out, more });
        Ok(None)
    }

    fn continue_from(&mut self, key: Bytes, revision: i64) {
        self.request.key = key;
        if self.request.revision == 0 {
            self.request.revision = revision;
        }
    }

    /// By another target than the key, in no order: etcd continues after the last key of such a sort, wherever that is.
    fn next_by_target(&mut self, view: &View) -> Result<Option<StreamPiece>, ReadStop> {
        let found = mvcc::collect(&view.kv, &self.options()?)?;
        let header = *self.header.get_or_insert_with(|| view.header(found.revision));
        self.sent += i64::try_from(found.kvs.len()).expect("fits");
        let last = !found.more || self.sent == self.limit;
        let next: Option<Bytes> = found.kvs.last().map(|kv| [&kv.key[..], &[0]].concat().into());
        let response = RangeResponse { kvs: found.kvs, ..RangeResponse::default() };
        let size = response.encoded_len();
        let mut out = after_gap(size);
        response.encode(&mut out).expect("a BytesMut grows");
        if last {
            // etcd counts the keys after the last one sent, even if a sort target put that key out of order.
            return self.finish(view, next.filter(|_| found.more), header, out, found.more);
        }
        self.continue_from(next.unwrap_or_default(), header.revision);
        self.request.limit = self.adapted(size).min(self.limit - self.sent);
        let message = framed(out, None, &Bytes::new());
        Ok(Some(StreamPiece { message: Some(message), last: false }))
    }

    /// Doubles or halves the piece when it was far from the target.
    fn adapted(&self, size: usize) -> i64 {
        let keys = self.request.limit;
        if size < self.target_bytes / 2 {
            keys.saturating_mul(2)
        } else if size > self.target_bytes * 2 {
            (keys / 2).max(1)
        } else {
            keys
        }
    }
}

/// A buffer for records, with a gap for the fields before them.
fn after_gap(bytes: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(GAP_BYTES + bytes);
    out.put_bytes(0, GAP_BYTES);
    out
}

/// A message with the fields that follow the gap of `out`.
fn framed(mut out: BytesMut, header: Option<&ResponseHeader>, tail: &Bytes) -> Bytes {
    let mut head = BytesMut::new();
    header.inspect(|header| put_header(header, &mut head));
    out.put_slice(tail);
    let length = head.len() + out.len() - GAP_BYTES;
    let mut prefix = BytesMut::new();
    prefix.put_u8(RANGE_RESPONSE_TAG);
    encode_varint(length as u64, &mut prefix);
    prefix.unsplit(head);
    let start = GAP_BYTES.checked_sub(prefix.len()).expect("the gap has room for every prefix");
    out[start..GAP_BYTES].copy_from_slice(&prefix);
    out.advance(start);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        apply::{Alarms, RaftStatus, Tally},
        cluster::membership::Membership,
        mvcc::{Store, test_disk::Disk},
        proto::etcdserverpb::RangeStreamResponse,
    };

    const KEYS: i64 = 3 * RANGE_KEYS_PER_SLICE as i64;

    /// A store in which every key was put twice, so that counting at a revision in between visits every key.
    fn view(disk: &mut Disk) -> View {
        let mut store = Store::default();
        for number in (0..KEYS).chain(0..KEYS) {
            let mut txn = store.write(&mut disk.backend);
            txn.put(format!("key{number:05}").as_bytes(), b"value", 0, false).expect("sound");
            txn.end();
        }
        View {
            kv: store.view(&disk.backend),
            applied: 1,
            raft: RaftStatus::default(),
            membership: Arc::new(Membership::new(1, 2)),
            alarms: Arc::new(Alarms::default()),
            auth: Arc::default(),
            storage_version: None,
            tally: Tally::default(),
        }
    }

    /// Sends everything. Returns the number of turns and the last piece.
    fn sent(view: &View, request: RangeRequest) -> (usize, RangeResponse) {
        let mut job = RangeStreamJob::new(request, 1 << 20);
        for turn in 1.. {
            let piece = job.next(view).expect("the revision is there");
            if piece.last {
                let message = piece.message.expect("the last one has the header");
                let response = RangeStreamResponse::decode(message).expect("a message");
                return (turn, response.range_response.expect("it has one"));
            }
        }
        unreachable!("it ends")
    }

    #[test]
    fn what_is_not_sent_is_counted_in_slices() {
        let mut disk = Disk::default();
        let view = view(&mut disk);
        let everything =
            RangeRequest { key: "key".into(), range_end: "kez".into(), revision: KEYS + 1, ..Default::default() };
        let (turns, last) = sent(&view, RangeRequest { count_only: true, ..everything.clone() });
        assert_eq!((last.count, last.kvs.len(), last.more), (KEYS, 0, false));
        assert!(turns > 1, "counted in one go");

        let (turns, last) = sent(&view, RangeRequest { limit: 3, ..everything.clone() });
        assert_eq!((last.count, last.kvs.len(), last.more), (KEYS, 3, true));
        assert!(turns > 1, "counted in one go");

        let by_version = SortTarget::Version as i32;
        let (_, last) = sent(&view, RangeRequest { limit: 5, sort_target: by_version, ..everything });
        assert_eq!((last.count, last.kvs.len(), last.more), (KEYS, 5, true));
    }
}
