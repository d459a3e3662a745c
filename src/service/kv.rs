//! KV reads: from a view and a request to the encoded answer.
//!
//! ```text
//!   RangeResponse = header | kvs, each a copy of its stored record | more | count
//! ```
//!
//! A read of one key is answered at once, in one buffer, without a decoded message in between. Every other read is a
//! [`RangeJob`]: first its exact size is measured in slices, because a gRPC message starts with its length, then it is filled
//! piece by piece as the client reads. A large answer never exists as a whole.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{encode_varint, encoded_len_varint},
};

use crate::{
    apply::{Stop, View, txn},
    base::{limits, refusal::Refusal},
    mvcc::{self, Failure, Measured, RangeOptions, RangeReader},
    pagefile::Corrupt,
    proto::etcdserverpb::{RangeRequest, ResponseHeader, TxnRequest, range_request::SortTarget},
};

pub(super) const HEADER_TAG: u8 = 0x0a;
pub(super) const MORE_TAG: u8 = 0x18;
pub(super) const COUNT_TAG: u8 = 0x20;

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadStop {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database is damaged: the member stops.
    #[error("{0}")]
    Failed(String),
}

impl From<Corrupt> for ReadStop {
    fn from(corrupt: Corrupt) -> Self {
        Self::Failed(corrupt.to_string())
    }
}

impl From<mvcc::Error> for ReadStop {
    fn from(error: mvcc::Error) -> Self {
        match error {
            mvcc::Error::Refused(refusal) => Self::Refused(refusal.into()),
            mvcc::Error::Failed(failure) => Self::Failed(failure.to_string()),
        }
    }
}

impl From<Failure> for ReadStop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

impl From<Stop> for ReadStop {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(refusal) => Self::Refused(refusal),
            Stop::Failed(failure) => Self::Failed(failure.to_string()),
        }
    }
}

/// The answer to a Range, or the work that leads to it.
pub enum RangeAnswer {
    Whole(Bytes),
    Job(Box<RangeJob>),
}

/// Answers a checked Range from a view.
///
/// # Errors
/// The revision is not there, or the database is damaged.
pub fn range(view: &View, request: &RangeRequest) -> Result<RangeAnswer, ReadStop> {
    if is_point(request) {
        return point(view, request).map(RangeAnswer::Whole);
    }
    RangeJob::new(view, request).map(|job| RangeAnswer::Job(Box::new(job)))
}

/// Whether the request is for one key, without options that need more than its record.
fn is_point(request: &RangeRequest) -> bool {
    let filters =
        request.min_mod_revision | request.max_mod_revision | request.min_create_revision | request.max_create_revision;
    let by_value = request.sort_target == SortTarget::Value as i32 && request.keys_only;
    request.range_end.is_empty() && filters == 0 && !request.count_only && !by_value
}

fn point(view: &View, request: &RangeRequest) -> Result<Bytes, ReadStop> {
    let header = view.header(view.kv.revision());
    let mut out = BytesMut::with_capacity(limits::POINT_ANSWER_BYTES);
    put_header(&header, &mut out);
    if view.kv.point(&request.key, request.revision, request.keys_only, &mut out)? {
        out.put_slice(&[COUNT_TAG, 1]);
    }
    Ok(out.freeze())
}

/// A Range under way: measured first, filled afterwards.
pub struct RangeJob {
    reader: RangeReader,
    header: ResponseHeader,
    head: Bytes,
    tail: Bytes,
    /// Encoded bytes beyond the room of the last call.
    spare: BytesMut,
    measured: Measured,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Measuring,
    Head,
    Kvs,
    Done,
}

impl RangeJob {
    fn new(view: &View, request: &RangeRequest) -> Result<Self, ReadStop> {
        let options = RangeOptions::from_request(request).ok_or(Refusal::InvalidSortOption)?;
        let reader = RangeReader::new(view.kv.clone(), options).map_err(Refusal::from)?;
        Ok(Self {
            header: view.header(reader.revision()),
            reader,
            head: Bytes::new(),
            tail: Bytes::new(),
            spare: BytesMut::new(),
            measured: Measured::default(),
            phase: Phase::Measuring,
        })
    }

    /// Measures for about `budget` keys; `true` when the size is known.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn measure(&mut self, budget: usize) -> Result<bool, ReadStop> {
        if self.phase != Phase::Measuring {
            return Ok(true);
        }
        let Some(measured) = self.reader.measure(budget)? else { return Ok(false) };
        self.measured = measured;
        let mut head = BytesMut::new();
        put_header(&self.header, &mut head);
        self.head = head.freeze();
        self.tail = tail(measured.more, measured.count);
        self.phase = Phase::Head;
        Ok(true)
    }

    /// Exact size of the answer.
    ///
    /// # Panics
    /// If it is not measured yet.
    #[must_use]
    pub fn length(&self) -> u64 {
        assert_ne!(self.phase, Phase::Measuring, "an answer is measured before it is sent");
        self.head.len() as u64 + self.measured.kvs_bytes + self.tail.len() as u64
    }

    /// Appends the next at most `room` bytes. `true` after the last.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn fill(&mut self, out: &mut BytesMut, room: usize) -> Result<bool, ReadStop> {
        if self.spare.is_empty() {
            let start = out.len();
            self.next_part(out, room)?;
            if out.len() - start > room {
                self.spare = out.split_off(start + room);
            }
        } else {
            out.extend_from_slice(&self.spare.split_to(room.min(self.spare.len())));
        }
        Ok(self.phase == Phase::Done && self.spare.is_empty())
    }

    /// Appends the next part, which may be longer than `room`: a record is never cut here.
    fn next_part(&mut self, out: &mut BytesMut, room: usize) -> Result<(), Failure> {
        match self.phase {
            Phase::Measuring => unreachable!("an answer is measured before it is sent"),
            Phase::Head => {
                out.put_slice(&self.head);
                self.phase = Phase::Kvs;
            }
            Phase::Kvs => {
                if self.reader.fill(out, room)? {
                    out.put_slice(&self.tail);
                    self.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
        Ok(())
    }

    /// The whole answer in one buffer, for small ones.
    ///
    /// # Errors
    /// The database is damaged.
    pub fn whole(mut self) -> Result<Bytes, ReadStop> {
        let length = usize::try_from(self.length()).expect("small");
        let mut out = BytesMut::with_capacity(length);
        while !self.fill(&mut out, length.max(1))? {}
        assert_eq!(out.len(), length, "an answer is as long as it was measured");
        Ok(out.freeze())
    }
}

/// The fields after the keys and values.
pub(super) fn tail(more: bool, count: i64) -> Bytes {
    let mut out = BytesMut::new();
    if more {
        out.put_slice(&[MORE_TAG, 1]);
    }
    if count != 0 {
        out.put_u8(COUNT_TAG);
        encode_varint(count.cast_unsigned(), &mut out);
    }
    out.freeze()
}

pub(super) fn put_header(header: &ResponseHeader, out: &mut BytesMut) {
    let length = header.encoded_len();
    out.reserve(1 + encoded_len_varint(length as u64) + length);
    out.put_u8(HEADER_TAG);
    encode_varint(length as u64, out);
    header.encode_raw(out);
}

/// Answers a read-only transaction from a view.
///
/// # Errors
/// A range asks for a revision that is not there, or the database is damaged.
pub fn read_txn(view: &View, request: &TxnRequest) -> Result<Bytes, ReadStop> {
    let mut response = txn::read(&view.kv, request)?;
    response.header = Some(view.header(view.kv.revision()));
    Ok(response.encode_to_vec().into())
}
