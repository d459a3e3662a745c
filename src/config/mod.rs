//! Flags, environment and defaults, with etcd's names.
//!
//! Sources: flags, then `ETCD_*` variables for flags not given; a flag and its variable together are refused. Flags of etcd's
//! that this version does not serve yet are refused by name, never ignored, because a deployment that asks for TLS must not
//! come up without it.
//!
//! | file | holds |
//! |---|---|
//! | `flags` | the table of flags, and the command line |
//! | `gates` | `--feature-gates` |
//! | `values` | what was given for them, by flag or environment |
//! | `validation` | what follows from it, and what contradicts it |

mod flags;
mod gates;
mod validation;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::error::ErrorKind;

pub use self::gates::Gates;
use self::{
    flags::{NOT_SERVED, command, go_style, refused_by_clap},
    values::Values,
};
use crate::{cluster::initial::InitialCluster, service::retention::Policy};

/// Everything a member is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub listen_client: Vec<SocketAddr>,
    pub advertise_client_urls: Vec<String>,
    pub listen_peer_urls: Vec<String>,
    /// The first members of a new cluster, this one among them.
    pub initial_cluster: InitialCluster,
    pub heartbeat: Duration,
    pub election: Duration,
    pub pre_vote: bool,
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
    pub warning_apply: Duration,
    pub warning_unary: Duration,
    pub watch_progress: Duration,
    pub extensive_metrics: bool,
    pub log_level: tracing::Level,
    pub log_json: bool,
    pub fsync: bool,
    pub wal_buffered: bool,
    pub cores: Cores,
    pub gates: Gates,
    /// Warnings about flags that were given although nothing follows from them any more.
    pub deprecated: Vec<&'static str>,
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

/// A command line that cannot be followed: the text for standard error and the exit code etcd uses.
#[derive(Debug)]
pub struct Refused {
    pub text: String,
    pub exit: i32,
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
        let matches = match command().try_get_matches_from(go_style(arguments)) {
            Ok(matches) => matches,
            Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Invocation::Print(error.to_string())),
            Err(error) => return Err(refused_by_clap(&error)),
        };
        if matches.get_flag("version") {
            return Ok(Invocation::Print(version_text()));
        }
        if let Some(name) = NOT_SERVED.iter().find(|name| matches.contains_id(name)) {
            return Err(refuse(2, format!("--{name} is a flag of etcd that this version of ringd does not serve yet")));
        }
        let values = Values::read(&matches, environment)?;
        Ok(Invocation::Serve(Box::new(values.config()?)))
    }
}

fn refuse(exit: i32, text: impl Into<String>) -> Refused {
    Refused { text: text.into(), exit }
}

fn version_text() -> String {
    format!(
        "ringd Version: {}\netcd API Version: {}\nOS/Arch: {}/{}\n",
        env!("CARGO_PKG_VERSION"),
        crate::base::version::SERVER,
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

fn invalid(name: &str, value: &str, why: &str) -> Refused {
    refuse(2, format!("invalid value \"{value}\" for flag --{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, Refused> {
        let arguments = arguments.iter().map(ToString::to_string);
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        match Config::parse(arguments, environment)? {
            Invocation::Serve(config) => Ok(*config),
            Invocation::Print(text) => panic!("printed {text}"),
        }
    }

    fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> Refused {
        parse(arguments, environment).expect_err("refused")
    }

    #[test]
    fn a_single_members_full_set_works() {
        let config = parse(
            &[
                "--name=a",
                "-data-dir",
                "/tmp/x",
                "--listen-client-urls=http://127.0.0.1:12379",
                "--advertise-client-urls=http://127.0.0.1:12379",
                "--listen-peer-urls=http://127.0.0.1:12380",
                "--initial-advertise-peer-urls=http://127.0.0.1:12380",
                "--initial-cluster=a=http://127.0.0.1:12380",
                "--unsafe-no-fsync",
            ],
            &[],
        )
        .expect("accepted");
        assert_eq!(config.data_dir, PathBuf::from("/tmp/x"));
        assert_eq!(config.listen_client, ["127.0.0.1:12379".parse().expect("an address")]);
        assert!(!config.fsync);
    }

    #[test]
    fn environment_fills_in_and_conflicts_are_refused() {
        let config =
            parse(&[], &[("ETCD_NAME", "b"), ("ETCD_ELECTION_TIMEOUT", "2000"), ("HOME", "/")]).expect("accepted");
        assert_eq!((config.name.as_str(), config.election), ("b", Duration::from_secs(2)));
        assert_eq!(config.data_dir, PathBuf::from("b.etcd"));
        let both = refusal(&["--name=a"], &[("ETCD_NAME", "b")]);
        assert_eq!(both.exit, 1);
        assert!(both.text.contains("shadowed"), "{}", both.text);
    }

    #[test]
    fn unknown_and_unserved_flags_are_refused_with_a_hint() {
        let unknown = refusal(&["--heartbeat-intervall=5"], &[]);
        assert_eq!(unknown.exit, 2);
        assert!(unknown.text.contains("--heartbeat-interval"), "{}", unknown.text);
        assert!(refusal(&["--cert-file=x"], &[]).text.contains("does not serve"));
        assert!(refusal(&[], &[("ETCD_CERT_FILE", "x")]).text.contains("does not serve"));
        assert!(refusal(&["stray"], &[]).text.contains("not a valid flag"));
        assert!(refusal(&["--socket-reuse-port"], &[]).text.contains("does not share"));
        assert!(refusal(&["--initial-election-tick-advance=false"], &[]).text.contains("at once"));
    }

    #[test]
    fn retention_is_a_time_or_a_number() {
        let policy = |mode: &str, text: &str| {
            let flags = [format!("--auto-compaction-mode={mode}"), format!("--auto-compaction-retention={text}")];
            parse(&[&flags[0], &flags[1]], &[]).map(|config| config.retention).map_err(|refused| refused.text)
        };
        let hour = 3_600_000_000_000;
        assert_eq!(policy("periodic", "0"), Ok(None));
        assert_eq!(policy("periodic", "2"), Ok(Some(Policy::Periodic { period_ns: 2 * hour })));
        assert_eq!(policy("periodic", "30m"), Ok(Some(Policy::Periodic { period_ns: hour / 2 })));
        assert_eq!(policy("revision", "1000"), Ok(Some(Policy::Revision { keep: 1000 })));
        assert_eq!(policy("revision", "1us"), Ok(Some(Policy::Revision { keep: 1000 })));
        assert_eq!(policy("hourly", "1").expect_err("refused"), r#"unknown auto-compaction-mode "hourly""#);
        assert_eq!(policy("", "1").expect_err("refused"), "undefined auto-compaction-mode");
        assert_eq!(
            policy("periodic", "-5").expect_err("refused"),
            r#"error parsing CompactionRetention: time: missing unit in duration "-5""#
        );
        assert!(policy("periodic", "-5m").expect_err("refused").contains("negative"));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(refusal(&["--heartbeat-interval=300"], &[]).text.contains("at least as 5 times"));
        assert!(refusal(&["--listen-client-urls=http://127.0.0.1:1"], &[]).text.contains("is required"));
        assert!(refusal(&["--initial-cluster=b=http://localhost:2380"], &[]).text.contains("couldn't find local name"));
        assert!(
            refusal(
                &["--initial-advertise-peer-urls=http://127.0.0.1:1", "--initial-cluster=default=http://127.0.0.1:2"],
                &[]
            )
            .text
            .contains("missing from")
        );
    }
}
