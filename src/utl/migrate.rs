//! `migrate`: as in etcdutl it moves a database between schema versions; with `--from` it moves a whole member from etcd to ringd.
//!
//! ```text
//!   --from DIR   db ─ copied ─▶ + committed entries of the log ─▶ same member, same cluster  (or a new one, if it was not alone)
//!   --from FILE  as `snapshot restore` for a cluster of one
//!   without      storageVersion of DIR's database raised or lowered, one minor version after the other
//! ```

use std::path::{Path, PathBuf};

use super::{
    Command,
    database::{Access, Database, FileFailure, wait_for_lock},
    etcd_dir::EtcdDirectory,
    founding::{Beginning, DigestCheck, Target, keep_single_member, make_new_cluster},
    schema::{Release, SchemaError, V3_5},
    session::{Session, must_exist},
    snapshot_restore::{Restoration, restore},
    tail::{self, Ended},
};
use crate::{
    apply::state,
    backend::Backend,
    base::log_entry::HardState,
    cluster::{initial::InitialCluster, membership::Member},
    ctl::{
        exit::{ERROR, Exit},
        go_format::{io_error, parse_int, quote},
        tree::Flag,
    },
    server::datadir,
    wal::Metadata,
};

pub static COMMAND: Command = Command {
    name: "migrate",
    short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
    flags: &[
        Flag::text("data-dir", "", "Path to the etcd data dir, or with --from to the new data dir of ringd"),
        Flag::text(
            "target-version",
            "",
            "Target etcd version to migrate contents of data dir. Minimal value 3.5. Format \"X.Y\" for example 3.6.",
        ),
        Flag::bool("force", "Ignore migration failure and forcefully override storage version. Not recommended."),
        Flag::text(
            "from",
            "",
            "Data dir of a stopped etcd (3.4 to 3.7), or a snapshot file: makes a data dir of ringd with everything in it",
        ),
        Flag::text("from-wal-dir", "", "WAL directory of that etcd, if it had one of its own"),
        Flag::text("wal-dir", "", "Path to the new WAL directory (use --data-dir if none given)"),
        Flag::bool(
            "skip-hash-check",
            "Take a snapshot file without integrity hash value, copied from a data directory",
        ),
        Flag::text("name", "default", "Name of the new member, where it cannot keep the old one's"),
        Flag::text("initial-advertise-peer-urls", "http://localhost:2380", "Its peer URLs"),
        Flag::text("initial-cluster-token", "etcd-cluster", "Token of its new cluster"),
    ],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    if session.flags.given("from") {
        session.require(&["data-dir"])?;
        return take_over(session);
    }
    session.require(&["data-dir", "target-version"])?;
    move_schema(session)
}

