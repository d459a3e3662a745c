//! Whose data is wrong: what hashes of the members at equal revisions say, as etcd judges them.
//!
//! | check | compares | finds |
//! |---|---|---|
//! | at start | this member with every other at its own revision | this member differs: it does not start |
//! | periodic | the leader's hash with every other's at its revision | the first member that differs, or that is impossibly far |
//! | of compactions | the hashes that all members keep of one compaction | the members outside a majority, or nobody in particular |
//!
//! Hashes are compared only where the compact revisions are equal.

use std::collections::BTreeMap;

/// One member's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    pub hash: u32,
    pub compact_revision: i64,
    /// Up to where it goes.
    pub revision: i64,
    /// The member's newest revision.
    pub newest: i64,
}

/// Another member's answer, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub id: u64,
    pub found: Option<Hash>,
}

/// What a comparison of a compaction's hashes says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All members agree.
    Agreed,
    /// So far they do, but some have not answered, or not for this compaction.
    Incomplete { checked: usize },
    /// These differ from the majority; 0 alone: there is no majority, so it may be any.
    Corrupt(Vec<u64>),
}

/// How many members contradict a member that starts.
#[must_use]
pub fn mismatches(own: &Hash, answers: &[Answer]) -> usize {
    let found = answers.iter().filter_map(|answer| answer.found);
    found.filter(|other| other.compact_revision == own.compact_revision && other.hash != own.hash).count()
}

/// Whether a majority of all members agrees on another hash than this one.
#[must_use]
pub fn is_outvoted(own: &Hash, answers: &[Answer]) -> bool {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    let found = answers.iter().filter_map(|answer| answer.found);
    for other in found.filter(|other| other.compact_revision == own.compact_revision && other.hash != own.hash) {
        *votes.entry(other.hash).or_default() += 1;
    }
    let members = answers.len() + 1;
    votes.values().any(|votes| *votes > members / 2)
}

/// The first member that the leader finds corrupt, itself among them: `first` was taken before the others were asked at its
/// revision, `second` after a confirmed read that followed their answers.
#[must_use]
pub fn find(leader_id: u64, first: &Hash, second: &Hash, answers: &[Answer]) -> Option<(u64, &'static str)> {
    let same_place = first.revision == second.revision && first.compact_revision == second.compact_revision;
    if same_place && first.hash != second.hash {
        return Some((leader_id, "found hash mismatch"));
    }
    answers.iter().find_map(|answer| {
        let found = answer.found?;
        let reason = if found.newest > second.newest {
            "revision from follower must be less than or equal to leader's"
        } else if found.compact_revision > second.compact_revision {
            "compact revision from follower must be less than or equal to leader's"
        } else if found.compact_revision == first.compact_revision && found.hash != first.hash {
            "same compact revision then hashes must match"
        } else {
            return None;
        };
        Some((answer.id, reason))
    })
}

