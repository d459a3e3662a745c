//! The versions of one key.
//!
//! etcd keeps a list of generations, each a list of revisions that ends with a tombstone. The same information is kept
//! here as one flat list of [`Stamp`]s in revision order; a tombstone stamp ends a generation, and each put carries its
//! own create revision and version, so a read counts nothing.
//!
//! ```text
//!   leaf of the tree index            History (immutable, shared with old trees)
//!   +-----------------+      +------------------+      +----------------------------+
//!   | latest stamp    | ---> | run: 1 .. n      | ---> | older run: at least n long | ---> ...
//!   +-----------------+      +------------------+      +----------------------------+
//! ```
//!
//! 1. Stamps ascend by revision within a run, from an older run to a newer one, and to the latest.
//! 2. An older run is longer than a newer one until it holds [`HISTORY_RUN_MAX`] stamps. A put moves the old latest
//!    stamp into a new run and merges equal ones like carries of a binary counter, so it copies O(log n) stamps on
//!    average and at most a few runs' worth ever, however often a key was written since the last compaction.
//! 3. A key with one version has no history, only 28 bytes in the leaf.
//!
//! A read at revision `at` finds the newest stamp with `main <= at`; the key is there if that is a put. Compaction at
//! `at` keeps that stamp and everything newer, except that a tombstone stays only if it lies exactly at `at`.

use std::sync::Arc;

use smallvec::SmallVec;

use super::revision::{Revision, SUB_MAX};
use crate::base::limits::HISTORY_RUN_MAX;

/// A version of a key that exists at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// Main revision of the put that created the key.
    pub created: i64,
    /// Revision of this put; its record is stored under it.
    pub modified: Revision,
    /// Puts since the creation, this one included.
    pub version: i64,
    /// Whether the record names a lease.
    pub leased: bool,
}

/// One change of a key as the index keeps it: 28 bytes, copied freely.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub(super) struct Stamp {
    created: i64,
    main: i64,
    version: i64,
    sub_and_flags: u32,
}

const TOMBSTONE: u32 = 1 << 31;
const LEASED: u32 = 1 << 30;
const SUB_MASK: u32 = LEASED - 1;

const _: () = assert!(size_of::<Stamp>() == 28);
const _: () = assert!(SUB_MAX as u32 == SUB_MASK);

impl Stamp {
    pub(super) fn put(version: KeyVersion) -> Self {
        let flag = if version.leased { LEASED } else { 0 };
        Self {
            created: version.created,
            main: version.modified.main,
            version: version.version,
            sub_and_flags: pack_sub(version.modified.sub) | flag,
        }
    }

    pub(super) fn tombstone(revision: Revision) -> Self {
        Self { created: 0, main: revision.main, version: 0, sub_and_flags: pack_sub(revision.sub) | TOMBSTONE }
    }

    pub(super) fn main(self) -> i64 {
        self.main
    }

    pub(super) fn revision(self) -> Revision {
        Revision::new(self.main, i64::from(self.sub_and_flags & SUB_MASK))
    }

    pub(super) fn is_tombstone(self) -> bool {
        self.sub_and_flags & TOMBSTONE != 0
    }

    /// The version, unless this is a tombstone.
    pub(super) fn live(self) -> Option<KeyVersion> {
        if self.is_tombstone() {
            return None;
        }
        Some(KeyVersion {
            created: self.created,
            modified: self.revision(),
            version: self.version,
            leased: self.sub_and_flags & LEASED != 0,
        })
    }

    /// Whether compaction at `at` keeps this stamp, given that it is the newest with `main <= at`.
    fn survives(self, at: i64) -> bool {
        !self.is_tombstone() || self.main == at
    }
}

fn pack_sub(sub: i64) -> u32 {
    assert!((0..=SUB_MAX).contains(&sub), "sub revision {sub}");
    sub as u32
}

/// The stamps of a key before its latest one: a list of runs, newest first.
pub(super) struct History {
    stamps: Box<[Stamp]>,
    older: Option<Arc<History>>,
    /// Stamps in this run and all older ones.
    total: usize,
}

/// The effect of a compaction on one key.
pub(super) enum Compacted {
    Unchanged,
    /// The latest stamp stays, with this history.
    Trimmed(Option<Arc<History>>),
    /// Nothing is left.
    Gone,
}

impl History {
    /// `history` with one newer stamp.
    pub(super) fn pushed(history: Option<&Arc<Self>>, stamp: Stamp) -> Arc<Self> {
        let mut merged: SmallVec<[&Self; 16]> = SmallVec::new();
        let mut len = 1;
        let mut older = history;
        while let Some(run) = older {
            if run.stamps.len() > len || run.stamps.len() >= HISTORY_RUN_MAX {
                break;
            }
            len += run.stamps.len();
            merged.push(run);
            older = run.older.as_ref();
        }
        let mut stamps = Vec::with_capacity(len);
        for run in merged.iter().rev() {
            stamps.extend_from_slice(&run.stamps);
        }
        stamps.push(stamp);
        Arc::new(Self::run(stamps, older.cloned()))
    }

    fn run(stamps: Vec<Stamp>, older: Option<Arc<Self>>) -> Self {
        let total = stamps.len() + older.as_ref().map_or(0, |older| older.total);
        Self { stamps: stamps.into_boxed_slice(), older, total }
    }

    /// Number of stamps.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// The newest stamp with `main <= at`.
    pub(super) fn newest_at(&self, at: i64) -> Option<Stamp> {
        let (run, end) = self.find(at)?;
        Some(run.stamps[end - 1])
    }

