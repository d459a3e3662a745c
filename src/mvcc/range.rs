//! Range: selection, order and limit of keys, and the encoded answer.
//!
//! The answer of a large range is not built in memory. The range is walked twice: [`RangeReader::measure`] finds the exact encoded
//! size, which the frame begins with, and [`RangeReader::fill`] then returns the bytes in pieces. Both work in bounded steps.
//!
//! | order asked for | plan | memory |
//! |---|---|---|
//! | key ascending, or none | walk forwards, twice | none |
//! | key descending | walk backwards, twice | none |
//! | version, create, mod, value | walk once into a heap, then sorted items | 24 bytes per key of the result |
//!
//! | phase of `measure` | in a step | next |
//! |---|---|---|
//! | Count | counts live keys of the range, whole subtrees at a time | Walk, or Ready if only the count is asked for |
//! | Walk | adds up sizes, or fills the heap | Ready, or Drain |
//! | Drain | empties the heap into order, adding up sizes | Ready |
//! | Ready | `fill` may be called | |
//!
//! Filters need only revisions, which the index has, so only records of the answer are read. A stored record is the encoded
//! key-value, so an answer is copied, not encoded; only keys-only answers are made from the index.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{
    Error, Failure, Refusal,
    key_index::KeyVersion,
    range_order::{Item, Order},
    record::RecordFields,
    revision::Revision,
    tree_cursor::TreeEntry,
    tree_index::KeyRange,
    view::{KVS_TAG, View, index_fields},
};
use crate::{
    base::limits::RANGE_FILL_ENTRIES_MAX,
    proto::{
        etcdserverpb::{
            RangeRequest,
            range_request::{SortOrder, SortTarget},
        },
        mvccpb::KeyValue,
    },
};

/// Keys in a leaf of the index, roughly: turns a budget of entries into one of leaves.
const ENTRIES_PER_LEAF: usize = 32;

/// The options of a range request. Zero switches a limit or filter off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeOptions {
    pub key: Bytes,
    pub range_end: Bytes,
    pub limit: i64,
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

/// Size of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Encoded size of all `kvs` fields, tags and lengths included.
    pub kvs_bytes: u64,
    /// Number of `kvs` fields.
    pub kvs: u64,
    /// Keys of the range, without limit and filters.
    pub count: i64,
    /// Whether the limit left keys out.
    pub more: bool,
}

/// A small answer, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeResult {
    pub kvs: Vec<KeyValue>,
    pub count: i64,
    pub more: bool,
    /// The store's revision at the time of the read, for the header.
    pub revision: i64,
}

/// A part of an answer that is not measured first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub kvs: u64,
    /// The next key, if the range does not end here.
    pub next: Option<Bytes>,
    /// Whether the limit ends the answer here.
    pub cut_off: bool,
}

/// One range over one view.
#[derive(Debug)]
pub struct RangeReader {
    view: View,
    options: RangeOptions,
    at: i64,
    /// Ranks of the first key of the range and of the first key after it.
    first: u64,
    end: u64,
    plan: Plan,
    phase: Phase,
    measured: Measured,
    /// Keys visited in this pass.
    walked: u64,
    /// The heap while walking, then the result in order.
    items: Vec<Item>,
    filled: u64,
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    Forwards,
    Backwards,
    /// `taken_max`: how many keys in key order are sorted at all.
    Sorted {
        order: Order,
        taken_max: u64,
    },
}

#[derive(Debug)]
enum Phase {
    Count { from: Vec<u8> },
    Walk,
    Drain,
    Ready,
}

