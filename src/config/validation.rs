//! From values to a configuration: each setting's rule, and which settings contradict each other.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::{
    Config, Cores, Founding, LogOutput, Notice, ReadMode, WebAccess,
    discovery::Discovery,
    flags::DEPRECATED,
    gates,
    refused::{Refused, refuse},
    values::Values,
};
use crate::{
    base::{go_duration, limits},
    os::net::Sharing,
    service::retention::Policy,
};

impl Values {
    pub(super) fn config(mut self) -> Result<Config, Refused> {
        self.check_logger()?;
        self.check_choices()?;
        let name = self.text("name").to_owned();
        let data_dir = match self.text("data-dir") {
            "" => PathBuf::from(format!("{name}.etcd")),
            given => PathBuf::from(given),
        };
        let (heartbeat, election) = self.raft_times()?;
        let watch_progress = self.watch_progress()?;
        let deprecated = DEPRECATED.iter().filter(|(name, _)| self.is_set(name));
        let deprecated: Vec<Notice> = deprecated.map(|(_, text)| Notice::Deprecated(text)).collect();
        self.notices.extend(deprecated);
        let (listen_peers, peer_tls) = (self.peer_listeners()?, self.peer_tls()?);
        self.check_tls(&listen_peers, peer_tls.as_ref())?;
        let (listen, client_tls) = (self.listeners()?, self.client_tls()?);
        self.check_tls(&listen, client_tls.as_ref())?;
        let log_outputs = self.log_outputs()?;
        let log_rotation = self.rotation(&log_outputs)?;
        Ok(Config {
            auth: self.auth()?,
            listen,
            listen_peers,
            sharing: if self.boolean("socket-reuse-port")? { Sharing::Shared } else { Sharing::Alone },
            peer_tls,
            client_tls,
            cipher_suites: self.names("cipher-suites"),
            advertise_client_urls: self.advertised("advertise-client-urls")?,
            advertise_peer_urls: self.advertised("initial-advertise-peer-urls")?,
            founding: Founding {
                cluster: self.is_set("initial-cluster").then(|| self.text("initial-cluster").to_owned()),
                discovery: self.discovery()?,
                joins: self.text("initial-cluster-state") == "existing",
            },
            force_new_cluster: self.boolean("force-new-cluster")?,
            heal_from_peers: self.boolean("heal-from-peers")?,
            advance_ticks: self.boolean("initial-election-tick-advance")?,
            name,
            data_dir,
            wal_dir: Some(self.text("wal-dir")).filter(|text| !text.is_empty()).map(PathBuf::from),
            cluster_token: self.text("initial-cluster-token").to_owned(),
            heartbeat,
            election,
            pre_vote: self.boolean("pre-vote")?,
            read_mode: match self.text("read-mode") {
                "lease" => ReadMode::Lease,
                "log" => ReadMode::Log,
                _ => ReadMode::Index,
            },
            quota_bytes: or(self.number("quota-backend-bytes")?, limits::QUOTA_BYTES_DEFAULT),
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
            retention: self.retention()?,
            snapshot_catchup_entries: self.number("snapshot-catchup-entries")?,
            strict_reconfiguration: self.boolean("strict-reconfig-check")?,
            learners_max: usize::try_from(self.number::<i64>("max-learners")?).unwrap_or(0),
            corrupt_check: self.duration("corrupt-check-time")?,
            compact_hash_check: self.duration("compact-hash-check-time")?,
            downgrade_check: self.duration("downgrade-check-time")?,
            warning_apply: self.duration("warning-apply-duration")?,
            warning_unary: self.duration("warning-unary-request-duration")?,
            watch_progress,
            extensive_metrics: self.text("metrics") == "extensive",
            access: self.access()?,
            gateway: self.boolean("enable-grpc-gateway")?,
            traces: self.traces()?,
            profiles: self.boolean("enable-pprof")? || self.log_level()? == tracing::Level::DEBUG,
            log_level: self.log_level()?,
            log_json: self.log_json()?,
            log_outputs,
            log_rotation,
            fsync: !self.boolean("unsafe-no-fsync")?,
            wal_buffered: self.boolean("wal-buffered")?,
            cores: self.cores()?,
            gates: gates::parse(self.text("feature-gates")).map_err(|why| match why {
                gates::BadGates::Malformed(why) => self.invalid("feature-gates", &why),
                gates::BadGates::NotServed(text) => refuse(1, text),
            })?,
            notices: self.notices,
        })
    }

