//! A new data directory, made from a copy of a database.
//!
//! ```text
//!   data-dir empty, wal-dir absent ─▶ directories, locked ─▶ database copied, checked, changed, durable ─▶ log ─▶ kept
//!                                                    any failure before the end: everything made is removed
//! ```
//!
//! The log is made last, and its first segment gets its name only when it is complete, as at a member's first start: the next
//! start of ringd finds a whole member, or none.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;

use super::{
    database::{Access, Database, FileFailure, must_be_sound, wait_for_lock},
    schema::{self, SchemaError},
};
use crate::{
    apply::state,
    backend::{Backend, Bucket},
    base::{
        limits,
        log_entry::{ConfState, HardState},
        version,
    },
    cluster::{initial::InitialCluster, membership::Member},
    consensus::Initial,
    ctl::{
        exit::{ERROR, Exit},
        go_format::io_error,
        progress::ByteProgress,
    },
    os::{
        file::{FileError, sync_directory},
        random,
    },
    pagefile::{Corrupt, PageFile},
    server::datadir::{DataDir, DataDirError},
    snapshot::{DIGEST_BYTES, Digest, has_digest},
    wal::{self, Action, AppendError, IssuedBatch, Metadata, Prepare, SnapshotMarker, Wal},
};

/// Why a data directory cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
    #[error("wal-dir {0:?} exists")]
    WalExists(PathBuf),
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoDigest,
    #[error("expected sha256 {}, got {}", numbers(.stored), numbers(.found))]
    Digest { stored: Vec<u8>, found: Vec<u8> },
    #[error("copy {from} to {to}: {}", io_error(.error))]
    Copy { from: PathBuf, to: PathBuf, error: io::Error },
    #[error(transparent)]
    File(#[from] FileFailure),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Sync(#[from] FileError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("log: {0}")]
    Append(#[from] AppendError),
}

impl From<FoundingError> for Exit {
    fn from(error: FoundingError) -> Self {
        Exit::new(ERROR, error)
    }
}

/// Bytes as Go prints them.
fn numbers(bytes: &[u8]) -> String {
    format!("[{}]", bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" "))
}

/// The expectation on a source's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestCheck {
    /// It must be present and right.
    Required,
    /// It is cut off if present.
    Skipped,
}

/// The start of the new member's log.
pub enum Beginning<'a> {
    /// With the conf changes that make a new cluster.
    Founders(&'a InitialCluster),
    /// At the end of another log: everything up to `index` is in the database.
    After { metadata: Metadata, index: u64, term: u64, hard_state: HardState },
}

/// A data directory being made. Unless it is kept, dropping it removes everything made.
pub struct Target {
    directory: DataDir,
    /// Paths to remove, outermost first.
    made: Vec<PathBuf>,
    is_kept: bool,
}

impl Target {
    /// Makes and locks the directories.
    pub fn create(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, FoundingError> {
        let existed = data_dir.exists();
        let is_empty = || fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_none());
        if existed && !is_empty() {
            return Err(FoundingError::NotEmpty(data_dir.to_owned()));
        }
        if let Some(wal_dir) = wal_dir.filter(|wal_dir| wal_dir.exists()) {
            return Err(FoundingError::WalExists(wal_dir.to_owned()));
        }
        let mut made = vec![if existed { data_dir.join("member") } else { data_dir.to_owned() }];
        made.extend(wal_dir.map(Path::to_path_buf));
        let directory = DataDir::open(data_dir, wal_dir).inspect_err(|_| remove(&made))?;
        Ok(Self { directory, made, is_kept: false })
    }

    #[must_use]
    pub fn wal(&self) -> &Path {
        self.directory.wal()
    }

    #[must_use]
    pub fn snap(&self) -> &Path {
        self.directory.snap()
    }

