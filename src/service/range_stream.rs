//! RangeStream: a range in pieces, all of one revision.
//!
//! ```text
//!   RangeStreamResponse = prefix | [header] | kvs, each a copy of its stored record | [more | count]
//!                                  in the last one                                    in the last one
//! ```
//!
//! Every piece is read from the view that is newest by then, so a slow client pins nothing; what it asks for is the revision of the
//! first piece, and a compaction past that ends the stream, as in etcd. A piece is read once and copied once: the records go
//! behind a gap, and what stands before them goes into the gap when their size is known.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, encoding::encode_varint};

use super::kv::{ReadStop, put_header, tail};
use crate::{
    apply::View,
    base::{
        limits::{RANGE_KEYS_PER_SLICE, RANGE_STREAM_PIECE_BYTES},
        refusal::Refusal,
    },
    mvcc::{self, KeyRange, RangeOptions, RangeReader},
    proto::etcdserverpb::{
        RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader,
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
}

/// What is to be sent next.
pub struct StreamPiece {
    /// `None`: nothing was found in as many keys as one turn may visit.
    pub message: Option<Bytes>,
    pub last: bool,
}

impl RangeStreamJob {
    /// Of a checked request; `target_bytes` is `--max-request-bytes`.
    #[must_use]
    pub fn new(request: RangeRequest, target_bytes: usize) -> Self {
        let limit = if request.limit > 0 { request.limit } else { i64::MAX };
        let mut job = Self { request, header: None, limit, sent: 0, target_bytes };
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
        if self.request.count_only {
            return self.count(view);
        }
        if self.is_by_key() { self.next_by_key(view) } else { self.next_by_target(view) }
    }

    fn is_by_key(&self) -> bool {
        self.request.sort_target() == SortTarget::Key && self.request.sort_order() != SortOrder::Descend
    }

    fn count(&self, view: &View) -> Result<StreamPiece, ReadStop> {
        let found = mvcc::collect(&view.kv, &self.options()?)?;
        let header = Some(view.header(found.revision));
        let response = RangeResponse { header, count: found.count, ..RangeResponse::default() };
        Ok(StreamPiece { message: Some(encoded(response)), last: true })
    }

    fn options(&self) -> Result<RangeOptions, ReadStop> {
        Ok(RangeOptions::from_request(&self.request).ok_or(Refusal::InvalidSortOption)?)
    }

    fn next_by_key(&mut self, view: &View) -> Result<StreamPiece, ReadStop> {
        let options = self.options()?;
        let mut reader = RangeReader::new(view.kv.clone(), options).map_err(Refusal::from)?;
        let header = *self.header.get_or_insert_with(|| view.header(reader.revision()));
        let mut out = BytesMut::with_capacity(GAP_BYTES + RANGE_STREAM_PIECE_BYTES);
        out.put_bytes(0, GAP_BYTES);
        let piece = reader.first_piece(&mut out, RANGE_KEYS_PER_SLICE, RANGE_STREAM_PIECE_BYTES)?;
        self.sent += i64::try_from(piece.kvs).expect("fits");
        if let (Some(next), false) = (&piece.next, piece.cut_off) {
            self.go_on_from(next.clone(), header.revision);
            if self.limit != i64::MAX {
                self.request.limit = self.limit - self.sent;
            }
            let message = (piece.kvs > 0).then(|| framed(out, None, &Bytes::new()));
            return Ok(StreamPiece { message, last: false });
        }
        let total = self.sent + self.count_from(view, piece.next, header.revision)?;
        let message = framed(out, Some(&header), &tail(piece.cut_off, total));
        Ok(StreamPiece { message: Some(message), last: true })
    }

    /// Keys of the range from `next` on.
    fn count_from(&self, view: &View, next: Option<Bytes>, revision: i64) -> Result<i64, ReadStop> {
        let Some(next) = next else { return Ok(0) };
        let revision = if self.request.revision == 0 { revision } else { self.request.revision };
        let rest = view.kv.count(KeyRange::new(&next, &self.request.range_end), revision);
        Ok(i64::try_from(rest.map_err(Refusal::from)?).expect("fits"))
    }

    fn go_on_from(&mut self, key: Bytes, revision: i64) {
        self.request.key = key;
        if self.request.revision == 0 {
            self.request.revision = revision;
        }
    }

    /// By another target than the key, in no order: etcd goes on behind the last key of such a sort, wherever that is.
    fn next_by_target(&mut self, view: &View) -> Result<StreamPiece, ReadStop> {
        let found = mvcc::collect(&view.kv, &self.options()?)?;
        let header = *self.header.get_or_insert_with(|| view.header(found.revision));
        self.sent += i64::try_from(found.kvs.len()).expect("fits");
        let last = !found.more || self.sent == self.limit;
        let next_key: Option<Bytes> = found.kvs.last().map(|kv| [&kv.key[..], &[0]].concat().into());
        // etcd counts what follows the last key sent, also where a sort target put that key out of order.
        let rest = if found.more { self.count_from(view, next_key.clone(), header.revision)? } else { 0 };
        let mut response = RangeResponse { kvs: found.kvs, ..RangeResponse::default() };
        let size = response.encoded_len();
        if last {
            response.header = Some(header);
            response.more = found.more;
            response.count = self.sent + rest;
        } else {
            self.go_on_from(next_key.unwrap_or_default(), header.revision);
            self.request.limit = self.adapted(size).min(self.limit - self.sent);
        }
        Ok(StreamPiece { message: Some(encoded(response)), last })
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

fn encoded(response: RangeResponse) -> Bytes {
    RangeStreamResponse { range_response: Some(response) }.encode_to_vec().into()
}

/// A message around the fields that stand behind the gap of `out`.
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
