//! The root of a bucket's tree: a page of its own, or inline in the value of the bucket.

use super::page::{LeafElement, Page, Window, read_u64};
use super::{Corrupt, PageId};

/// Bytes of a bucket's value: page of its root (0 = inline, a leaf page follows) and sequence.
pub(super) const BUCKET_HEADER_BYTES: usize = 16;

/// The root of a bucket's tree in one committed root.
#[derive(Clone, Copy, Debug)]
pub struct BucketRoot {
    pub(super) place: BucketPlace,
    pub(super) sequence: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum BucketPlace {
    Page(PageId),
    /// A leaf inside the bucket's value: the page that holds it, its offset in the file, its length.
    Inline {
        host: PageId,
        at: u64,
        len: usize,
    },
}

impl BucketRoot {
    /// The bucket whose value `element` is.
    pub(super) fn of(element: &LeafElement<'_>) -> Result<BucketRoot, Corrupt> {
        if element.value.len() < BUCKET_HEADER_BYTES {
            return Err(Corrupt::new(element.page, "bucket value is cut short"));
        }
        let sequence = read_u64(element.value, 8);
        let place = match read_u64(element.value, 0) {
            0 => BucketPlace::Inline {
                host: element.page,
                at: element.at + (element.key.len() + BUCKET_HEADER_BYTES) as u64,
                len: element.value.len() - BUCKET_HEADER_BYTES,
            },
            page => BucketPlace::Page(PageId(page)),
        };
        Ok(BucketRoot { place, sequence })
    }

    pub(super) fn page<'t>(&self, window: &'t Window) -> Result<Page<'t>, Corrupt> {
        match self.place {
            BucketPlace::Page(id) => window.page(id),
            BucketPlace::Inline { host, at, len } => window.inline_page(host, at, len),
        }
    }
}
