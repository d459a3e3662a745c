//! Raises the revision of a database that no member serves, so that clients of the saved cluster never see it fall.
//!
//! It writes what etcd's tool writes: a record without content at the new revision, and a scheduled compaction at that revision.
//! The next start takes its revision from the record and carries out the compaction, so that watchers learn that they missed
//! changes, and every key keeps its value.

use bytes::Bytes;

use super::{Failure, compact::SCHEDULED_KEY, revision::RecordKey, revision::Revision};
use crate::backend::{Backend, Bucket};

/// Why a revision cannot be raised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BumpError {
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("revision {latest} cannot be raised by {amount}: the largest is {}", i64::MAX)]
    TooFar { latest: i64, amount: u64 },
}

/// The revisions before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bump {
    pub latest: i64,
    pub raised: i64,
}

/// Raises the revision of what is committed in `backend` by `amount`, which is not 0, and marks everything before it compacted.
///
/// # Errors
/// The database is damaged, or there are not so many revisions.
pub fn bump_revision(backend: &mut Backend, amount: u64) -> Result<Bump, BumpError> {
    let latest = latest_revision(backend)?;
    let raised = i64::try_from(amount).ok().and_then(|amount| latest.checked_add(amount));
    let raised = raised.ok_or(BumpError::TooFar { latest, amount })?;
    let key = Revision::new(raised, 0).put_key();
    backend.append(&key, Bytes::new());
    backend.put(Bucket::Meta, Bytes::from_static(SCHEDULED_KEY), Bytes::copy_from_slice(&key));
    Ok(Bump { latest, raised })
}

/// The revision of the last record; 0 if there is none.
fn latest_revision(backend: &Backend) -> Result<i64, Failure> {
    let view = backend.view();
    let Some(records) = view.pages().bucket(Bucket::Key.name())? else { return Ok(0) };
    match view.pages().cursor(records).last()? {
        Some(item) => Ok(RecordKey::parse(item.key)?.revision.main),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{Restore, Store, test_disk::Disk};

    fn restored(disk: &mut Disk) -> Store {
        disk.commit();
        let mut restore = Restore::new(disk.backend.view()).expect("marks");
        while !restore.step(100).expect("sound") {}
        restore.finish(&mut disk.backend).expect("marks").0
    }

    #[test]
    fn the_next_start_is_at_the_raised_revision() {
        let mut disk = Disk::default();
        let mut store = restored(&mut disk);
        let mut txn = store.write(&mut disk.backend);
        txn.put(b"k", b"v", 0, false).expect("sound");
        txn.end();
        disk.commit();
        let bump = bump_revision(&mut disk.backend, 1_000).expect("room");
        assert_eq!(bump, Bump { latest: 2, raised: 1_002 });
        let store = restored(&mut disk);
        assert_eq!((store.revision(), store.compact_revision()), (1_002, 1_002));
        let view = store.view(&disk.backend);
        assert!(view.get(b"k", 0).expect("readable").is_some());
        assert!(view.get(b"k", 2).is_err(), "compacted");
    }

    #[test]
    fn there_is_a_last_revision() {
        let mut disk = Disk::default();
        disk.commit();
        for amount in [1 << 63, u64::MAX] {
            let refused = bump_revision(&mut disk.backend, amount);
            assert_eq!(refused, Err(BumpError::TooFar { latest: 0, amount }));
        }
        assert_eq!(bump_revision(&mut disk.backend, 5), Ok(Bump { latest: 0, raised: 5 }));
    }
}
