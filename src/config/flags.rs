//! The flags that are served, those that are refused by name, and the command line that clap makes of them.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, error::ErrorKind};

use super::{Refused, refuse};

pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, help }
}

/// Flags that are served. A default of `true` or `false` makes the flag boolean.
pub(super) const FLAGS: &[Flag] = &[
    flag("name", "default", "Name of this member"),
    flag("data-dir", "", "Data directory [default: <name>.etcd]"),
    flag("wal-dir", "", "Directory of the log [default: <data-dir>/member/wal]"),
    flag("listen-client-urls", "http://localhost:2379", "Where clients are served"),
    flag("advertise-client-urls", "http://localhost:2379", "Client URLs told to the cluster"),
    flag("listen-peer-urls", "http://localhost:2380", "Where members are to be served (nothing listens there yet)"),
    flag("initial-advertise-peer-urls", "http://localhost:2380", "Peer URLs told to the cluster"),
    flag("initial-cluster", "", "Initial members as name=url,... [default: this member]"),
    flag("initial-cluster-state", "new", "new or existing"),
    flag("initial-cluster-token", "etcd-cluster", "Enters member and cluster ids"),
    flag("heartbeat-interval", "100", "Milliseconds between heartbeats"),
    flag("election-timeout", "1000", "Milliseconds without a leader before an election"),
    flag("initial-election-tick-advance", "true", "Shorten the first election timeout at boot (only true is served)"),
    flag("pre-vote", "true", "Ask before standing for election"),
    flag("quota-backend-bytes", "0", "Database quota; 0 means 2 GiB, negative none"),
    flag("max-request-bytes", "1572864", "Largest Raft request"),
    flag("max-txn-ops", "128", "Most operations in a transaction"),
    flag("max-concurrent-streams", "4294967295", "HTTP/2 streams per client connection"),
    flag("grpc-keepalive-min-time", "5s", "Shortest ping interval tolerated of clients"),
    flag("grpc-keepalive-interval", "2h", "Server ping interval, 0 is off"),
    flag("grpc-keepalive-timeout", "20s", "Wait for the answer to a ping"),
    flag("backend-batch-interval", "0", "Longest time between commits of the page file [default: 100ms]"),
    flag("backend-batch-limit", "0", "Most changes between commits of the page file [default: 10000]"),
    flag("compaction-batch-limit", "0", "Revisions per slice of a compaction [default: 1000]"),
    flag("compaction-sleep-interval", "0", "Pause between slices of a compaction [default: 10ms]"),
    flag("auto-compaction-mode", "periodic", "What --auto-compaction-retention means: periodic or revision"),
    flag(
        "auto-compaction-retention",
        "0",
        "History that is kept when old revisions are compacted by themselves: a time (hours without a unit), or a number of \
         revisions; 0 is off",
    ),
    flag("snapshot-count", "10000", "For compatibility: the log is released at every commit of the database"),
    flag("max-snapshots", "5", "For compatibility: there are no snapshot files"),
    flag("max-wals", "5", "For compatibility: segments of the log are used again"),
    flag("v2-deprecation", "write-only", "For compatibility: there is no v2 store"),
    flag("backend-bbolt-freelist-type", "map", "For compatibility: array or map"),
    flag("feature-gates", "", "etcd's feature gates as name=true,name=false,..."),
    flag("snapshot-catchup-entries", "5000", "Entries kept in memory for slow followers"),
    flag("warning-apply-duration", "100ms", "Log an apply that takes longer"),
    flag("warning-unary-request-duration", "300ms", "Log a unary call that takes longer"),
    flag(
        "watch-progress-notify-interval",
        "0",
        "Time between progress notices to watchers that want them [default: 10m]",
    ),
    flag("metrics", "basic", "basic or extensive"),
    flag("log-level", "info", "debug, info, warn or error"),
    flag("log-format", "json", "json or console"),
    flag("log-outputs", "default", "default or stderr"),
    flag("logger", "zap", "Only zap, for compatibility"),
    flag("unsafe-no-fsync", "false", "Never sync: a power cut loses data"),
    flag(
        "wal-buffered",
        "false",
        "Write the log through the page cache with fdatasync, for file systems without O_DIRECT",
    ),
    flag("cores", "", "Number of executors, or a list of CPUs like 0,2,3 [default: by the machine]"),
    flag("socket-reuse-port", "false", "Share ports with other processes (only false is served)"),
];

/// What etcd says when one of these is given.
pub(super) const DEPRECATED: [(&str, &str); 2] = [
    ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
    ),
];

/// Flags of etcd 3.7 that this version knows and does not serve.
pub(super) const NOT_SERVED: &[&str] = &[
    "auth-token",
    "auth-token-ttl",
    "auto-tls",
    "bcrypt-cost",
    "bootstrap-defrag-threshold-megabytes",
    "cert-file",
    "cipher-suites",
    "client-cert-allowed-hostname",
    "client-cert-auth",
    "client-cert-file",
    "client-crl-file",
    "client-key-file",
    "compact-hash-check-time",
    "config-file",
    "corrupt-check-time",
    "cors",
    "discovery-endpoints",
    "discovery-fallback",
    "discovery-srv",
    "discovery-srv-name",
    "discovery-token",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "enable-grpc-gateway",
    "enable-log-rotation",
    "enable-pprof",
    "force-new-cluster",
    "host-whitelist",
    "key-file",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "log-rotation-config-json",
    "max-learners",
    "memory-mlock",
    "peer-auto-tls",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "peer-cert-file",
    "peer-client-cert-auth",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-crl-file",
    "peer-key-file",
    "peer-skip-client-san-verification",
    "peer-trusted-ca-file",
    "raft-read-timeout",
    "raft-write-timeout",
    "self-signed-cert-validity",
    "socket-reuse-address",
    "strict-reconfig-check",
    "tls-max-version",
    "tls-min-version",
    "trusted-ca-file",
];

pub(super) fn command() -> Command {
    let mut command = Command::new("ringd")
        .about("An etcd v3 server for bare-metal Linux")
        .disable_version_flag(true)
        .no_binary_name(true)
        .arg(Arg::new("version").long("version").action(ArgAction::SetTrue).help("Print the version and exit"));
    for flag in FLAGS {
        let mut arg = Arg::new(flag.name).long(flag.name).help(flag.help).overrides_with(flag.name);
        if is_boolean(flag) {
            arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
        } else {
            arg = arg.allow_hyphen_values(true);
        }
        command = command.arg(arg);
    }
    for name in NOT_SERVED {
        command = command.arg(
            Arg::new(*name).long(*name).num_args(0..=1).require_equals(false).default_missing_value("true").hide(true),
        );
    }
    command
}

fn is_boolean(flag: &Flag) -> bool {
    matches!(flag.default, "true" | "false")
}

/// Go takes `-name` for `--name`.
pub(super) fn go_style(arguments: impl IntoIterator<Item = String>) -> Vec<OsString> {
    let doubled = |argument: String| match argument.strip_prefix('-') {
        Some(rest) if rest.len() > 1 && rest.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            format!("--{rest}")
        }
        _ => argument,
    };
    arguments.into_iter().map(|argument| OsString::from(doubled(argument))).collect()
}

pub(super) fn refused_by_clap(error: &clap::Error) -> Refused {
    use clap::error::{ContextKind, ContextValue};
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(found))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && !found.starts_with('-')
    {
        return refuse(1, format!("'{found}' is not a valid flag"));
    }
    refuse(2, error.to_string().trim_end().to_owned())
}
