//! Views over the bytes of the file, and the only unsafe code of this module.
//!
//! Three layers: [`PageMap`] is an address range that its owner keeps mapped; [`Window`] is the part of it that one
//! committed root may read; [`Page`] is one logical page inside a window, whose elements are checked one by one as they are
//! read, so that damaged bytes become a [`Corrupt`] and never a panic.
//!
//! | offset | size | page header |
//! |---|---|---|
//! | 0 | 8 | id: position of the page (0 in an inline bucket) |
//! | 8 | 2 | flags: 0x01 branch, 0x02 leaf, 0x04 meta, 0x10 freelist |
//! | 10 | 2 | count of elements |
//! | 12 | 4 | overflow: further physical pages that belong to this one |
//!
//! | offset | size | branch element | leaf element |
//! |---|---|---|---|
//! | 0 | 4 | position of the key, from here | flags: 0x01 = the value is a bucket |
//! | 4 | 4 | key length | position of the key, from here |
//! | 8 | 4 | child page (8 bytes) | key length |
//! | 12 | 4 | | value length; the value follows its key |
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::cmp::Ordering;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Corrupt, PageId, PageWrite};

pub(super) const HEADER_BYTES: usize = 16;
pub(super) const ELEMENT_BYTES: usize = 16;
pub(super) const FLAG_BRANCH: u16 = 0x01;
pub(super) const FLAG_LEAF: u16 = 0x02;
pub(super) const FLAG_META: u16 = 0x04;
pub(super) const FLAG_FREELIST: u16 = 0x10;
/// Element flag of a leaf: the value is a bucket.
pub(super) const FLAG_BUCKET: u32 = 0x01;

/// A read-only range of addresses under which the file appears, reserved once and larger than the file will become.
///
/// Bytes past the end of the file are mapped but must not be touched; only a window returns slices, and it stops at the
/// high-water mark of a committed root, below which the file always has bytes.
#[derive(Clone)]
pub struct PageMap {
    base: NonNull<u8>,
    reserved_len: u64,
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the range is only read through this type, and its owner, which is Send and Sync itself, keeps it mapped.
unsafe impl Send for PageMap {}
// SAFETY: as above; several threads may read a mapping.
unsafe impl Sync for PageMap {}

impl fmt::Debug for PageMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageMap").field("reserved_len", &self.reserved_len).finish_non_exhaustive()
    }
}

impl PageMap {
    /// A map of `reserved_len` bytes at `base`.
    ///
    /// # Safety
    /// While `owner` lives, the addresses `base .. base + reserved_len` stay mapped to one file, and those below the end of
    /// the file are readable. The file is changed only by the [`super::Commit`]s of the one `PageFile` opened over this map,
    /// each carried out as a whole and in the order given there, and is never cut below its high-water mark.
    #[must_use]
    pub unsafe fn from_raw(base: NonNull<u8>, reserved_len: u64, owner: Arc<dyn Any + Send + Sync>) -> PageMap {
        PageMap { base, reserved_len, _owner: owner }
    }

    /// The largest length of the file under this map, in bytes.
    #[must_use]
    pub fn reserved_len(&self) -> u64 {
        self.reserved_len
    }

    /// Appends a copy of `len` bytes at `offset` to `target`; for bytes that may change meanwhile (free pages of a snapshot)
    /// or that no window covers yet (meta pages). The caller stays below the end of the file.
    pub(super) fn copy(&self, offset: u64, len: usize, target: &mut Vec<u8>) {
        assert!(offset + len as u64 <= self.reserved_len, "copy beyond the map");
        target.reserve(len);
        // SAFETY: the source is mapped and readable (contract of `from_raw`, bound above), the target was reserved, and no
        // reference to the source is created, so that a free page may be rewritten during the copy.
        unsafe {
            let source = self.base.as_ptr().add(offset as usize);
            std::ptr::copy_nonoverlapping(source, target.as_mut_ptr().add(target.len()), len);
            target.set_len(target.len() + len);
        }
    }

    fn slice(&self, offset: u64, len: usize) -> &[u8] {
        // SAFETY: the callers below stay inside a window, which is inside the file, and look only at pages that the window's
        // root reaches; those are pinned, so no commit writes them while the root lives.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset as usize), len) }
    }
}

/// A file in memory: for tests, and for the simulator, where it stands for the page cache.
///
/// A power cut is a new image made from whatever bytes the simulated disk kept.
pub struct MemoryImage {
    bytes: Arc<SharedBytes>,
}

struct SharedBytes(Box<[UnsafeCell<u8>]>);

