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
mod words;

pub use self::{
    checks::Names,
    files::{Secrets, TlsError, TlsFiles},
    self_signed::self_signed,
    stream::Stream,
};

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::{ClientConnection, Connection, ServerConnection, pki_types::ServerName};

use self::{checks::Expectations, stream::SecureSocket};
use super::{
    net::{Peer, Socket},
    timeout,
};

/// A connection that is not let in, and what is known of the side that made it.
#[derive(Debug)]
pub struct Rejected {
    pub error: TlsError,
    /// The name by which it asked for this side; empty if by none.
    pub server_name: String,
    /// Of its certificate, if it has shown one that a known authority has signed.
    pub names: Option<Names>,
}

impl From<TlsError> for Rejected {
    fn from(error: TlsError) -> Self {
        Self { error, server_name: String::new(), names: None }
    }
}

impl Secrets {
    /// Takes `socket` as the side that was connected to. The handshake is given up after `patience`.
    ///
    /// # Errors
    /// The files, the handshake, or what the other side's certificate is not.
    pub async fn accept(self: &Arc<Self>, socket: Socket, patience: Duration) -> Result<Stream, Rejected> {
        let material = self.read(Secrets::server).await?;
        let session = ServerConnection::new(material.config).map_err(TlsError::session)?;
        let peer = socket.peer();
        let mut stream = SecureSocket::new(socket, Connection::Server(session));
        let expectations = Expectations { files: self.files(), revoked: &material.revoked };
        match self.welcome(&mut stream, &expectations, peer, patience).await {
            Ok(()) => Ok(Stream::Secure(Box::new(stream))),
            Err(error) => {
                let names = stream.certificates().first().and_then(Names::of);
                Err(Rejected { error, server_name: stream.server_name(), names })
            }
        }
    }

    async fn welcome(
        &self,
        stream: &mut SecureSocket,
        expectations: &Expectations<'_>,
        peer: Peer,
        patience: Duration,
    ) -> Result<(), TlsError> {
        timeout(patience, stream.handshake()).await.ok_or(TlsError::Late)??;
        let certificates = stream.certificates();
        expectations.check(&certificates)?;
        match peer {
            Peer::Tcp(address) if !self.files().skip_client_san_verification => {
                expectations.check_origin(&certificates, address.ip()).await
            }
            _ => Ok(()),
        }
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
        let mut stream = SecureSocket::new(socket, Connection::Client(session));
        stream.handshake().await?;
        let expectations = Expectations { files: self.files(), revoked: &material.revoked };
        expectations.check(&stream.certificates())?;
        Ok(Stream::Secure(Box::new(stream)))
    }
}
