//! TLS on the sockets of a core, by rustls, with etcd's rules.
//!
//! ```text
//!   files ──▶ offload: what has changed is read anew ──▶ handshake (rustls, allowed names) ──▶ checks: revoked? from where it says?
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `files` | certificate, key, authorities and revocation list, read at every handshake after one of them has changed |
//! | `suites` | which cipher suites there are |
//! | `session` | one side's state, without a socket |
//! | `stream` | a socket with or without a session |
//! | `names` | what a certificate says of its holder |
//! | `verifiers` | names that are allowed, refused during the handshake |
//! | `checks`, `words` | what else a certificate must be beyond signed, and Go's words for what is wrong |
//! | `self_signed` | certificates of one's own making |
//!
//! Invariants
//! 1. A handshake never blocks the core: files are read on a thread, the socket is polled.
//! 2. A stream exists only after every check has passed.
//! 3. No session is taken up again, so every connection's certificate is verified with the authorities and the list of its day.

mod checks;
mod files;
mod names;
mod self_signed;
mod session;
mod stream;
mod suites;
mod verifiers;
mod words;

pub use rustls::{CipherSuite, pki_types};

pub use self::{
    files::{Secrets, TlsError, TlsFiles},
    names::Names,
    self_signed::self_signed,
    stream::Stream,
    suites::{SuiteError, suite},
};

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use bytes::Bytes;
use rustls::{client::UnbufferedClientConnection, pki_types::ServerName, server::UnbufferedServerConnection};

use self::{session::Session, stream::SecureSocket};
use super::net::{Peer, Socket};

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

impl Rejected {
    /// Says so in etcd's words and fields, of the `peer` or the `client` endpoint. A connection that just ends is no news.
    pub fn log(&self, endpoint: &str, remote: Peer) {
        let Self { error, server_name, names } = self;
        let Some(names) = names else {
            match error.is_end() {
                true => {
                    tracing::debug!(remote_addr = %remote, server_name, %error, "rejected connection on {endpoint} endpoint")
                }
                false => {
                    tracing::warn!(remote_addr = %remote, server_name, %error, "rejected connection on {endpoint} endpoint")
                }
            }
            return;
        };
        let addresses: Vec<_> = names.addresses.iter().map(ToString::to_string).collect();
        tracing::warn!(
            remote_addr = %remote,
            server_name,
            ip_addresses = ?addresses,
            dns_names = ?names.dns,
            %error,
            "rejected connection on {endpoint} endpoint"
        );
    }
}

impl Secrets {
    /// Takes `socket`, from which `first` was read already, as the side that was connected to, for one of these protocols.
    ///
    /// # Errors
    /// The files, the handshake, or what the other side's certificate is not.
    pub async fn accept(
        self: &Arc<Self>,
        socket: Socket,
        first: Bytes,
        protocols: &[&[u8]],
    ) -> Result<Stream, Rejected> {
        let material = self.server().await?;
        let (config, noted) = material.config(protocols);
        let session = UnbufferedServerConnection::new(config).map_err(TlsError::session)?;
        let peer = socket.peer();
        let mut stream = SecureSocket::new(socket, Session::Server(Box::new(session)), &first);
        let welcomed = self.welcome(&mut stream, &material.revoked, peer).await;
        let names = noted.names.get().cloned();
        match welcomed {
            Ok(()) => {
                stream.set_common_name(names.and_then(|names| names.common));
                Ok(Stream::Secure(Box::new(stream)))
            }
            Err(error) => {
                let server_name = noted.server_name.get().cloned().unwrap_or_default();
                Err(Rejected { error, server_name, names })
            }
        }
    }

    async fn welcome(
        &self,
        stream: &mut SecureSocket,
        revoked: &BTreeSet<Vec<u8>>,
        peer: Peer,
    ) -> Result<(), TlsError> {
        stream.handshake().await?;
        let certificates = stream.certificates();
        checks::check_revoked(&certificates, revoked)?;
        match peer {
            Peer::Tcp(address) if !self.files().skip_client_san_verification => {
                checks::check_origin(&certificates, address.ip()).await
            }
            _ => Ok(()),
        }
    }

    /// Takes `socket` as the side that has connected to `host`, a name or an address without a port.
    ///
    /// # Errors
    /// As [`Secrets::accept`].
    pub async fn connect(self: &Arc<Self>, socket: Socket, host: &str) -> Result<Stream, TlsError> {
        let material = self.client().await?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::IpAddress(address.into()),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host(host.to_owned()))?,
        };
        let config = Arc::clone(&material.config);
        let session = UnbufferedClientConnection::new(config, name).map_err(TlsError::session)?;
        let mut stream = SecureSocket::new(socket, Session::Client(Box::new(session)), &Bytes::new());
        stream.handshake().await?;
        checks::check_revoked(&stream.certificates(), &material.revoked)?;
        Ok(Stream::Secure(Box::new(stream)))
    }
}

#[cfg(test)]
mod tests;
