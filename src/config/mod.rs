//! Flags, environment and defaults, with etcd's names.
//!
//! Sources: a configuration file alone, or flags and then `ETCD_*` variables for flags not given; a flag and its variable together
//! are refused. A flag that asks for what is so anyway is taken; one that asks for what ringd does not do is refused by name,
//! never ignored, because a deployment that asks for TLS must not come up without it.
//!
//! ```text
//!   command line ─┐
//!   environment  ─┼─▶ values, each well formed by its flag's kind ─▶ rules between them ─▶ Config
//!   file         ─┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `flags` | the table of flags: names, kinds, defaults, and what is done with each |
//! | `command_line` | what clap makes of the table |
//! | `file` | `--config-file` |
//! | `well_formed` | which text is a value of a kind, by the rules of Go |
//! | `values` | what was given for the flags, and from where |
//! | `validation` | what follows from it, and what contradicts it |
//! | `listening` | where is listened |
//! | `discovery` | `--discovery-srv` |
//! | `founding` | `--initial-cluster` and its kin: rules for a member that is new |
//! | `gates` | `--feature-gates` |
//! | `rotation` | where log lines go, and when a file of them is put aside |
//! | `tls` | certificates for clients and between members |
//! | `traces` | distributed tracing |
//! | `notice` | what a start says about its configuration |
//! | `refused` | why a start is refused |

mod auth;
mod command_line;
mod discovery;
mod file;
mod flags;
mod founding;
mod gates;
mod listening;
mod notice;
mod refused;
mod rotation;
mod tls;
mod traces;
mod validation;
mod values;
mod well_formed;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

pub use self::{
    auth::{AuthSettings, AuthToken},
    founding::{FirstStart, Founding},
    gates::Gates,
    listening::{Listen, Security, Traffic},
    notice::Notice,
    refused::Refused,
    rotation::{LogOutput, Rotation},
    tls::Tls,
    traces::Traces,
};
use self::{command_line::Typed, values::Values};
use crate::{os::net::Sharing, service::retention::Policy};

/// Everything a member is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    /// Where is listened, for what.
    pub listen: Vec<Listen>,
    /// Where other members are served.
    pub listen_peers: Vec<Listen>,
    /// Whether other processes may listen on the same ports.
    pub sharing: Sharing,
    /// What `https` peer URLs are served and dialed with.
    pub peer_tls: Option<Tls>,
    /// What `https` client URLs are served with.
    pub client_tls: Option<Tls>,
    /// `--cipher-suites`, as they were named.
    pub cipher_suites: Vec<String>,
    pub advertise_client_urls: Vec<String>,
    pub advertise_peer_urls: Vec<String>,
    pub cluster_token: String,
    /// Of meaning at the first start only.
    pub founding: Founding,
    /// Leave all other members behind at this start.
    pub force_new_cluster: bool,
    /// Get the state from the other members if the data here is damaged.
    pub heal_from_peers: bool,
    /// Stand for election soon after a start instead of after a whole timeout.
    pub advance_ticks: bool,
    pub heartbeat: Duration,
    pub election: Duration,
    pub pre_vote: bool,
    pub read_mode: ReadMode,
    pub quota_bytes: i64,
    pub request_bytes_max: usize,
    pub txn_ops_max: usize,
    pub streams_max: u32,
    pub keepalive_min_time: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
    pub commit_interval: Duration,
    pub commit_changes_max: usize,
    pub compaction_batch: usize,
    pub compaction_pause: Duration,
    /// When old revisions are compacted by themselves; `None`: never.
    pub retention: Option<Policy>,
    pub snapshot_catchup_entries: u64,
    /// Whether changes of the members are refused that could lose the quorum.
    pub strict_reconfiguration: bool,
    pub learners_max: usize,
    /// Between comparisons of the members' data; zero: never.
    pub corrupt_check: Duration,
    /// Between comparisons of the members' hashes of compactions.
    pub compact_hash_check: Duration,
    /// Between looks whether a downgrade is done; zero: never.
    pub downgrade_check: Duration,
    pub warning_apply: Duration,
    pub warning_unary: Duration,
    pub watch_progress: Duration,
    pub extensive_metrics: bool,
    pub access: WebAccess,
    /// Distributed tracing; `None`: off.
    pub traces: Option<Traces>,
    /// Profiles are served.
    pub profiles: bool,
    /// `--enable-grpc-gateway`
    pub gateway: bool,
    pub log_level: tracing::Level,
    pub log_json: bool,
    pub log_outputs: Vec<LogOutput>,
    /// Of the only file among them.
    pub log_rotation: Option<Rotation>,
    pub fsync: bool,
    pub wal_buffered: bool,
    pub cores: Cores,
    pub auth: AuthSettings,
    pub gates: Gates,
    /// What is to be said about the configuration once there is a log.
    pub notices: Vec<Notice>,
}

/// How linearizable reads are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    Index,
    Lease,
    Log,
}

/// Who may read pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebAccess {
    /// Origins whose scripts may; `None`: all.
    pub origins: Option<BTreeSet<String>>,
    /// What the `Host` of a request without TLS may be; `None`: anything.
    pub hosts: Option<BTreeSet<String>>,
}

/// Which CPUs the executors stay on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// By the CPUs the process may use.
    Auto,
    /// This many executors, on the first allowed CPUs.
    Count(usize),
    /// Exactly these CPUs.
    List(Vec<usize>),
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    Serve(Box<Config>),
    /// Print this on standard output and exit 0.
    Print(String),
}

impl Config {
    /// Reads a command line (without the program's name) and the environment.
    ///
    /// # Errors
    /// A flag or value that cannot be followed.
    pub fn parse(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Invocation, Refused> {
        match command_line::read(arguments)? {
            Typed::Help(text) => Ok(Invocation::Print(text)),
            Typed::Version => Ok(Invocation::Print(version_text())),
            Typed::Flags(matches) => Ok(Invocation::Serve(Box::new(Values::read(&matches, environment)?.config()?))),
        }
    }
}

/// etcd's lines, of which scripts read the third word of the first, and ours.
fn version_text() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {}\nGit SHA: Not provided\nGo Version: none\nGo OS/Arch: {}/{architecture}\nringd Version: {}\n",
        crate::base::version::SERVER,
        std::env::consts::OS,
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests;
