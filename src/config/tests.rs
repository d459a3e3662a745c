//! What is taken, what is refused, and with which words.

use super::*;
use crate::os::{net::Address, tls::TlsFiles};

/// What the first start of this member would say about its cluster.
fn founded(config: &Config) -> Result<(), Refused> {
    config.founding.first_start(&config.name, &config.cluster_token, &config.advertise_peer_urls).map(|_| ())
}

fn listen(address: &str, traffic: Traffic) -> Listen {
    let tcp = Address::Tcp(address.parse().expect("an address"));
    Listen { url: format!("http://{address}"), address: tcp, also: None, traffic, security: Security::Plain }
}

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
    assert_eq!(config.listen, [listen("127.0.0.1:12379", Traffic::GrpcAndPages)]);
    founded(&config).expect("a cluster of its own");
    assert!(!config.fsync);
}

#[test]
fn environment_fills_in_and_conflicts_are_refused() {
    let config = parse(&[], &[("ETCD_NAME", "b"), ("ETCD_ELECTION_TIMEOUT", "2000"), ("HOME", "/")]).expect("accepted");
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
    assert!(refusal(&["--memory-mlock"], &[]).text.contains("does not lock"));
    assert!(refusal(&[], &[("ETCD_MEMORY_MLOCK", "true")]).text.contains("does not lock"));
    assert!(refusal(&["stray"], &[]).text.contains("not a valid flag"));
}