    fn watch_progress(&mut self) -> Result<Duration, Refused> {
        let name = "watch-progress-notify-interval";
        let given = or(self.duration(name)?, Duration::from_millis(limits::WATCH_PROGRESS_MS));
        let least = Duration::from_millis(limits::WATCH_PROGRESS_MS_MIN);
        if given < least {
            self.notices.push(Notice::WatchProgressRaised { least: format!("{least:?}") });
        }
        Ok(given.max(least))
    }

    fn discovery(&self) -> Result<Option<Discovery>, Refused> {
        let domain = self.text("discovery-srv").to_owned();
        if domain.is_empty() {
            return Ok(None);
        }
        if self.is_set("initial-cluster") && !self.text("initial-cluster").is_empty() {
            let text = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                        \"discovery-endpoints\" or \"discovery-srv\"";
            return Err(refuse(1, text));
        }
        Ok(Some(Discovery { domain, service: self.text("discovery-srv-name").to_owned() }))
    }

    fn check_choices(&self) -> Result<(), Refused> {
        if self.is_typed("listen-client-urls") && !self.is_set("advertise-client-urls") {
            let text = "--advertise-client-urls is required when --listen-client-urls is set explicitly";
            return Err(refuse(1, text));
        }
        let interval = self.duration("compact-hash-check-time")?;
        if interval.is_zero() {
            return Err(refuse(1, "--compact-hash-check-time must be >0 (set to 0s)"));
        }
        self.check_tls_versions()
    }