// SAFETY: bytes are written only by `MemoryImage::write`, which needs the image exclusively, and never where a reader of
// the map looks (contract of `PageMap::from_raw`, kept by `PageWrite` coming from a `PageFile` only).
unsafe impl Sync for SharedBytes {}

impl MemoryImage {
    /// An image that starts with `content` and can grow to `reserved_len`.
    #[must_use]
    pub fn new(content: &[u8], reserved_len: usize) -> MemoryImage {
        assert!(content.len() <= reserved_len, "content larger than the image");
        let mut bytes = vec![0u8; reserved_len];
        bytes[..content.len()].copy_from_slice(content);
        let bytes: Box<[u8]> = bytes.into_boxed_slice();
        // SAFETY: UnsafeCell<u8> has the layout of u8, and the box is owned.
        let cells = unsafe { Box::from_raw(Box::into_raw(bytes) as *mut [UnsafeCell<u8>]) };
        MemoryImage { bytes: Arc::new(SharedBytes(cells)) }
    }

    /// The image as a page file sees it.
    #[must_use]
    pub fn map(&self) -> PageMap {
        let cells = &self.bytes.0;
        let base = NonNull::from(&cells[..]).cast::<u8>();
        // SAFETY: the box does not move and lives as long as the Arc that is passed.
        unsafe { PageMap::from_raw(base, cells.len() as u64, self.bytes.clone()) }
    }

    /// Carries out one write of a commit of the page file that was opened over this image.
    pub fn write(&mut self, write: &PageWrite) {
        let start = usize::try_from(write.offset()).expect("an image fits in memory");
        let target = &self.bytes.0[start..start + write.bytes().len()];
        // SAFETY: exclusive access to the image, and no reader looks at these pages (see `SharedBytes`).
        unsafe { std::ptr::copy_nonoverlapping(write.bytes().as_ptr(), target.as_ptr() as *mut u8, target.len()) };
    }

    /// A copy of the first `len` bytes.
    #[must_use]
    pub fn content(&self, len: usize) -> Vec<u8> {
        let mut content = Vec::new();
        self.map().copy(0, len, &mut content);
        content
    }
}

/// The pages that one root may read: those below its high-water mark.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) map: PageMap,
    pub(super) page_size: usize,
    pub(super) high_water: u64,
}

impl Window {
    /// A logical page, its header checked.
    pub(super) fn page(&self, id: PageId) -> Result<Page<'_>, Corrupt> {
        if id.0 < 2 || id.0 >= self.high_water {
            return Err(Corrupt::new(id, "outside of the file"));
        }
        let at = id.0 * self.page_size as u64;
        let header = self.map.slice(at, HEADER_BYTES);
        let overflow = u64::from(read_u32(header, 12));
        if id.0 + overflow >= self.high_water {
            return Err(Corrupt::new(id, "overflow reaches beyond the high-water mark"));
        }
        if read_u64(header, 0) != id.0 {
            return Err(Corrupt::new(id, "carries the id of another page"));
        }
        let bytes = self.map.slice(at, (1 + overflow as usize) * self.page_size);
        Page::new(id, at, bytes)
    }

    /// The leaf inside the value of an inline bucket; `host` is the page that the value lies in.
    pub(super) fn inline_page(&self, host: PageId, at: u64, len: usize) -> Result<Page<'_>, Corrupt> {
        let page = Page::new(host, at, self.bytes(at, len))?;
        if page.is_leaf() { Ok(page) } else { Err(Corrupt::new(host, "inline bucket is not a leaf")) }
    }

    /// Bytes of a page that was checked before (a key or value whose place was remembered).
    pub(super) fn bytes(&self, at: u64, len: usize) -> &[u8] {
        assert!(at + len as u64 <= self.high_water * self.page_size as u64, "bytes outside of the window");
        self.map.slice(at, len)
    }
}

/// One logical page: its header is checked, its elements are checked when they are read.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) id: PageId,
    /// Where it begins in the file.
    pub(super) at: u64,
    bytes: &'a [u8],
    flags: u16,
    count: usize,
}

/// An element of a leaf, with the place of its key in the file (the value follows the key).
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafElement<'a> {
    pub(super) flags: u32,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) at: u64,
    pub(super) page: PageId,
}

/// An element of a branch, with the place of its key in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct BranchElement<'a> {
    pub(super) key: &'a [u8],
    pub(super) child: PageId,
    pub(super) at: u64,
}