    /// The run that holds the newest stamp with `main <= at`, and the position after that stamp.
    fn find(&self, at: i64) -> Option<(&Self, usize)> {
        let mut run = self;
        loop {
            let end = run.stamps.partition_point(|stamp| stamp.main <= at);
            if end > 0 {
                return Some((run, end));
            }
            run = run.older.as_deref()?;
        }
    }

    fn compacted(&self, at: i64) -> Compacted {
        let Some((cut_run, end)) = self.find(at) else {
            return Compacted::Unchanged;
        };
        let start = if cut_run.stamps[end - 1].survives(at) { end - 1 } else { end };
        if start == 0 && cut_run.older.is_none() {
            return Compacted::Unchanged;
        }
        let mut newer: Vec<&Self> = Vec::new();
        let mut run = self;
        while !std::ptr::eq(run, cut_run) {
            newer.push(run);
            run = run.older.as_deref().expect("the run was found in this list");
        }
        let mut stamps = cut_run.stamps[start..].to_vec();
        for run in newer.iter().rev() {
            stamps.extend_from_slice(&run.stamps);
        }
        if stamps.is_empty() {
            return Compacted::Trimmed(None);
        }
        Compacted::Trimmed(Some(Arc::new(Self::run(stamps, None))))
    }
}

impl Drop for History {
    /// Frees a long list run by run, without recursion.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut run) = next.and_then(Arc::into_inner) {
            next = run.older.take();
        }
    }
}

/// The effect of a compaction at `at` on a key with this latest stamp and history.
pub(super) fn compact(latest: Stamp, history: Option<&Arc<History>>, at: i64) -> Compacted {
    if latest.main <= at {
        return match (latest.survives(at), history) {
            (false, _) => Compacted::Gone,
            (true, Some(_)) => Compacted::Trimmed(None),
            (true, None) => Compacted::Unchanged,
        };
    }
    history.map_or(Compacted::Unchanged, |history| history.compacted(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(main: i64) -> Stamp {
        Stamp::put(KeyVersion { created: 1, modified: Revision::new(main, 0), version: main, leased: false })
    }

    fn history(stamps: &[Stamp]) -> Option<Arc<History>> {
        stamps.iter().fold(None, |history, stamp| Some(History::pushed(history.as_ref(), *stamp)))
    }

    fn mains(history: Option<&Arc<History>>) -> Vec<i64> {
        let mut runs = Vec::new();
        let mut next = history;
        while let Some(run) = next {
            runs.push(run.stamps.iter().map(|s| s.main).collect::<Vec<_>>());
            next = run.older.as_ref();
        }
        runs.into_iter().rev().flatten().collect()
    }

    #[test]
    fn stamps_keep_their_fields() {
        let version = KeyVersion { created: 5, modified: Revision::new(9, SUB_MAX), version: 3, leased: true };
        assert_eq!(Stamp::put(version).live(), Some(version));
        let tombstone = Stamp::tombstone(Revision::new(9, 4));
        assert_eq!(tombstone.live(), None);
        assert_eq!(tombstone.revision(), Revision::new(9, 4));
    }

    #[test]
    fn long_histories_stay_searchable_and_ordered() {
        let stamps: Vec<Stamp> = (1..=20_000).map(|n| put(n * 2)).collect();
        let history = history(&stamps).expect("not empty");
        assert_eq!(history.len(), 20_000);
        assert!(mains(Some(&history)).is_sorted());
        assert!(history.newest_at(1).is_none());
        for at in [2, 3, 777, 20_000, 39_999, 50_000] {
            let found = history.newest_at(at).map(Stamp::main);
            assert_eq!(found, Some((at / 2 * 2).min(40_000)), "at {at}");
        }
        let mut runs = 0;
        let mut next = Some(&history);
        while let Some(run) = next {
            assert!(run.stamps.len() < 3 * HISTORY_RUN_MAX);
            runs += 1;
            next = run.older.as_ref();
        }
        assert!(runs < 32, "{runs} runs");
    }

    /// The example in the head of etcd's `key_index.go`: {1.0, 2.0, 3.0(t)} {4.0, 5.0(t)} {6.0}.
    #[test]
    fn compaction_keeps_what_etcd_keeps() {
        let tombstone = |main| Stamp::tombstone(Revision::new(main, 0));
        let stamps = [put(1), put(2), tombstone(3), put(4), tombstone(5)];
        let history = history(&stamps);
        let expected: [(i64, Option<&[i64]>); 7] = [
            (0, None),
            (1, None),
            (2, Some(&[2, 3, 4, 5])),
            (3, Some(&[3, 4, 5])),
            (4, Some(&[4, 5])),
            (5, Some(&[5])),
            (6, Some(&[])),
        ];
        for (at, kept) in expected {
            match (compact(put(6), history.as_ref(), at), kept) {
                (Compacted::Unchanged, None) => {}
                (Compacted::Trimmed(history), Some(kept)) => {
                    assert_eq!(mains(history.as_ref()), kept, "at {at}");
                }
                _ => panic!("at {at}"),
            }
        }
        let older = super::tests::history(&stamps[..4]);
        let at_tombstone = compact(tombstone(5), older.as_ref(), 5);
        assert!(matches!(at_tombstone, Compacted::Trimmed(None)));
        assert!(matches!(compact(tombstone(5), older.as_ref(), 6), Compacted::Gone));
    }
}
