//! From the addresses of the configuration to listeners that serve, one socket of each address on each front.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc};

use super::secrets::ClientSecrets;
use crate::{
    config::{Config, Listen, Security, Traffic, WebAccess},
    frontend::{self, Front},
    gateway::Gateway,
    os::{
        self,
        net::{self, Address, Bound, BoundSocket, Listener, Sharing, SocketFile},
        tls::Secrets,
    },
    peer::Peers,
    services::{ServiceHandler, Services},
    web::{Access, Pages, PeerPages, Web},
};

/// An address cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("listen {network} {address}: bind: {}", reason(.source))]
pub struct BindError {
    network: &'static str,
    address: Address,
    source: io::Error,
}

/// In the words that tools look for.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        _ => error.to_string(),
    }
}

/// Every address that this process listens on.
pub struct Doors {
    /// What each front serves.
    pub of_fronts: Vec<OfFront>,
    /// The addresses as they are, with the port that a port 0 became.
    addresses: Vec<(Address, Traffic, Security)>,
    /// Removed from the file system when the process ends.
    _files: Vec<SocketFile>,
}

/// The listening sockets of one front.
pub struct OfFront(Vec<Door>);

/// A listening socket, and how it is served.
struct Door {
    socket: BoundSocket,
    traffic: Traffic,
    security: Security,
    secrets: Option<Arc<Secrets>>,
}

impl Doors {
    /// Takes all addresses, for `fronts` fronts.
    ///
    /// # Errors
    /// One cannot be taken.
    pub(super) fn open(config: &Config, fronts: usize, secrets: &ClientSecrets) -> Result<Self, BindError> {
        let mut of_fronts: Vec<OfFront> = (0..fronts).map(|_| OfFront(Vec::new())).collect();
        let (mut addresses, mut files) = (Vec::new(), Vec::new());
        for listen in &config.listen {
            let Listen { traffic, security, .. } = *listen;
            let secrets = if traffic == Traffic::Metrics { &secrets.metrics } else { &secrets.clients };
            for bound in bind(listen, fronts, config.sharing)? {
                addresses.extend(bound.address().map(|address| (address, traffic, security)));
                files.extend(bound.file);
                for (front, socket) in of_fronts.iter_mut().zip(bound.sockets) {
                    front.0.push(Door { socket, traffic, security, secrets: secrets.clone() });
                }
            }
        }
        Ok(Self { of_fronts, addresses, _files: files })
    }

    /// Says where clients are served, in etcd's words.
    pub fn log(&self) {
        for (address, traffic, security) in &self.addresses {
            if *traffic == Traffic::Metrics {
                tracing::info!(%address, "serving metrics");
                continue;
            }
            let traffic = traffic.name();
            if *security != Security::Tls {
                tracing::info!(traffic, %address, "serving client traffic insecurely; this is strongly discouraged!");
            }
            if *security != Security::Plain {
                tracing::info!(traffic, %address, "serving client traffic securely");
            }
        }
    }
}

/// Every address on which other members are served, all by the replica's core.
pub struct PeerDoors {
    /// With whether they are served encrypted.
    sockets: Vec<(BoundSocket, bool)>,
    _files: Vec<SocketFile>,
}

impl PeerDoors {
    /// Takes all addresses.
    ///
    /// # Errors
    /// One cannot be taken.
    pub fn open(config: &Config) -> Result<Self, BindError> {
        let (mut sockets, mut files) = (Vec::new(), Vec::new());
        for listen in &config.listen_peers {
            for bound in bind(listen, 1, config.sharing)? {
                sockets.extend(bound.sockets.into_iter().map(|socket| (socket, listen.security == Security::Tls)));
                files.extend(bound.file);
            }
            tracing::info!(address = listen.url, "listening for peers");
        }
        Ok(Self { sockets, _files: files })
    }

    /// Serves other members on this core.
    pub fn serve(self, peers: &Rc<Peers>, pages: &Rc<PeerPages>) {
        for (socket, is_secure) in self.sockets {
            let (listener, pages) = (Listener::new(socket), Rc::clone(pages));
            match is_secure {
                true => peers.serve_secure(listener, pages).expect("https peer URLs are refused without certificates"),
                false => peers.serve(listener, pages),
            }
        }
    }
}

/// Takes the address of a URL, and for `localhost` the same port in the other family if that can be had.
fn bind(listen: &Listen, count: usize, sharing: Sharing) -> Result<Vec<Bound>, BindError> {
    let Listen { address, also, .. } = listen;
    let network = if matches!(address, Address::Unix(_)) { "unix" } else { "tcp" };
    let bound = net::bind(address, count, sharing);
    let mut all = vec![bound.map_err(|source| BindError { network, address: address.clone(), source })?];
    if let (Some(Address::Tcp(other)), Some(Address::Tcp(taken))) = (also, all[0].address()) {
        let other = SocketAddr::new(other.ip(), taken.port());
        match net::bind(&Address::Tcp(other), count, sharing) {
            Ok(bound) => all.push(bound),
            Err(error) => tracing::info!(address = %other, %error, "localhost is served in one family only"),
        }
    }
    Ok(all)
}

impl OfFront {
    /// Serves on this core until the front stops.
    pub fn serve(self, config: &Config, served: &Rc<Front<ServiceHandler>>, services: &Rc<Services>) {
        let WebAccess { origins, hosts } = config.access.clone();
        let access = Rc::new(Access { origins, hosts, profiles: config.profiles });
        let gateway = config.gateway.then(|| Gateway::new(Rc::clone(served.server())));
        let web = |pages| {
            let (front, access, gateway) = (Rc::clone(services), Rc::clone(&access), gateway.clone());
            Rc::new(Web { front, pages, access, gateway })
        };
        let (all, health) = (web(Pages::All), web(Pages::Health));
        for Door { socket, traffic, security, secrets } in self.0 {
            let traffic = match traffic {
                Traffic::GrpcAndPages => frontend::Traffic::Both(Rc::clone(&all)),
                Traffic::Grpc => frontend::Traffic::Grpc,
                Traffic::Pages => frontend::Traffic::Pages(Rc::clone(&all)),
                Traffic::Metrics => frontend::Traffic::Pages(Rc::clone(&health)),
                Traffic::Peers => unreachable!("these are served apart"),
            };
            let secrets = secrets.filter(|_| security != Security::Plain);
            let is_plain_too = security == Security::Either;
            let door = frontend::Door { traffic, secrets, is_plain_too };
            os::spawn_local(Rc::clone(served).run(Listener::new(socket), door));
        }
    }
}