impl<'a> Page<'a> {
    fn new(id: PageId, at: u64, bytes: &'a [u8]) -> Result<Page<'a>, Corrupt> {
        if bytes.len() < HEADER_BYTES {
            return Err(Corrupt::new(id, "shorter than a page header"));
        }
        let page = Page { id, at, bytes, flags: read_u16(bytes, 8), count: usize::from(read_u16(bytes, 10)) };
        match page.flags {
            FLAG_BRANCH if page.count == 0 => Err(Corrupt::new(id, "branch without children")),
            FLAG_BRANCH | FLAG_LEAF if HEADER_BYTES + page.count * ELEMENT_BYTES > bytes.len() => {
                Err(Corrupt::new(id, "more elements than fit"))
            }
            FLAG_BRANCH | FLAG_LEAF | FLAG_FREELIST => Ok(page),
            _ => Err(Corrupt::new(id, "neither branch nor leaf")),
        }
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.flags == FLAG_LEAF
    }

    pub(super) fn is_branch(&self) -> bool {
        self.flags == FLAG_BRANCH
    }

    pub(super) fn is_freelist(&self) -> bool {
        self.flags == FLAG_FREELIST
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Physical pages that it spans (inline pages: not meaningful).
    pub(super) fn span(&self) -> u64 {
        1 + u64::from(read_u32(self.bytes, 12))
    }

    /// The bytes after the header.
    pub(super) fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    #[inline]
    pub(super) fn leaf(&self, index: usize) -> Result<LeafElement<'a>, Corrupt> {
        debug_assert!(self.is_leaf());
        let (element, start) = self.element(index)?;
        let key_start = start + read_u32(element, 4) as usize;
        let key_end = key_start + read_u32(element, 8) as usize;
        let value_end = key_end + read_u32(element, 12) as usize;
        let (Some(key), Some(value)) = (self.bytes.get(key_start..key_end), self.bytes.get(key_end..value_end)) else {
            return Err(Corrupt::new(self.id, "leaf element reaches beyond its page"));
        };
        Ok(LeafElement { flags: read_u32(element, 0), key, value, at: self.at + key_start as u64, page: self.id })
    }

    #[inline]
    pub(super) fn branch(&self, index: usize) -> Result<BranchElement<'a>, Corrupt> {
        debug_assert!(self.is_branch());
        let (element, start) = self.element(index)?;
        let key_start = start + read_u32(element, 0) as usize;
        let key_end = key_start + read_u32(element, 4) as usize;
        let Some(key) = self.bytes.get(key_start..key_end) else {
            return Err(Corrupt::new(self.id, "branch element reaches beyond its page"));
        };
        Ok(BranchElement { key, child: PageId(read_u64(element, 8)), at: self.at + key_start as u64 })
    }

    fn element(&self, index: usize) -> Result<(&'a [u8], usize), Corrupt> {
        let start = HEADER_BYTES + index * ELEMENT_BYTES;
        match self.bytes.get(start..start + ELEMENT_BYTES) {
            Some(element) if index < self.count => Ok((element, start)),
            _ => Err(Corrupt::new(self.id, "no such element")),
        }
    }

    /// The child that covers `key`: the last one whose key is not above it, else the first.
    #[inline]
    pub(super) fn child_index(&self, key: &[u8], reach: Reach) -> Result<usize, Corrupt> {
        let found =
            search(self.count, reach.guess(key, self.count), |index| Ok(compare(self.branch(index)?.key, key)))?;
        Ok(found.unwrap_or_else(|above| above.saturating_sub(1)))
    }

    /// The index of `key` in this leaf, or the index at which it would be inserted.
    #[inline]
    pub(super) fn leaf_index(&self, key: &[u8], reach: Reach) -> Result<Result<usize, usize>, Corrupt> {
        search(self.count, reach.guess(key, self.count), |index| Ok(compare(self.leaf(index)?.key, key)))
    }

    /// The key range of a branch, from its own keys: up to where its last child begins.
    #[inline]
    pub(super) fn reach(&self) -> Result<Reach, Corrupt> {
        if self.is_branch() {
            Ok(Reach { first: head(self.branch(0)?.key), end: head(self.branch(self.count - 1)?.key) })
        } else {
            Ok(Reach::default())
        }
    }

    /// The key range of a child of this branch.
    #[inline]
    pub(super) fn reach_of(&self, index: usize, reach: Reach) -> Result<Reach, Corrupt> {
        let end = if index + 1 < self.count { head(self.branch(index + 1)?.key) } else { reach.end };
        Ok(Reach { first: head(self.branch(index)?.key), end })
    }

    /// Checks that a page's keys lie between the key of its branch element and that of the next one.
    pub(super) fn lies_between(&self, lower: &[u8], upper: Option<&[u8]>) -> Result<(), Corrupt> {
        let Some(last) = self.count.checked_sub(1) else { return Ok(()) };
        if compare(self.key(0)?, lower).is_lt() {
            return Err(Corrupt::new(self.id, "begins below the key that leads to it"));
        }
        if let Some(upper) = upper
            && compare(self.key(last)?, upper).is_ge()
        {
            return Err(Corrupt::new(self.id, "does not end before the key that leads past it"));
        }
        Ok(())
    }

