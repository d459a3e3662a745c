//! `--discovery-srv`: the members of a new cluster from SRV records, as etcd reads them.
//!
//! | record | is a member with |
//! |---|---|
//! | `_etcd-server-ssl._tcp.<domain>` | an `https` URL |
//! | `_etcd-server._tcp.<domain>` | an `http` URL |
//!
//! With `--discovery-srv-name=x` the services are `etcd-server-ssl-x` and `etcd-server-x`. The record whose target has the address of one of
//! this member's own peer URLs has this member's name, the others are called 0, 1, and so on, and one without an address is left out.
//! A record of this member that has another scheme than its URL is left out as well.

use crate::{
    base::{go_quote::quote, go_url},
    os::{
        dns::{self, Srv},
        net::resolve,
    },
};

/// Where the members are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Discovery {
    pub(super) domain: String,
    pub(super) service: String,
}

impl Discovery {
    /// The members as `--initial-cluster` would name them. Blocks; for use at start.
    ///
    /// # Errors
    /// Neither service has a usable record, or this member is not in them.
    pub(super) fn members(&self, name: &str, advertised: &[String]) -> Result<String, String> {
        let (mut members, mut faults) = (Vec::new(), Vec::new());
        for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
            let service = match self.service.as_str() {
                "" => service.to_owned(),
                suffix => format!("{service}-{suffix}"),
            };
            let found = dns::services(&service, &self.domain).map_err(|error| error.to_string());
            let found = found.and_then(|records| members_of(&records, scheme, name, advertised));
            tracing::info!(
                service_scheme = scheme,
                service_name = service,
                server_name = name,
                discovery_srv = self.domain,
                advertise_peer_urls = ?advertised,
                found_cluster = ?found.as_ref().unwrap_or(&Vec::new()),
                error = found.as_ref().err(),
                "get cluster for {} SRV", service
            );
            match found {
                Ok(found) => members.extend(found),
                Err(fault) => faults.push(format!("error querying DNS SRV records for _{service} {fault}")),
            }
        }
        if !faults.is_empty() {
            tracing::warn!(error = faults.join("\n"), "failed to resolve during SRV discovery");
        }
        if members.is_empty() {
            return Err(faults.join("\n"));
        }
        for node in &members {
            tracing::info!(node, "got bootstrap from DNS for etcd-server");
        }
        let own = format!("{name}=");
        match members.iter().any(|member| member.starts_with(&own)) {
            true => Ok(members.join(",")),
            false => Err(format!("cannot find local etcd member {} in SRV records", quote(name.as_bytes()))),
        }
    }
}

/// The members that these records stand for, in their order.
fn members_of(records: &[Srv], scheme: &str, name: &str, advertised: &[String]) -> Result<Vec<String>, String> {
    let mut own: Vec<(String, String)> = Vec::new();
    for url in advertised {
        let parsed = go_url::parse(url).map_err(|error| error.to_string())?;
        let address = resolve(&parsed.authority).ok_or_else(|| format!("lookup {}: no such host", parsed.authority))?;
        own.push((address, url.clone()));
    }
    let (mut members, mut unnamed, mut fault) = (Vec::new(), 0, "no such host".to_owned());
    for record in records {
        let Some(address) = record.address else {
            fault = format!("lookup {}: no such host", record.target);
            continue;
        };
        let url = format!("{scheme}://{}:{}", bracketed(&record.target), record.port);
        match own.iter().find(|(own, _)| *own == address.to_string()) {
            None => {
                members.push(format!("{unnamed}={url}"));
                unnamed += 1;
            }
            Some((_, own)) if !own.starts_with(&format!("{scheme}://")) => {
                fault =
                    format!("bootstrap at {url} from DNS for {scheme} has scheme mismatch with expected peer {own}");
            }
            Some(_) => members.push(format!("{name}={url}")),
        }
    }
    if members.is_empty() { Err(fault) } else { Ok(members) }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(target: &str, port: u16, address: Option<&str>) -> Srv {
        let address = address.map(|ip| std::net::SocketAddr::new(ip.parse().expect("an address"), port));
        Srv { target: target.to_owned(), port, address }
    }

    #[test]
    fn the_own_record_is_found_by_its_address() {
        let records = [
            record("a.example", 2380, Some("10.0.0.1")),
            record("b.example", 2380, Some("127.0.0.1")),
            record("c.example", 2380, None),
            record("d.example", 2381, Some("127.0.0.1")),
        ];
        let own = ["http://127.0.0.1:2380".to_owned()];
        let members = members_of(&records, "http", "m1", &own);
        let expected = ["0=http://a.example:2380", "m1=http://b.example:2380", "1=http://d.example:2381"];
        assert_eq!(members, Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn an_own_record_of_another_scheme_is_none() {
        let records = [record("b.example", 2380, Some("127.0.0.1"))];
        let own = ["http://127.0.0.1:2380".to_owned()];
        let fault = members_of(&records, "https", "m1", &own).expect_err("the only one");
        assert!(fault.contains("has scheme mismatch with expected peer http://127.0.0.1:2380"), "{fault}");
        assert_eq!(members_of(&[], "http", "m1", &own), Err("no such host".to_owned()));
    }
}
