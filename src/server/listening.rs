//! From the addresses of the configuration to listeners that serve, one socket of each address on each front.

use std::{io, rc::Rc};

use crate::{
    config::{Listen, Traffic},
    frontend::{self, Front},
    os::{
        self,
        net::{self, Address, Bound, BoundSocket, Listener, SocketFile},
    },
    peer::Peers,
    services::{ServiceHandler, Services},
    web::{Pages, PeerPages, Web},
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
    addresses: Vec<(Address, Traffic)>,
    /// Removed from the file system when the process ends.
    _files: Vec<SocketFile>,
}

/// The listening sockets of one front.
pub struct OfFront(Vec<(BoundSocket, Traffic)>);

impl Doors {
    /// Takes all addresses, for `fronts` fronts.
    ///
    /// # Errors
    /// One cannot be taken.
    pub fn open(listen: &[Listen], fronts: usize) -> Result<Self, BindError> {
        let mut of_fronts: Vec<OfFront> = (0..fronts).map(|_| OfFront(Vec::new())).collect();
        let (mut addresses, mut files) = (Vec::new(), Vec::new());
        for Listen { address, traffic, .. } in listen {
            let bound = bind(address, fronts)?;
            // The port is another one than given when 0 was given.
            if let Some(Ok(address)) = bound.sockets.first().map(BoundSocket::local_address) {
                addresses.push((address, *traffic));
            }
            files.extend(bound.file);
            for (front, socket) in of_fronts.iter_mut().zip(bound.sockets) {
                front.0.push((socket, *traffic));
            }
        }
        Ok(Self { of_fronts, addresses, _files: files })
    }

    /// Says where clients are served, in etcd's words.
    pub fn log(&self) {
        for (address, traffic) in &self.addresses {
            match traffic {
                Traffic::Metrics => tracing::info!(%address, "serving metrics"),
                _ => tracing::info!(
                    traffic = traffic.name(),
                    %address,
                    "serving client traffic insecurely; this is strongly discouraged!"
                ),
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
    pub fn open(listen: &[Listen]) -> Result<Self, BindError> {
        let (mut sockets, mut files) = (Vec::new(), Vec::new());
        for door in listen {
            let bound = bind(&door.address, 1)?;
            tracing::info!(address = door.url, "listening for peers");
            sockets.extend(bound.sockets.into_iter().map(|socket| (socket, door.is_secure())));
            files.extend(bound.file);
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

fn bind(address: &Address, count: usize) -> Result<Bound, BindError> {
    let network = if matches!(address, Address::Unix(_)) { "unix" } else { "tcp" };
    net::bind(address, count).map_err(|source| BindError { network, address: address.clone(), source })
}

impl OfFront {
    /// Serves on this core until the front stops.
    pub fn serve(self, served: &Rc<Front<ServiceHandler>>, services: &Rc<Services>) {
        let web = |pages| Rc::new(Web { front: Rc::clone(services), pages });
        let (all, health) = (web(Pages::All), web(Pages::Health));
        for (socket, traffic) in self.0 {
            let traffic = match traffic {
                Traffic::GrpcAndPages => frontend::Traffic::Both(Rc::clone(&all)),
                Traffic::Grpc => frontend::Traffic::Grpc,
                Traffic::Pages => frontend::Traffic::Pages(Rc::clone(&all)),
                Traffic::Metrics => frontend::Traffic::Pages(Rc::clone(&health)),
                Traffic::Peers => unreachable!("these are served apart"),
            };
            os::spawn_local(Rc::clone(served).run(Listener::new(socket), traffic));
        }
    }
}
