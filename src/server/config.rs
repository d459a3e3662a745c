//! Flags, environment and defaults, with etcd's names.
//!
//! Sources: flags, then `ETCD_*` variables for flags not given; a flag and its variable together are refused. Flags of etcd's
//! that this version does not serve yet are refused by name, never ignored, because a deployment that asks for TLS must not
//! come up without it.

use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind};

use crate::base::limits;

/// Everything a member is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    pub wal_dir: Option<PathBuf>,
    pub listen_client: Vec<SocketAddr>,
    pub advertise_client_urls: Vec<String>,
    pub listen_peer_urls: Vec<String>,
    pub advertise_peer_urls: Vec<String>,
    /// Name and peer URL of each initial member, as given.
    pub initial_cluster: Vec<(String, String)>,
    pub cluster_token: String,
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

struct Flag {
    name: &'static str,
    default: &'static str,
    help: &'static str,
}

const fn flag(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, default, help }
}

/// Flags that are served. A default of `true` or `false` makes the flag boolean.
const FLAGS: &[Flag] = &[
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
    flag("snapshot-count", "10000", "For compatibility: the log is released at every commit of the database"),
    flag("snapshot-catchup-entries", "5000", "Entries kept in memory for slow followers"),
    flag("warning-apply-duration", "100ms", "Log an apply that takes longer"),
    flag("warning-unary-request-duration", "300ms", "Log a unary call that takes longer"),
    flag("watch-progress-notify-interval", "0", "Time between progress notices to watchers that want them [default: 10m]"),
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

/// Flags of etcd 3.7 that this version knows and does not serve.
const NOT_SERVED: &[&str] = &[
    "auth-token",
    "auth-token-ttl",
    "auto-compaction-mode",
    "auto-compaction-retention",
    "auto-tls",
    "backend-bbolt-freelist-type",
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
    "feature-gates",
    "force-new-cluster",
    "host-whitelist",
    "key-file",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "log-rotation-config-json",
    "max-learners",
    "max-snapshots",
    "max-wals",
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
    "v2-deprecation",
];

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

fn command() -> Command {
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
fn go_style(arguments: impl IntoIterator<Item = String>) -> Vec<OsString> {
    let doubled = |argument: String| match argument.strip_prefix('-') {
        Some(rest) if rest.len() > 1 && rest.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            format!("--{rest}")
        }
        _ => argument,
    };
    arguments.into_iter().map(|argument| OsString::from(doubled(argument))).collect()
}

fn refused_by_clap(error: &clap::Error) -> Refused {
    use clap::error::{ContextKind, ContextValue};
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(found))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && !found.starts_with('-')
    {
        return refuse(1, format!("'{found}' is not a valid flag"));
    }
    refuse(2, error.to_string().trim_end().to_owned())
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

/// Flag values by name, and which of them somebody set.
struct Values {
    set: BTreeMap<&'static str, String>,
}

impl Values {
    fn read(matches: &ArgMatches, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Refused> {
        let mut set: BTreeMap<&'static str, String> = BTreeMap::new();
        for flag in FLAGS {
            if let Some(value) = matches.get_one::<String>(flag.name) {
                set.insert(flag.name, value.clone());
            }
        }
        for (variable, value) in environment {
            let Some(rest) = variable.strip_prefix("ETCD_") else { continue };
            let name = rest.to_ascii_lowercase().replace('_', "-");
            if NOT_SERVED.contains(&name.as_str()) {
                return Err(refuse(
                    1,
                    format!("{variable} is set, but this version of ringd does not serve --{name} yet"),
                ));
            }
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                if !matches!(rest, "UNSUPPORTED_ARCH" | "VERSION" | "VERIFY" | "CLIENT_DEBUG") {
                    eprintln!("warning: unrecognized environment variable {variable}={value}");
                }
                continue;
            };
            if set.contains_key(flag.name) {
                let text = "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                            environment variable or disable flag))";
                return Err(refuse(1, format!("{text}: {variable}")));
            }
            set.insert(flag.name, value);
        }
        Ok(Self { set })
    }

    fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    fn text(&self, name: &str) -> &str {
        if let Some(value) = self.set.get(name) {
            return value;
        }
        FLAGS.iter().find(|flag| flag.name == name).map_or("", |flag| flag.default)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Refused> {
        let text = self.text(name);
        text.parse().map_err(|_| invalid(name, text, "a number is expected"))
    }

    fn boolean(&self, name: &str) -> Result<bool, Refused> {
        match self.text(name) {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            text => Err(invalid(name, text, "true or false is expected")),
        }
    }

    fn duration(&self, name: &str) -> Result<Duration, Refused> {
        let text = self.text(name);
        go_duration(text).ok_or_else(|| invalid(name, text, "a duration like 100ms, 5s or 2h45m is expected"))
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.text(name).split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    fn one_of<'a>(&self, name: &str, choices: &[&'a str]) -> Result<&'a str, Refused> {
        let text = self.text(name);
        let found = choices.iter().find(|choice| **choice == text);
        found.copied().ok_or_else(|| invalid(name, text, &format!("one of {} is expected", choices.join(", "))))
    }

    fn config(&self) -> Result<Config, Refused> {
        self.check_choices()?;
        let name = self.text("name").to_owned();
        let data_dir = match self.text("data-dir") {
            "" => PathBuf::from(format!("{name}.etcd")),
            given => PathBuf::from(given),
        };
        if self.is_set("listen-client-urls") && !self.is_set("advertise-client-urls") {
            let text = "--advertise-client-urls is required when --listen-client-urls is set explicitly";
            return Err(refuse(1, text));
        }
        let advertise_peer_urls = self.list("initial-advertise-peer-urls");
        let (heartbeat, election) = self.raft_times()?;
        Ok(Config {
            initial_cluster: self.initial_cluster(&name, &advertise_peer_urls)?,
            name,
            data_dir,
            wal_dir: Some(self.text("wal-dir")).filter(|text| !text.is_empty()).map(PathBuf::from),
            listen_client: self.listen("listen-client-urls")?,
            advertise_client_urls: self.urls("advertise-client-urls")?,
            listen_peer_urls: self.urls("listen-peer-urls")?,
            advertise_peer_urls,
            cluster_token: self.text("initial-cluster-token").to_owned(),
            heartbeat,
            election,
            pre_vote: self.boolean("pre-vote")?,
            quota_bytes: match self.number("quota-backend-bytes")? {
                0 => limits::QUOTA_BYTES_DEFAULT,
                bytes => bytes,
            },
            request_bytes_max: self.number("max-request-bytes")?,
            txn_ops_max: self.number("max-txn-ops")?,
            streams_max: self.number("max-concurrent-streams")?,
            keepalive_min_time: self.duration("grpc-keepalive-min-time")?,
            keepalive_interval: self.duration("grpc-keepalive-interval")?,
            keepalive_timeout: self.duration("grpc-keepalive-timeout")?,
            commit_interval: or(
                self.duration("backend-batch-interval")?,
                Duration::from_millis(limits::COMMIT_INTERVAL_MS),
            ),
            commit_changes_max: or(self.number("backend-batch-limit")?, limits::COMMIT_CHANGES_MAX),
            compaction_batch: or(self.number("compaction-batch-limit")?, limits::COMPACTION_BATCH),
            compaction_pause: or(
                self.duration("compaction-sleep-interval")?,
                Duration::from_millis(limits::COMPACTION_PAUSE_MS),
            ),
            snapshot_catchup_entries: self.number("snapshot-catchup-entries")?,
            warning_apply: self.duration("warning-apply-duration")?,
            warning_unary: self.duration("warning-unary-request-duration")?,
            watch_progress: self.watch_progress()?,
            extensive_metrics: self.one_of("metrics", &["basic", "extensive"])? == "extensive",
            log_level: self.log_level()?,
            log_json: self.one_of("log-format", &["json", "console"])? == "json",
            fsync: !self.boolean("unsafe-no-fsync")?,
            wal_buffered: self.boolean("wal-buffered")?,
            cores: self.cores()?,
        })
    }

    fn watch_progress(&self) -> Result<Duration, Refused> {
        let name = "watch-progress-notify-interval";
        let given = or(self.duration(name)?, Duration::from_millis(limits::WATCH_PROGRESS_MS));
        let least = Duration::from_millis(limits::WATCH_PROGRESS_MS_MIN);
        if given < least {
            eprintln!("warning: adjusting --{name} to its minimum of {least:?}");
        }
        Ok(given.max(least))
    }

    fn check_choices(&self) -> Result<(), Refused> {
        self.one_of("logger", &["zap"])?;
        self.one_of("log-outputs", &["default", "stderr"])?;
        self.number::<u64>("snapshot-count")?;
        self.refuse_without_effect()?;
        match self.text("initial-cluster-state") {
            "new" => Ok(()),
            "existing" => {
                Err(refuse(1, "--initial-cluster-state existing: this version of ringd runs one-member clusters only"))
            }
            other => Err(invalid("initial-cluster-state", other, "new or existing is expected")),
        }
    }

    /// Flags whose other setting would change nothing here: refused rather than taken and ignored.
    fn refuse_without_effect(&self) -> Result<(), Refused> {
        if !self.boolean("initial-election-tick-advance")? {
            let text =
                "--initial-election-tick-advance=false: a member that is alone always stands for election at once";
            return Err(refuse(1, text));
        }
        if self.boolean("socket-reuse-port")? {
            let text = "--socket-reuse-port: this version of ringd does not share its ports with another process";
            return Err(refuse(1, text));
        }
        Ok(())
    }

    fn raft_times(&self) -> Result<(Duration, Duration), Refused> {
        let (heartbeat, election): (u64, u64) = (self.number("heartbeat-interval")?, self.number("election-timeout")?);
        let text = if heartbeat == 0 {
            format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)")
        } else if election == 0 {
            format!("--election-timeout must be >0 (set to {election}ms)")
        } else if heartbeat.saturating_mul(5) > election {
            format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            )
        } else if election > 50_000 {
            format!("--election-timeout[{election}ms] is too long, and should be set less than 50000ms")
        } else {
            return Ok((Duration::from_millis(heartbeat), Duration::from_millis(election)));
        };
        Err(refuse(1, text))
    }

    fn initial_cluster(&self, name: &str, advertised: &[String]) -> Result<Vec<(String, String)>, Refused> {
        let members = match self.text("initial-cluster") {
            "" => advertised.iter().map(|url| (name.to_owned(), url.clone())).collect::<Vec<_>>(),
            text => text
                .split(',')
                .map(|item| item.split_once('=').map(|(name, url)| (name.trim().to_owned(), url.trim().to_owned())))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| invalid("initial-cluster", text, "name=url,name=url is expected"))?,
        };
        if !members.iter().any(|(member, _)| member == name) {
            let text = format!("couldn't find local name \"{name}\" in the initial cluster configuration");
            return Err(refuse(1, text));
        }
        if let Some((other, _)) = members.iter().find(|(member, _)| member != name) {
            let text = format!("--initial-cluster names {other}: this version of ringd runs one-member clusters only");
            return Err(refuse(1, text));
        }
        let mut listed: Vec<&String> = members.iter().map(|(_, url)| url).collect();
        let mut own: Vec<&String> = advertised.iter().collect();
        listed.sort();
        own.sort();
        if listed != own {
            let text = format!(
                "--initial-cluster has {listed:?} but missing from --initial-advertise-peer-urls={own:?}, or the reverse"
            );
            return Err(refuse(1, text));
        }
        Ok(members)
    }

    fn urls(&self, name: &str) -> Result<Vec<String>, Refused> {
        let list = self.list(name);
        for text in &list {
            let url = url::Url::parse(text).map_err(|error| invalid(name, text, &error.to_string()))?;
            match url.scheme() {
                "http" => {}
                "https" => return Err(refuse(1, format!("--{name} {text}: this version of ringd has no TLS yet"))),
                scheme => return Err(invalid(name, text, &format!("unsupported scheme {scheme}"))),
            }
            if url.host_str().is_none_or(str::is_empty) || !has_port(text) {
                return Err(refuse(1, format!("--{name} {text} must be \"host:port\"")));
            }
        }
        Ok(list)
    }

    fn listen(&self, name: &str) -> Result<Vec<SocketAddr>, Refused> {
        let mut addresses = Vec::new();
        for text in self.urls(name)? {
            let url = url::Url::parse(&text).map_err(|error| invalid(name, &text, &error.to_string()))?;
            let host = match url.host() {
                Some(url::Host::Ipv4(ip)) => ip.into(),
                Some(url::Host::Ipv6(ip)) => ip.into(),
                Some(url::Host::Domain("localhost")) => std::net::Ipv4Addr::LOCALHOST.into(),
                _ => return Err(refuse(1, format!("expected IP in URL for binding ({text})"))),
            };
            addresses.push(SocketAddr::new(host, url.port_or_known_default().unwrap_or(2379)));
        }
        if addresses.is_empty() { Err(invalid(name, "", "at least one URL is expected")) } else { Ok(addresses) }
    }

    fn log_level(&self) -> Result<tracing::Level, Refused> {
        Ok(match self.one_of("log-level", &["debug", "info", "warn", "error", "panic", "fatal"])? {
            "debug" => tracing::Level::DEBUG,
            "info" => tracing::Level::INFO,
            "warn" => tracing::Level::WARN,
            _ => tracing::Level::ERROR,
        })
    }

    fn cores(&self) -> Result<Cores, Refused> {
        let text = self.text("cores");
        if text.is_empty() {
            return Ok(Cores::Auto);
        }
        let numbers: Option<Vec<usize>> = text.split(',').map(|item| item.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some([0]) | None => {
                Err(invalid("cores", text, "a number above 0, or a list of CPUs like 0,2,3, is expected"))
            }
            Some([count]) if !text.contains(',') => Ok(Cores::Count(*count)),
            Some(list) => Ok(Cores::List(list.to_vec())),
        }
    }
}

fn has_port(url: &str) -> bool {
    let authority = url.split("://").nth(1).unwrap_or("").split('/').next().unwrap_or("");
    authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

fn invalid(name: &str, value: &str, why: &str) -> Refused {
    refuse(2, format!("invalid value \"{value}\" for flag --{name}: {why}"))
}

fn or<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}

/// Parses Go's durations: `300ms`, `1.5h`, `2h45m`; a bare `0` too.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|length| *length > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit_length] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_length..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
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

    #[test]
    fn durations_are_gos() {
        assert_eq!(go_duration("2h45m"), Some(Duration::from_secs(9900)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(go_duration("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(go_duration("5"), None);
        assert_eq!(go_duration(""), None);
    }
}