    fn check_tls_versions(&self) -> Result<(), Refused> {
        let (least, most) = (self.text("tls-min-version"), self.text("tls-max-version"));
        for version in [least, most] {
            if !matches!(version, "" | "TLS1.2" | "TLS1.3") {
                let text = format!("unexpected TLS version {version:?} (must be one of: TLS1.2, TLS1.3)");
                return Err(refuse(1, text));
            }
        }
        if !most.is_empty() && least > most {
            return Err(refuse(1, format!("min version ({least}) is greater than max version ({most})")));
        }
        if least == "TLS1.3" && !self.text("cipher-suites").is_empty() {
            return Err(refuse(1, "cipher suites cannot be configured when only TLS1.3 is enabled"));
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

    /// URLs that are told to others: a host may be a name, but has to be there.
    fn advertised(&self, name: &str) -> Result<Vec<String>, Refused> {
        let urls = self.urls(name)?;
        if let Some(url) = urls.iter().find(|url| !url.scheme.is_unix() && url.authority.starts_with(':')) {
            let list = urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let form = match name {
                "advertise-client-urls" => {
                    "must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\""
                }
                _ => "must be \"host:port\"",
            };
            return Err(refuse(1, format!("--{name} {list:?} {form} (unexpected empty host ({url}))")));
        }
        Ok(urls.iter().map(ToString::to_string).collect())
    }

    /// As etcd reads it: a number of 0 or more counts hours or revisions, anything else is a duration.
    fn retention(&self) -> Result<Option<Policy>, Refused> {
        let (mode, text) = (self.text("auto-compaction-mode"), self.text("auto-compaction-retention"));
        let text = if text.is_empty() { "0" } else { text };
        if !matches!(mode, "periodic" | "revision") {
            let undefined = "undefined auto-compaction-mode".to_owned();
            return Err(refuse(
                1,
                if mode.is_empty() { undefined } else { format!("unknown auto-compaction-mode {mode:?}") },
            ));
        }
        let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
        let nanoseconds = match number {
            Some(number) if mode == "revision" => Some(number),
            Some(number) => number.checked_mul(3_600_000_000_000),
            None if text.starts_with('-') && go_duration::parse(text).is_ok() => {
                return Err(refuse(1, format!("--auto-compaction-retention must not be negative (set to {text})")));
            }
            None => {
                let parsed = go_duration::parse(text);
                let parsed =
                    parsed.map_err(|error| refuse(1, format!("error parsing CompactionRetention: {error}")))?;
                i64::try_from(parsed.as_nanos()).ok()
            }
        };
        let too_long = || self.invalid("auto-compaction-retention", "less than 292 years is expected");
        Ok(match (mode, nanoseconds.ok_or_else(too_long)?) {
            (_, 0) => None,
            ("revision", keep) => Some(Policy::Revision { keep }),
            (_, period) => Some(Policy::Periodic { period_ns: period.unsigned_abs() }),
        })
    }

    /// As etcd reads them: an empty list stands for all, and so does a `*` in it.
    fn access(&self) -> Result<WebAccess, Refused> {
        let some = |set: BTreeSet<String>| Some(set).filter(|set| !set.is_empty() && !set.contains("*"));
        let origins = match self.text("cors") {
            "*" => None,
            _ => some(self.urls("cors")?.iter().map(ToString::to_string).collect()),
        };
        let hosts = self.text("host-whitelist").split(',').filter(|host| !host.is_empty());
        Ok(WebAccess { origins, hosts: some(hosts.map(str::to_owned).collect()) })
    }

    fn check_logger(&self) -> Result<(), Refused> {
        match self.text("logger") {
            "zap" => Ok(()),
            "capnslog" => Err(refuse(1, "--logger=capnslog is removed in v3.5")),
            other => Err(refuse(1, format!("unknown logger option {other:?}"))),
        }
    }

    fn log_level(&self) -> Result<tracing::Level, Refused> {
        let text = self.text("log-level");
        Ok(match text.to_ascii_lowercase().as_str() {
            "debug" => tracing::Level::DEBUG,
            "info" | "" => tracing::Level::INFO,
            "warn" => tracing::Level::WARN,
            "error" | "dpanic" | "panic" | "fatal" => tracing::Level::ERROR,
            _ => return Err(self.invalid("log-level", &format!("unrecognized level: {text:?}"))),
        })
    }

    fn log_json(&self) -> Result<bool, Refused> {
        match self.text("log-format") {
            "json" | "" => Ok(true),
            "console" => Ok(false),
            other => Err(refuse(1, format!("unknown log format: {other}, supported values json, console"))),
        }
    }

    /// As etcd reads them: each once, and `/dev/null` instead of all others.
    fn log_outputs(&self) -> Result<Vec<LogOutput>, Refused> {
        let words: BTreeSet<&str> = self.text("log-outputs").split(',').collect();
        if words.len() > 1 && words.contains("default") {
            return Err(refuse(1, "multi logoutput for \"default\" is not supported yet"));
        }
        if words.len() > 1 && words.contains("systemd/journal") {
            let shown: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let text = format!(
                "running with systemd/journal but other '--log-outputs' values ([{}]) are configured with 'default'; \
                 override 'default' value with something else",
                shown.join(" ")
            );
            return Err(refuse(1, text));
        }
        let null = words.get("/dev/null").map(|path| vec![*path]);
        let mut outputs: Vec<LogOutput> = Vec::new();
        for word in null.unwrap_or_else(|| words.into_iter().collect()) {
            let output = match word {
                "default" | "stderr" => LogOutput::Stderr,
                "stdout" => LogOutput::Stdout,
                "systemd/journal" => LogOutput::Journal,
                path => LogOutput::File(PathBuf::from(log_file(path)?)),
            };
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        Ok(outputs)
    }

    fn cores(&self) -> Result<Cores, Refused> {
        let text = self.text("cores");
        if text.is_empty() {
            return Ok(Cores::Auto);
        }
        let numbers: Option<Vec<usize>> = text.split(',').map(|item| item.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some([0]) | None => {
                Err(self.invalid("cores", "a number above 0, or a list of CPUs like 0,2,3, is expected"))
            }
            Some([count]) if !text.contains(',') => Ok(Cores::Count(*count)),
            Some(list) => Ok(Cores::List(list.to_vec())),
        }
    }
}

/// A path, or a URL with the scheme `file`.
fn log_file(text: &str) -> Result<&str, Refused> {
    if let Some(path) = text.strip_prefix("file://") {
        return Ok(path.strip_prefix("localhost").unwrap_or(path));
    }
    match text.split_once(':') {
        Some((scheme, _)) if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Err(refuse(1, format!("open sink {text:?}: no sink found for scheme {scheme:?}")))
        }
        _ => Ok(text),
    }
}

fn or<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}
