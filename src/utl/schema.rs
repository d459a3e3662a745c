//! The release of a database: its `storageVersion` since 3.6; before that, 3.5 if it has a term, else 3.4 or older.

use std::fmt;

use bytes::Bytes;

use crate::{
    apply::state::{self, StateError},
    backend::{Backend, Bucket},
    base::version,
};

const STORAGE_VERSION: &[u8] = b"storageVersion";

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    pub major: u64,
    pub minor: u64,
}

pub const V3_5: Release = Release { major: 3, minor: 5 };
pub const V3_6: Release = Release { major: 3, minor: 6 };

/// Why a version is not supported.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("storage version {0:?} is no version")]
    Malformed(String),
    #[error("storage version {found} is newer than this tool, which knows {known}")]
    Newer { found: Release, known: Release },
    #[error("missing term information")]
    Undetectable,
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl Release {
    /// The version that this program writes.
    ///
    /// # Panics
    /// Never: our own version parses.
    #[must_use]
    pub fn own() -> Self {
        Self::parse(version::STORAGE).expect("our own version")
    }

    /// From `3.7` or `3.7.0`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let patch = parts.next().map(str::parse::<u64>);
        let is_whole = parts.next().is_none() && patch.is_none_or(|patch| patch.is_ok());
        is_whole.then_some(Self { major, minor })
    }

    /// The version of a database.
    pub fn of(backend: &Backend) -> Result<Self, SchemaError> {
        let state = state::restore(&backend.view())?;
        match state.storage_version {
            Some(text) => Self::parse(&text).ok_or(SchemaError::Malformed(text)),
            None if state.term > 0 => Ok(V3_5),
            None => Err(SchemaError::Undetectable),
        }
    }

    /// Writes the version, or removes it for releases that have none.
    pub fn put(self, backend: &mut Backend) {
        if self < V3_6 {
            backend.delete(Bucket::Meta, STORAGE_VERSION);
        } else {
            backend.put(Bucket::Meta, Bytes::from_static(STORAGE_VERSION), format!("{self}.0").into());
        }
    }
}

/// Refuses a database of a later release. Databases of 3.4 and older have no version and are accepted.
pub fn must_be_known(backend: &Backend) -> Result<(), SchemaError> {
    let known = Release::own();
    match Release::of(backend) {
        Ok(found) if found > known => Err(SchemaError::Newer { found, known }),
        Ok(_) | Err(SchemaError::Undetectable) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_two_or_three_numbers() {
        let parsed = |text| Release::parse(text).map(|release| (release.major, release.minor));
        assert_eq!(parsed("3.7.0"), Some((3, 7)));
        assert_eq!(parsed("3.10"), Some((3, 10)));
        for bad in ["", "3", "3.", "3.x", "3.7.0.0", "3.7.z", "v3.7"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert!(V3_5 < V3_6 && V3_6 < Release::own());
    }
}
