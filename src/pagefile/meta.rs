//! The two meta pages: the newest root, and the end of the file.
//!
//! | offset in page | size | field |
//! |---|---|---|
//! | 16 | 4 | magic 0xED0CDAED |
//! | 20 | 4 | version 2 |
//! | 24 | 4 | page size |
//! | 28 | 4 | flags, 0 |
//! | 32 | 8 | page of the root bucket |
//! | 40 | 8 | sequence of the root bucket, 0 |
//! | 48 | 8 | page of the stored freelist, all ones = not stored |
//! | 56 | 8 | high-water mark: first page never used |
//! | 64 | 8 | transaction |
//! | 72 | 8 | FNV-1a 64 of bytes 16 .. 72 |
//!
//! Transaction T is written to page T mod 2, so that a torn meta write leaves the one before.

use super::page::{FLAG_FREELIST, FLAG_LEAF, FLAG_META, PageMap, read_u32, read_u64};
use super::{OpenError, PageId};
use crate::base::checksum::fnv1a_64;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Meta page field of a file without a stored freelist.
const FREELIST_NOT_STORED: u64 = u64::MAX;
/// Bytes of a meta page that are used.
const META_BYTES: usize = 80;
const PAGE_SIZE_MIN: u64 = 1024;
/// The largest page size of Linux. It also keeps the count of a page's elements below 65535.
const PAGE_SIZE_MAX: u64 = 64 * 1024;
/// Candidates for the second meta page when the first one is unreadable: 1 KiB, 2 KiB ... 64 KiB.
const PAGE_SIZE_CANDIDATES: u32 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    pub(super) root: PageId,
    pub(super) sequence: u64,
    pub(super) freelist: Option<PageId>,
    pub(super) high_water: u64,
    pub(super) txid: u64,
}

