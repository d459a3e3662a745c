//! `--config-file`: etcd's configuration file, in YAML or JSON.
//!
//! A key is a flag's name, except for what etcd keeps in sections. Durations are integers that count nanoseconds. Where etcd
//! ignores a key that it does not know, ringd refuses the file: a mistyped setting must not look like one that counts. Keys of early
//! releases, which etcd's own sample of a file still has, are ignored and named in the log.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::{
    flags::{FLAGS, Flag, Kind, Rule, find},
    refused::{Refused, refuse},
    well_formed::go_boolean,
};

/// Keys in sections, and the flags that they stand for.
const IN_SECTIONS: [(&str, &str); 33] = [
    ("client-transport-security.cert-file", "cert-file"),
    ("client-transport-security.key-file", "key-file"),
    ("client-transport-security.client-cert-file", "client-cert-file"),
    ("client-transport-security.client-key-file", "client-key-file"),
    ("client-transport-security.client-cert-auth", "client-cert-auth"),
    ("client-transport-security.trusted-ca-file", "trusted-ca-file"),
    ("client-transport-security.auto-tls", "auto-tls"),
    ("client-transport-security.allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security.cert-file", "peer-cert-file"),
    ("peer-transport-security.key-file", "peer-key-file"),
    ("peer-transport-security.client-cert-file", "peer-client-cert-file"),
    ("peer-transport-security.client-key-file", "peer-client-key-file"),
    ("peer-transport-security.client-cert-auth", "peer-client-cert-auth"),
    ("peer-transport-security.trusted-ca-file", "peer-trusted-ca-file"),
    ("peer-transport-security.auto-tls", "peer-auto-tls"),
    ("peer-transport-security.allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security.allowed-hostname", "peer-cert-allowed-hostname"),
    ("peer-transport-security.skip-client-san-verification", "peer-skip-client-san-verification"),
    ("discovery-config.token", "discovery-token"),
    ("discovery-config.client.endpoints", "discovery-endpoints"),
    ("discovery-config.client.dial-timeout", "discovery-dial-timeout"),
    ("discovery-config.client.request-timeout", "discovery-request-timeout"),
    ("discovery-config.client.keepalive-time", "discovery-keepalive-time"),
    ("discovery-config.client.keepalive-timeout", "discovery-keepalive-timeout"),
    ("discovery-config.client.secure.insecure-transport", "discovery-insecure-transport"),
    ("discovery-config.client.secure.insecure-skip-tls-verify", "discovery-insecure-skip-tls-verify"),
    ("discovery-config.client.secure.cert", "discovery-cert"),
    ("discovery-config.client.secure.key", "discovery-key"),
    ("discovery-config.client.secure.cacert", "discovery-cacert"),
    ("discovery-config.client.auth.username", "discovery-user"),
    ("discovery-config.client.auth.password", "discovery-password"),
    ("socket-options.reuse-port", "socket-reuse-port"),
    ("socket-options.reuse-address", "socket-reuse-address"),
];
/// Flags that a file cannot set.
const WITHOUT_KEY: [&str; 6] = [
    "config-file",
    "client-crl-file",
    "discovery-fallback",
    "peer-crl-file",
    "raft-read-timeout",
    "raft-write-timeout",
];

/// Keys of early releases. etcd does not know them either, but has them in its sample of a file.
const EARLY: [&str; 12] = [
    "discovery",
    "discovery-fallback",
    "discovery-proxy",
    "proxy",
    "proxy-failure-wait",
    "proxy-refresh-interval",
    "proxy-dial-timeout",
    "proxy-write-timeout",
    "proxy-read-timeout",
    "enable-v2",
    "debug",
    "log-package-levels",
];

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The flags that it sets, with their values as one would type them.
    pub(super) given: Vec<(&'static Flag, String)>,
    /// Keys of early releases with a value.
    pub(super) ignored: Vec<String>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Settings, Refused> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| refuse(1, format!("cannot read {shown}: {error}")))?;
    parse(&text).map_err(|why| refuse(1, format!("{shown}: {why}")))
}

fn parse(text: &str) -> Result<Settings, String> {
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Settings::default());
    }
    let first: Map<String, Value> =
        serde_saphyr::from_str(text).map_err(|error| error.to_string().lines().take(1).collect::<String>())?;
    let mut read = Settings::default();
    let mut sections = vec![(String::new(), first)];
    while let Some((section, settings)) = sections.pop() {
        for (key, value) in settings {
            let path = format!("{section}{key}");
            let is_section = IN_SECTIONS.iter().any(|(known, _)| known.starts_with(&format!("{path}.")));
            match (value, find_key(&path)) {
                (Value::Null, _) => {}
                (_, None) if EARLY.contains(&path.as_str()) => read.ignored.push(path),
                (Value::Object(inner), None) if is_section => sections.push((format!("{path}."), inner)),
                (_, None) if is_section => return Err(format!("invalid {path}")),
                (_, None) => return Err(format!("unknown key {path}")),
                (value, Some(flag)) => read.given.extend(typed(flag, &path, &value)?.map(|text| (flag, text))),
            }
        }
    }
    Ok(read)
}

