//! The data directory: its layout, who may use it, and what is refused.
//!
//! ```text
//! <data-dir>/            0700
//!   member/              locked while a server runs
//!     snap/db            the page file (bbolt's format, also locked, so that etcd's tools see it is in use)
//!     wal/*.rwal         the log (or --wal-dir)
//! ```
//!
//! A directory whose log is etcd's own is refused: taking it over is a migration, never a side effect of a start.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::os::lock::{LockError, PathLock};

/// The rights of a directory that nobody else can look into.
const PRIVATE: u32 = 0o700;

/// File name ending of our log segments. etcd's own end in `.wal`.
pub const SEGMENT_SUFFIX: &str = ".rwal";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot {operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "{path} holds the log of an etcd server: ringd does not take over an etcd data directory in place; start ringd on an empty \
         --data-dir and load the data there"
    )]
    EtcdLog { path: PathBuf },
}

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    wal: PathBuf,
    snap: PathBuf,
    _lock: PathLock,
}

impl DataDir {
    /// Makes the directories that are missing, locks them and looks for what does not belong to us.
    ///
    /// # Errors
    /// No right to write, held by another server, or an etcd data directory.
    pub fn open(root: &Path, wal: Option<&Path>) -> Result<Self, DataDirError> {
        let member = root.join("member");
        let snap = member.join("snap");
        let wal = wal.map_or_else(|| member.join("wal"), Path::to_path_buf);
        for directory in [root, &member, &snap, &wal] {
            make_private(directory)?;
        }
        warn_of_strangers(root)?;
        let lock = PathLock::acquire(&member)?;
        if has_suffix(&wal, ".wal")? || has_suffix(&member.join("wal"), ".wal")? {
            return Err(DataDirError::EtcdLog { path: wal });
        }
        Ok(Self { wal, snap, _lock: lock })
    }

    /// The page file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.snap.join("db")
    }

    /// Directory of the page file.
    #[must_use]
    pub fn snap(&self) -> &Path {
        &self.snap
    }

    /// Directory of the log.
    #[must_use]
    pub fn wal(&self) -> &Path {
        &self.wal
    }

    /// The log's segments by name, which is by age.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn segments(&self) -> Result<Vec<PathBuf>, DataDirError> {
        let mut paths = list(&self.wal)?;
        paths.retain(|path| path.to_string_lossy().ends_with(SEGMENT_SUFFIX));
        paths.sort();
        Ok(paths)
    }
}

fn make_private(directory: &Path) -> Result<(), DataDirError> {
    warn_of_access(directory);
    let made = fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(directory);
    made.map_err(|source| DataDirError::Io { operation: "create directory", path: directory.to_owned(), source })?;
    let probe = directory.join(".touch");
    let touched = fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe));
    touched.map_err(|source| DataDirError::Io { operation: "write in", path: directory.to_owned(), source })
}

/// etcd's warning about a directory that is there with other rights than those it would be made with.
fn warn_of_access(directory: &Path) {
    let Ok(found) = fs::metadata(directory) else { return };
    let mode = found.permissions().mode() & 0o777;
    if found.is_dir() && mode != PRIVATE {
        let error = format!(
            "directory {:?} exist, but the permission is \"d{}\". The recommended permission is \"-{}\" to prevent possible \
             unprivileged access to the data",
            directory.display().to_string(),
            letters(mode),
            letters(PRIVATE)
        );
        tracing::warn!(error, "check file permission");
    }
}

/// Rights as `ls` shows them.
fn letters(mode: u32) -> String {
    "rwxrwxrwx".chars().enumerate().map(|(at, letter)| if mode & (0o400 >> at) == 0 { '-' } else { letter }).collect()
}

/// etcd's warning about what it does not know in its data directory.
fn warn_of_strangers(root: &Path) -> Result<(), DataDirError> {
    for path in list(root)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name != "member" {
            let data_dir = root.display();
            tracing::warn!(filename = %name, data_dir = %data_dir, "found invalid file under data directory");
        }
    }
    Ok(())
}

fn has_suffix(directory: &Path, suffix: &str) -> Result<bool, DataDirError> {
    if !directory.exists() {
        return Ok(false);
    }
    Ok(list(directory)?.iter().any(|path| path.to_string_lossy().ends_with(suffix)))
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, DataDirError> {
    let failed = |source| DataDirError::Io { operation: "read directory", path: directory.to_owned(), source };
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_shown_as_letters() {
        assert_eq!(letters(0o777), "rwxrwxrwx");
        assert_eq!(letters(0o750), "rwxr-x---");
        assert_eq!(letters(PRIVATE), "rwx------");
    }
}