impl Meta {
    /// The meta page, as it is written to page `slot`.
    pub(super) fn encode(&self, slot: u64) -> Vec<u8> {
        let mut page = vec![0; self.page_size as usize];
        put_header(&mut page, PageId(slot), FLAG_META, 0);
        page[16..20].copy_from_slice(&MAGIC.to_le_bytes());
        page[20..24].copy_from_slice(&VERSION.to_le_bytes());
        page[24..28].copy_from_slice(&self.page_size.to_le_bytes());
        page[32..40].copy_from_slice(&self.root.0.to_le_bytes());
        page[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        let freelist = self.freelist.map_or(FREELIST_NOT_STORED, |id| id.0);
        page[48..56].copy_from_slice(&freelist.to_le_bytes());
        page[56..64].copy_from_slice(&self.high_water.to_le_bytes());
        page[64..72].copy_from_slice(&self.txid.to_le_bytes());
        let checksum = fnv1a_64(&page[16..72]);
        page[72..80].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    fn decode(page: &[u8]) -> Result<Meta, OpenError> {
        if read_u32(page, 16) != MAGIC {
            return Err(OpenError::InvalidDatabase);
        }
        if read_u32(page, 20) != VERSION {
            return Err(OpenError::VersionMismatch);
        }
        if read_u64(page, 72) != fnv1a_64(&page[16..72]) {
            return Err(OpenError::Checksum);
        }
        let freelist = read_u64(page, 48);
        Ok(Meta {
            page_size: read_u32(page, 24),
            root: PageId(read_u64(page, 32)),
            sequence: read_u64(page, 40),
            freelist: (freelist != FREELIST_NOT_STORED).then_some(PageId(freelist)),
            high_water: read_u64(page, 56),
            txid: read_u64(page, 64),
        })
    }

    /// The newest valid meta page of a file.
    pub(super) fn choose(map: &PageMap, file_len: u64) -> Result<Meta, OpenError> {
        let first = Meta::read(map, file_len, 0);
        let second = match &first {
            Ok(meta) => Meta::read(map, file_len, u64::from(meta.page_size)),
            Err(_) => Meta::find_second(map, file_len),
        };
        let meta = match (first, second) {
            (Ok(first), Ok(second)) if second.txid > first.txid => second,
            (Ok(first), _) => first,
            (Err(_), Ok(second)) => second,
            (Err(error), Err(_)) => return Err(error),
        };
        meta.plausible(map, file_len)?;
        Ok(meta)
    }

    fn read(map: &PageMap, file_len: u64, offset: u64) -> Result<Meta, OpenError> {
        if offset.saturating_add(META_BYTES as u64) > file_len.min(map.reserved_len()) {
            return Err(OpenError::TooShort { file_len });
        }
        let mut page = Vec::new();
        map.copy(offset, META_BYTES, &mut page);
        Meta::decode(&page)
    }

    /// The second meta page, when the first one and with it the page size is unreadable.
    fn find_second(map: &PageMap, file_len: u64) -> Result<Meta, OpenError> {
        (0..PAGE_SIZE_CANDIDATES)
            .map(|shift| PAGE_SIZE_MIN << shift)
            .filter_map(|offset| {
                Meta::read(map, file_len, offset).ok().filter(|meta| u64::from(meta.page_size) == offset)
            })
            .next()
            .ok_or(OpenError::InvalidDatabase)
    }

    /// Checks the fields against the file: a right checksum does not show that the file is complete.
    fn plausible(&self, map: &PageMap, file_len: u64) -> Result<(), OpenError> {
        let page_size = u64::from(self.page_size);
        let sizes = PAGE_SIZE_MIN..=PAGE_SIZE_MAX;
        if !page_size.is_power_of_two() || !sizes.contains(&page_size) || self.high_water < 3 {
            return Err(OpenError::InvalidDatabase);
        }
        let needed = self.high_water.checked_mul(page_size).ok_or(OpenError::InvalidDatabase)?;
        if needed > file_len {
            return Err(OpenError::TooShort { file_len });
        }
        if needed > map.reserved_len() {
            return Err(OpenError::MapTooSmall { needed, reserved: map.reserved_len() });
        }
        Ok(())
    }
}

const _: () = assert!(PAGE_SIZE_MIN << (PAGE_SIZE_CANDIDATES - 1) == PAGE_SIZE_MAX);

/// The four pages of a new, empty file: two metas, an empty freelist, an empty root bucket.
pub(super) fn image_of_new_file(page_size: u32) -> Vec<u8> {
    assert!(
        page_size.is_power_of_two() && (PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&u64::from(page_size)),
        "page size"
    );
    let mut image = Vec::with_capacity(4 * page_size as usize);
    for txid in 0..2 {
        let freelist = Some(PageId(2));
        let meta = Meta { page_size, root: PageId(3), sequence: 0, freelist, high_water: 4, txid };
        image.extend_from_slice(&meta.encode(txid));
    }
    for (id, flags) in [(2, FLAG_FREELIST), (3, FLAG_LEAF)] {
        let mut page = vec![0; page_size as usize];
        put_header(&mut page, PageId(id), flags, 0);
        image.extend_from_slice(&page);
    }
    image
}

/// Writes id, flags and count of a page header; overflow stays as it is.
pub(super) fn put_header(page: &mut [u8], id: PageId, flags: u16, count: u16) {
    page[0..8].copy_from_slice(&id.0.to_le_bytes());
    page[8..10].copy_from_slice(&flags.to_le_bytes());
    page[10..12].copy_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::page::MemoryImage;
    use super::*;

    fn choose(image: &[u8]) -> Result<Meta, OpenError> {
        Meta::choose(&MemoryImage::new(image, 1 << 20).map(), image.len() as u64)
    }

    #[test]
    fn the_newer_valid_meta_wins() {
        for page_size in [1024, 4096, 16384] {
            let mut image = image_of_new_file(page_size);
            assert_eq!(choose(&image).expect("valid").txid, 1);
            image[page_size as usize + 40] ^= 1;
            assert_eq!(choose(&image).expect("the first is left").txid, 0);
        }
    }

    #[test]
    fn the_second_is_found_without_the_first() {
        for page_size in [1024, 4096, 16384] {
            let mut image = image_of_new_file(page_size);
            image[16] ^= 1;
            assert_eq!(choose(&image).expect("the second is left").page_size, page_size);
        }
    }

    #[test]
    fn refusals() {
        let image = image_of_new_file(4096);
        let broken = |at: usize| {
            let mut image = image.clone();
            image[at] ^= 1;
            image[4096 + at] ^= 1;
            choose(&image).expect_err("both are broken")
        };
        assert!(matches!(broken(16), OpenError::InvalidDatabase));
        assert!(matches!(broken(20), OpenError::VersionMismatch));
        assert!(matches!(broken(64), OpenError::Checksum));
        assert!(matches!(choose(&image[..3 * 4096]), Err(OpenError::TooShort { .. })));
        assert!(matches!(choose(&[]), Err(OpenError::TooShort { .. })));
    }
}
