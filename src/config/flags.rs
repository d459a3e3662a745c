//! Every flag of etcd 3.7 and ringd's own: name, default, kind, and what ringd does with it.
//!
//! | a flag is | when |
//! |---|---|
//! | served | its value changes what ringd does |
//! | without effect | any value that etcd takes is taken: nothing follows from it for one member, or the same is so anyway |
//! | fixed | only values that ask for what is so anyway are taken; for another one the text says why it is refused |
//!
//! A deployment that asks for TLS must not come up without it; one that sets a flag to etcd's default must come up.

use Kind::{Boolean, Choice, Choices, Duration, Integer, Natural, Origins, Text, Urls};

#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) rule: Rule,
    /// For `--help`, or the reason of a refusal.
    pub(super) text: &'static str,
}

/// Which values are well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Boolean,
    Integer,
    /// An integer that is not negative.
    Natural,
    Duration,
    /// A list of URLs; an empty one leaves the default.
    Urls,
    /// `*`, or a list of URLs that is not empty.
    Origins,
    Choice(&'static [&'static str]),
    /// A list of them.
    Choices(&'static [&'static str]),
}

/// What ringd does with a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Served,
    WithoutEffect,
    /// The default is taken, and these.
    Fixed(&'static [&'static str]),
    /// etcd takes it whatever its value is and says nothing of it: a flag of an early release.
    Forgotten,
}

const fn served(name: &'static str, kind: Kind, default: &'static str, text: &'static str) -> Flag {
    Flag { name, kind, default, rule: Rule::Served, text }
}

const fn without_effect(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, rule: Rule::WithoutEffect, text: "" }
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str, text: &'static str) -> Flag {
    Flag { name, kind, default, rule: Rule::Fixed(&[]), text }
}

const fn forgotten(name: &'static str) -> Flag {
    Flag { name, kind: Boolean, default: "", rule: Rule::Forgotten, text: "" }
}

const DISCOVERY: &str = "this version of ringd does not find its members through another etcd; name them with --initial-cluster, or by \
     DNS with --discovery-srv";
const V2_STAGES: &[&str] = &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];