/// One key-value as it goes into the answer.
enum Body<'v> {
    Record(&'v [u8]),
    Fields(RecordFields<'v>),
}

impl RangeOptions {
    /// From a request; `None` if a sort option is none of the known values.
    #[must_use]
    pub fn from_request(request: &RangeRequest) -> Option<Self> {
        Some(Self {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            limit: request.limit,
            revision: request.revision,
            sort_order: SortOrder::try_from(request.sort_order).ok()?,
            sort_target: SortTarget::try_from(request.sort_target).ok()?,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: request.min_mod_revision,
            max_mod_revision: request.max_mod_revision,
            min_create_revision: request.min_create_revision,
            max_create_revision: request.max_create_revision,
        })
    }

    #[must_use]
    pub fn range(&self) -> KeyRange<'_> {
        KeyRange::new(&self.key, &self.range_end)
    }

    fn has_filters(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }

    fn passes(&self, version: &KeyVersion) -> bool {
        let modified = version.modified.main;
        let created = version.created;
        (self.max_mod_revision == 0 || modified <= self.max_mod_revision)
            && (self.min_mod_revision == 0 || modified >= self.min_mod_revision)
            && (self.max_create_revision == 0 || created <= self.max_create_revision)
            && (self.min_create_revision == 0 || created >= self.min_create_revision)
    }

    /// Keys the answer may hold.
    fn kvs_max(&self) -> u64 {
        if self.limit > 0 { self.limit as u64 } else { u64::MAX }
    }

    fn plan(&self) -> Plan {
        match (self.sort_target, self.sort_order) {
            (SortTarget::Key, SortOrder::Descend) => Plan::Backwards,
            (SortTarget::Key, _) => Plan::Forwards,
            (target, sort_order) => {
                // As in etcd: without an order the scan itself is limited, to one more than asked for, and its result is sorted.
                let limit_first = sort_order == SortOrder::None && !self.has_filters();
                let order = Order { target, descending: sort_order == SortOrder::Descend };
                let taken_max = if limit_first { self.kvs_max().saturating_add(1) } else { u64::MAX };
                Plan::Sorted { order, taken_max }
            }
        }
    }
}

impl RangeReader {
    /// Refuses revisions the view cannot answer for.
    pub fn new(view: View, options: RangeOptions) -> Result<Self, Refusal> {
        let at = view.read_revision(options.revision)?;
        let (first, end) = view.index.ranks(options.range());
        let from = options.key.to_vec();
        Ok(Self {
            plan: options.plan(),
            view,
            options,
            at,
            first,
            end,
            phase: Phase::Count { from },
            measured: Measured::default(),
            walked: 0,
            items: Vec::new(),
            filled: 0,
        })
    }

