//! A data directory of etcd, and the places of its parts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    database::FileFailure,
    etcd_wal::{Contents, LogError, LogReader},
};
use crate::server::datadir;

/// Why a directory is not accepted as one of etcd.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error(transparent)]
    File(#[from] FileFailure),
    #[error("{0} has no database (member/snap/db)")]
    NoDatabase(PathBuf),
    #[error("{0} has no log of etcd's (member/wal/*.wal): for a single database file, name the file")]
    NoLog(PathBuf),
    #[error(
        "{0} holds the log of ringd: ringd serves it as it is. To go back to etcd, take a snapshot of the running ringd (etcdctl snapshot \
         save) and restore it into a new directory (etcdutl snapshot restore)"
    )]
    Ringd(PathBuf),
    #[error(
        "{0} is a snapshot from another member that etcd has not taken over yet: start and stop etcd once, then migrate"
    )]
    PendingSnapshot(PathBuf),
    #[error("log files between {before} and {after} are missing")]
    MissingSegment { before: String, after: String },
    #[error("log: {0}")]
    Log(#[from] LogError),
}

/// The parts of a data directory.
#[derive(Clone, Debug)]
pub struct EtcdDirectory {
    pub database: PathBuf,
    /// By age.
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    sequence: u64,
    first_index: u64,
    path: PathBuf,
}

impl EtcdDirectory {
    /// Finds the parts. The log may lie elsewhere (etcd's `--wal-dir`).
    pub fn find(root: &Path, wal: Option<&Path>) -> Result<Self, DirectoryError> {
        let snap = root.join("member").join("snap");
        let wal = wal.map_or_else(|| root.join("member").join("wal"), Path::to_path_buf);
        let database = snap.join("db");
        if !database.is_file() {
            return Err(DirectoryError::NoDatabase(root.to_owned()));
        }
        let mut segments: Vec<Segment> = Vec::new();
        for path in list(&wal)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(datadir::SEGMENT_SUFFIX) || name == datadir::GUARD {
                return Err(DirectoryError::Ringd(wal));
            }
            segments.extend(segment(&name, &path));
        }
        segments.sort();
        if segments.is_empty() {
            return Err(DirectoryError::NoLog(wal));
        }
        let mut pairs = segments.windows(2);
        if let Some(pair) = pairs.find(|pair| pair[0].sequence + 1 != pair[1].sequence) {
            let name = |segment: &Segment| segment.path.display().to_string();
            return Err(DirectoryError::MissingSegment { before: name(&pair[0]), after: name(&pair[1]) });
        }
        Ok(Self { database, segments })
    }

    /// Refuses a directory with a received database that was not put in place and is newer than entry `applied`.
    pub fn no_pending_snapshot(&self, applied: u64) -> Result<(), DirectoryError> {
        let snap = self.database.parent().unwrap_or(Path::new("."));
        for path in list(snap)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let index = name.strip_suffix(".snap.db").and_then(|index| u64::from_str_radix(index, 16).ok());
            if index.is_some_and(|index| index > applied) {
                return Err(DirectoryError::PendingSnapshot(path));
            }
        }
        Ok(())
    }

    /// Reads the log after entry `applied`.
    pub fn read_log(&self, applied: u64) -> Result<Contents, DirectoryError> {
        let mut reader = LogReader::new(applied);
        for (number, segment) in self.segments.iter().enumerate() {
            let bytes = fs::read(&segment.path).map_err(FileFailure::io("read", &segment.path))?;
            let name = segment.path.display().to_string();
            reader.read(&name, &bytes, number + 1 == self.segments.len())?;
        }
        Ok(reader.finish()?)
    }
}

/// `{sequence}-{first index}.wal`, 16 hexadecimal digits each.
fn segment(name: &str, path: &Path) -> Option<Segment> {
    let (sequence, first_index) = name.strip_suffix(".wal")?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16);
    Some(Segment { sequence: number(sequence)?, first_index: number(first_index)?, path: path.to_owned() })
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, FileFailure> {
    let failed = || FileFailure::io("open", directory);
    let entries = fs::read_dir(directory).map_err(failed())?;
    entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments() {
        let parsed = |name| segment(name, Path::new(name)).map(|segment| (segment.sequence, segment.first_index));
        assert_eq!(parsed("0000000000000001-00000000000000a0.wal"), Some((1, 160)));
        for other in ["0.tmp", "0000000000000001-00000000000000a0.wal.broken", "1-2.wal", "x-y.wal"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
