//! TLS on the sockets of a core, by rustls, with etcd's rules.
//!
//! ```text
//!   files ──▶ offload: read certificate, key and CRL anew ──▶ handshake (rustls) ──▶ checks: revoked? allowed? from where it says?
//! ```
//!
//! | what | when it is read |
//! |---|---|
//! | certificate and key of this side | at every handshake |
//! | certificates that may sign the other side's | once, at start |
//! | revoked serial numbers | at every handshake |
//!
//! Invariants
//! 1. A handshake never blocks the core: files are read on a thread, the socket is polled.
//! 2. A stream exists only after every check has passed.

mod checks;
mod files;
mod self_signed;
mod stream;

pub use self::{
    files::{Secrets, TlsError, TlsFiles},
    self_signed::self_signed,
    stream::Stream,
};

use std::{net::IpAddr, sync::Arc};

use rustls::{ClientConnection, Connection, ServerConnection, pki_types::ServerName};

use self::{checks::Expectations, stream::handshake};
use super::net::{Peer, Socket};

impl Secrets {
    /// Takes `socket` as the side that was connected to.
    ///
    /// # Errors
    /// The files, the handshake, or what the other side's certificate is not.
    pub async fn accept(self: &Arc<Self>, socket: Socket) -> Result<Stream, TlsError> {
        let material = self.read(Secrets::server).await?;
        let session = ServerConnection::new(material.config).map_err(TlsError::session)?;
        let peer = socket.peer();
        let stream = handshake(socket, Connection::Server(session)).await?;
        let certificates = stream.certificates();
        let expectations = Expectations { files: self.files(), revoked: &material.revoked };
        expectations.check(&certificates)?;
        if let (Peer::Tcp(address), false) = (peer, self.files().skip_client_san_verification) {
            expectations.check_origin(&certificates, address.ip()).await?;
        }
        Ok(Stream::Secure(Box::new(stream)))
    }

    /// Takes `socket` as the side that has connected to `host`, a name or an address without a port.
    ///
    /// # Errors
    /// As [`Secrets::accept`].
    pub async fn connect(self: &Arc<Self>, socket: Socket, host: &str) -> Result<Stream, TlsError> {
        let material = self.read(Secrets::client).await?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::IpAddress(address.into()),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host(host.to_owned()))?,
        };
        let session = ClientConnection::new(material.config, name).map_err(TlsError::session)?;
        let stream = handshake(socket, Connection::Client(session)).await?;
        let expectations = Expectations { files: self.files(), revoked: &material.revoked };
        expectations.check(&stream.certificates())?;
        Ok(Stream::Secure(Box::new(stream)))
    }
}
