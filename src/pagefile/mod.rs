//! The page file: bbolt's file format (version 2) as a machine. Nothing here touches a disk; a commit is a value.
//!
//! ```text
//!   BucketChanges (sorted) --begin--> WriteTxn --step, step ...--> Commit { pages, meta } --on_committed--> new root
//!                                       |  one Tree per bucket:                                               |
//!                                       |  apply -> rebalance -> spill                                        v
//!        PageMap (mapping of the file) <+-- old pages                        ReadTxn: cursor, get, copy_image (any core)
//!
//!   page 0   page 1   page 2 ...                                  high-water mark      end of file
//!   +------+ +------+ +--------+ +------------------+ +------+ +..|...................|
//!   | meta | | meta | | leaf   | | leaf + overflow  | | free | |  | grown in advance  |
//!   +------+ +------+ +--------+ +------------------+ +------+ +..|...................|
//! ```
//!
//! Invariants:
//! 1. A page that the root of a live [`ReadTxn`], of the last commit or of the one before reaches is not written.
//! 2. All page writes of a commit are stable before its meta write begins, and that is stable before
//!    [`PageFile::on_committed`]; a power cut at any moment leaves the state before or after.
//! 3. The same file and the same changes give the same commit, byte for byte.
//! 4. Damaged input ends in [`Corrupt`], which names the page. It causes no panic, and every loop over it is bounded.
//! 5. Every branch but the root has two children or more (bbolt relies on it when it merges).
//!
//! Files: `page` views, `meta`, `freelist` reusable pages, `cursor` lookups and scans, `read_txn`,
//! `node` and `tree` copy-on-write of one bucket, `write_txn` all buckets of a commit, `commit` pages to be written,
//! `page_file` the machine, `shrink` giving back the end of the file, `check` every rule of the format.
//!
//! Deliberately absent: storing the freelist (etcd does not either; the free set is found by a walk at open, which the index
//! rebuild needs anyway), changing nested buckets (they are read, checked and kept), file locks, growing and
//! syncing (the shell's), undoing a commit (a failed one stops the member).
//!
//! Read path: the last step of a lookup whose record is not in the read buffer. Cost per level: one binary search, no
//! allocation. Not on the write path: a commit of n records costs n appends, one copy of their bytes and about n / 12 pages.

mod bucket_root;
mod changes;
mod check;
mod commit;
mod cursor;
mod error;
mod freelist;
mod meta;
mod node;
mod page;
mod page_file;
mod read_txn;
mod shrink;
mod space;
mod tree;
mod walk;
mod write_txn;

#[cfg(test)]
mod tests;

pub use bucket_root::BucketRoot;
pub use changes::{BucketChanges, Change};
pub use check::{Violation, check};
pub use commit::{Commit, PageWrite};
pub use cursor::{Cursor, Item};
pub use error::{CommitError, Corrupt, OpenError, PageId};
pub use node::{Fill, Key};
pub use page::{MemoryImage, PageMap};
pub use page_file::PageFile;
pub use read_txn::ReadTxn;
