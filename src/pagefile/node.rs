//! A page decoded for changing: entries that point into the old page or own new bytes, and how they are cut into pages.

use bytes::Bytes;
use smallvec::SmallVec;

use super::freelist::Span;
use super::meta::put_header;
use super::page::{ELEMENT_BYTES, FLAG_BRANCH, FLAG_LEAF, HEADER_BYTES, Page, Window};
use super::{Corrupt, PageId};

/// A key of a change; revision keys (17 and 18 bytes) need no allocation.
pub type Key = SmallVec<[u8; 24]>;

/// How full a page is made when a node has to be cut, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill(u8);

impl Fill {
    /// For keys in random order (bbolt's default).
    pub const HALF: Fill = Fill(50);
    /// For keys that only ever grow (etcd's bucket `key`, and copies in order).
    pub const APPEND: Fill = Fill(90);

    pub(super) fn of(self, page_size: usize) -> usize {
        page_size * usize::from(self.0) / 100
    }
}

/// Index of a node in its tree's arena.
pub(super) type NodeId = usize;

/// Bytes of a key or value, in the file or in memory.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// In the file; checked when the page was decoded, and kept by the last commit.
    Mapped {
        at: u64,
        len: usize,
    },
    Key(Key),
    Value(Bytes),
}

impl Cell {
    pub(super) fn bytes<'a>(&'a self, window: &'a Window) -> &'a [u8] {
        match self {
            Cell::Mapped { at, len } => window.bytes(*at, *len),
            Cell::Key(key) => key,
            Cell::Value(value) => value,
        }
    }

    fn len(&self) -> usize {
        match self {
            Cell::Mapped { len, .. } => *len,
            Cell::Key(key) => key.len(),
            Cell::Value(value) => value.len(),
        }
    }
}

/// An entry of a leaf.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) flags: u32,
    pub(super) key: Cell,
    pub(super) value: Cell,
}

/// An entry of a branch: a page, or the node that will replace it.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) key: Cell,
    pub(super) page: PageId,
    pub(super) node: Option<NodeId>,
}

#[derive(Debug)]
pub(super) enum Content {
    Leaf(Vec<Record>),
    Branch(Vec<Child>),
}

#[derive(Debug)]
pub(super) struct Node {
    /// The page that this node replaces.
    pub(super) old: Option<Span>,
    pub(super) parent: Option<NodeId>,
    /// 0 = leaf.
    pub(super) level: usize,
    pub(super) content: Content,
    /// Size as one page, header included.
    pub(super) bytes: usize,
    /// Too small, without a sibling to join. It is checked again when its parent has more children.
    pub(super) starved: bool,
    /// Joined into another node or removed.
    pub(super) gone: bool,
    /// Set when spilled: the pages that hold its entries now.
    pub(super) written: Vec<(Cell, PageId)>,
}

impl Record {
    pub(super) fn bytes(&self) -> usize {
        ELEMENT_BYTES + self.key.len() + self.value.len()
    }
}

impl Child {
    pub(super) fn bytes(&self) -> usize {
        ELEMENT_BYTES + self.key.len()
    }
}

impl Content {
    pub(super) fn count(&self) -> usize {
        match self {
            Content::Leaf(records) => records.len(),
            Content::Branch(children) => children.len(),
        }
    }

    fn entry_bytes(&self, index: usize) -> usize {
        match self {
            Content::Leaf(records) => records[index].bytes(),
            Content::Branch(children) => children[index].bytes(),
        }
    }

    pub(super) fn key(&self, index: usize) -> &Cell {
        match self {
            Content::Leaf(records) => &records[index].key,
            Content::Branch(children) => &children[index].key,
        }
    }
}

impl Node {
    pub(super) fn new(level: usize, parent: Option<NodeId>, content: Content) -> Node {
        let bytes = HEADER_BYTES + (0..content.count()).map(|index| content.entry_bytes(index)).sum::<usize>();
        Node { old: None, parent, level, content, bytes, starved: false, gone: false, written: Vec::new() }
    }

    /// Decodes a page. `old` is the page's place in the file; inline pages have none.
    pub(super) fn from_page(page: &Page<'_>, level: usize, old: Option<Span>) -> Result<Node, Corrupt> {
        if page.is_leaf() != (level == 0) {
            return Err(Corrupt::new(page.id, "leaves at different depths"));
        }
        let content = if page.is_leaf() {
            let records: Result<_, _> = (0..page.count()).map(|index| page.leaf(index).map(Record::from)).collect();
            Content::Leaf(records?)
        } else {
            let children: Result<_, _> = (0..page.count()).map(|index| page.branch(index).map(Child::from)).collect();
            Content::Branch(children?)
        };
        Ok(Node { old, ..Node::new(level, None, content) })
    }

