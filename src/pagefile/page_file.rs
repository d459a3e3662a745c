//! The single writer's machine: the last root, older roots with readers, and the commit under way.
//!
//! | state | input | next | |
//! |---|---|---|---|
//! | Idle | `begin` | Begun | takes the changes, releases pages that no root reads any more |
//! | Begun | `step` | Building | chooses leaves to be moved, if the file is shrinking |
//! | Building | `step` | Building or InFlight | a slice of the work; at the end the commit |
//! | InFlight | `on_committed` | Idle | the shell has made it durable: new readers see it |
//!
//! A commit that fails is not undone: the member stops, and the file is what the last meta page says.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::changes::BucketChanges;
use super::commit::{Commit, PageWrite};
use super::freelist::{FreeSet, Span, StoredFreelist};
use super::meta::{self, Meta};
use super::page::{PageMap, Window};
use super::read_txn::{CommittedRoot, ReadTxn};
use super::shrink::{Moves, Shrink};
use super::space::Space;
use super::walk::{self, PageSet};
use super::write_txn::WriteTxn;
use super::{CommitError, Corrupt, OpenError, PageId, Violation};
use crate::base::limits::PAGE_FILE_GROW_BYTES;

#[derive(Debug)]
pub struct PageFile {
    file_len: u64,
    root: Arc<CommittedRoot>,
    /// Every root that may have readers, the last one included.
    roots: BTreeMap<u64, Arc<CommittedRoot>>,
    space: Space,
    /// Freelist page of another program, freed by the next commit.
    stored_freelist: Option<Span>,
    /// Pages in use by the last commit.
    used_pages: u64,
    /// Set while the file is shrinking.
    shrink: Option<Shrink>,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Begun(Vec<BucketChanges>),
    Building(Box<WriteTxn>),
    InFlight(Meta),
}

impl PageFile {
    /// The content of a new file.
    #[must_use]
    pub fn image_of_new_file(page_size: u32) -> Vec<u8> {
        meta::image_of_new_file(page_size)
    }

    /// Opens a file of `file_len` bytes that appears under `map`. Walks all trees, and so reads every page once.
    pub fn open(map: PageMap, file_len: u64) -> Result<PageFile, OpenError> {
        let meta = Meta::choose(&map, file_len)?;
        let window = Window { map, page_size: meta.page_size as usize, high_water: meta.high_water };
        let mut used = walk::reachable(&window, meta.root)?;
        let stored_freelist = meta.freelist.map(|id| read_stored(&window, id, &mut used)).transpose()?;
        let mut free = FreeSet::default();
        for gap in used.gaps(2) {
            free.insert(gap);
        }
        free.add_root(meta.txid);
        let stored_pages = stored_freelist.map_or(0, |span| span.pages);
        let used_pages = meta.high_water - free.pages() - stored_pages;
        let root = Arc::new(CommittedRoot { window, meta });
        Ok(PageFile {
            file_len,
            roots: BTreeMap::from([(meta.txid, root.clone())]),
            root,
            space: Space { free, high_water: meta.high_water, txid: meta.txid, low: false },
            stored_freelist,
            used_pages,
            shrink: None,
            state: State::Idle,
        })
    }

    /// The last commit, for any core. Its pages are not overwritten while the returned value or a clone of it lives.
    #[must_use]
    pub fn read(&self) -> ReadTxn {
        ReadTxn::new(self.root.clone())
    }

    /// Begins a commit of changes to buckets, whose names ascend.
    pub fn begin(&mut self, buckets: Vec<BucketChanges>) {
        assert!(matches!(self.state, State::Idle), "one commit at a time");
        self.release_roots();
        self.space.txid = self.root.meta.txid + 1;
        if let Some(span) = self.stored_freelist.take() {
            self.space.free(span);
        }
        self.state = State::Begun(buckets);
    }

    /// Number of committed roots with readers, the last one included.
    #[must_use]
    pub fn open_read_transactions(&self) -> usize {
        let last = self.root.meta.txid;
        // The map holds each root once.
        let is_read = |(txid, root): &(&u64, &Arc<CommittedRoot>)| **txid == last || Arc::strong_count(root) > 1;
        self.roots.iter().filter(is_read).count()
    }

    /// Drops roots without readers, except the last two: if the newest meta page is damaged, the one before stays usable.
    fn release_roots(&mut self) {
        let last = self.root.meta.txid;
        // `get_mut` rather than `strong_count`: it orders the last reader's reads before what is written over them.
        let unread = |(txid, root): (&u64, &mut Arc<CommittedRoot>)| {
            (*txid + 1 < last && Arc::get_mut(root).is_some()).then_some(*txid)
        };
        let gone: Vec<u64> = self.roots.iter_mut().filter_map(unread).collect();
        for txid in &gone {
            self.roots.remove(txid);
        }
        self.space.free.drop_roots(&gone);
    }

