//! Refusals and failures of the key space.

use super::{
    record::BadRecord,
    revision::{BadRevisionKey, Revision},
};
use crate::{base::refusal, pagefile};

/// A mistake of the client; the same on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("required revision has been compacted")]
    Compacted,
    #[error("required revision is a future revision")]
    FutureRevision,
}

impl From<Refusal> for refusal::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Compacted => Self::Compacted,
            Refusal::FutureRevision => Self::FutureRevision,
        }
    }
}

/// The database is damaged; the member stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Corrupt(#[from] pagefile::Corrupt),
    #[error("bucket key: {0}")]
    BadKey(#[from] BadRevisionKey),
    #[error("record {revision}: {source}")]
    BadRecord { revision: Revision, source: BadRecord },
    #[error("record {0} follows a later one or one of the same revision")]
    OutOfOrder(Revision),
    #[error("record {0} is in the index but not in the database")]
    RecordMissing(Revision),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] Failure),
}