    /// Copies a database that no process has open for writing, and opens the copy.
    pub fn copy_database(
        &self,
        source: &Path,
        check: DigestCheck,
        patience: Option<Duration>,
        progress: &ByteProgress,
    ) -> Result<(Database, Backend), FoundingError> {
        let path = self.directory.database();
        let _source_lock = wait_for_lock(source, Access::Read, patience)?;
        copy(source, &path, progress).map_err(|error| FoundingError::Copy {
            from: source.to_owned(),
            to: path.clone(),
            error,
        })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(FileFailure::io("chmod", &path))?;
        cut_digest(&path, check, progress)?;
        sync_directory(self.directory.snap())?;
        let (database, pages) = Database::open(&path, Access::Write, None)?;
        must_be_sound(&path, &pages)?;
        let backend = self.backend(pages)?;
        schema::must_be_known(&backend)?;
        Ok((database, backend))
    }

    fn backend(&self, pages: PageFile) -> Result<Backend, FoundingError> {
        Ok(Backend::new(pages).map_err(FileFailure::from)?)
    }

    /// Founds the log: from here on the directory is a member.
    pub fn found_log(&self, beginning: &Beginning) -> Result<(), FoundingError> {
        let metadata = match beginning {
            Beginning::Founders(cluster) => Metadata { cluster_id: cluster.cluster_id, member_id: cluster.local_id },
            Beginning::After { metadata, .. } => *metadata,
        };
        let salt = u32::try_from(random::number() >> 32).expect("half of the bits");
        let (mut wal, actions) = Wal::create(wal::Config::new(salt), metadata);
        let append = match beginning {
            Beginning::Founders(cluster) => {
                let initial = initial(cluster);
                wal.append(Some(initial.hard_state), &initial.entries)?
            }
            Beginning::After { metadata, index, term, hard_state } => {
                let conf_state = sole_voter(metadata.member_id);
                let marker = SnapshotMarker { index: *index, term: *term, conf_state, restarts_log: true };
                wal.save_snapshot_marker(marker, Some(*hard_state))?
            }
        };
        let prepared: Vec<&Prepare> = actions
            .iter()
            .filter_map(|action| if let Action::Prepare(prepare) = action { Some(prepare) } else { None })
            .collect();
        Ok(write_segments(self.wal(), &prepared, &append.writes)?)
    }

    /// The directory stays.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_kept {
            remove(&self.made);
        }
    }
}

/// Removes `made`. Errors are ignored, because the failure before is reported.
fn remove(made: &[PathBuf]) {
    for directory in made {
        let _removed = fs::remove_dir_all(directory);
    }
}

/// Copies a file, by the kernel where the file systems allow it.
fn copy(from: &Path, to: &Path, progress: &ByteProgress) -> io::Result<()> {
    let source = fs::File::open(from)?;
    let mut target = fs::File::create(to)?;
    let length = source.metadata()?.len();
    let mut done = 0;
    loop {
        progress.set(done, length.saturating_sub(done));
        let copied = io::copy(&mut (&source).take(limits::COPY_CHUNK_BYTES as u64), &mut target)?;
        if copied == 0 {
            return Ok(());
        }
        done += copied;
    }
}

/// Checks the checksum at the end of a copy and cuts it off.
fn cut_digest(path: &Path, check: DigestCheck, progress: &ByteProgress) -> Result<(), FoundingError> {
    let failed = |operation| FileFailure::io(operation, path);
    let file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(failed("open"))?;
    let length = file.metadata().map_err(failed("stat"))?.len();
    match (has_digest(length), check) {
        (false, DigestCheck::Required) => return Err(FoundingError::NoDigest),
        (false, DigestCheck::Skipped) => {}
        (true, check) => {
            let pages = length - DIGEST_BYTES as u64;
            if check == DigestCheck::Required {
                let mut stored = vec![0; DIGEST_BYTES];
                file.read_exact_at(&mut stored, pages).map_err(failed("read"))?;
                let found = digest_of(&file, pages, progress).map_err(failed("read"))?.to_vec();
                if stored != found {
                    return Err(FoundingError::Digest { stored, found });
                }
            }
            file.set_len(pages).map_err(failed("truncate"))?;
        }
    }
    Ok(file.sync_all().map_err(failed("fsync"))?)
}

