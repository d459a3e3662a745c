//! A received state takes the place of the page file, under running readers: they keep the mapping of the old file, which has no
//! name any more.

use std::{fs, io, path::Path, rc::Rc};

use super::{Driver, or_stop};
use crate::{
    base::received_state,
    os::{
        self,
        file::{FileError, sync_directory},
    },
    replica::Input,
};

/// Gives the received state of this index the name of the page file, durably.
///
/// # Errors
/// The kernel's.
pub fn rename(snap: &Path, index: u64) -> Result<(), FileError> {
    let received = snap.join(received_state::received_name(index));
    let failed = |source| FileError { operation: "rename", path: received.clone(), source };
    fs::rename(&received, snap.join("db")).map_err(failed)?;
    sync_directory(snap)
}

impl Driver {
    pub(super) fn install_snapshot(self: &Rc<Self>, index: u64) {
        let driver = Rc::clone(self);
        os::spawn_local(async move {
            let page_file = driver.pages.file();
            let snap = page_file.file.path().parent().expect("the page file is in a directory");
            or_stop(rename(snap, index));
            let (opened, pages) = or_stop(page_file.reopen().await);
            driver.pages.replace(opened);
            driver.step(Input::SnapshotInstalled(pages));
        });
    }

    pub(super) fn discard_snapshot(&self, index: u64) {
        let page_file = self.pages.file();
        let received = page_file.file.path().with_file_name(received_state::received_name(index));
        match fs::remove_file(&received) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %received.display(), %error, "cannot remove a received snapshot that is not needed");
            }
            _ => {}
        }
    }
}