    pub(super) fn records(&mut self) -> &mut Vec<Record> {
        match &mut self.content {
            Content::Leaf(records) => records,
            Content::Branch(_) => unreachable!("level 0 is a leaf"),
        }
    }

    pub(super) fn children(&self) -> &[Child] {
        match &self.content {
            Content::Branch(children) => children,
            Content::Leaf(_) => &[],
        }
    }

    pub(super) fn children_mut(&mut self) -> &mut Vec<Child> {
        match &mut self.content {
            Content::Branch(children) => children,
            Content::Leaf(_) => unreachable!("levels above 0 are branches"),
        }
    }

    /// Entries that the next page takes, from entry `from` on, when `remaining` bytes (without header) are left.
    ///
    /// bbolt's rule: all if they fit, else as many as fill the page to `fill`. A branch keeps at least two on both sides. A leaf
    /// keeps one, so that a few very large values are not rewritten together, but two if two fit in one page.
    pub(super) fn piece(&self, from: usize, remaining: usize, page_size: usize, fill: Fill) -> usize {
        let count = self.content.count();
        let least = if self.level == 0 { 1 } else { 2 };
        if HEADER_BYTES + remaining <= page_size || count - from < 2 * least {
            return count - from;
        }
        let mut size = HEADER_BYTES;
        for index in from..count - least {
            let entry = self.content.entry_bytes(index);
            let threshold = if index - from < 2 { page_size } else { fill.of(page_size) };
            if index - from >= least && size + entry > threshold {
                return index - from;
            }
            size += entry;
        }
        count - least - from
    }

    /// Size of entries `from .. to` as one page, header included.
    pub(super) fn piece_bytes(&self, from: usize, to: usize) -> usize {
        HEADER_BYTES + (from..to).map(|index| self.content.entry_bytes(index)).sum::<usize>()
    }

    /// Writes entries `from .. to` into a zeroed page (`id` 0 and no overflow for an inline one).
    pub(super) fn write(&self, window: &Window, from: usize, to: usize, id: PageId, overflow: u64, page: &mut [u8]) {
        let count = u16::try_from(to - from).expect("a page holds fewer entries");
        let flags = if self.level == 0 { FLAG_LEAF } else { FLAG_BRANCH };
        put_header(page, id, flags, count);
        put_u32(page, 12, overflow as usize);
        let mut data = HEADER_BYTES + (to - from) * ELEMENT_BYTES;
        for (slot, index) in (from..to).enumerate() {
            let element = HEADER_BYTES + slot * ELEMENT_BYTES;
            data = match &self.content {
                Content::Leaf(records) => write_record(page, element, data, &records[index], window),
                Content::Branch(children) => write_child(page, element, data, &children[index], window),
            };
        }
    }
}

fn write_record(page: &mut [u8], element: usize, data: usize, record: &Record, window: &Window) -> usize {
    let (key, value) = (record.key.bytes(window), record.value.bytes(window));
    put_u32(page, element, record.flags as usize);
    put_u32(page, element + 4, data - element);
    put_u32(page, element + 8, key.len());
    put_u32(page, element + 12, value.len());
    let value_start = data + key.len();
    let end = value_start + value.len();
    page[data..value_start].copy_from_slice(key);
    page[value_start..end].copy_from_slice(value);
    end
}

fn write_child(page: &mut [u8], element: usize, data: usize, child: &Child, window: &Window) -> usize {
    let key = child.key.bytes(window);
    put_u32(page, element, data - element);
    put_u32(page, element + 4, key.len());
    page[element + 8..element + 16].copy_from_slice(&child.page.0.to_le_bytes());
    page[data..data + key.len()].copy_from_slice(key);
    data + key.len()
}

fn put_u32(page: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).expect("keys, values and pages are below 4 GiB");
    page[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

impl From<super::page::LeafElement<'_>> for Record {
    fn from(element: super::page::LeafElement<'_>) -> Record {
        let (key, value) = (element.key.len(), element.value.len());
        Record {
            flags: element.flags,
            key: Cell::Mapped { at: element.at, len: key },
            value: Cell::Mapped { at: element.at + key as u64, len: value },
        }
    }
}

impl From<super::page::BranchElement<'_>> for Child {
    fn from(element: super::page::BranchElement<'_>) -> Child {
        Child { key: Cell::Mapped { at: element.at, len: element.key.len() }, page: element.child, node: None }
    }
}