/// In the order of etcd's help.
#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    served("config-file", Text, "", "File with the configuration, in YAML or JSON; other flags and variables are then ignored"),
    // Member.
    served("name", Text, "default", "Name of this member"),
    served("data-dir", Text, "", "Data directory [default: <name>.etcd]"),
    served("wal-dir", Text, "", "Directory of the log [default: <data-dir>/member/wal]"),
    without_effect("snapshot-count", Natural, "10000"),
    served("heartbeat-interval", Natural, "100", "Milliseconds between heartbeats"),
    served("election-timeout", Natural, "1000", "Milliseconds without a leader before an election"),
    served("initial-election-tick-advance", Boolean, "true", "Wait less for the first election after a start"),
    served("listen-peer-urls", Urls, "http://localhost:2380", "Where other members are served"),
    served("listen-client-urls", Urls, "http://localhost:2379", "Where clients are served"),
    served("listen-client-http-urls", Urls, "", "Where clients are served over HTTP/1 only; the others then serve gRPC only"),
    without_effect("max-snapshots", Natural, "5"),
    without_effect("max-wals", Natural, "5"),
    fixed("memory-mlock", Boolean, "false", "this version of ringd does not lock the database into memory; leave it off, and keep \
         memory for the service (systemd: MemoryLow=)"),
    served("quota-backend-bytes", Integer, "0", "Database quota; 0 means 2 GiB, negative none"),
    without_effect("backend-bbolt-freelist-type", Text, "map"),
    served("backend-batch-interval", Duration, "0", "Longest time between commits of the page file [default: 100ms]"),
    served("backend-batch-limit", Integer, "0", "Most changes between commits of the page file [default: 10000]"),
    served("max-txn-ops", Natural, "128", "Most operations in a transaction"),
    served("max-request-bytes", Natural, "1572864", "Largest Raft request"),
    served("max-concurrent-streams", Natural, "4294967295", "HTTP/2 streams per client connection"),
    served("grpc-keepalive-min-time", Duration, "5s", "Shortest ping interval tolerated of clients"),
    served("grpc-keepalive-interval", Duration, "2h", "Server ping interval, 0 is off"),
    served("grpc-keepalive-timeout", Duration, "20s", "Wait for the answer to a ping"),
    served("socket-reuse-port", Boolean, "false", "Let other processes listen on the same ports (SO_REUSEPORT)"),
    without_effect("socket-reuse-address", Boolean, "false"),
    served("enable-grpc-gateway", Boolean, "true", "Serve the methods of gRPC as JSON at /v3/ of client URLs"),
    without_effect("raft-read-timeout", Duration, "5s"),
    without_effect("raft-write-timeout", Duration, "5s"),
    served("feature-gates", Text, "", "etcd's feature gates as name=true,name=false,..."),
    // Clustering.
    served("initial-advertise-peer-urls", Urls, "http://localhost:2380", "Peer URLs told to the cluster"),
    served("initial-cluster", Text, "", "Initial members as name=url,... [default: this member]"),
    served("initial-cluster-state", Choice(&["new", "existing"]), "new", "new or existing; of no meaning for a member that exists"),
    served("initial-cluster-token", Text, "etcd-cluster", "Enters member and cluster ids"),
    served("advertise-client-urls", Urls, "http://localhost:2379", "Client URLs told to the cluster"),
    fixed("discovery-token", Text, "", DISCOVERY),
    fixed("discovery-endpoints", Text, "", DISCOVERY),
    without_effect("discovery-dial-timeout", Duration, "2s"),
    without_effect("discovery-request-timeout", Duration, "5s"),
    without_effect("discovery-keepalive-time", Duration, "2s"),
    without_effect("discovery-keepalive-timeout", Duration, "6s"),
    without_effect("discovery-insecure-transport", Boolean, "true"),
    without_effect("discovery-insecure-skip-tls-verify", Boolean, "false"),
    without_effect("discovery-cert", Text, ""),
    without_effect("discovery-key", Text, ""),
    without_effect("discovery-cacert", Text, ""),
    without_effect("discovery-user", Text, ""),
    without_effect("discovery-password", Text, ""),
    fixed("discovery-fallback", Choice(&["exit", "proxy"]), "exit", "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""),
    served("discovery-srv", Text, "", "Domain whose SRV records name the initial members"),
    served("discovery-srv-name", Text, "", "Suffix of the services of those records"),
    served("strict-reconfig-check", Boolean, "true", "Refuse changes of the members that could lose the quorum"),
    served("pre-vote", Boolean, "true", "Ask before standing for election"),
    served("auto-compaction-retention", Text, "0", "History that is kept when old revisions are compacted by themselves: \
         a time (hours without a unit), or a number of revisions; 0 is off"),
    served("auto-compaction-mode", Text, "periodic", "What --auto-compaction-retention means: periodic or revision"),
    without_effect("v2-deprecation", Choices(V2_STAGES), "write-only"),
    // Security.
    served("cert-file", Text, "", "Certificate shown to clients, PEM, for https client URLs"),
    served("key-file", Text, "", "Its key, PEM"),
    served("client-cert-auth", Boolean, "false", "Whether clients must show a certificate; its common name is their user"),
    served("client-cert-file", Text, "", "Read at start, for compatibility: ringd is never its own client"),
    served("client-key-file", Text, "", "Its key, PEM"),
    served("client-crl-file", Text, "", "Certificates of clients that are not taken any more, a revocation list"),
    served("client-cert-allowed-hostname", Text, "", "Hosts of which clients must have one in their certificates, with commas"),
    served("trusted-ca-file", Text, "", "Authorities that sign certificates of clients, PEM; clients must then show one"),
    served("auto-tls", Boolean, "false", "Make a certificate for https client URLs"),
    served("peer-cert-file", Text, "", "Certificate of this member, PEM, for https peer URLs"),
    served("peer-key-file", Text, "", "Its key, PEM"),
    served("peer-client-cert-auth", Boolean, "false", "Whether members that connect must show a certificate"),
    served("peer-client-cert-file", Text, "", "Certificate shown to other members [default: --peer-cert-file]"),
    served("peer-client-key-file", Text, "", "Its key [default: --peer-key-file]"),
    served("peer-trusted-ca-file", Text, "", "Authorities that sign certificates of members, PEM"),
    served("peer-cert-allowed-cn", Text, "", "Common names that members may have, with commas"),
    served("peer-cert-allowed-hostname", Text, "", "Hosts of which members must have one in their certificates, with commas"),
    served("peer-auto-tls", Boolean, "false", "Make a certificate for https peer URLs, and verify nobody"),
    served("self-signed-cert-validity", Natural, "1", "Years that a certificate of one's own making is good for"),
    served("peer-crl-file", Text, "", "Certificates that are not taken any more, a revocation list"),
    served("peer-skip-client-san-verification", Boolean, "false", "Take certificates of members that name other addresses than they come from"),
    served("cipher-suites", Text, "", "Suites of TLS 1.2 for clients and members, by Go's names, with commas [default: all]"),
    served("tls-min-version", Text, "TLS1.2", "Oldest version of TLS: TLS1.2 or TLS1.3"),
    served("tls-max-version", Text, "", "Newest version of TLS: TLS1.2 or TLS1.3 [default: TLS1.3]"),
    served("cors", Origins, "*", "Origins whose scripts may read pages, with commas; * is all"),
    served("host-whitelist", Text, "*", "Hosts that pages without TLS are asked by, with commas; * is all"),
    // Auth.
    served("auth-token", Text, "simple", "What clients get for a password: simple, or jwt,sign-method=...,pub-key=...,priv-key=...,ttl=..."),
    served("bcrypt-cost", Natural, "10", "What a password costs to hash, 4 to 31"),
    served("auth-token-ttl", Natural, "300", "Seconds for which a simple token may be unused"),
    // Profiling and monitoring.
    served("enable-pprof", Boolean, "false", "Serve CPU profiles at /debug/pprof/profile of client URLs, and as a flame graph at /debug/pprof/flamegraph"),
    Flag { name: "metrics", kind: Choice(&["basic", "extensive", ""]), default: "basic", rule: Rule::Served, text: "basic or extensive" },
    served("listen-metrics-urls", Urls, "", "Where /metrics, /health, /livez and /readyz are served as well"),
    // Logging.
    served("logger", Text, "zap", "Only zap, for compatibility"),
    served("log-outputs", Text, "default", "default or stderr, stdout, or files, with commas between them; or systemd/journal"),
    served("log-level", Text, "info", "debug, info, warn or error"),
    served("log-format", Text, "json", "json or console"),
    served("enable-log-rotation", Boolean, "false", "Put the log file aside when it is full"),
    served("log-rotation-config-json", Text, r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "When that is (MB), and how long (days) and how many such files stay"),
    served("warning-unary-request-duration", Duration, "300ms", "Log a unary call that takes longer"),
    // Tracing.
    served("enable-distributed-tracing", Boolean, "false", "Send spans of calls to a collector, by OpenTelemetry's protocol over gRPC"),
    served("distributed-tracing-address", Text, "localhost:4317", "Where the collector is"),
    served("distributed-tracing-service-name", Text, "etcd", "service.name of the spans, the same for all members"),
    served("distributed-tracing-instance-id", Text, "", "service.instance.id of the spans, another one for each member"),
    served("distributed-tracing-sampling-rate", Integer, "0", "Traced calls of a million; those that are part of a trace follow its begin"),
    // Features.
    served("corrupt-check-time", Duration, "0s", "Time between comparisons of the members' data; 0 is off"),
    served("compact-hash-check-time", Duration, "1m", "Time between comparisons of the members' hashes of compactions"),
    served("compaction-batch-limit", Integer, "0", "Revisions per slice of a compaction [default: 1000]"),
    served("watch-progress-notify-interval", Duration, "0", "Time between progress notices to watchers that want them [default: 10m]"),
    served("warning-apply-duration", Duration, "100ms", "Log an apply that takes longer"),
    fixed("bootstrap-defrag-threshold-megabytes", Natural, "0", "this version of ringd does not defragment at its start; \
         Defragment holds nobody up, so ask for it while it runs"),
    served("max-learners", Integer, "1", "Most learners in the cluster"),
    served("compaction-sleep-interval", Duration, "0", "Pause between slices of a compaction [default: 10ms]"),
    served("downgrade-check-time", Duration, "5s", "Time between looks whether a downgrade is done; 0 is off"),
    served("snapshot-catchup-entries", Natural, "5000", "Entries kept in memory for slow followers"),
    // Unsafe.
    served("force-new-cluster", Boolean, "false", "Go on alone with the data of this member; the other members are removed"),
    served("unsafe-no-fsync", Boolean, "false", "Never sync: a power cut loses data"),
    // ringd's own.
    served("read-mode", Choice(&["index", "lease", "log"]), "index", "How linearizable reads are confirmed: by a quorum round, by the \
         leader's lease (clocks must run at the same speed within a tenth, on every member), or by an entry of the log"),
    served("heal-from-peers", Boolean, "false", "When the data of this member is damaged or gone, move it aside and get the state from \
         the other members, under the old id"),
    served("auth-recheck-watches", Boolean, "false", "Cancel a watch when the right to read what it watches is taken away"),
    served("wal-buffered", Boolean, "false", "Write the log through the page cache with fdatasync, for file systems without O_DIRECT"),
    served("cores", Text, "", "Number of executors, or a list of CPUs like 0,2,3 [default: by the machine]"),
    // Of early releases.
    forgotten("cluster-active-size"),
    forgotten("cluster-remove-delay"),
    forgotten("cluster-sync-interval"),
    forgotten("config"),
    forgotten("force"),
    forgotten("max-result-buffer"),
    forgotten("max-retry-attempts"),
    forgotten("peer-heartbeat-interval"),
    forgotten("peer-election-timeout"),
    forgotten("retry-interval"),
    forgotten("snapshot"),
    forgotten("v"),
    forgotten("vv"),
    forgotten("test.coverprofile"),
    forgotten("test.outputdir"),
];

/// The groups of `--help`, by the first flag of each.
pub(super) const GROUPS: [(&str, &str); 9] = [
    ("name", "Member"),
    ("initial-advertise-peer-urls", "Clustering"),
    ("cert-file", "Security"),
    ("auth-token", "Auth"),
    ("enable-pprof", "Profiling and monitoring"),
    ("logger", "Logging"),
    ("corrupt-check-time", "Features"),
    ("force-new-cluster", "Unsafe"),
    ("read-mode", "Of ringd alone"),
];

/// What etcd says when one of these is given.
pub(super) const DEPRECATED: [(&str, &str); 2] = [
    ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
    ),
];

pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

impl Flag {
    /// The environment's name of this flag.
    pub(super) fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_begin_with_a_flag() {
        for (first, group) in GROUPS {
            assert!(find(first).is_some(), "{group}");
        }
    }

    #[test]
    fn names_are_unique_and_defaults_are_well_formed() {
        for (number, flag) in FLAGS.iter().enumerate() {
            assert!(!FLAGS[..number].iter().any(|other| other.name == flag.name), "{}", flag.name);
            if flag.rule != Rule::Forgotten {
                assert_eq!(flag.kind.check(flag.default), Ok(()), "{}", flag.name);
            }
        }
    }
}
