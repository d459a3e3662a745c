//! This version makes plain connections only. A flag that asks for another kind is refused by its name before anything is sent, with
//! the exit status and, where a file is missing, the text of etcdctl.
//!
//! | flag | taken | refused |
//! |---|---|---|
//! | `--cert`, `--key`, `--cacert` | | always |
//! | `--insecure-transport` | `true` | `false` |
//! | `--insecure-skip-tls-verify` | `false` | `true` |
//! | `--endpoints`, and what `--discovery-srv` finds | the others | `https://`, `unixs:` |

use std::fs::File;

use super::exit::Exit;
use super::flags::Flags;
use super::go_format::io_error;

/// The flags that give certificates, of one connection.
pub struct Names {
    pub cert: &'static str,
    pub key: &'static str,
    pub cacert: &'static str,
    pub insecure_transport: &'static str,
}

const OF_EVERY_COMMAND: Names =
    Names { cert: "cert", key: "key", cacert: "cacert", insecure_transport: "insecure-transport" };

/// Refuses global flags that ask for more than a plain connection.
pub fn must_be_plain(flags: &Flags) -> Result<(), Exit> {
    let Names { cert, key, cacert, .. } = OF_EVERY_COMMAND;
    for name in [cert, key, cacert] {
        if flags.given(name) && flags.text(name).is_empty() {
            return Err(Exit::arguments(format!("empty string is passed to --{name} option")));
        }
    }
    no_certificates(flags, &OF_EVERY_COMMAND)?;
    if flags.bool("insecure-skip-tls-verify") {
        return Err(not_served("--insecure-skip-tls-verify"));
    }
    flags.list("endpoints").iter().try_for_each(|endpoint| plain_endpoint(endpoint))
}

/// Refuses certificates, and a transport that is secure without them.
pub fn no_certificates(flags: &Flags, names: &Names) -> Result<(), Exit> {
    let [cert, key, cacert] = [names.cert, names.key, names.cacert].map(|name| flags.text(name));
    if cert.is_empty() != key.is_empty() {
        let text = format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]");
        return Err(Exit::arguments(text));
    }
    for path in [cert, key, cacert] {
        if !path.is_empty()
            && let Err(error) = File::open(path)
        {
            return Err(Exit::arguments(format!("open {path}: {}", io_error(&error))));
        }
    }
    if let Some(name) = [names.cert, names.cacert].into_iter().find(|name| !flags.text(name).is_empty()) {
        return Err(not_served(&format!("--{name}")));
    }
    if !flags.bool(names.insecure_transport) {
        return Err(not_served(&format!("--{}=false", names.insecure_transport)));
    }
    Ok(())
}

/// Refuses an endpoint that needs TLS.
pub fn plain_endpoint(endpoint: &str) -> Result<(), Exit> {
    let endpoint = endpoint.trim();
    if endpoint.starts_with("https://") || endpoint.starts_with("unixs:") {
        return Err(not_served(&format!("endpoint {endpoint}")));
    }
    Ok(())
}

fn not_served(what: &str) -> Exit {
    Exit::arguments(format!("{what}: TLS is not served by this version of ringctl"))
}