/// Compares the hashes of one compaction: the leader's with those of all other members.
#[must_use]
pub fn compare(leader_id: u64, own: &Hash, answers: &[Answer]) -> Verdict {
    let mut members_by_hash = BTreeMap::from([(own.hash, vec![leader_id])]);
    let mut checked = 0;
    for answer in answers {
        if let Some(found) = answer.found.filter(|found| found.compact_revision == own.compact_revision) {
            checked += 1;
            members_by_hash.entry(found.hash).or_default().push(answer.id);
        }
    }
    if members_by_hash.len() == 1 {
        return if checked == answers.len() { Verdict::Agreed } else { Verdict::Incomplete { checked } };
    }
    let members = answers.len() + 1;
    let quorum = members / 2 + 1;
    match members_by_hash.iter().find(|(_, members)| members.len() >= quorum).map(|(hash, _)| *hash) {
        Some(majority) => {
            members_by_hash.remove(&majority);
            Verdict::Corrupt(members_by_hash.into_values().flatten().collect())
        }
        None => Verdict::Corrupt(vec![0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(hash: u32, compact_revision: i64, newest: i64) -> Hash {
        Hash { hash, compact_revision, revision: 10, newest }
    }

    fn answers(found: &[Option<Hash>]) -> Vec<Answer> {
        (2..).zip(found).map(|(id, found)| Answer { id, found: *found }).collect()
    }

    #[test]
    fn a_start_compares_equal_compactions_only() {
        let own = hash(1, 5, 10);
        let of = |found: &[Option<Hash>]| mismatches(&own, &answers(found));
        assert_eq!(of(&[Some(hash(1, 5, 12)), None]), 0);
        assert_eq!(of(&[Some(hash(2, 6, 12))]), 0, "another compact revision");
        assert_eq!(of(&[Some(hash(2, 5, 12)), Some(hash(3, 5, 12))]), 2);
    }

    #[test]
    fn a_majority_outvotes_a_member() {
        let own = hash(1, 5, 10);
        let of = |found: &[Option<Hash>]| is_outvoted(&own, &answers(found));
        let (same, other, another) = (Some(own), Some(hash(2, 5, 12)), Some(hash(3, 5, 10)));
        assert!(of(&[other, other]));
        assert!(!of(&[other, another]) && !of(&[other, same]) && !of(&[other, None]) && !of(&[other]));
        assert!(of(&[other, other, other, None]) && !of(&[other, other, same, None]));
    }

    /// The cases of etcd's tests for `PeriodicCheck`.
    #[test]
    fn the_periodic_check_finds_the_first() {
        let own = hash(1, 5, 10);
        let of = |second: Hash, found: &[Option<Hash>]| find(1, &own, &second, &answers(found)).map(|found| found.0);
        assert_eq!(of(own, &[]), None);
        assert_eq!(of(hash(2, 5, 10), &[]), Some(1), "the leader contradicts itself");
        assert_eq!(of(hash(2, 6, 10), &[]), None, "it has compacted meanwhile");
        assert_eq!(of(Hash { revision: 11, ..hash(2, 5, 11) }, &[]), None, "it has gone on meanwhile");
        assert_eq!(of(own, &[None, Some(hash(1, 5, 10))]), None);
        assert_eq!(of(own, &[Some(hash(1, 5, 11))]), Some(2), "ahead of the leader");
        assert_eq!(of(own, &[Some(hash(9, 6, 10))]), Some(2), "compacted further than the leader");
        assert_eq!(of(own, &[Some(hash(1, 5, 9)), Some(hash(9, 5, 10))]), Some(3));
        assert_eq!(of(own, &[Some(hash(9, 4, 10))]), None, "an older compaction");
    }

    /// The cases of etcd's tests for `CompactHashCheck`.
    #[test]
    fn compactions_are_judged_by_the_majority() {
        let own = hash(1, 5, 10);
        let of = |found: &[Option<Hash>]| compare(1, &own, &answers(found));
        let (same, other, another) = (Some(own), Some(hash(2, 5, 10)), Some(hash(3, 5, 10)));
        assert_eq!(of(&[same, same]), Verdict::Agreed);
        assert_eq!(of(&[same, None]), Verdict::Incomplete { checked: 1 });
        assert_eq!(of(&[same, Some(hash(2, 4, 10))]), Verdict::Incomplete { checked: 1 });
        assert_eq!(of(&[same, other]), Verdict::Corrupt(vec![3]));
        assert_eq!(of(&[other, other]), Verdict::Corrupt(vec![1]));
        assert_eq!(of(&[other, another]), Verdict::Corrupt(vec![0]));
        assert_eq!(of(&[other]), Verdict::Corrupt(vec![0]), "two of them");
        assert_eq!(of(&[other, None]), Verdict::Corrupt(vec![0]));
        assert_eq!(of(&[same, other, None, same]), Verdict::Corrupt(vec![3]));
        assert_eq!(of(&[same, other, same, other]), Verdict::Corrupt(vec![3, 5]));
    }
}
