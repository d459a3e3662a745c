//! A received state on its way to the disk.
//!
//! The file has its name only when it is whole, checked and durable; until then `.part` follows it. One that is dropped before is
//! removed, and a start removes what a crash leaves.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::BytesMut;

use crate::{
    base::{
        limits::{PEER_SNAPSHOT_REST_MS_MAX, PEER_SNAPSHOT_SLICE_BYTES, PEER_SNAPSHOT_UNSYNCED_BYTES_MAX},
        received_state::received_name,
    },
    os::{
        self, clock,
        file::{self, FileError, PagedFile},
        mapping::Mapping,
        offload::offload,
        random,
    },
    pagefile::PageFile,
};

/// Why a received state is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no sound database: {0}")]
    Unsound(String),
}

/// A state that is being received.
pub(super) struct ReceivedFile {
    file: PagedFile,
    part: Part,
    directory: PathBuf,
    index: u64,
    waiting: BytesMut,
    written: u64,
    /// Written, and not durable yet.
    unsynced: u64,
}

/// A file that is removed unless it gets its name.
struct Part {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let path = self.path.clone();
        os::spawn_local(async move {
            let _removed = offload("remover", move || std::fs::remove_file(path)).await;
        });
    }
}

impl ReceivedFile {
    /// For the state of this index, sent by `from`.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn create(directory: &Path, index: u64, from: &str) -> Result<Self, KeepError> {
        // Another attempt may begin before this one is removed, so each has a name of its own.
        let attempt = random::number();
        let name = format!("{}.{from}.{attempt:x}.part", received_name(index));
        let part = Part { path: directory.join(name), is_kept: false };
        let file = PagedFile::create(&part.path).await?;
        Ok(Self {
            file,
            part,
            directory: directory.to_owned(),
            index,
            waiting: BytesMut::new(),
            written: 0,
            unsynced: 0,
        })
    }

    /// Takes the next bytes, and writes them slice by slice. They become durable piece by piece, and after each piece the disk is left
    /// alone for as long as that took: a whole state at once would keep the disk busy for seconds, and logs on it would wait.
    ///
    /// # Errors
    /// The kernel's; the disk may be full.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PEER_SNAPSHOT_SLICE_BYTES {
            self.write_waiting().await?;
        }
        if self.unsynced >= PEER_SNAPSHOT_UNSYNCED_BYTES_MAX {
            let began = clock::now();
            self.file.sync().await?;
            self.unsynced = 0;
            os::sleep((clock::now() - began).min(Duration::from_millis(PEER_SNAPSHOT_REST_MS_MAX))).await;
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub(super) fn length(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    async fn write_waiting(&mut self) -> Result<(), KeepError> {
        if !self.waiting.is_empty() {
            let bytes = self.waiting.to_vec();
            self.waiting.clear();
            let length = bytes.len() as u64;
            self.file.write(bytes, self.written).await?;
            self.written += length;
            self.unsynced += length;
        }
        Ok(())
    }

    /// Makes everything taken durable: its length.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn sync(&mut self) -> Result<u64, KeepError> {
        self.write_waiting().await?;
        self.file.sync().await?;
        Ok(self.written)
    }

    /// Gives the file its name, once it was found to be a database. Follows [`Self::sync`].
    ///
    /// # Errors
    /// It is none; the kernel's.
    pub(super) async fn keep(mut self) -> Result<(), KeepError> {
        let name = self.directory.join(received_name(self.index));
        let (written, directory, length) = (self.part.path.clone(), self.directory.clone(), self.written);
        offload("snapshot", move || settle(&written, &name, &directory, length)).await??;
        self.part.is_kept = true;
        Ok(())
    }
}

/// Checks the pages and gives the file its name. One of that name that is there already is as good. Blocks.
fn settle(part: &Path, name: &Path, directory: &Path, length: u64) -> Result<(), KeepError> {
    let reserved = usize::try_from(length).unwrap_or(usize::MAX);
    if reserved == 0 {
        return Err(KeepError::Unsound("it is empty".to_owned()));
    }
    let mapping = Mapping::reserve(part, reserved)?;
    PageFile::open(mapping.page_map(), length).map_err(|error| KeepError::Unsound(error.to_string()))?;
    if name.exists() {
        std::fs::remove_file(part)?;
    } else {
        std::fs::rename(part, name)?;
    }
    Ok(file::sync_directory(directory)?)
}
