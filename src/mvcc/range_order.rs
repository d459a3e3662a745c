//! Orders of a range other than by key: a heap of small items, filled and emptied in bounded steps.
//!
//! While keys are walked, the heap keeps the first `limit` items in the order, with the last of them on top. Emptying it yields the
//! items from the last to the first. Both cost O(log n) per item, so a sort of a million keys never holds a core for longer than one slice.

use std::cmp::Ordering;

use super::{Failure, key_index::KeyVersion, record::RecordFields, revision::Revision, view::View};
use crate::proto::etcdserverpb::range_request::SortTarget;

/// A key of the result: the place of its record, its place in the index, and its sort value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    sort: u64,
    main: i64,
    sub: u32,
    rank: u32,
}

const _: () = assert!(size_of::<Item>() == 24);

impl Item {
    pub(super) fn revision(&self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }

    pub(super) fn rank(&self) -> u64 {
        u64::from(self.rank)
    }
}

/// The order asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) target: SortTarget,
    pub(super) descending: bool,
}

impl Order {
    /// The item of one key. Its record is read only if the order needs the value.
    pub(super) fn item(self, version: KeyVersion, rank: u64, view: &View) -> Result<Item, Failure> {
        let sort = match self.target {
            SortTarget::Key => 0,
            SortTarget::Version => number(version.version),
            SortTarget::Create => number(version.created),
            SortTarget::Mod => number(version.modified.main),
            SortTarget::Value => {
                let record = view.record(version.modified)?;
                value_prefix(RecordFields::of(record, version.modified)?.value)
            }
        };
        Ok(Item {
            sort,
            main: version.modified.main,
            sub: version.modified.sub as u32,
            rank: u32::try_from(rank).expect("fewer than four billion keys"),
        })
    }

    /// Ties are in key order, whatever the direction.
    fn compare(self, a: &Item, b: &Item, view: &View) -> Ordering {
        let mut order = a.sort.cmp(&b.sort);
        if order == Ordering::Equal && self.target == SortTarget::Value {
            order = value_of(a, view).cmp(value_of(b, view));
        }
        if self.descending {
            order = order.reverse();
        }
        order.then(a.rank.cmp(&b.rank))
    }

    /// Adds an item.
    pub(super) fn push(self, heap: &mut Vec<Item>, item: Item, view: &View) {
        heap.push(item);
        let mut place = heap.len() - 1;
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.compare(&heap[place], &heap[parent], view) != Ordering::Greater {
                break;
            }
            heap.swap(place, parent);
            place = parent;
        }
    }

    /// Moves the item that comes last in this order to the end of the slice; the others are a heap again.
    pub(super) fn pop_to_end(self, heap: &mut [Item], view: &View) {
        let Some(len) = heap.len().checked_sub(1) else {
            return;
        };
        heap.swap(0, len);
        let mut place = 0;
        loop {
            let mut child = 2 * place + 1;
            if child >= len {
                return;
            }
            let right = child + 1;
            if right < len && self.compare(&heap[right], &heap[child], view) == Ordering::Greater {
                child = right;
            }
            if self.compare(&heap[child], &heap[place], view) != Ordering::Greater {
                return;
            }
            heap.swap(place, child);
            place = child;
        }
    }
}

/// A number that compares unsigned as `signed` does signed.
fn number(signed: i64) -> u64 {
    signed as u64 ^ (1 << 63)
}

/// The first eight bytes as a number: values with different ones compare as these do.
fn value_prefix(value: &[u8]) -> u64 {
    let mut prefix = [0; 8];
    let len = value.len().min(8);
    prefix[..len].copy_from_slice(&value[..len]);
    u64::from_be_bytes(prefix)
}

/// The value of an item, whose record was readable when the item was made. If it has become unreadable, the answer fails later,
/// when it reads the record again.
fn value_of<'v>(item: &Item, view: &'v View) -> &'v [u8] {
    let record = view.record(item.revision()).unwrap_or_default();
    RecordFields::parse(record).map_or(&[], |fields| fields.value)
}
