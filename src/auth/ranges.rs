//! The keys that a user may read, or write: the union of its permissions, as disjoint intervals in order.
//!
//! A permission's `range_end` is read as in etcd:
//!
//! | `range_end` | keys |
//! |---|---|
//! | empty | `key` alone |
//! | one zero byte | all keys from `key` on |
//! | anything else | `key <= k < range_end` |
//!
//! A request is allowed if one interval covers all of its range, which intervals that only touch do together. etcd walks an
//! interval tree for the same answer; here it is a binary search, without allocation.

use bytes::Bytes;

/// `range_end` of a range without an end.
const OPEN: &[u8] = b"\0";

/// Disjoint intervals that do not touch, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    intervals: Vec<Interval>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    /// `None`: everything from `start` on.
    end: Option<Bytes>,
}

impl Ranges {
    /// The union of permissions, given as key and `range_end`.
    #[must_use]
    pub fn of<'p>(permissions: impl Iterator<Item = (&'p Bytes, &'p Bytes)>) -> Self {
        let mut given: Vec<Interval> =
            permissions.filter_map(|(key, range_end)| Interval::of(key, range_end)).collect();
        given.sort_unstable_by(|one, other| one.start.cmp(&other.start));
        let mut intervals: Vec<Interval> = Vec::with_capacity(given.len());
        for next in given {
            match intervals.last_mut() {
                Some(last) if last.reaches(&next.start) => last.extend(next.end),
                _ => intervals.push(next),
            }
        }
        Self { intervals }
    }

    /// Whether all of a request's range is covered.
    #[must_use]
    pub fn cover(&self, key: &[u8], range_end: &[u8]) -> bool {
        let after = self.intervals.partition_point(|interval| interval.start[..] <= *key);
        let Some(interval) = after.checked_sub(1).map(|at| &self.intervals[at]) else { return false };
        let Some(end) = &interval.end else { return true };
        match range_end {
            _ if *key >= end[..] => false,
            [] => true,
            OPEN => false,
            _ => *range_end <= end[..],
        }
    }
}

impl Interval {
    /// `None` for a permission on nothing, which only databases of old releases hold.
    fn of(key: &Bytes, range_end: &Bytes) -> Option<Self> {
        let start = key.clone();
        let end = match &range_end[..] {
            [] => Some([key, OPEN].concat().into()),
            OPEN => None,
            _ => Some(range_end.clone()),
        };
        let is_empty = key.is_empty() || end.as_ref().is_some_and(|end| *end <= start);
        (!is_empty).then_some(Self { start, end })
    }

    fn reaches(&self, start: &Bytes) -> bool {
        self.end.as_ref().is_none_or(|end| end >= start)
    }

    fn extend(&mut self, end: Option<Bytes>) {
        let is_longer = match (&self.end, &end) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(own), Some(other)) => other > own,
        };
        if is_longer {
            self.end = end;
        }
    }
}

/// Whether a permission may have this range, as in etcd.
#[must_use]
pub fn is_valid(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end == OPEN || key < range_end)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn ranges(permissions: &[(&str, &str)]) -> Ranges {
        let owned: Vec<(Bytes, Bytes)> =
            permissions.iter().map(|(key, end)| (key.to_string().into(), end.to_string().into())).collect();
        Ranges::of(owned.iter().map(|(key, end)| (key, end)))
    }

    #[test]
    fn intervals_that_touch_are_one() {
        let union = ranges(&[("c", "e"), ("a", "c"), ("e", "")]);
        assert_eq!(union.intervals.len(), 1);
        for (key, end, covered) in [
            ("a", "e\0", true),
            ("a", "f", false),
            ("e", "", true),
            ("e\0", "", false),
            ("b", "d", true),
            ("`", "b", false),
            ("b", "\0", false),
        ] {
            assert_eq!(union.cover(key.as_bytes(), end.as_bytes()), covered, "{key} {end}");
        }
        assert!(!ranges(&[("a", "b"), ("b\0", "c")]).cover(b"a", b"c"));
        assert!(ranges(&[("k", "\0")]).cover(b"k", b"\0"));
        assert!(!ranges(&[]).cover(b"k", b""));
    }

    #[test]
    fn a_range_without_an_end_needs_one_without_an_end() {
        let open = ranges(&[("b", "\0"), ("d", "e")]);
        assert!(open.cover(b"zzz", b"") && open.cover(b"b", b"\0") && open.cover(b"c", b"x"));
        assert!(!open.cover(b"a", b"") && !open.cover(b"a", b"\0"));
    }

    /// Against one permission after the other, over all keys of up to two letters.
    #[test]
    fn the_union_covers_what_its_permissions_do_together() {
        let mut random = SmallRng::seed_from_u64(7);
        let keys: Vec<String> = ["a", "b", "c"]
            .iter()
            .flat_map(|first| ["", "a", "b", "c"].iter().map(move |second| format!("{first}{second}")))
            .collect();
        for _ in 0..2_000 {
            let any = |random: &mut SmallRng| keys[random.random_range(0..keys.len())].clone();
            let permissions: Vec<(String, String)> = (0..random.random_range(0..5))
                .map(|_| {
                    let end = match random.random_range(0..4) {
                        0 => String::new(),
                        1 => "\0".to_owned(),
                        _ => any(&mut random),
                    };
                    (any(&mut random), end)
                })
                .collect();
            let borrowed: Vec<(&str, &str)> = permissions.iter().map(|(key, end)| (&key[..], &end[..])).collect();
            let union = ranges(&borrowed);
            let has = |key: &str| {
                borrowed.iter().any(|(start, end)| match *end {
                    "" => key == *start,
                    "\0" => key >= *start,
                    end => (*start..end).contains(&key),
                })
            };
            for key in &keys {
                assert_eq!(union.cover(key.as_bytes(), b""), has(key), "{key} in {permissions:?}");
            }
        }
    }

    #[test]
    fn ranges_of_permissions_are_checked_as_in_etcd() {
        for (key, end, valid) in [
            ("", "", false),
            ("a", "", true),
            ("b", "a", false),
            ("a", "a", false),
            ("a", "b", true),
            ("a", "\0", true),
        ] {
            assert_eq!(is_valid(key.as_bytes(), end.as_bytes()), valid, "{key} {end}");
        }
    }
}
