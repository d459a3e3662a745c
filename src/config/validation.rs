//! From values to a configuration: each setting's rule, and which settings contradict each other.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{Config, Cores, Refused, flags::DEPRECATED, gates, invalid, refuse, values::Values};
use crate::{
    base::{go_duration, limits},
    cluster::initial::InitialCluster,
    os::net::resolve,
    service::retention::Policy,
};

impl Values {
    pub(super) fn config(&self) -> Result<Config, Refused> {
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
        let (heartbeat, election) = self.raft_times()?;
        Ok(Config {
            initial_cluster: self.initial_cluster(&name)?,
            name,
            data_dir,
            wal_dir: Some(self.text("wal-dir")).filter(|text| !text.is_empty()).map(PathBuf::from),
            listen_client: self.listen("listen-client-urls")?,
            advertise_client_urls: self.urls("advertise-client-urls")?,
            listen_peer_urls: self.urls("listen-peer-urls")?,
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
            retention: self.retention()?,
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
            gates: gates::parse(self.text("feature-gates"))?,
            deprecated: DEPRECATED.iter().filter(|(name, _)| self.is_set(name)).map(|(_, warning)| *warning).collect(),
        })
    }

    fn watch_progress(&self) -> Result<Duration, Refused> {
        let name = "watch-progress-notify-interval";
        let given = or(self.duration(name)?, Duration::from_millis(limits::WATCH_PROGRESS_MS));
        let least = Duration::from_millis(limits::WATCH_PROGRESS_MS_MIN);
        if given < least {
            eprintln!("warning: adjusting watch progress notify interval to minimum period ({least:?})");
        }
        Ok(given.max(least))
    }

    fn check_choices(&self) -> Result<(), Refused> {
        self.one_of("logger", &["zap"])?;
        self.one_of("log-outputs", &["default", "stderr"])?;
        self.number::<u64>("snapshot-count")?;
        self.number::<u64>("max-snapshots")?;
        self.number::<u64>("max-wals")?;
        self.one_of("v2-deprecation", &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"])?;
        self.one_of("backend-bbolt-freelist-type", &["map", "array", ""])?;
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

    fn initial_cluster(&self, name: &str) -> Result<InitialCluster, Refused> {
        let (token, advertised) = (self.text("initial-cluster-token"), self.text("initial-advertise-peer-urls"));
        let cluster = match self.text("initial-cluster") {
            "" => InitialCluster::single(name, token, advertised),
            text => InitialCluster::parse(name, text, token, advertised, resolve),
        };
        let cluster = cluster.map_err(|mistake| refuse(1, mistake.to_string()))?;
        if let Some(other) = cluster.members.iter().find(|member| member.id != cluster.local_id) {
            let other = &other.name;
            let text = format!("--initial-cluster names {other}: this version of ringd runs one-member clusters only");
            return Err(refuse(1, text));
        }
        Ok(cluster)
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

    /// As etcd reads it: a number of 0 or more counts hours or revisions, anything else is a duration.
    fn retention(&self) -> Result<Option<Policy>, Refused> {
        let (mode, text) = (self.text("auto-compaction-mode"), self.text("auto-compaction-retention"));
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
        let too_long = || invalid("auto-compaction-retention", text, "less than 292 years is expected");
        Ok(match (mode, nanoseconds.ok_or_else(too_long)?) {
            (_, 0) => None,
            ("revision", keep) => Some(Policy::Revision { keep }),
            (_, period) => Some(Policy::Periodic { period_ns: period.unsigned_abs() }),
        })
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

fn or<T: Default + PartialEq>(value: T, default: T) -> T {
    if value == T::default() { default } else { value }
}