    /// The store's revision at the time of the read, for the header.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.view.revision
    }

    /// Measures about `budget` keys; the size when it is known.
    pub fn measure(&mut self, budget: usize) -> Result<Option<Measured>, Failure> {
        let mut left = budget.max(1);
        loop {
            let done = match &self.phase {
                Phase::Count { .. } => self.count(left),
                Phase::Walk => self.walk(&mut left)?,
                Phase::Drain => self.drain(&mut left)?,
                Phase::Ready => return Ok(Some(self.measured)),
            };
            if !done {
                return Ok(None);
            }
            self.phase = self.next_phase();
        }
    }

    fn next_phase(&self) -> Phase {
        match (&self.phase, self.plan) {
            (Phase::Count { .. }, _) if self.options.count_only => Phase::Ready,
            (Phase::Count { .. }, _) => Phase::Walk,
            (Phase::Walk, Plan::Sorted { .. }) => Phase::Drain,
            _ => Phase::Ready,
        }
    }

    fn count(&mut self, budget: usize) -> bool {
        let Phase::Count { from } = &self.phase else {
            unreachable!("called in this phase only");
        };
        let leaves = budget / ENTRIES_PER_LEAF + 1;
        let range = self.options.range();
        let slice = self.view.index.count_slice(range, from, self.at, leaves);
        self.measured.count += slice.count as i64;
        match slice.resume {
            Some(from) => {
                self.phase = Phase::Count { from };
                false
            }
            None => true,
        }
    }

    fn walk(&mut self, left: &mut usize) -> Result<bool, Failure> {
        let mut measured = self.measured;
        let mut items = std::mem::take(&mut self.items);
        let mut walked = self.walked;
        let kvs_max = self.options.kvs_max();
        let done = self.visit(&mut walked, left, &mut |entry, version, rank| {
            if let Plan::Sorted { order, taken_max } = self.plan {
                let item = order.item(version, rank, &self.view)?;
                order.push(&mut items, item, &self.view);
                measured.kvs += 1;
                if items.len() as u64 > kvs_max {
                    order.pop_to_end(&mut items, &self.view);
                    items.pop();
                    measured.more = true;
                }
                return Ok(measured.kvs < taken_max);
            }
            if measured.kvs == kvs_max {
                measured.more = true;
                return Ok(false);
            }
            let body = self.body(entry, version)?;
            measured.kvs += 1;
            measured.kvs_bytes += body.field_len() as u64;
            Ok(true)
        })?;
        self.walked = walked;
        self.items = items;
        self.measured = measured;
        if done {
            self.walked = 0;
        }
        if done && matches!(self.plan, Plan::Sorted { .. }) {
            self.measured.kvs = self.items.len() as u64;
            self.filled = self.measured.kvs;
        }
        Ok(done)
    }

    /// Empties the heap: `filled` counts the items still in it, and the items after them are in order.
    fn drain(&mut self, left: &mut usize) -> Result<bool, Failure> {
        let Plan::Sorted { order, .. } = self.plan else {
            unreachable!("only a sorted plan has a heap");
        };
        while self.filled > 0 {
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            let heap = self.filled as usize;
            order.pop_to_end(&mut self.items[..heap], &self.view);
            let item = self.items[heap - 1];
            self.measured.kvs_bytes += self.item_body(&item)?.field_len() as u64;
            self.filled -= 1;
        }
        Ok(true)
    }

    /// Appends `kvs` fields while they fit into `room` bytes, but at least one; `true` when all are out.
    ///
    /// # Panics
    /// If [`Self::measure`] has not returned a size yet.
    pub fn fill(&mut self, out: &mut BytesMut, room: usize) -> Result<bool, Failure> {
        let start = out.len();
        self.emit(RANGE_FILL_ENTRIES_MAX, &mut |body| {
            let used = out.len() - start;
            let fits = used == 0 || used + body.field_len() <= room;
            if fits {
                body.append_field(out);
            }
            fits
        })
    }

    /// Appends the first `kvs` fields of an answer in key order: those of about `budget` keys that fit into `room` bytes, but one
    /// at least if there is one. Nothing is measured or counted, and the rest needs another request. Called before `measure`.
    ///
    /// # Panics
    /// If the answer has filters or another order.
    pub fn first_piece(&mut self, out: &mut BytesMut, mut budget: usize, room: usize) -> Result<Piece, Failure> {
        assert!(matches!(self.plan, Plan::Forwards) && !self.options.has_filters(), "key by key");
        let start = out.len();
        let kvs_max = self.options.kvs_max();
        let mut piece = Piece::default();
        let mut walked = 0;
        let done = self.visit(&mut walked, &mut budget, &mut |entry, version, _| {
            let body = self.body(entry, version)?;
            piece.cut_off = piece.kvs == kvs_max;
            if piece.cut_off || (piece.kvs > 0 && out.len() - start + body.field_len() > room) {
                piece.next = Some(Bytes::copy_from_slice(entry.key()));
                return Ok(false);
            }
            body.append_field(out);
            piece.kvs += 1;
            Ok(true)
        })?;
        if !done {
            let entry = self.view.index.cursor_at_rank(self.first + walked).next();
            piece.next = entry.map(|entry| Bytes::copy_from_slice(entry.key()));
        }
        Ok(piece)
    }

    /// Passes bodies to `sink` in the order of the answer until it refuses one; `true` when it took all.
    fn emit(&mut self, budget: usize, sink: &mut dyn FnMut(&Body<'_>) -> bool) -> Result<bool, Failure> {
        assert!(matches!(self.phase, Phase::Ready), "measure comes first");
        let mut filled = self.filled;
        let mut walked = self.walked;
        let mut left = budget;
        if matches!(self.plan, Plan::Sorted { .. }) {
            while let Some(item) = self.items.get(filled as usize)
                && left > 0
                && sink(&self.item_body(item)?)
            {
                filled += 1;
                left -= 1;
            }
        } else if filled < self.measured.kvs {
            self.visit(&mut walked, &mut left, &mut |entry, version, _| {
                let taken = sink(&self.body(entry, version)?);
                filled += u64::from(taken);
                Ok(taken && filled < self.measured.kvs)
            })?;
        }
        self.filled = filled;
        self.walked = walked;
        Ok(filled == self.measured.kvs)
    }

    /// Visits keys of the range that exist and pass the filters, from the one with `walked` keys before it. A visitor that returns
    /// `false` ends the walk, and the last key it got is not counted as walked. `true` unless the budget ended first.
    fn visit(
        &self,
        walked: &mut u64,
        left: &mut usize,
        visitor: &mut dyn FnMut(TreeEntry<'_>, KeyVersion, u64) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let index = &self.view.index;
        let total = self.end - self.first;
        let backwards = matches!(self.plan, Plan::Backwards);
        let mut cursor = index.cursor_at_rank(if backwards { self.end - *walked } else { self.first + *walked });
        while *walked < total {
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            let (entry, rank) = if backwards {
                (cursor.previous(), self.end - *walked - 1)
            } else {
                (cursor.next(), self.first + *walked)
            };
            let entry = entry.expect("the range ends where the tree does, or before");
            if let Some(version) = entry.version_at(self.at)
                && self.options.passes(&version)
                && !visitor(entry, version, rank)?
            {
                return Ok(true);
            }
            *walked += 1;
        }
        Ok(true)
    }

    fn item_body(&self, item: &Item) -> Result<Body<'_>, Failure> {
        if !self.answers_from_index() {
            return self.record_body(item.revision());
        }
        let entry = self.view.index.cursor_at_rank(item.rank()).next();
        let entry = entry.expect("an item has its place in the tree of its view");
        let version = entry.version_at(self.at).expect("the item was found there");
        self.body(entry, version)
    }

    fn body<'r>(&'r self, entry: TreeEntry<'r>, version: KeyVersion) -> Result<Body<'r>, Failure> {
        if self.answers_from_index() {
            return Ok(Body::Fields(index_fields(entry.key(), version)));
        }
        self.record_body(version.modified)
    }

    fn record_body(&self, revision: Revision) -> Result<Body<'_>, Failure> {
        let record = self.view.record(revision)?;
        if !self.options.keys_only {
            return Ok(Body::Record(record));
        }
        let fields = RecordFields::of(record, revision)?;
        Ok(Body::Fields(RecordFields { value: &[], ..fields }))
    }

    /// As in etcd: keys-only answers come from the index, without the lease, unless the order needs values.
    fn answers_from_index(&self) -> bool {
        self.options.keys_only && self.options.sort_target != SortTarget::Value
    }
}

