//! TLS of a client, by rustls: whom it trusts, and what it shows.

use std::{
    fmt::Display,
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::base::certificates::{AnyServer, certificates_of};

/// What connections of a client are secured with.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

/// Where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate and key that the client shows, PEM.
    pub shown: Option<(PathBuf, PathBuf)>,
    /// Authorities that sign certificates of servers, PEM; else those of this machine.
    pub cacert: Option<PathBuf>,
    /// Takes any certificate of a server.
    pub skips_verification: bool,
}

/// A file is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TlsError {
    path: PathBuf,
    why: String,
}

impl TlsError {
    fn new(path: &Path, why: impl Display) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }
}

impl Tls {
    /// Reads the files. Blocks.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions");
        let builder = if files.skips_verification {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer))
        } else {
            builder.with_root_certificates(authorities(files.cacert.as_deref())?)
        };
        let mut config = match &files.shown {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert)?;
                let der = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::new(key, error))?;
                builder.with_client_auth_cert(chain, der).map_err(|error| TlsError::new(key, error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// For another protocol than gRPC.
    pub fn without_protocol(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols.clear();
        Self(Arc::new(config))
    }

    /// The client's side of a handshake.
    pub async fn secure<S>(&self, stream: S, name: ServerName<'static>) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }

    /// The client's side of a connection without a runtime. The handshake runs with the first reads and writes.
    ///
    /// # Errors
    /// The settings do not fit together.
    pub fn wrap(&self, socket: TcpStream, name: ServerName<'static>) -> Result<TlsSocket, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.0), name).map(|session| TlsSocket(StreamOwned::new(session, socket)))
    }
}

/// A socket with TLS. One that does not block answers `WouldBlock`.
pub struct TlsSocket(StreamOwned<ClientConnection, TcpStream>);

impl TlsSocket {
    pub fn socket(&self) -> &TcpStream {
        &self.0.sock
    }

    /// Whether encrypted bytes wait for the socket, which [`Write::flush`] sends.
    pub fn wants_write(&self) -> bool {
        self.0.conn.wants_write()
    }
}

impl Read for TlsSocket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for TlsSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The name that the certificate of `host:port` has to have.
pub fn server_name(host_port: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    let host = host_port.rsplit_once(':').map_or(host_port, |(host, _)| host);
    ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

fn authorities(cacert: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match cacert {
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(path) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(|error| TlsError::new(path, error))?;
            }
        }
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|error| TlsError::new(path, error))?;
    certificates_of(&text).map_err(|error| TlsError::new(path, error))
}
