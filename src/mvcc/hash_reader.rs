//! The answer of HashKV, read from one view in slices.

use super::{
    Error, Failure, Refusal, View,
    hash::{Hasher, KeyValueHash, kept_by_compaction},
    record::RecordFields,
    scan::{RecordScan, StoredRecord},
    tree_index::TreeIndex,
};

/// The answer of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashResult {
    pub hash: KeyValueHash,
    /// The store's revision, for the header.
    pub current_revision: i64,
}

/// HashKV over one view, in slices.
#[derive(Debug)]
pub struct HashReader {
    view: View,
    state: State,
}

#[derive(Debug)]
enum State {
    Known(KeyValueHash),
    Reading { hasher: Hasher, scan: RecordScan, keeps_any: bool },
}

impl HashReader {
    /// Hash of the history up to `requested`; zero means the current revision.
    pub fn new(view: View, requested: i64) -> Result<Self, Refusal> {
        let known = view.hashes.iter().find(|hash| hash.revision == requested);
        if let Some(known) = known.copied() {
            let state = State::Known(known);
            return Ok(Self { view, state });
        }
        if requested > 0 && requested < view.compact_revision {
            return Err(Refusal::Compacted);
        }
        if requested > view.revision {
            return Err(Refusal::FutureRevision);
        }
        let revision = if requested == 0 { view.revision } else { requested };
        let state = State::Reading {
            hasher: Hasher::new(view.compact_revision, revision),
            scan: RecordScan::new(super::Revision::default(), revision),
            keeps_any: view.index.any_live_at(revision),
        };
        Ok(Self { view, state })
    }

    /// Adds about `budget` records; the result when all are added.
    pub fn step(&mut self, budget: usize) -> Result<Option<HashResult>, Failure> {
        let Self { view, state } = self;
        let hash = match state {
            State::Known(hash) => *hash,
            State::Reading { hasher, scan, keeps_any } => {
                let (compact_revision, revision) = (hasher.compact_revision, hasher.revision);
                let done = scan.step(&view.records, budget, &mut |stored| {
                    hasher.add(&stored, || {
                        if *keeps_any {
                            live_at(&view.index, &stored, revision)
                        } else {
                            kept_by_compaction(&view.index, &stored, compact_revision)
                        }
                    })
                })?;
                if !done {
                    return Ok(None);
                }
                hasher.finish()
            }
        };
        Ok(Some(HashResult { hash, current_revision: view.revision }))
    }

    /// The whole hash at once.
    pub fn finish(mut self) -> Result<HashResult, Error> {
        loop {
            if let Some(result) = self.step(usize::MAX)? {
                return Ok(result);
            }
        }
    }
}

fn live_at(index: &TreeIndex, stored: &StoredRecord<'_>, at: i64) -> Result<bool, Failure> {
    let key = RecordFields::of(stored.record, stored.revision)?.key;
    let version = index.version_at(key, at);
    Ok(!stored.tombstone && version.is_some_and(|version| version.modified == stored.revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{CompactStep, KeyRange, Store, test_disk::Disk};

    struct Replay {
        store: Store,
        disk: Disk,
    }

    impl Replay {
        fn put(&mut self, pairs: &[(&str, &str)]) {
            let mut txn = self.store.write(&mut self.disk.backend);
            for (key, value) in pairs {
                txn.put(key.as_bytes(), value.as_bytes(), 0, false).expect("sound");
            }
            txn.end();
        }

        fn delete(&mut self, range: KeyRange<'_>) {
            let mut txn = self.store.write(&mut self.disk.backend);
            txn.delete_range(range, false).expect("sound");
            txn.end();
        }

        fn compact(&mut self, revision: i64) {
            self.store.compact_begin(&mut self.disk.backend, revision).expect("allowed");
            loop {
                match self.store.compact_step(&mut self.disk.backend, 2).expect("sound") {
                    CompactStep::Idle => break,
                    CompactStep::AwaitsCommit => self.disk.commit(),
                    CompactStep::Indexing | CompactStep::Working | CompactStep::Finished(_) => {}
                }
            }
        }

        fn assert_hash(&self, requested: i64, hash: u32, compact_revision: i64, revision: i64) {
            let view = self.store.view(&self.disk.backend);
            let answer = HashReader::new(view, requested).expect("allowed").finish();
            let expected = KeyValueHash { hash, compact_revision, revision };
            assert_eq!(answer.expect("sound").hash, expected, "requested {requested}");
        }
    }

    /// Recorded from etcd 3.7.1: the same commands by etcdctl, the answers of `endpoint hashkv`.
    #[test]
    fn hashes_of_etcd_on_the_same_history() {
        let mut replay = Replay { store: Store::default(), disk: Disk::default() };
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            replay.put(&[(key, value)]);
        }
        replay.delete(KeyRange::Single(b"a"));
        replay.put(&[("c", "4")]);
        replay.put(&[("a", "5")]);
        replay.put(&[("d", "6"), ("e", "7")]);
        replay.delete(KeyRange::Single(b"b"));
        replay.assert_hash(0, 418_506_180, -1, 9);
        replay.assert_hash(5, 1_346_927_904, -1, 5);
        replay.assert_hash(3, 1_827_592_406, -1, 3);
        replay.compact(5);
        replay.assert_hash(0, 2_872_445_866, 5, 9);
        replay.assert_hash(5, 1_346_927_904, -1, 5);
        replay.assert_hash(8, 1_647_937_739, 5, 8);
        replay.put(&[("f", "8")]);
        replay.delete(KeyRange::Single(b"c"));
        replay.assert_hash(0, 2_602_122_029, 5, 11);
        replay.compact(8);
        replay.assert_hash(8, 1_647_937_739, 5, 8);
        replay.assert_hash(0, 698_701_684, 8, 11);
        replay.assert_hash(9, 2_872_445_866, 8, 9);
        replay.compact(11);
        replay.assert_hash(0, 3_664_449_784, 11, 11);
        replay.assert_hash(11, 698_701_684, 8, 11);
        for number in 1..=12 {
            replay.put(&[(&format!("g{number}"), "v")]);
        }
        replay.delete(KeyRange::From(b"\0"));
        replay.assert_hash(0, 886_592_976, 11, 24);
        replay.assert_hash(20, 173_663_571, 11, 20);
        replay.compact(20);
        replay.assert_hash(0, 886_592_976, 20, 24);
        replay.assert_hash(22, 3_204_934_389, 20, 22);
    }

    /// Recorded from etcd 3.7.1 in the same way: the compaction keeps the deletion of its revision, HashKV keeps nothing, and only who
    /// keeps something leaves out what the compaction before has kept.
    #[test]
    fn a_revision_without_keys_has_two_hashes_as_in_etcd() {
        let mut replay = Replay { store: Store::default(), disk: Disk::default() };
        replay.put(&[("a", "1")]);
        replay.put(&[("a", "2")]);
        replay.compact(3);
        replay.delete(KeyRange::Single(b"a"));
        replay.assert_hash(4, 573_317_793, 3, 4);
        replay.compact(4);
        replay.assert_hash(4, 1_922_329_996, 3, 4);
    }
}
