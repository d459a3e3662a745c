//! The changes of a commit, by bucket.

use bytes::Bytes;

use super::node::{Fill, Key};

/// A new value of a key, or its removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    pub value: Option<Bytes>,
}

/// The changes of one bucket, which is created if it is missing.
#[derive(Clone, Debug)]
pub struct BucketChanges {
    pub name: Bytes,
    pub fill: Fill,
    /// Keys strictly ascending, none empty.
    pub changes: Vec<Change>,
}
