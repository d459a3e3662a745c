//! The data directory: its layout, who may use it, and what is refused.
//!
//! ```text
//! <data-dir>/            0700
//!   member/              locked while a server runs
//!     snap/db            the page file (bbolt's format, also locked, so that etcd's tools see it is in use)
//!     wal/*.rwal         the log (or --wal-dir)
//!     wal/ringd-...wal   the guard: keeps etcd from founding a log of its own here (in `member/wal` and in --wal-dir)
//! ```
//!
//! A directory whose log is etcd's own is refused: taking it over is a migration, never a side effect of a start. The other way
//! round the guard refuses. An etcd that finds no `*.wal` founds a new log and removes everything in the directory first; one that
//! finds a `*.wal` reads it instead. The guard ends in `.wal` and has no number, so that etcd 3.4 to 3.7 log its name and end with
//! `wal: file not found`.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::os::{
    file::{FileError, sync_directory},
    lock::{LockError, PathLock},
};

/// The rights of a directory that nobody else can look into.
const PRIVATE: u32 = 0o700;

/// File name ending of our log segments. etcd's own end in `.wal`.
pub const SEGMENT_SUFFIX: &str = ".rwal";

/// Name of the file that stops an etcd which is started on our data directory. etcd logs the name.
pub const GUARD: &str = "ringd-data-directory-not-for-etcd.wal";

/// What an operator who looks into the guard reads.
const GUARD_TEXT: &str =
    "This is a data directory of ringd. This file keeps etcd from starting here, because etcd would remove ringd's log.
To go back to etcd, start ringd, then:
    etcdctl snapshot save backup.db
    etcdutl snapshot restore backup.db --data-dir <a new directory for etcd>
";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot {operation} {path}: {source}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Sync(#[from] FileError),
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
        // Where etcd looks for its log without --wal-dir, whether or not ours is there.
        let usual_wal = member.join("wal");
        let wal = wal.map_or_else(|| usual_wal.clone(), Path::to_path_buf);
        for directory in [root, &member, &snap, &usual_wal, &wal] {
            make_private(directory)?;
        }
        warn_of_strangers(root)?;
        let lock = PathLock::acquire(&member)?;
        if has_log_of_etcd(&wal)? || has_log_of_etcd(&usual_wal)? {
            return Err(DataDirError::EtcdLog { path: wal });
        }
        put_guard(&usual_wal)?;
        put_guard(&wal)?;
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

fn has_log_of_etcd(directory: &Path) -> Result<bool, DataDirError> {
    let paths = list(directory)?;
    Ok(paths.iter().any(|path| is_segment_of_etcd(&path.file_name().unwrap_or_default().to_string_lossy())))
}

/// Whether a file in a directory for logs is etcd's, by its name.
#[must_use]
pub fn is_segment_of_etcd(name: &str) -> bool {
    name.ends_with(".wal") && name != GUARD
}

/// Puts the guard into a directory that has none. On a full disk it has no text, or is left to the next start.
fn put_guard(directory: &Path) -> Result<(), DataDirError> {
    let path = directory.join(GUARD);
    if path.exists() {
        return Ok(());
    }
    match fs::write(&path, GUARD_TEXT) {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => {
            Err(DataDirError::Io { operation: "write", path, source: error })
        }
        _ => Ok(sync_directory(directory)?),
    }
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