#[test]
fn tracing_counts_only_where_it_is_enabled() {
    assert_eq!(parse(&["--distributed-tracing-sampling-rate=-1"], &[]).expect("without effect").traces, None);
    let traced = |rate: &str| {
        let rate = format!("--distributed-tracing-sampling-rate={rate}");
        parse(&["--enable-distributed-tracing", "--distributed-tracing-instance-id=i", &rate], &[])
    };
    let expected = Traces {
        collector: "localhost:4317".to_owned(),
        service_name: "etcd".to_owned(),
        instance_id: "i".to_owned(),
        per_million: 1_000_000,
    };
    assert_eq!(traced("1000000").expect("a rate").traces, Some(expected));
    for (rate, why) in [("-1", "must be positive"), ("1000001", "must be less than 1000000")] {
        let text = format!("distributed tracing configurition is not valid: (tracing sampling rate {why})");
        assert_eq!(traced(rate).expect_err("no rate").text, text);
    }
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
    assert!(refusal(&["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], &[]).text.contains("greater than"));
    assert!(refusal(&["--compact-hash-check-time=0"], &[]).text.contains("must be >0"));
    assert_eq!(refusal(&["--discovery-fallback=proxy"], &[]).exit, 1);
}

/// These rules are about a member that is new: as in etcd, one that exists starts whatever the flags say.
#[test]
fn the_cluster_of_a_new_member_is_its_own() {
    let why = |flags: &[&str]| founded(&parse(flags, &[]).expect("accepted")).expect_err("refused").text;
    assert!(why(&["--initial-cluster=b=http://localhost:2380"]).contains("couldn't find local name \"default\""));
    assert!(why(&["--initial-cluster="]).contains("couldn't find local name \"default\""));
    assert!(why(&["--name="]).contains("couldn't find local name \"\""));
    let joins = "--initial-cluster-state=existing";
    assert!(
        why(&[joins, "--initial-cluster=b=http://localhost:2390"]).contains("couldn't find local name \"default\"")
    );
    let twice = "--initial-cluster=default=http://localhost:2380,b=http://localhost:2380";
    assert!(why(&[twice]).contains("has duplicate url"));
    assert!(why(&[joins, twice]).contains("has duplicate url"));
    let elsewhere =
        ["--initial-advertise-peer-urls=http://127.0.0.1:1", "--initial-cluster=default=http://127.0.0.1:2"];
    assert!(why(&elsewhere).contains("missing from"));
    assert!(why(&["--initial-cluster=default"]).contains("URL scheme must be"));
}

/// The flags of `etcd --help` with their defaults: those of the program where the help says otherwise.
const OF_ETCD: [(&str, &str); 110] = [
    ("name", "default"),
    ("wal-dir", ""),
    ("snapshot-count", "10000"),
    ("heartbeat-interval", "100"),
    ("election-timeout", "1000"),
    ("initial-election-tick-advance", "true"),
    ("listen-peer-urls", "http://localhost:2380"),
    ("listen-client-urls", "http://localhost:2379"),
    ("listen-client-http-urls", ""),
    ("max-snapshots", "5"),
    ("max-wals", "5"),
    ("memory-mlock", "false"),
    ("quota-backend-bytes", "0"),
    ("backend-bbolt-freelist-type", "map"),
    ("backend-batch-interval", "0s"),
    ("backend-batch-limit", "0"),
    ("max-txn-ops", "128"),
    ("max-request-bytes", "1572864"),
    ("max-concurrent-streams", "4294967295"),
    ("grpc-keepalive-min-time", "5s"),
    ("grpc-keepalive-interval", "2h"),
    ("grpc-keepalive-timeout", "20s"),
    ("socket-reuse-port", "false"),
    ("socket-reuse-address", "false"),
    ("enable-grpc-gateway", "true"),
    ("raft-read-timeout", "5s"),
    ("raft-write-timeout", "5s"),
    ("feature-gates", ""),
    ("initial-advertise-peer-urls", "http://localhost:2380"),
    ("initial-cluster", "default=http://localhost:2380"),
    ("initial-cluster-state", "new"),
    ("initial-cluster-token", "etcd-cluster"),
    ("advertise-client-urls", "http://localhost:2379"),
    ("discovery-token", ""),
    ("discovery-endpoints", ""),
    ("discovery-dial-timeout", "2s"),
    ("discovery-request-timeout", "5s"),
    ("discovery-keepalive-time", "2s"),
    ("discovery-keepalive-timeout", "6s"),
    ("discovery-insecure-transport", "true"),
    ("discovery-insecure-skip-tls-verify", "false"),
    ("discovery-cert", ""),
    ("discovery-key", ""),
    ("discovery-cacert", ""),
    ("discovery-user", ""),
    ("discovery-password", ""),
    ("discovery-fallback", "exit"),
    ("discovery-srv", ""),
    ("discovery-srv-name", ""),
    ("strict-reconfig-check", "true"),
    ("pre-vote", "true"),
    ("auto-compaction-retention", "0"),
    ("auto-compaction-mode", "periodic"),
    ("v2-deprecation", "write-only"),
    ("cert-file", ""),
    ("key-file", ""),
    ("client-cert-auth", "false"),
    ("client-cert-file", ""),
    ("client-key-file", ""),
    ("client-crl-file", ""),
    ("client-cert-allowed-hostname", ""),
    ("trusted-ca-file", ""),
    ("auto-tls", "false"),
    ("peer-cert-file", ""),
    ("peer-key-file", ""),
    ("peer-client-cert-auth", "false"),
    ("peer-client-cert-file", ""),
    ("peer-client-key-file", ""),
    ("peer-trusted-ca-file", ""),
    ("peer-cert-allowed-cn", ""),
    ("peer-cert-allowed-hostname", ""),
    ("peer-auto-tls", "false"),
    ("self-signed-cert-validity", "1"),
    ("peer-crl-file", ""),
    ("cipher-suites", ""),
    ("cors", "*"),
    ("host-whitelist", "*"),
    ("tls-min-version", "TLS1.2"),
    ("tls-max-version", ""),
    ("auth-token", "simple"),
    ("bcrypt-cost", "10"),
    ("auth-token-ttl", "300"),
    ("enable-pprof", "false"),
    ("metrics", "basic"),
    ("listen-metrics-urls", ""),
    ("logger", "zap"),
    ("log-outputs", "default"),
    ("log-level", "info"),
    ("log-format", "json"),
    ("enable-log-rotation", "false"),
    (
        "log-rotation-config-json",
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
    ),
    ("warning-unary-request-duration", "300ms"),
    ("enable-distributed-tracing", "false"),
    ("distributed-tracing-address", "localhost:4317"),
    ("distributed-tracing-service-name", "etcd"),
    ("distributed-tracing-instance-id", ""),
    ("distributed-tracing-sampling-rate", "0"),
    ("corrupt-check-time", "0s"),
    ("compact-hash-check-time", "1m"),
    ("compaction-batch-limit", "1000"),
    ("peer-skip-client-san-verification", "false"),
    ("watch-progress-notify-interval", "10m"),
    ("warning-apply-duration", "100ms"),
    ("bootstrap-defrag-threshold-megabytes", "0"),
    ("max-learners", "1"),
    ("compaction-sleep-interval", "0s"),
    ("downgrade-check-time", "5s"),
    ("snapshot-catchup-entries", "5000"),
    ("force-new-cluster", "false"),
    ("unsafe-no-fsync", "false"),
];

/// What etcd lets pass in silence, ringd does too.
#[test]
fn every_flag_of_etcd_may_be_set_to_its_default() {
    let values = [("data-dir", "/tmp/x"), ("config-file", "")];
    let values = OF_ETCD.iter().chain(&values);
    for (name, default) in values {
        let beside: &[&str] = match *name {
            "listen-client-urls" => &["--advertise-client-urls=http://localhost:2379"],
            _ => &[],
        };
        let flag = format!("--{name}={default}");
        let typed = [beside, &[flag.as_str()]].concat();
        let config = parse(&typed, &[]).unwrap_or_else(|refused| panic!("{typed:?}: {}", refused.text));
        founded(&config).unwrap_or_else(|refused| panic!("{typed:?}: {}", refused.text));

        let variable = format!("ETCD_{}", name.to_uppercase().replace('-', "_"));
        let config = parse(beside, &[(&variable, default)]);
        let config = config.unwrap_or_else(|refused| panic!("{variable}: {}", refused.text));
        founded(&config).unwrap_or_else(|refused| panic!("{variable}: {}", refused.text));

        let config = parse(beside, &[(&variable, "")]);
        let config = config.unwrap_or_else(|refused| panic!("{variable} empty: {}", refused.text));
        assert_eq!(config.notices, [Notice::UnknownVariable { text: format!("{variable}=") }]);
    }
    for name in ["strict-reconfig-check", "enable-grpc-gateway", "pre-vote", "unsafe-no-fsync"] {
        parse(&[&format!("--{name}")], &[]).unwrap_or_else(|refused| panic!("{name}: {}", refused.text));
    }
    parse(&["--snapshot", "-v", "--force=whatever"], &[("ETCD_VV", "1")]).expect("flags of early releases");
}

/// What etcd does about `--flag=` for each, where it is not a text.
#[test]
fn empty_values_are_taken_as_by_etcd() {
    for (name, why) in [
        ("pre-vote", "invalid boolean value \"\" for -pre-vote: parse error"),
        ("snapshot-count", "invalid value \"\" for flag -snapshot-count: parse error"),
        ("backend-batch-interval", "invalid value \"\" for flag -backend-batch-interval: parse error"),
        ("initial-cluster-state", "invalid value \"\" for flag -initial-cluster-state: invalid value"),
        ("v2-deprecation", "invalid value \"\" for flag -v2-deprecation: invalid value \"\""),
        ("cors", "invalid value \"\" for flag -cors: URL scheme must be http, https, unix, or unixs: "),
        ("logger", "unknown logger option \"\""),
        ("auto-compaction-mode", "undefined auto-compaction-mode"),
    ] {
        assert_eq!(refusal(&[&format!("--{name}=")], &[]).text, why, "{name}");
    }
    for name in ["host-whitelist", "auth-token", "log-level", "log-format", "metrics", "tls-min-version", "config-file"]
    {
        parse(&[&format!("--{name}=")], &[]).unwrap_or_else(|refused| panic!("{name}: {}", refused.text));
    }
    let urls = ["--listen-client-urls=", "--advertise-client-urls=", "--listen-metrics-urls="];
    let config = parse(&urls, &[]).expect("accepted");
    assert_eq!(config.listen[0].url, "http://localhost:2379");
    assert_eq!(config.advertise_client_urls, ["http://localhost:2379"]);
}

#[test]
fn variables_are_named_in_the_log() {
    let environment =
        [("ETCD_NAME", "a"), ("ETCD_FOO", "bar"), ("ETCD_VERSION", "3"), ("ETCDCTL_API", "3"), ("PATH", "")];
    let config = parse(&[], &environment).expect("accepted");
    let expected = [
        Notice::UnknownVariable { text: "ETCD_FOO=bar".into() },
        Notice::VariableUsed { name: "ETCD_NAME".into(), value: "a".into() },
        Notice::SpecialVariable { name: "ETCD_VERSION".into(), value: "3".into() },
    ];
    assert_eq!(config.notices, expected);
    let malformed = refusal(&[], &[("ETCD_PRE_VOTE", "maybe")]);
    assert_eq!(
        (malformed.exit, malformed.text.as_str()),
        (1, "invalid value \"maybe\" for ETCD_PRE_VOTE: parse error")
    );
    assert!(refusal(&["--name=x"], &[("ETCD_NAME", "")]).text.contains("shadowed"));
}

#[test]
fn a_configuration_file_counts_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ringd.yml");
    std::fs::write(&path, "name: filed\nlisten-client-urls: http://127.0.0.1:1\nmax-snapshots: 3\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let expected = [Notice::ConfigurationFile { path: path.into() }, Notice::Deprecated(flags::DEPRECATED[0].1)];
    for (arguments, environment) in [
        (vec!["--config-file", path, "--name=typed"], vec![("ETCD_NAME", "set"), ("ETCD_ELECTION_TIMEOUT", "7")]),
        (vec![], vec![("ETCD_CONFIG_FILE", path)]),
    ] {
        let config = parse(&arguments, &environment).expect("accepted");
        assert_eq!((config.name.as_str(), config.election), ("filed", Duration::from_secs(1)));
        assert_eq!(config.listen, [listen("127.0.0.1:1", Traffic::GrpcAndPages)]);
        assert_eq!(config.notices, expected);
    }
    std::fs::write(path, "client-transport-security: {cert-file: c}").expect("written");
    assert!(refusal(&["--config-file", path], &[]).text.contains("must both be present"));
    assert!(refusal(&["--config-file=/nonexistent"], &[]).text.contains("/nonexistent"));
}

#[test]
fn listeners_share_the_traffic() {
    let config = parse(
        &[
            "--listen-client-urls=http://127.0.0.1:1,unix:///tmp/a,http://127.0.0.1:1",
            "--listen-client-http-urls=unix://localhost:2",
            "--listen-metrics-urls=http://[::1]:3",
            "--advertise-client-urls=https://name.example:1,unix:///tmp/a",
        ],
        &[],
    )
    .expect("accepted");
    let unix = |url: &str, path: &str, traffic| {
        let address = Address::Unix(path.into());
        Listen { url: url.into(), address, also: None, traffic, security: Security::Plain }
    };
    let expected = [
        listen("127.0.0.1:1", Traffic::Grpc),
        unix("unix:///tmp/a", "/tmp/a", Traffic::Grpc),
        unix("unix://localhost:2", "localhost:2", Traffic::Pages),
        listen("[::1]:3", Traffic::Metrics),
    ];
    assert_eq!(config.listen, expected);
    assert_eq!(config.advertise_client_urls, ["https://name.example:1", "unix:///tmp/a"]);
}

#[test]
fn bad_addresses_are_refused_with_etcds_words() {
    let with = |url: &str| format!("--listen-client-urls={url}");
    for (url, exit, why) in [
        ("http://127.0.0.1:0/", 2, "URL must not contain a path: http://127.0.0.1:0/"),
        ("http://example.com:1", 1, "expected IP in URL for binding (http://example.com:1)"),
        ("http://LOCALHOST:1", 1, "expected IP in URL for binding (http://LOCALHOST:1)"),
        ("http://:1", 1, "expected IP in URL for binding (http://:1)"),
        ("http://127.0.0.1:99999", 1, "listen tcp: address 99999: invalid port"),
        (
            "https://127.0.0.1:1",
            1,
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        ("unix://", 1, "unix://: the path of a socket is expected, as in unix:///run/ringd.sock"),
    ] {
        let refused = refusal(&[&with(url), "--advertise-client-urls=http://127.0.0.1:1"], &[]);
        assert_eq!(refused.exit, exit, "{}", refused.text);
        assert!(refused.text.ends_with(why), "{}", refused.text);
    }
    let refused = refusal(&["--advertise-client-urls=http://:2"], &[]);
    assert!(refused.text.ends_with("(unexpected empty host (http://:2))"), "{}", refused.text);
    let same = ["--listen-client-http-urls=http://127.0.0.1:1", "--advertise-client-urls=http://127.0.0.1:1"];
    let refused = refusal(&[&with("http://127.0.0.1:1"), same[0], same[1]], &[]);
    assert!(refused.text.starts_with("cannot bind both"), "{}", refused.text);
}

#[test]
fn members_are_secured_with_whole_pairs_only() {
    let secured =
        |arguments: &[&str]| parse(arguments, &[]).map(|config| config.peer_tls).map_err(|refused| refused.text);
    let pair = ["--peer-cert-file=c", "--peer-key-file=k"];
    let files = TlsFiles { cert_file: "c".into(), key_file: "k".into(), ..TlsFiles::default() };
    assert_eq!(secured(&[]), Ok(None));
    assert_eq!(secured(&pair), Ok(Some(Tls::Files(files.clone()))));
    let (one, two) = (["--peer-cert-allowed-cn=a,b"], ["--tls-min-version=TLS1.3", "--peer-client-cert-auth"]);
    let arguments: Vec<&str> = pair.into_iter().chain(one).chain(two).collect();
    let allowed_cns = vec!["a".to_owned(), "b".to_owned()];
    let expected = TlsFiles { allowed_cns, refuses_tls12: true, client_cert_auth: true, ..files };
    assert_eq!(secured(&arguments), Ok(Some(Tls::Files(expected))));
    let made = Tls::OwnMaking { years: 3, files: TlsFiles { is_self_signed: true, ..TlsFiles::default() } };
    assert_eq!(secured(&["--peer-auto-tls", "--self-signed-cert-validity=3"]), Ok(Some(made)));
    let made = |arguments: &[&str]| secured(&[&["--peer-auto-tls"], arguments].concat());
    let ignored = made(&["--peer-trusted-ca-file=a", "--peer-client-cert-auth", "--peer-cert-allowed-cn=a"]);
    assert_eq!(ignored, made(&[]), "what etcd ignores beside a certificate of its own making");
    let dialing = TlsFiles { trusted_ca_file: Some("a".into()), ..TlsFiles::default() };
    assert_eq!(secured(&["--peer-trusted-ca-file=a"]), Ok(Some(Tls::Files(dialing))));
    for (arguments, why) in [
        (&["--peer-cert-file=c"][..], "must both be present[key: , cert: c]"),
        (&["--peer-auto-tls", "--self-signed-cert-validity=0"], "should be greater than 0"),
        (
            &["--peer-trusted-ca-file=a", "--listen-peer-urls=https://127.0.0.1:1"],
            "cannot listen on TLS for 127.0.0.1:1",
        ),
        (&["--peer-client-key-file=k"], "must both be present or both absent"),
        (&["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"], "mutually exclusive"),
        (&["--listen-peer-urls=https://127.0.0.1:1"], "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile"),
    ] {
        assert!(secured(arguments).expect_err("refused").contains(why), "{why}");
    }
}

#[test]
fn logs_go_where_they_are_sent() {
    let outputs = |text: &str| {
        let parsed = parse(&[&format!("--log-outputs={text}")], &[]);
        parsed.map(|config| config.log_outputs).map_err(|refused| refused.text)
    };
    let file = |path: &str| LogOutput::File(path.into());
    assert_eq!(outputs("default"), Ok(vec![LogOutput::Stderr]));
    assert_eq!(outputs("stdout,/tmp/l,stderr,stdout"), Ok(vec![file("/tmp/l"), LogOutput::Stderr, LogOutput::Stdout]));
    assert_eq!(outputs("stderr,/dev/null"), Ok(vec![file("/dev/null")]));
    assert_eq!(outputs("file:///tmp/l"), Ok(vec![file("/tmp/l")]));
    assert_eq!(outputs("foo:bar"), Err("open sink \"foo:bar\": no sink found for scheme \"foo\"".into()));
    assert_eq!(outputs("default,stdout"), Err("multi logoutput for \"default\" is not supported yet".into()));
    assert_eq!(outputs("systemd/journal"), Ok(vec![LogOutput::Journal]));
    let refused = outputs("systemd/journal,stderr").expect_err("refused");
    assert!(
        refused.starts_with("running with systemd/journal but other '--log-outputs' values ([\"stderr\" "),
        "{refused}"
    );
}

#[test]
fn the_version_is_etcds_third_word() {
    let Ok(Invocation::Print(text)) = Config::parse(["--version".to_owned()], []) else { panic!("no version") };
    assert_eq!(text.split_whitespace().nth(2), Some(crate::base::version::SERVER));
    assert!(text.starts_with("etcd Version: ") && text.contains("\nringd Version: "), "{text}");
}

#[test]
fn settings_of_tls_without_effect_are_noted() {
    let notices = |arguments: &[&str]| parse(arguments, &[]).map(|config| config.notices).expect("taken");
    let url = || "http://127.0.0.1:1".to_owned();
    let pair = ["--listen-peer-urls=http://127.0.0.1:1", "--peer-cert-file=c", "--peer-key-file=k"];
    let ignored = Notice::CertificateIgnored { side: "peer", url: url() };
    assert_eq!(notices(&pair), std::slice::from_ref(&ignored));
    let more = [&pair[..], &["--peer-client-cert-auth", "--peer-auto-tls"]].concat();
    let expected =
        [Notice::AutoTlsIgnored { side: "peer" }, ignored, Notice::CertAuthIgnored { side: "peer", url: url() }];
    assert_eq!(notices(&more), expected);
    assert_eq!(notices(&[&pair[1..], &["--listen-peer-urls=https://127.0.0.1:1"]].concat()), []);
}

#[test]
fn clients_are_served_with_whole_pairs_only() {
    let secured =
        |arguments: &[&str]| parse(arguments, &[]).map(|config| config.client_tls).map_err(|refused| refused.text);
    let pair = ["--cert-file=c", "--key-file=k"];
    let files = TlsFiles {
        cert_file: "c".into(),
        key_file: "k".into(),
        skip_client_san_verification: true,
        ..TlsFiles::default()
    };
    assert_eq!(secured(&pair), Ok(Some(Tls::Files(files.clone()))));
    assert_eq!(secured(&["--trusted-ca-file=a"]), Ok(None), "of no meaning without a certificate");
    let suites = "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305";
    let more = ["--client-cert-allowed-hostname=a,b", "--client-crl-file=r", suites];
    let expected = TlsFiles {
        allowed_hostnames: vec!["a".to_owned(), "b".to_owned()],
        crl_file: Some("r".into()),
        cipher_suites: ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"]
            .map(|name| crate::os::tls::suite(name).expect("known"))
            .to_vec(),
        ..files
    };
    assert_eq!(secured(&[&pair[..], &more].concat()), Ok(Some(Tls::Files(expected))));
    let made = secured(&["--auto-tls", "--trusted-ca-file=a", "--client-cert-auth"]);
    assert_eq!(made, secured(&["--auto-tls"]), "what etcd ignores beside a certificate of its own making");
    let advertise = "--advertise-client-urls=http://127.0.0.1:1";
    for (arguments, why) in [
        (&["--key-file=k"][..], "must both be present[key: k, cert: ]"),
        (&["--client-cert-file=k"], "must both be present or both absent"),
        (&["--listen-client-urls=https://127.0.0.1:1", advertise], "client url https://127.0.0.1:1 with HTTPS scheme"),
        (&["--listen-client-urls=unixs:///tmp/a", advertise], "client url unixs:///tmp/a with HTTPS scheme"),
        (&["--listen-metrics-urls=https://127.0.0.1:1"], "must be provided for metrics secure url"),
        (&["--cipher-suites=TLS_NONE"], "unexpected TLS cipher suite \"TLS_NONE\""),
        (&["--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA"], "is not served by ringd"),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
    ] {
        let refused = secured(arguments).expect_err("refused");
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn one_address_may_be_served_both_ways() {
    let urls = "--listen-client-urls=http://127.0.0.1:1,https://127.0.0.1:1,https://127.0.0.1:2";
    let flags = [urls, "--advertise-client-urls=http://127.0.0.1:1", "--cert-file=c", "--key-file=k"];
    let config = parse(&flags, &[]).expect("taken");
    let security: Vec<Security> = config.listen.iter().map(|listen| listen.security).collect();
    assert_eq!(security, [Security::Either, Security::Tls]);
    let ignored = Notice::CertificateIgnored { side: "client", url: "http://127.0.0.1:1".into() };
    assert_eq!(config.notices, [ignored]);
}
