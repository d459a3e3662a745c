//! The states that this member keeps for others which fetch them.
//!
//! A state is kept until nobody has read it for PEER_IMAGE_KEPT_MS. Its pages are not reused meanwhile.

use std::{cell::RefCell, collections::BTreeMap, pin::Pin, rc::Rc, time::Duration};

use super::image_body::RunningDigest;
use crate::{
    base::limits::{PEER_IMAGE_KEPT_MS, PEER_IMAGES_MAX},
    os::{self, random},
    pagefile::ReadTxn,
    proto::raftpb::SnapshotMetadata,
};

/// The state of one commit.
#[derive(Clone, Debug)]
pub struct Image {
    pub mark: SnapshotMetadata,
    pub pages: ReadTxn,
}

pub type ImageFuture = Pin<Box<dyn Future<Output = Result<Image, String>>>>;

/// Makes a commit that goes up to an entry at least, and gives its state, or says why there is none.
pub type ImageSource = Rc<dyn Fn(u64) -> ImageFuture>;

/// The states that are kept.
#[derive(Default)]
pub(super) struct Images {
    kept: RefCell<BTreeMap<u64, Rc<Kept>>>,
}

/// One of them. Who reads it has a share in it.
pub(super) struct Kept {
    pub(super) image: Image,
    pub(super) digest: Rc<RunningDigest>,
}

impl Images {
    /// Keeps a state under a new number; `None` if there are too many already.
    pub(super) fn keep(&self, image: Image) -> Option<(u64, Rc<Kept>)> {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= PEER_IMAGES_MAX {
            return None;
        }
        let number = random::number();
        let new = Rc::new(Kept { image, digest: Rc::default() });
        kept.insert(number, Rc::clone(&new));
        Some((number, new))
    }

    pub(super) fn find(&self, number: u64) -> Option<Rc<Kept>> {
        self.kept.borrow().get(&number).cloned()
    }

    /// Drops a state that nobody reads.
    fn tidy(&self, number: u64) {
        let mut kept = self.kept.borrow_mut();
        if kept.get(&number).is_some_and(|kept| Rc::strong_count(kept) == 1) {
            kept.remove(&number);
        }
    }
}

/// A share in a state, for as long as an answer lasts.
pub(super) struct Reading {
    images: Rc<Images>,
    number: u64,
    kept: Option<Rc<Kept>>,
}

impl Reading {
    pub(super) fn new(images: &Rc<Images>, number: u64, kept: Rc<Kept>) -> Self {
        Self { images: Rc::clone(images), number, kept: Some(kept) }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.kept = None;
        let (images, number) = (Rc::clone(&self.images), self.number);
        os::spawn_local(async move {
            os::sleep(Duration::from_millis(PEER_IMAGE_KEPT_MS)).await;
            images.tidy(number);
        });
    }
}