fn given_path(session: &Session, flag: &str) -> Option<PathBuf> {
    Some(session.flags.text(flag)).filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn take_over(session: &mut Session) -> Result<(), Exit> {
    let from = PathBuf::from(session.flags.text("from"));
    must_exist(&from)?;
    let text = |flag| session.flags.text(flag);
    let single =
        InitialCluster::single(text("name"), text("initial-cluster-token"), text("initial-advertise-peer-urls"));
    let cluster = single.map_err(|mistake| Exit::new(ERROR, mistake))?;
    let data_dir = PathBuf::from(text("data-dir"));
    let wal_dir = given_path(session, "wal-dir");
    if from.is_dir() {
        return take_over_directory(session, &from, &data_dir, wal_dir.as_deref(), &cluster);
    }
    let check = if session.flags.bool("skip-hash-check") { DigestCheck::Skipped } else { DigestCheck::Required };
    restore(session, &Restoration { source: from, data_dir, wal_dir, cluster, check, bump: 0 })
}

fn take_over_directory(
    session: &mut Session,
    from: &Path,
    data_dir: &Path,
    wal_dir: Option<&Path>,
    cluster: &InitialCluster,
) -> Result<(), Exit> {
    let failed = |error: &dyn std::fmt::Display| Exit::new(ERROR, error);
    let from_wal = given_path(session, "from-wal-dir");
    let source = EtcdDirectory::find(from, from_wal.as_deref()).map_err(|error| failed(&error))?;
    // Held to the end: an etcd that starts meanwhile would append entries that this tool has not read.
    let _lock = wait_for_lock(&source.database, Access::Read, session.patience())?;
    let target = Target::create(data_dir, wal_dir)?;
    let (database, backend) =
        target.copy_database(&source.database, DigestCheck::Skipped, session.patience(), &session.progress())?;
    let state = state::restore(&backend.view()).map_err(FileFailure::from)?;
    source.no_pending_snapshot(state.index).map_err(|error| failed(&error))?;
    let contents = source.read_log(state.index).map_err(|error| failed(&error))?;
    let (metadata, old_state) = (contents.metadata, contents.hard_state);
    if let Some((file, offset)) = &contents.torn {
        let offset = offset.to_string();
        session.log("warn", "the log ends in a torn write", &[("file", file), ("offset", &offset)])?;
    }
    let (mut backend, ended) = tail::apply(&database, backend, state, contents).map_err(|error| failed(&error))?;
    report_tail(session, &ended)?;
    let metadata = if ended.members.is_alone(metadata.member_id) {
        let member = own_member(&ended, metadata, cluster);
        keep_single_member(&mut backend, &member)?;
        tail::put_end(&mut backend, &ended);
        database.commit(&mut backend)?;
        let Ended { index, term, .. } = ended;
        let hard_state = HardState { term: old_state.term.max(term), vote: old_state.vote, commit: index };
        target.found_log(&Beginning::After { metadata, index, term, hard_state })?;
        metadata
    } else {
        report_new_cluster(session, &ended, metadata)?;
        make_new_cluster(&mut backend, cluster)?;
        database.commit(&mut backend)?;
        target.found_log(&Beginning::Founders(cluster))?;
        Metadata { cluster_id: cluster.cluster_id, member_id: cluster.local_id }
    };
    target.keep();
    report_end(session, from, data_dir, metadata)
}

/// The member by its database or log; a database of 3.4 may not have it.
fn own_member(ended: &Ended, metadata: Metadata, cluster: &InitialCluster) -> Member {
    let described = ended.members.member(metadata.member_id).or(cluster.members.first());
    Member { id: metadata.member_id, is_learner: false, ..described.cloned().unwrap_or_default() }
}

fn report_tail(session: &mut Session, ended: &Ended) -> Result<(), Exit> {
    let [applied, index] = [ended.applied.to_string(), ended.index.to_string()];
    let fields = [("entries", &*applied), ("last-index", &*index)];
    session.log("info", "applied committed entries of the log after the database", &fields)?;
    if ended.uncommitted > 0 {
        let entries = ended.uncommitted.to_string();
        let text = "left out entries at the end of the log, of which it does not say that they were committed";
        session.log("warn", text, &[("entries", &*entries)])?;
    }
    if ended.v2_requests > 0 {
        let requests = ended.v2_requests.to_string();
        let text = "left out requests of the v2 API, whose keys are not in the database";
        session.log("warn", text, &[("requests", &*requests)])?;
    }
    Ok(())
}

fn report_new_cluster(session: &mut Session, ended: &Ended, metadata: Metadata) -> Result<(), Exit> {
    let (count, cluster) = (ended.members.count().to_string(), format!("{:x}", metadata.cluster_id));
    let text = "the directory belongs to a cluster of several members: it becomes a new cluster of one member, with new ids; do not \
                start the others beside it";
    session.log("warn", text, &[("members", &*count), ("old-cluster-id", &*cluster)])
}

fn report_end(session: &mut Session, from: &Path, data_dir: &Path, metadata: Metadata) -> Result<(), Exit> {
    let [member, cluster] = [metadata.member_id, metadata.cluster_id].map(|id| format!("{id:x}"));
    let [from, data_dir] = [from, data_dir].map(|path| path.display().to_string());
    let fields = [("from", &*from), ("data-dir", &*data_dir), ("member-id", &*member), ("cluster-id", &*cluster)];
    session.log("info", "migrated etcd data directory", &fields)
}

fn target_version(text: &str) -> Result<Release, Exit> {
    if text.matches('.').count() != 1 {
        let quoted = quote(text.as_bytes());
        return Err(Exit::arguments(format!("wrong target version format, expected \"X.Y\", got {quoted}")));
    }
    let mistaken = |reason: String| Exit::arguments(format!("failed to parse target version: {reason}"));
    // Text after a + or a - is metadata or a pre-release, which includes the patch number that etcdutl appends.
    if let Some(at) = text.find(['+', '-']) {
        return Err(mistaken(format!("{} is not in dotted-tri format", &text[..at])));
    }
    let number = |part: &str| parse_int(part.as_bytes(), 10).map(i64::cast_unsigned).map_err(mistaken);
    let (major, minor) = text.split_once('.').expect("it has one dot");
    let target = Release { major: number(major)?, minor: number(minor)? };
    if target < V3_5 {
        return Err(Exit::arguments(format!("target version \"{target}\" not supported. Minimal \"3.5\"")));
    }
    Ok(target)
}

/// etcd's own `migrate`.
fn move_schema(session: &mut Session) -> Result<(), Exit> {
    let target = target_version(session.flags.text("target-version"))?;
    let member = PathBuf::from(session.flags.text("data-dir")).join("member");
    let path = member.join("snap").join("db");
    must_exist(&path)?;
    let (database, pages) = Database::open(&path, Access::Write, session.patience())?;
    let mut backend = Backend::new(pages).map_err(FileFailure::from)?;
    let current = match Release::of(&backend) {
        Ok(current) => current,
        Err(error) => {
            let text =
                "failed to detect storage version. Please make sure you are using data dir from etcd v3.5 and older";
            session.log("error", text, &[])?;
            return Err(Exit::new(ERROR, error));
        }
    };
    let force = session.flags.bool("force");
    if current == target {
        let version = current.to_string();
        return session.log("info", "storage version up-to-date", &[("storage-version", &*version)]);
    }
    match may_move(current, target, &member) {
        Ok(()) => {
            target.put(&mut backend);
            let version = format!("{target}.0");
            session.log("info", "updated storage version", &[("new-storage-version", &*version)])?;
        }
        Err(reason) if force => {
            session.log("info", "normal migrate failed, trying with force", &[("error", &*reason)])?;
            target.put(&mut backend);
            let version = target.to_string();
            session.log("warn", "forcefully set storage version", &[("storage-version", &*version)])?;
        }
        Err(reason) => return Err(Exit::new(ERROR, reason)),
    }
    Ok(database.commit(&mut backend)?)
}

/// Whether both versions are known, and for a lower target that no log of etcd may hold entries which the older version does not know.
fn may_move(current: Release, target: Release, member: &Path) -> Result<(), String> {
    let known = Release::own();
    if current.major != target.major {
        return Err("cannot create migration plan: changing major storage version is not supported".to_owned());
    }
    if current > known || target > known {
        let unknown = SchemaError::Newer { found: current.max(target), known };
        return Err(format!("cannot create migration plan: {unknown}"));
    }
    if target > current {
        return Ok(());
    }
    let wal = member.join("wal");
    let names = std::fs::read_dir(&wal).map_err(|error| format!("open {}: {}", wal.display(), io_error(&error)))?;
    if names.flatten().any(|entry| datadir::is_segment_of_etcd(&entry.file_name().to_string_lossy())) {
        let text = "cannot downgrade storage: whether etcd's log holds entries of a newer version is for the etcdutl of that version to say";
        return Err(text.to_owned());
    }
    Ok(())
}
