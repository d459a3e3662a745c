//! Shrinking the file while it is in use: the online Defragment.
//!
//! | phase | each commit | ends when |
//! |---|---|---|
//! | Moving | rewrites some leaves that lie at or above the limit; copy-on-write puts them, and the branches above them, on the lowest free pages | every leaf was visited, or there is no room below the limit |
//! | Settling | lowers the high-water mark over free pages at the end, and cuts the file once no root needs them | a few commits have passed |
//!
//! The limit is the number of pages in use plus some slack, and follows the writes meanwhile: when all pages in use are below it, the
//! rest is free. Without slack the last leaves would find no free page. A few commits of settling are needed because pages are freed
//! only when the last two roots do not use them; a reader that stays longer keeps its part of the file. Leaves that became small are
//! joined meanwhile, as after a deletion.
//!
//! Work per commit is bounded by [`SHRINK_LEAVES_VISITED_MAX`] and [`SHRINK_PAGES_MOVED_MAX`], so no request waits for it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bucket_root::{BucketPlace, BucketRoot};
use super::cursor::child;
use super::node::Key;
use super::page::{Reach, Window};
use super::read_txn::ReadTxn;
use super::{Corrupt, PageId};
use crate::base::limits::{SHRINK_LEAVES_VISITED_MAX, SHRINK_PAGES_MOVED_MAX, TREE_DEPTH_MAX};

/// Commits after the last move until its old pages are free, if no reader stays.
const SETTLING_COMMITS: u32 = 6;
/// Commits in a row without room before moving ends.
const STARVED_COMMITS_MAX: u32 = 4;
/// Passes over all leaves.
const PASSES_MAX: u32 = 3;
/// Free pages that stay in the file: half as many as are in use within these bounds, because a small tree is not deep, and
/// a fraction of those in use.
const SLACK_PAGES_MIN: u64 = 4;
const SLACK_PAGES_MAX: u64 = 64;
const SLACK_PART: u64 = 64;
/// Room that a moved leaf may need for the branches above it.
const BRANCHES_PER_MOVE: u64 = 2;

#[derive(Debug)]
pub(super) struct Shrink {
    /// Pages from here on are to become free.
    pub(super) limit: PageId,
    /// Free pages below the limit when all pages in use are there.
    slack: u64,
    phase: Phase,
    passes_left: u32,
}

#[derive(Debug)]
enum Phase {
    /// Position of the next leaf to visit.
    Moving {
        bucket: Key,
        key: Key,
        starved_commits: u32,
    },
    Settling {
        commits: u32,
    },
}

/// Keys whose leaves are to be rewritten, by bucket.
pub(super) type Moves = BTreeMap<Bytes, Vec<Key>>;

/// The result of visiting one leaf.
struct Visit {
    /// Highest page on the way to the leaf, the leaf included.
    highest: PageId,
    /// Physical pages of the leaf.
    span: u64,
    /// Where the next leaf begins.
    next: Option<Key>,
}

impl Shrink {
    pub(super) fn new(used_pages: u64) -> Shrink {
        let phase = Phase::Moving { bucket: Key::new(), key: Key::new(), starved_commits: 0 };
        Shrink { limit: limit(used_pages), slack: slack(used_pages), phase, passes_left: PASSES_MAX - 1 }
    }

    /// Adjusts the limit to the number of pages in use.
    pub(super) fn follow(&mut self, used_pages: u64) {
        (self.limit, self.slack) = (limit(used_pages), slack(used_pages));
    }

    /// Another pass, if the file is still clearly longer than its content. Pages with overflow may have found no low place in the
    /// pass before, because small pages were there.
    pub(super) fn next_pass(self, used_pages: u64, high_water: u64) -> Option<Shrink> {
        let worth_it = high_water > used_pages + used_pages / 8 + slack(used_pages).min(16);
        let passes_left = self.passes_left.checked_sub(1)?;
        worth_it.then(|| Shrink { passes_left, ..Shrink::new(used_pages) })
    }

    pub(super) fn is_settling(&self) -> bool {
        matches!(self.phase, Phase::Settling { .. })
    }