    fn key(&self, index: usize) -> Result<&'a [u8], Corrupt> {
        if self.is_leaf() { Ok(self.leaf(index)?.key) } else { Ok(self.branch(index)?.key) }
    }

    /// Bytes that its elements would need in a freshly written page, header included.
    pub(super) fn used_bytes(&self) -> Result<usize, Corrupt> {
        let mut used = HEADER_BYTES + self.count * ELEMENT_BYTES;
        for index in 0..self.count {
            used += if self.is_leaf() {
                let element = self.leaf(index)?;
                element.key.len() + element.value.len()
            } else {
                self.branch(index)?.key.len()
            };
        }
        Ok(used)
    }
}

/// The keys that a page may hold, by their first eight bytes, as far as its parent's keys tell.
///
/// Revision keys count upwards, so the index of one in its page can be estimated from this, within one or two, where a binary search
/// would read half a dozen keys of a page that is not in the processor's cache. For other keys the estimate has no such precision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    first: u64,
    end: u64,
}

impl Reach {
    /// An estimate of the index of `key`, if there is one.
    #[inline]
    fn guess(&self, key: &[u8], count: usize) -> Option<usize> {
        let offset = head(key).saturating_sub(self.first);
        let length = self.end.saturating_sub(self.first);
        let guess = offset.checked_mul(count as u64)?.checked_div(length)?;
        Some(usize::try_from(guess).unwrap_or(usize::MAX).min(count.saturating_sub(1)))
    }
}

/// The first eight bytes of a key as a number; 0 for a shorter one.
#[inline]
fn head(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The index among `count` sorted elements that `order` calls equal, or the index for an insertion: a binary search. With a guess it
/// starts there, and doubles the distance until the index lies between two elements.
#[inline]
fn search(
    count: usize,
    guess: Option<usize>,
    order: impl Fn(usize) -> Result<Ordering, Corrupt>,
) -> Result<Result<usize, usize>, Corrupt> {
    let (mut low, mut high) = (0, count);
    let (mut at, mut step) = (guess.unwrap_or(count / 2), 1);
    while low < high {
        match order(at)? {
            Ordering::Equal => return Ok(Ok(at)),
            Ordering::Less => low = at + 1,
            Ordering::Greater => high = at,
        }
        at = if guess.is_none() || (low > 0 && high < count) {
            usize::midpoint(low, high)
        } else if low > 0 {
            (low + step - 1).min(high - 1)
        } else {
            high.saturating_sub(step)
        };
        step *= 2;
    }
    Ok(Err(low))
}

/// Byte order of two keys. Revision keys mostly differ in their first eight bytes, which compare as one number.
#[inline]
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    match (left.first_chunk::<8>(), right.first_chunk::<8>()) {
        (Some(a), Some(b)) if a != b => u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b)),
        (Some(_), Some(_)) => left[8..].cmp(&right[8..]),
        _ => left.cmp(right),
    }
}

pub(super) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guess_finds_every_place() {
        for count in 0..12_usize {
            let guesses = (0..count).map(Some).chain([None]);
            // Element `i` is 2i + 1: odd numbers are elements, even ones lie between them.
            for (guess, wanted) in guesses.flat_map(|guess| (0..=2 * count).map(move |wanted| (guess, wanted))) {
                let found = search(count, guess, |index| {
                    assert!(index < count, "{count} {guess:?} {wanted}");
                    Ok((2 * index + 1).cmp(&wanted))
                });
                let expected = if wanted % 2 == 1 { Ok(wanted / 2) } else { Err(wanted / 2) };
                assert_eq!(found.unwrap(), expected, "{count} {guess:?} {wanted}");
            }
        }
    }

    #[test]
    fn a_guess_stays_in_the_page() {
        let key = |main: u64| main.to_be_bytes();
        let reach = Reach { first: 100, end: 150 };
        let guesses = [0, 99, 100, 101, 125, 149, 150, 1000, u64::MAX].map(|main| reach.guess(&key(main), 10));
        let expected = [Some(0), Some(0), Some(0), Some(0), Some(5), Some(9), Some(9), Some(9), None];
        assert_eq!(guesses, expected);
        assert_eq!(Reach::default().guess(&key(7), 10), None);
        assert_eq!(reach.guess(b"short", 10), Some(0));
        assert_eq!(reach.guess(&key(120), 0), Some(0), "nothing is looked at in an empty page");
    }
}