impl Body<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Record(record) => record.len(),
            Self::Fields(fields) => fields.encoded_len(),
        }
    }

    fn field_len(&self) -> usize {
        let len = self.len();
        1 + encoded_len_varint(len as u64) + len
    }

    fn append_field(&self, out: &mut BytesMut) {
        let len = self.len();
        out.reserve(self.field_len());
        out.put_u8(KVS_TAG);
        encode_varint(len as u64, out);
        match self {
            Self::Record(record) => out.put_slice(record),
            Self::Fields(fields) => fields.append(out),
        }
    }

    fn to_key_value(&self) -> Result<KeyValue, Failure> {
        match self {
            Self::Record(record) => Ok(RecordFields::of(record, Revision::default())?.to_key_value()),
            Self::Fields(fields) => Ok(fields.to_key_value()),
        }
    }
}

/// A whole range at once, decoded: for answers known to be small and for reads inside a transaction.
pub fn collect(view: &View, options: &RangeOptions) -> Result<RangeResult, Error> {
    let mut reader = RangeReader::new(view.clone(), options.clone())?;
    let measured = loop {
        if let Some(measured) = reader.measure(usize::MAX)? {
            break measured;
        }
    };
    let mut kvs = Vec::with_capacity(measured.kvs as usize);
    let mut failure = None;
    reader.emit(usize::MAX, &mut |body| match body.to_key_value() {
        Ok(kv) => {
            kvs.push(kv);
            true
        }
        Err(error) => {
            failure = Some(error);
            false
        }
    })?;
    match failure {
        Some(failure) => Err(failure.into()),
        None => Ok(RangeResult { kvs, count: measured.count, more: measured.more, revision: view.revision }),
    }
}
