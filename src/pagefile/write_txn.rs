//! All buckets of one commit: each bucket's tree in name order, then the root bucket with the new bucket headers.

use std::vec::IntoIter;

use bytes::Bytes;

use super::bucket_root::BUCKET_HEADER_BYTES;
use super::changes::{BucketChanges, Change};
use super::commit::Output;
use super::node::{Fill, Key};
use super::page::FLAG_BUCKET;
use super::read_txn::ReadTxn;
use super::shrink::Moves;
use super::space::Space;
use super::tree::{NewRoot, Tree};
use super::{CommitError, PageId};

/// A commit being built.
#[derive(Debug)]
pub(super) struct WriteTxn {
    base: ReadTxn,
    output: Output,
    buckets: IntoIter<BucketChanges>,
    moves: Moves,
    current: Current,
    /// New bucket headers, for the root bucket.
    headers: Vec<Change>,
}

#[derive(Debug)]
enum Current {
    /// Between two buckets.
    None,
    Bucket {
        name: Bytes,
        sequence: u64,
        tree: Tree,
    },
    RootBucket(Tree),
}

impl WriteTxn {
    /// A commit of changes of buckets, whose names ascend, on top of `base`, and of leaves that are rewritten unchanged.
    pub(super) fn new(base: ReadTxn, mut buckets: Vec<BucketChanges>, moves: Moves) -> WriteTxn {
        for name in moves.keys() {
            if let Err(at) = buckets.binary_search_by(|bucket| bucket.name.cmp(name)) {
                buckets.insert(at, BucketChanges { name: name.clone(), fill: Fill::HALF, changes: Vec::new() });
            }
        }
        assert!(buckets.windows(2).all(|pair| pair[0].name < pair[1].name), "bucket names ascend");
        for bucket in &buckets {
            assert!(bucket.changes.windows(2).all(|pair| pair[0].key < pair[1].key), "keys ascend");
            assert!(bucket.changes.first().is_none_or(|change| !change.key.is_empty()), "keys are not empty");
        }
        let output = Output::new(base.page_size());
        WriteTxn { base, output, buckets: buckets.into_iter(), moves, current: Current::None, headers: Vec::new() }
    }

    /// Works until `budget` (about one unit per record) is used up. `Some`: done; the root bucket's page.
    pub(super) fn step(&mut self, space: &mut Space, mut budget: usize) -> Result<Option<PageId>, CommitError> {
        while budget > 0 {
            match &mut self.current {
                Current::None => self.next_tree()?,
                Current::Bucket { name, sequence, tree } => {
                    let Some(root) = tree.step(space, &mut self.output, &mut budget)? else { break };
                    let header = bucket_header(&root, *sequence);
                    let key = Key::from_slice(name);
                    self.headers.extend(header.map(|value| Change { key, value: Some(value) }));
                    self.current = Current::None;
                }
                Current::RootBucket(tree) => {
                    return Ok(match tree.step(space, &mut self.output, &mut budget)? {
                        None => None,
                        Some(NewRoot::Page(page)) => Some(page),
                        Some(NewRoot::Unchanged) => Some(self.base.committed().meta.root),
                        Some(NewRoot::Inline(_)) => unreachable!("the root bucket has a page of its own"),
                    });
                }
            }
        }
        Ok(None)
    }

    pub(super) fn into_output(self) -> Output {
        self.output
    }

    fn next_tree(&mut self) -> Result<(), CommitError> {
        self.current = match self.buckets.next() {
            Some(BucketChanges { name, fill, changes }) => {
                let root = self.base.bucket(&name)?;
                let sequence = root.map_or(0, |root| root.sequence);
                let moves = self.moves.remove(&name).unwrap_or_default();
                Current::Bucket { name, sequence, tree: Tree::new(self.base.clone(), root, 0, fill, changes, moves) }
            }
            None => {
                let headers = std::mem::take(&mut self.headers);
                let root = Some(self.base.root_bucket());
                Current::RootBucket(Tree::new(self.base.clone(), root, FLAG_BUCKET, Fill::HALF, headers, Vec::new()))
            }
        };
        Ok(())
    }
}

/// The value of a bucket in the root bucket; `None`: it stays as it is.
fn bucket_header(root: &NewRoot, sequence: u64) -> Option<Bytes> {
    let (page, image) = match root {
        NewRoot::Unchanged => return None,
        NewRoot::Page(page) => (page.0, &[][..]),
        NewRoot::Inline(image) => (0, &image[..]),
    };
    let mut value = Vec::with_capacity(BUCKET_HEADER_BYTES + image.len());
    value.extend_from_slice(&page.to_le_bytes());
    value.extend_from_slice(&sequence.to_le_bytes());
    value.extend_from_slice(image);
    Some(value.into())
}