fn digest_of(file: &fs::File, length: u64, progress: &ByteProgress) -> io::Result<[u8; DIGEST_BYTES]> {
    let mut digest = Digest::default();
    let mut piece = vec![0; limits::COPY_CHUNK_BYTES];
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(usize::MAX).min(piece.len());
        file.read_exact_at(&mut piece[..wanted], at)?;
        digest.update(&piece[..wanted]);
        at += wanted as u64;
        progress.set(at, length - at);
    }
    Ok(digest.finish())
}

/// Changes the committed database to that of a new cluster: its members, and no applied entry but the changes that add them.
pub fn make_new_cluster(backend: &mut Backend, cluster: &InitialCluster) -> Result<(), FileFailure> {
    let initial = initial(cluster);
    replace_members(backend, &cluster.members, &[Bucket::Members, Bucket::MembersRemoved])?;
    state::put_conf_state(backend, &initial.conf_state);
    state::put_applied(backend, initial.hard_state.commit, initial.hard_state.term);
    raise_versions(backend)
}

/// Changes the committed database to that of a cluster of one, which continues. The removed members stay removed.
pub fn keep_single_member(backend: &mut Backend, member: &Member) -> Result<(), FileFailure> {
    replace_members(backend, std::slice::from_ref(member), &[Bucket::Members])?;
    state::put_conf_state(backend, &sole_voter(member.id));
    raise_versions(backend)
}

fn initial(cluster: &InitialCluster) -> Initial {
    Initial::of_new_cluster(cluster.founders())
}

fn sole_voter(member_id: u64) -> ConfState {
    ConfState { voters: vec![member_id], ..ConfState::default() }
}

fn replace_members(backend: &mut Backend, members: &[Member], emptied: &[Bucket]) -> Result<(), FileFailure> {
    for bucket in emptied {
        for key in keys(backend, *bucket)? {
            backend.delete(*bucket, &key);
        }
    }
    members.iter().for_each(|member| state::put_member(backend, member));
    Ok(())
}

/// The committed keys of a small bucket.
fn keys(backend: &Backend, bucket: Bucket) -> Result<Vec<Bytes>, Corrupt> {
    let view = backend.view();
    let Some(root) = view.pages().bucket(bucket.name())? else { return Ok(Vec::new()) };
    let mut cursor = view.pages().cursor(root);
    let mut keys = Vec::new();
    let mut found = cursor.first()?;
    while let Some(item) = found {
        keys.push(Bytes::copy_from_slice(item.key));
        found = cursor.next_item()?;
    }
    Ok(keys)
}

/// Sets the versions of the file and of its cluster to those of this release.
fn raise_versions(backend: &mut Backend) -> Result<(), FileFailure> {
    state::put_storage_version(backend, version::STORAGE);
    if state::restore(&backend.view())?.cluster_version.is_some() {
        state::put_cluster_version(backend, version::CLUSTER);
    }
    Ok(())
}

/// Segments under a temporary name until everything written to them is durable.
fn write_segments(directory: &Path, prepared: &[&Prepare], batches: &[IssuedBatch]) -> Result<(), FileFailure> {
    for prepare in prepared {
        let temporary = directory.join(prepare.segment.temporary_name());
        let failed = |operation| FileFailure::io(operation, &temporary);
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(&temporary);
        let file = file.map_err(failed("create"))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed("chmod"))?;
        let zeros = vec![0; limits::WAL_FILL_BYTES];
        let mut at = 0;
        while at < prepare.size_bytes {
            let wanted = usize::try_from(prepare.size_bytes - at).unwrap_or(usize::MAX).min(zeros.len());
            file.write_all_at(&zeros[..wanted], at).map_err(failed("write"))?;
            at += wanted as u64;
        }
        file.write_all_at(&prepare.header, 0).map_err(failed("write"))?;
        for batch in batches.iter().filter(|batch| batch.write.segment == prepare.segment) {
            file.write_all_at(&batch.write.bytes, batch.write.offset).map_err(failed("write"))?;
        }
        file.sync_all().map_err(failed("fsync"))?;
        let name = directory.join(prepare.segment.file_name());
        fs::rename(&temporary, &name).map_err(failed("rename"))?;
    }
    let synced = fs::File::open(directory).and_then(|handle| handle.sync_all());
    synced.map_err(FileFailure::io("fsync", directory))
}
