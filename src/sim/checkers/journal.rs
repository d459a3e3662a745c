//! All revisions, as members announce them: the first announcement is compared with every later one.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use crate::{
    mvcc::{Change, ChangeKind},
    proto::mvccpb::KeyValue,
};

/// One change of a revision: the key, and what it has afterwards.
pub type Entry = (Bytes, Option<KeyValue>);

#[derive(Debug, Default)]
pub struct Journal {
    revisions: BTreeMap<i64, Vec<Entry>>,
    keys: BTreeMap<Bytes, BTreeMap<i64, Option<KeyValue>>>,
    /// The newest revision that each member has announced since its start or its last received state.
    announced: BTreeMap<u64, i64>,
}

/// Before the first change.
pub const FIRST: i64 = 1;

impl Journal {
    /// A member announces changes. Returns the revisions that nobody had announced before.
    ///
    /// # Errors
    /// It has skipped one, or others have announced different changes.
    pub fn announce(&mut self, member: u64, changes: &[Change]) -> Result<Vec<i64>, String> {
        let mut fresh = Vec::new();
        for changes in changes.chunk_by(|one, other| one.revision.main == other.revision.main) {
            let revision = changes[0].revision.main;
            if let Some(before) = self.announced.insert(member, revision)
                && revision != before + 1
            {
                return Err(format!("member {member} announces revision {revision} after {before}"));
            }
            let entries = changes.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
            match self.revisions.get(&revision) {
                Some(known) if *known != entries => {
                    return Err(format!(
                        "revision {revision} is {} at member {member}, but {} elsewhere",
                        shown(&entries),
                        shown(known)
                    ));
                }
                Some(_) => {}
                None => {
                    self.add(revision, entries)?;
                    fresh.push(revision);
                }
            }
        }
        Ok(fresh)
    }

    fn add(&mut self, revision: i64, entries: Vec<Entry>) -> Result<(), String> {
        let newest = self.newest();
        if revision != newest + 1 {
            return Err(format!("revision {revision} is announced, and nobody has announced what follows {newest}"));
        }
        for (key, value) in &entries {
            self.keys.entry(key.clone()).or_default().insert(revision, value.clone());
        }
        self.revisions.insert(revision, entries);
        Ok(())
    }

    /// A member starts again, or has received a state: it may announce any revision next.
    pub fn restart(&mut self, member: u64) {
        self.announced.remove(&member);
    }

    #[must_use]
    pub fn newest(&self) -> i64 {
        self.revisions.last_key_value().map_or(FIRST, |(revision, _)| *revision)
    }

    /// The changes of a revision.
    #[must_use]
    pub fn changes(&self, revision: i64) -> &[Entry] {
        self.revisions.get(&revision).map_or(&[], |entries| entries)
    }

    /// The revisions after one, with their changes.
    pub fn after(&self, revision: i64) -> impl Iterator<Item = (i64, &[Entry])> {
        self.revisions.range(revision + 1..).map(|(revision, entries)| (*revision, &entries[..]))
    }

    /// A key at a revision.
    #[must_use]
    pub fn at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        versions.range(..=revision).next_back()?.1.as_ref()
    }

    /// The keys of a range of a request at a revision.
    pub fn range(&self, key: &Bytes, end: &Bytes, revision: i64) -> Vec<&KeyValue> {
        let inside = self.keys.range(key.clone()..).take_while(|(at, _)| is_inside(at, key, end));
        inside.filter_map(|(at, _)| self.at(at, revision)).collect()
    }
}

/// Whether a key is in a range of a request.
#[must_use]
pub fn is_inside(at: &[u8], key: &[u8], end: &[u8]) -> bool {
    match end {
        [] => at == key,
        [0] => at >= key,
        end => at >= key && at < end,
    }
}

fn entry(change: &Change) -> Result<Entry, String> {
    let value = match change.kind {
        ChangeKind::Delete => None,
        ChangeKind::Put => Some(KeyValue::decode(change.record.clone()).map_err(|error| error.to_string())?),
    };
    if value.as_ref().is_some_and(|value| value.key != change.key || value.mod_revision != change.revision.main) {
        return Err(format!("a change of {:?} at {:?} has the record {value:?}", change.key, change.revision));
    }
    Ok((change.key.clone(), value))
}

/// Changes, for people.
#[must_use]
pub fn shown(entries: &[Entry]) -> String {
    let one = |(key, value): &Entry| match value {
        None => format!("-{}", key.escape_ascii()),
        Some(value) => {
            let text = value.value.escape_ascii().to_string();
            let text: String = text.chars().take(24).collect();
            format!("{}={text} v{} c{}", key.escape_ascii(), value.version, value.create_revision)
        }
    };
    format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{RecordFields, Revision};

    fn put(main: i64, value: &[u8]) -> Change {
        let fields = RecordFields { key: b"k", mod_revision: main, version: 1, value, ..RecordFields::default() };
        Change {
            kind: ChangeKind::Put,
            revision: Revision::new(main, 0),
            key: "k".into(),
            record: fields.to_record(),
            created: main,
            lease: 0,
            previous_lease: 0,
        }
    }

    #[test]
    fn the_journal_bites() {
        let mut journal = Journal::default();
        assert_eq!(journal.announce(1, &[put(2, b"a"), put(3, b"b")]), Ok(vec![2, 3]));
        assert_eq!(journal.announce(2, &[put(3, b"b")]), Ok(vec![]));
        assert!(journal.announce(3, &[put(3, b"x")]).is_err(), "it differs");
        assert!(journal.announce(1, &[put(5, b"c")]).is_err(), "a member skips one");
        assert!(journal.announce(4, &[put(5, b"c")]).is_err(), "everybody skips one");
        journal.restart(1);
        assert_eq!(journal.announce(1, &[put(2, b"a"), put(3, b"b"), put(4, b"c")]), Ok(vec![4]));
        assert!(journal.announce(1, &[put(4, b"c")]).is_err(), "twice");
        assert_eq!(journal.at(b"k", 3).map(|kv| &kv.value[..]), Some(&b"b"[..]));
        assert_eq!(journal.at(b"k", 1), None);
        assert_eq!(journal.range(&"a".into(), &"z".into(), 9).len(), 1);
    }
}