    /// Builds the commit for about `budget` records. `Some`: the commit, to be made durable and then reported by `on_committed`.
    pub fn step(&mut self, budget: usize) -> Result<Option<Commit>, CommitError> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Begun(buckets) => {
                let moves = self.moves()?;
                self.state = State::Building(Box::new(WriteTxn::new(self.read(), buckets, moves)));
                Ok(None)
            }
            State::Building(mut txn) => {
                if let Some(root) = txn.step(&mut self.space, budget)? {
                    return self.finish(*txn, root).map(Some);
                }
                self.state = State::Building(txn);
                Ok(None)
            }
            State::Idle | State::InFlight(_) => panic!("no commit is being built"),
        }
    }

    fn moves(&mut self) -> Result<Moves, Corrupt> {
        let base = self.read();
        match &mut self.shrink {
            Some(shrink) => {
                shrink.follow(self.used_pages);
                shrink.moves(&base, self.space.free.pages_below(shrink.limit))
            }
            None => Ok(Moves::new()),
        }
    }

    fn finish(&mut self, txn: WriteTxn, root: PageId) -> Result<Commit, CommitError> {
        let pages = txn.into_output().finish();
        if self.shrink.is_some() {
            while let Some(start) = self.space.free.take_tail(self.space.high_water) {
                self.space.high_water = start.0;
            }
        }
        let (grow_to, file_len) = self.grow()?;
        self.file_len = file_len;
        let truncate_to = self.truncate();
        let (high_water, txid) = (self.space.high_water, self.space.txid);
        let meta = Meta { root, freelist: None, high_water, txid, ..self.root.meta };
        let slot = txid % 2;
        let meta_write = PageWrite::new(slot * u64::from(meta.page_size), meta.encode(slot));
        self.state = State::InFlight(meta);
        Ok(Commit { txid, grow_to, pages, meta: meta_write, truncate_to })
    }

    /// While settling, the file is cut after the last page of any live root (a reader may copy all pages of its root).
    fn truncate(&mut self) -> Option<u64> {
        self.shrink.as_ref().filter(|shrink| shrink.is_settling())?;
        let live = self.roots.values().map(|root| root.meta.high_water);
        let high_water = live.chain([self.space.high_water]).max()?;
        let needed = high_water * self.root.window.page_size as u64;
        (needed < self.file_len).then(|| {
            self.file_len = needed;
            needed
        })
    }

    fn grow(&self) -> Result<(Option<u64>, u64), CommitError> {
        let needed = self.space.high_water * self.root.window.page_size as u64;
        let reserved = self.root.window.map.reserved_len();
        if needed > reserved {
            return Err(CommitError::MapFull { needed, reserved });
        }
        if needed <= self.file_len {
            return Ok((None, self.file_len));
        }
        let roomy = if needed < PAGE_FILE_GROW_BYTES {
            needed.next_power_of_two()
        } else {
            needed.next_multiple_of(PAGE_FILE_GROW_BYTES)
        };
        let file_len = roomy.min(reserved);
        Ok((Some(file_len), file_len))
    }

    /// The commit in flight is durable.
    pub fn on_committed(&mut self) {
        let State::InFlight(meta) = std::mem::replace(&mut self.state, State::Idle) else {
            panic!("no commit is in flight")
        };
        let window = Window { high_water: meta.high_water, ..self.root.window.clone() };
        self.root = Arc::new(CommittedRoot { window, meta });
        self.roots.insert(meta.txid, self.root.clone());
        self.space.free.add_root(meta.txid);
        self.used_pages = meta.high_water - self.space.free.pages();
        if self.shrink.as_mut().is_some_and(Shrink::on_committed) {
            let pass = self.shrink.take().expect("just asked");
            self.shrink = pass.next_pass(self.used_pages, meta.high_water);
            self.space.low = self.shrink.is_some();
        }
    }

    /// Lets the next commits, also empty ones, free the end of the file as far as possible.
    pub fn start_shrink(&mut self) {
        if self.shrink.is_none() {
            self.shrink = Some(Shrink::new(self.used_pages));
            self.space.low = true;
        }
    }

    /// Whether the file is shrinking.
    #[must_use]
    pub fn is_shrinking(&self) -> bool {
        self.shrink.is_some()
    }

    /// Whether a commit is being built or in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Size of the last commit (high-water mark), which is what etcd reports as the size of its database.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.read().size_bytes()
    }

    /// The part of it that is not free.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.used_pages * self.root.window.page_size as u64
    }

    /// Checks every rule of the format, and that the free set is exactly what the last commit does not reach. Between commits only.
    #[must_use]
    pub fn check(&self) -> Vec<Violation> {
        assert!(!self.is_busy(), "between commits only");
        let free: Vec<Span> = self.space.free.all().chain(self.stored_freelist).collect();
        super::check::check_with_free(&self.read(), &free)
    }
}

/// Checks that the stored freelist agrees with the walk, which finds the free pages anyway.
fn read_stored(window: &Window, id: PageId, used: &mut PageSet) -> Result<Span, Corrupt> {
    let stored = StoredFreelist::read(window, id)?;
    if !used.insert(stored.span) {
        return Err(Corrupt::new(id, "is reached twice"));
    }
    match stored.ids.iter().find(|free| used.contains(**free)) {
        Some(free) => Err(Corrupt::new(*free, "is both free and in use")),
        None => Ok(stored.span),
    }
}
