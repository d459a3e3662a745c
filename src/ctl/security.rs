//! Certificates of a connection, from flags: as etcdctl reads them, with its exit status and, where a file is missing, its text.
//!
//! | flag | meaning |
//! |---|---|
//! | `--cert`, `--key` | what is shown to the server; both or none |
//! | `--cacert` | who vouches for the server; else the authorities of this machine |
//! | `--insecure-transport=false` | TLS also without any of them, for endpoints that name no scheme |
//! | `--insecure-skip-tls-verify` | nobody has to vouch for the server |

use std::fs::File;

use super::exit::Exit;
use super::flags::Flags;
use super::go_format::io_error;
use crate::client::{Tls, TlsFiles};

/// The flags that give certificates, of one connection.
pub struct Names {
    pub cert: &'static str,
    pub key: &'static str,
    pub cacert: &'static str,
    pub insecure_transport: &'static str,
}

const OF_EVERY_COMMAND: Names =
    Names { cert: "cert", key: "key", cacert: "cacert", insecure_transport: "insecure-transport" };

/// What the global flags ask for; `None` for connections without TLS.
pub fn global(flags: &Flags) -> Result<Option<Tls>, Exit> {
    let Names { cert, key, cacert, .. } = OF_EVERY_COMMAND;
    for name in [cert, key, cacert] {
        if flags.given(name) && flags.text(name).is_empty() {
            return Err(Exit::arguments(format!("empty string is passed to --{name} option")));
        }
    }
    read(flags, &OF_EVERY_COMMAND, flags.bool("insecure-skip-tls-verify"))
}

/// What these flags ask for; `None` for connections without TLS.
pub fn read(flags: &Flags, names: &Names, skips_verification: bool) -> Result<Option<Tls>, Exit> {
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
    let shown = (!cert.is_empty()).then(|| (cert.into(), key.into()));
    let cacert = Some(cacert).filter(|path| !path.is_empty()).map(Into::into);
    if shown.is_none() && cacert.is_none() && !skips_verification && flags.bool(names.insecure_transport) {
        return Ok(None);
    }
    let files = TlsFiles { shown, cacert, skips_verification };
    Tls::load(&files).map(Some).map_err(|error| Exit::arguments(error.to_string()))
}
