//! Where is listened, and for what: `--listen-client-urls`, `--listen-client-http-urls`, `--listen-metrics-urls`, `--listen-peer-urls`.
//!
//! | listener | serves |
//! |---|---|
//! | a client URL, no client HTTP URL | gRPC, and pages over HTTP/1 |
//! | a client URL beside client HTTP URLs | gRPC |
//! | a client HTTP URL | pages over HTTP/1 |
//! | a metrics URL | `/metrics` and the health pages over HTTP/1 |
//! | a peer URL | other members, over HTTP/1 |

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use super::{
    refused::{Refused, refuse},
    values::Values,
};
use crate::{base::go_url::Url, os::net::Address};

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub url: String,
    pub address: Address,
    /// `localhost` in the other family, if this host has it there.
    pub also: Option<Address>,
    pub traffic: Traffic,
    pub security: Security,
}

/// Whether an address is served encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    Tls,
    /// Each connection as it begins: the address is in an `http` and in an `https` URL.
    Either,
}

/// What is served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    GrpcAndPages,
    Grpc,
    Pages,
    Metrics,
    Peers,
}

impl Traffic {
    /// etcd's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Traffic::GrpcAndPages => "grpc+http",
            Traffic::Grpc => "grpc",
            Traffic::Pages => "http",
            Traffic::Metrics => "metrics",
            Traffic::Peers => "peer",
        }
    }
}

impl Values {
    /// All listeners for clients, each address once.
    pub(super) fn listeners(&self) -> Result<Vec<Listen>, Refused> {
        let pages = self.listen_for("listen-client-http-urls", Traffic::Pages)?;
        let traffic = if pages.is_empty() { Traffic::GrpcAndPages } else { Traffic::Grpc };
        let mut listeners = self.listen_for("listen-client-urls", traffic)?;
        if let Some(twice) = pages.iter().find(|page| listeners.iter().any(|other| other.address == page.address)) {
            let text = "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url";
            return Err(refuse(1, format!("{text} {}", twice.url)));
        }
        listeners.extend(pages);
        listeners.extend(self.listen_for("listen-metrics-urls", Traffic::Metrics)?);
        Ok(listeners)
    }

    fn listen_for(&self, name: &str, traffic: Traffic) -> Result<Vec<Listen>, Refused> {
        let mut listeners: Vec<Listen> = Vec::new();
        for url in self.urls(name)? {
            let (address, also) = address(&url)?;
            let security = if url.scheme.is_secure() { Security::Tls } else { Security::Plain };
            match listeners.iter_mut().find(|other| other.address == address) {
                Some(other) if other.security != security => other.security = Security::Either,
                Some(_) => {}
                None => listeners.push(Listen { url: url.to_string(), address, also, traffic, security }),
            }
        }
        Ok(listeners)
    }

    /// All listeners for other members, each address once.
    pub(super) fn peer_listeners(&self) -> Result<Vec<Listen>, Refused> {
        self.listen_for("listen-peer-urls", Traffic::Peers)
    }
}

fn address(url: &Url) -> Result<(Address, Option<Address>), Refused> {
    if url.scheme.is_unix() {
        let path = format!("{}{}", url.authority, url.path);
        if path.is_empty() {
            return Err(refuse(1, format!("{url}: the path of a socket is expected, as in unix:///run/ringd.sock")));
        }
        return Ok((Address::Unix(PathBuf::from(path)), None));
    }
    let (host, port) = url.authority.rsplit_once(':').unwrap_or((&url.authority, ""));
    let port = match port {
        "" => 0,
        text => text.parse().map_err(|_| refuse(1, format!("listen tcp: address {text}: invalid port")))?,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok((Address::Tcp(SocketAddr::new(ip, port)), None)),
        Err(_) if host == "localhost" => Ok(local_host(port)),
        Err(_) => Err(refuse(1, format!("expected IP in URL for binding ({url})"))),
    }
}

/// The addresses of the name `localhost`, IPv4 before IPv6, as in Go, which takes only the first one.
fn local_host(port: u16) -> (Address, Option<Address>) {
    let found: Vec<SocketAddr> = ("localhost", port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let v4 = found.iter().find(|address| address.is_ipv4()).copied();
    let v6 = found.iter().find(|address| address.is_ipv6()).copied();
    let first = v4.or(v6).unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    (Address::Tcp(first), v4.and(v6).map(Address::Tcp))
}
