//! `--discovery-srv`: endpoints from SRV records, as etcdctl finds them.
//!
//! | record | is an endpoint |
//! |---|---|
//! | `_etcd-client-ssl._tcp.<domain>` | `https://<target>:<port>` |
//! | `_etcd-client._tcp.<domain>` | `http://<target>:<port>`, unless `--insecure-discovery=false` |
//!
//! With `--discovery-srv-name=x` the services are `etcd-client-ssl-x` and `etcd-client-x`.

use std::io::Write;

use super::{
    exit::{ERROR, Exit},
    flags::Flags,
};
use crate::{base::go_quote::quote, os::dns};

/// The endpoints that a domain names; those of `--endpoints` if it names none, or none is asked for.
pub fn endpoints(flags: &Flags, errors: &mut dyn Write) -> Result<Vec<String>, Exit> {
    let found = discovered(flags, errors)?;
    if !found.is_empty() {
        return Ok(found);
    }
    Ok(flags.list("endpoints").iter().map(|endpoint| endpoint.trim().to_owned()).collect())
}

fn discovered(flags: &Flags, errors: &mut dyn Write) -> Result<Vec<String>, Exit> {
    let (domain, name) = (flags.text("discovery-srv"), flags.text("discovery-srv-name"));
    if domain.is_empty() {
        return Ok(Vec::new());
    }
    let of = |scheme: &str, service: &str| {
        let service = if name.is_empty() { service.to_owned() } else { format!("{service}-{name}") };
        let records = dns::services(&service, domain)?;
        let endpoint = |record: dns::Srv| format!("{scheme}://{}:{}", record.target, record.port);
        Ok::<Vec<String>, dns::DnsError>(records.into_iter().map(endpoint).collect())
    };
    let mut found = match (of("https", "etcd-client-ssl"), of("http", "etcd-client")) {
        (Err(secure), Err(plain)) => {
            return Err(Exit::new(ERROR, format!("dns lookup errors: {secure} and {plain}")));
        }
        (secure, plain) => [secure.unwrap_or_default(), plain.unwrap_or_default()].concat(),
    };
    if !flags.bool("insecure-discovery") {
        for endpoint in found.extract_if(.., |endpoint| endpoint.starts_with("http://")) {
            writeln!(errors, "ignoring discovered insecure endpoint {}", quote(endpoint.as_bytes()))?;
        }
    }
    Ok(found)
}
