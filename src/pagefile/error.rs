//! Errors of a page file, and the page number that they name.

/// Position of a page, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u64);

/// Damage in the file: the page and the broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("database page {page}: {reason}")]
pub struct Corrupt {
    pub page: u64,
    pub reason: &'static str,
}

impl Corrupt {
    pub(super) fn new(page: PageId, reason: &'static str) -> Corrupt {
        Corrupt { page: page.0, reason }
    }
}

/// Why a file cannot be opened. The first three texts are bbolt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("invalid database")]
    InvalidDatabase,
    #[error("version mismatch")]
    VersionMismatch,
    #[error("checksum error")]
    Checksum,
    #[error("database file of {file_len} bytes is cut short")]
    TooShort { file_len: u64 },
    #[error("database needs {needed} bytes of address space, {reserved} are reserved")]
    MapTooSmall { needed: u64, reserved: u64 },
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// Why a commit cannot be built. Both stop the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("database would need {needed} bytes of address space, {reserved} are reserved")]
    MapFull { needed: u64, reserved: u64 },
}