fn find_key(path: &str) -> Option<&'static Flag> {
    if let Some((_, name)) = IN_SECTIONS.iter().find(|(known, _)| *known == path) {
        return find(name);
    }
    let elsewhere = IN_SECTIONS.iter().any(|(_, name)| *name == path) || WITHOUT_KEY.contains(&path);
    FLAGS.iter().find(|flag| flag.name == path && flag.rule != Rule::Forgotten && !elsewhere)
}

/// A value as one would type it, or `None` if it stands for the default.
fn typed(flag: &Flag, key: &str, value: &Value) -> Result<Option<String>, String> {
    let wrong = |expected: &str| Err(format!("invalid value {value} for {key}: {expected} is expected"));
    let stands_for_default = matches!(flag.kind, Kind::Urls | Kind::Origins | Kind::Choice(_) | Kind::Choices(_));
    let text = match (flag.kind, value) {
        (_, Value::String(text)) if stands_for_default && text.is_empty() => return Ok(None),
        (Kind::Duration, Value::Number(number)) if number.is_i64() => format!("{number}ns"),
        (Kind::Duration, _) => return wrong("a number of nanoseconds"),
        (Kind::Boolean, Value::Bool(open)) => open.to_string(),
        (Kind::Boolean, Value::String(text)) => match (text.to_ascii_lowercase().as_str(), go_boolean(text)) {
            // YAML of the version that etcd reads.
            ("yes" | "on" | "y", _) => "true".to_owned(),
            ("no" | "off" | "n", _) => "false".to_owned(),
            (_, Some(open)) => open.to_string(),
            (_, None) => return wrong("true or false"),
        },
        (Kind::Integer | Kind::Natural, Value::Number(number)) => number.to_string(),
        (Kind::Boolean, _) => return wrong("true or false"),
        (Kind::Integer | Kind::Natural, _) => return wrong("a number"),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Number(number)) => number.to_string(),
        (_, Value::Bool(open)) => open.to_string(),
        (_, Value::Array(items)) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            match items {
                Some(items) => items.join(","),
                None => return wrong("a list of texts"),
            }
        }
        (_, Value::Object(_) | Value::Null) => return wrong("a text"),
    };
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Vec<(&'static str, String)> {
        let mut given: Vec<_> =
            parse(text).expect("accepted").given.into_iter().map(|(flag, text)| (flag.name, text)).collect();
        given.sort_unstable();
        given
    }

    #[test]
    fn a_file_is_yaml_or_json() {
        let yaml = "# A member.\nname: 'infra1'\nheartbeat-interval: 100\nauto-compaction-retention: 1\npre-vote: on\ncors:\n\
                    grpc-keepalive-interval: 1000000000\nlog-outputs: [stderr, /tmp/x]\nlisten-metrics-urls: ''\n\
                    client-transport-security:\n  cert-file: a\n  client-cert-auth: false\n";
        let expected = [
            ("auto-compaction-retention", "1"),
            ("cert-file", "a"),
            ("client-cert-auth", "false"),
            ("grpc-keepalive-interval", "1000000000ns"),
            ("heartbeat-interval", "100"),
            ("log-outputs", "stderr,/tmp/x"),
            ("name", "infra1"),
            ("pre-vote", "true"),
        ];
        assert_eq!(given(yaml), expected.map(|(name, text)| (name, text.to_owned())));
        assert_eq!(given(r#"{"name": "x"}"#), [("name", "x".to_owned())]);
        assert!(given("").is_empty());
        assert!(given("# nothing\n\n").is_empty());
    }

    #[test]
    fn mistakes_are_refused_by_name() {
        for (text, why) in [
            ("nmae: x", "unknown key nmae"),
            ("cert-file: x", "unknown key cert-file"),
            ("config-file: x", "unknown key config-file"),
            ("client-transport-security: x", "invalid client-transport-security"),
            ("peer-transport-security:\n  certfile: x", "unknown key peer-transport-security.certfile"),
            ("election-timeout: soon", "invalid value \"soon\" for election-timeout: a number is expected"),
            (
                "backend-batch-interval: 100ms",
                "invalid value \"100ms\" for backend-batch-interval: a number of nanoseconds is expected",
            ),
            ("pre-vote: maybe", "invalid value \"maybe\" for pre-vote: true or false is expected"),
        ] {
            assert_eq!(parse(text).map(|read| read.given.len()), Err(why.to_owned()), "{text}");
        }
        assert!(parse("name: [").is_err());
    }

    #[test]
    fn keys_of_early_releases_are_named() {
        let text = "proxy: 'off'\nproxy-read-timeout: 0\ndiscovery:\ndiscovery-fallback: proxy\nname: x\n";
        let mut read = parse(text).expect("accepted");
        read.ignored.sort_unstable();
        assert_eq!(read.ignored, ["discovery-fallback", "proxy", "proxy-read-timeout"]);
        assert_eq!(read.given.len(), 1);
    }

    #[test]
    fn every_key_stands_for_a_flag() {
        for (path, name) in IN_SECTIONS {
            assert!(find(name).is_some(), "{path}");
        }
    }
}
