//! Members agree: on the leader of a term, on the state after an entry, on the hash of a revision.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::journal::Journal;
use crate::{apply::View, mvcc::HashReader};

#[derive(Debug, Default)]
pub struct Agreement {
    leaders: BTreeMap<u64, u64>,
    /// By applied index: what everybody's state shows of itself then.
    states: BTreeMap<u64, String>,
    hashes: BTreeMap<HashKey, (u32, u64)>,
    /// The newest revision that each start of a member has shown.
    shown: BTreeMap<u64, i64>,
}

/// What hashes must be equal for: the revision, the compacted revision, and whether it is one of etcd's two hashes of an empty store
/// that a compaction has left.
type HashKey = (i64, i64, bool);

/// Every key.
const ALL: Bytes = Bytes::from_static(&[0]);

/// States are compared with those of so many entries before.
const STATES_MAX: usize = 20_000;

impl Agreement {
    /// A member has found a leader.
    ///
    /// # Errors
    /// Another one leads in that term.
    pub fn on_leader(&mut self, member: u64, leader: u64, term: u64) -> Result<(), String> {
        let known = *self.leaders.entry(term).or_insert(leader);
        if known != leader {
            return Err(format!("member {member} follows {leader} in term {term}, others follow {known}"));
        }
        Ok(())
    }

    /// A member starts again, from its own past.
    pub fn restart(&mut self, member: u64) {
        self.shown.remove(&member);
    }

    /// A member shows this state to readers.
    ///
    /// # Errors
    /// It goes backwards, or differs from what another member had after the same entry.
    pub fn on_view(&mut self, member: u64, view: &View) -> Result<(), String> {
        let revision = view.kv.revision();
        let before = self.shown.insert(member, revision).unwrap_or(0);
        if revision < before {
            return Err(format!("member {member} shows revision {revision} after {before}"));
        }
        let members: Vec<_> = view.membership.members().map(|member| (member.id, member.is_learner)).collect();
        let alarms: Vec<_> = view.alarms.members().map(|alarm| (alarm.member_id, alarm.alarm)).collect();
        let state = format!("revision {revision}, members {members:?}, alarms {alarms:?}");
        match self.states.get(&view.applied) {
            Some(known) if *known != state => {
                return Err(format!("after entry {} member {member} has {state}; another had {known}", view.applied));
            }
            Some(_) => {}
            None => {
                self.states.insert(view.applied, state);
                if self.states.len() > STATES_MAX {
                    self.states.pop_first();
                }
            }
        }
        Ok(())
    }

    /// Compares the hash of a member at a revision (0: the newest) with others at the same revision and compaction.
    ///
    /// A revision at which no key is alive has two hashes in etcd, too, and HashKV shows the second one as soon as the compaction at
    /// that revision is done. The compaction keeps the deletion of that revision, so it leaves out what the compaction before kept;
    /// HashKV keeps nothing, and what it leaves out is decided only if there is something to keep (`mvcc/hash.go`). These two are not
    /// compared with each other.
    ///
    /// # Errors
    /// They differ, or the member cannot read its state.
    pub fn check_hash(&mut self, journal: &Journal, member: u64, view: &View, revision: i64) -> Result<(), String> {
        let Ok(reader) = HashReader::new(view.kv.clone(), revision) else { return Ok(()) };
        let hash = reader.finish().map_err(|error| format!("member {member} cannot read its state: {error:?}"))?.hash;
        let is_of_empty = journal.range(&ALL, &ALL, hash.revision).is_empty();
        let is_second = is_of_empty && view.kv.compaction_hashes().contains(&hash);
        let key = (hash.revision, hash.compact_revision, is_second);
        let (known, by) = *self.hashes.entry(key).or_insert((hash.hash, member));
        if known != hash.hash {
            return Err(format!(
                "at revision {} with compaction {} the hash is {:x} at member {member}, and {known:x} at member {by}",
                hash.revision, hash.compact_revision, hash.hash
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_a_term_are_found() {
        let mut agreement = Agreement::default();
        assert!(agreement.on_leader(1, 1, 5).is_ok() && agreement.on_leader(2, 1, 5).is_ok());
        assert!(agreement.on_leader(3, 3, 5).is_err());
        assert!(agreement.on_leader(3, 3, 6).is_ok());
    }
}
