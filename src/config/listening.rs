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
    pub traffic: Traffic,
}

impl Listen {
    /// Whether it is served encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.url.starts_with("https:") || self.url.starts_with("unixs:")
    }
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
            if url.scheme.is_secure() && traffic != Traffic::Peers {
                let text = "TLS key/cert (--cert-file, --key-file) must be provided for client url";
                return Err(refuse(1, format!("{text} {url} with HTTPS scheme")));
            }
            let address = address(&url)?;
            if !listeners.iter().any(|other| other.address == address) {
                listeners.push(Listen { url: url.to_string(), address, traffic });
            }
        }
        Ok(listeners)
    }

    /// All listeners for other members, each address once.
    pub(super) fn peer_listeners(&self) -> Result<Vec<Listen>, Refused> {
        self.listen_for("listen-peer-urls", Traffic::Peers)
    }
}

fn address(url: &Url) -> Result<Address, Refused> {
    if url.scheme.is_unix() {
        let path = format!("{}{}", url.authority, url.path);
        if path.is_empty() {
            return Err(refuse(1, format!("{url}: the path of a socket is expected, as in unix:///run/ringd.sock")));
        }
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    let (host, port) = url.authority.rsplit_once(':').unwrap_or((&url.authority, ""));
    let port = match port {
        "" => 0,
        text => text.parse().map_err(|_| refuse(1, format!("listen tcp: address {text}: invalid port")))?,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(Address::Tcp(SocketAddr::new(ip, port))),
        Err(_) if host == "localhost" => Ok(Address::Tcp(local_host(port))),
        Err(_) => Err(refuse(1, format!("expected IP in URL for binding ({url})"))),
    }
}

/// The address of the name `localhost`, IPv4 before IPv6, as in Go.
fn local_host(port: u16) -> SocketAddr {
    let found: Vec<SocketAddr> = ("localhost", port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}