    /// A commit is durable. True: the pass is done.
    pub(super) fn on_committed(&mut self) -> bool {
        match &mut self.phase {
            Phase::Moving { .. } => false,
            Phase::Settling { commits } => {
                *commits -= 1;
                *commits == 0
            }
        }
    }

    /// The leaves that the next commit rewrites. `room`: free pages below the limit.
    pub(super) fn moves(&mut self, base: &ReadTxn, room: u64) -> Result<Moves, Corrupt> {
        let mut moves = Moves::new();
        let Phase::Moving { bucket, key, starved_commits } = &mut self.phase else { return Ok(moves) };
        let window = &base.committed().window;
        let room = room.min(SHRINK_PAGES_MOVED_MAX);
        // The branches above the first leaf, and the lists that every commit writes: few pages in a small file.
        let mut needed = (TREE_DEPTH_MAX as u64 / 2).min(self.slack * 2 / 3);
        *starved_commits = if needed < room { 0 } else { *starved_commits + 1 };
        for _ in 0..SHRINK_LEAVES_VISITED_MAX {
            if needed >= room && *starved_commits <= STARVED_COMMITS_MAX {
                return Ok(moves);
            }
            let found = if *starved_commits > STARVED_COMMITS_MAX { None } else { next_bucket(base, bucket)? };
            let Some((name, root)) = found else {
                self.phase = Phase::Settling { commits: SETTLING_COMMITS };
                return Ok(moves);
            };
            if name != *bucket {
                (*bucket, *key) = (name, Key::new());
            }
            let visit = visit(window, &root, key)?;
            if visit.highest >= self.limit {
                needed += visit.span + BRANCHES_PER_MOVE;
                moves.entry(Bytes::copy_from_slice(bucket)).or_default().push(key.clone());
            }
            match visit.next {
                Some(next) => *key = next,
                None => bucket.push(0), // The smallest name after this one.
            }
        }
        Ok(moves)
    }
}

fn limit(used_pages: u64) -> PageId {
    PageId(used_pages + used_pages / SLACK_PART + slack(used_pages))
}

fn slack(used_pages: u64) -> u64 {
    (used_pages / 2).clamp(SLACK_PAGES_MIN, SLACK_PAGES_MAX)
}

/// The first bucket with a tree of its own whose name is not below `name`.
fn next_bucket(base: &ReadTxn, name: &[u8]) -> Result<Option<(Key, BucketRoot)>, Corrupt> {
    let mut cursor = base.cursor(base.root_bucket());
    let mut next = cursor.seek(name)?;
    while let Some(item) = next {
        if let Some(root) = base.bucket(item.key)?
            && let BucketPlace::Page(_) = root.place
        {
            return Ok(Some((Key::from_slice(item.key), root)));
        }
        next = cursor.next_item()?;
    }
    Ok(None)
}

fn visit(window: &Window, root: &BucketRoot, key: &[u8]) -> Result<Visit, Corrupt> {
    let mut page = root.page(window)?;
    let mut visit = Visit { highest: page.id, span: page.span(), next: None };
    for _ in 0..TREE_DEPTH_MAX {
        if page.is_leaf() {
            return Ok(visit);
        }
        let index = if page.is_branch() { page.child_index(key, Reach::default())? } else { 0 };
        let below = child(window, &page, index)?;
        if index + 1 < page.count() {
            let next = page.branch(index + 1)?.key;
            if next <= key {
                return Err(Corrupt::new(page.id, "branch keys are not in order"));
            }
            visit.next = Some(Key::from_slice(next));
        }
        visit.highest = visit.highest.max(below.id);
        visit.span = below.span();
        page = below;
    }
    Err(Corrupt::new(page.id, "tree is too deep"))
}

const _: () = assert!(SHRINK_PAGES_MOVED_MAX > TREE_DEPTH_MAX as u64);
const _: () = assert!(SLACK_PAGES_MAX > TREE_DEPTH_MAX as u64);
// The slack suffices for moving one leaf: of one page in the smallest file, and anywhere once the file has forty-eight pages.
const _: () = assert!(SLACK_PAGES_MIN > BRANCHES_PER_MOVE + 1);
const _: () = assert!(SLACK_PAGES_MAX > TREE_DEPTH_MAX as u64 / 2 + BRANCHES_PER_MOVE);
