//! `snapshot restore`: a data directory from a snapshot file. The former members are replaced by the new ones; revisions, leases,
//! users and alarms stay.

use std::path::PathBuf;

use super::{
    Command,
    founding::{Beginning, DigestCheck, Target, make_new_cluster},
    session::Session,
};
use crate::{
    backend::Backend,
    cluster::initial::InitialCluster,
    ctl::{
        exit::{ERROR, Exit},
        go_format::io_error,
        tree::{Flag, Kind},
    },
    mvcc::bump_revision,
    os::net::resolve,
};

pub static COMMAND: Command = Command {
    name: "restore",
    arguments: "<filename> --data-dir {output dir} [options]",
    short: "Restores an etcd member snapshot to an etcd directory",
    flags: &[
        Flag::text("data-dir", "", "Path to the output data directory"),
        Flag::text("wal-dir", "", "Path to the WAL directory (use --data-dir if none given)"),
        Flag::text(
            "initial-cluster",
            "default=http://localhost:2380",
            "Initial cluster configuration for restore bootstrap",
        ),
        Flag::text(
            "initial-cluster-token",
            "etcd-cluster",
            "Initial cluster token for the etcd cluster during restore bootstrap",
        ),
        Flag::text(
            "initial-advertise-peer-urls",
            "http://localhost:2380",
            "List of this member's peer URLs to advertise to the rest of the cluster",
        ),
        Flag::text("name", "default", "Human-readable name for this member"),
        Flag::bool("skip-hash-check", "Ignore snapshot integrity hash value (required if copied from data directory)"),
        // Accepted for compatibility and ignored: ringd reserves a fixed address range for its database.
        Flag::new(
            "initial-memory-map-size",
            Kind::Uint,
            "10737418240",
            "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0",
        ),
        Flag::new("bump-revision", Kind::Uint, "0", "How much to increase the latest revision after restore"),
        Flag::bool(
            "mark-compacted",
            "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, \
             disallowed otherwise)",
        ),
    ],
    run: Some(run),
    ..Command::EMPTY
};

/// The source of a restoration and its new member.
pub struct Restoration {
    pub source: PathBuf,
    pub data_dir: PathBuf,
    /// Set if the flag was given.
    pub wal_dir: Option<PathBuf>,
    pub cluster: InitialCluster,
    pub check: DigestCheck,
    /// 0: the revision stays.
    pub bump: u64,
}

fn run(session: &mut Session) -> Result<(), Exit> {
    if session.flags.arguments.len() != 1 {
        return Err(Exit::arguments("snapshot restore requires exactly one argument"));
    }
    let bump = session.flags.uint("bump-revision");
    if (bump > 0) != session.flags.bool("mark-compacted") {
        return Err(Exit::arguments("--mark-compacted required if --revision-bump > 0"));
    }
    let text = |name| session.flags.text(name);
    let name = text("name");
    let cluster = InitialCluster::parse(
        name,
        text("initial-cluster"),
        text("initial-cluster-token"),
        text("initial-advertise-peer-urls"),
        resolve,
    )
    .map_err(|mistake| Exit::new(ERROR, mistake))?;
    let data_dir = if text("data-dir").is_empty() { format!("{name}.etcd") } else { text("data-dir").to_owned() };
    let check = if session.flags.bool("skip-hash-check") { DigestCheck::Skipped } else { DigestCheck::Required };
    let restoration = Restoration {
        source: session.argument(0).into_owned().into(),
        data_dir: data_dir.into(),
        wal_dir: Some(text("wal-dir")).filter(|path| !path.is_empty()).map(PathBuf::from),
        cluster,
        check,
        bump,
    };
    restore(session, &restoration)
}

/// Carries a restoration out.
pub fn restore(session: &mut Session, restoration: &Restoration) -> Result<(), Exit> {
    let source = restoration.source.display().to_string();
    if let Err(error) = std::fs::File::open(&restoration.source) {
        return Err(Exit::new(ERROR, format!("open {source}: {}", io_error(&error))));
    }
    let target = Target::create(&restoration.data_dir, restoration.wal_dir.as_deref())?;
    let places = [
        ("path", source),
        ("wal-dir", target.wal().display().to_string()),
        ("data-dir", restoration.data_dir.display().to_string()),
        ("snap-dir", target.snap().display().to_string()),
    ];
    let places: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
    session.log("info", "restoring snapshot", &places)?;
    let (database, mut backend) =
        target.copy_database(&restoration.source, restoration.check, session.patience(), &session.progress())?;
    if restoration.bump > 0 {
        raise_revision(session, &mut backend, restoration.bump)?;
    }
    make_new_cluster(&mut backend, &restoration.cluster)?;
    log_members(session, &restoration.cluster)?;
    database.commit(&mut backend)?;
    target.found_log(&Beginning::Founders(&restoration.cluster))?;
    target.keep();
    session.log("info", "restored snapshot", &places)
}

/// etcdutl's log lines, on which scripts depend.
fn log_members(session: &mut Session, cluster: &InitialCluster) -> Result<(), Exit> {
    let cluster_id = format!("{:x}", cluster.cluster_id);
    for member in &cluster.members {
        let id = format!("{:x}", member.id);
        let urls = member.peer_urls.join(",");
        let fields = [
            ("cluster-id", &*cluster_id),
            ("local-member-id", "0"),
            ("added-peer-id", &*id),
            ("added-peer-peer-urls", &*urls),
        ];
        session.log("info", "added member", &fields)?;
    }
    Ok(())
}

fn raise_revision(session: &mut Session, backend: &mut Backend, amount: u64) -> Result<(), Exit> {
    let bump = bump_revision(backend, amount).map_err(|error| Exit::new(ERROR, error))?;
    let [latest, amount, raised] = [bump.latest.to_string(), amount.to_string(), bump.raised.to_string()];
    let fields = [("latest-revision", &*latest), ("bump-amount", &*amount), ("new-latest-revision", &*raised)];
    session.log("info", "bumping latest revision", &fields)?;
    session.log("info", "marking revision compacted", &[("revision", &*raised)])
}
