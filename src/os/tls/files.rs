//! Where certificates come from, and what rustls is made with.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use x509_parser::{pem::parse_x509_pem, prelude::FromDer, revocation_list::CertificateRevocationList};

use crate::os::offload::offload;

/// What one kind of connections is secured with: the values of `--peer-...` or of `--...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Empty, as is the key's: this side is never connected to, and shows nothing when it connects.
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// What this side shows when it connects; else the two above.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// Who may sign certificates; else the authorities of this machine.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whoever connects shows a certificate. So it is with a trusted CA, too.
    pub client_cert_auth: bool,
    pub allowed_cns: Vec<String>,
    pub allowed_hostnames: Vec<String>,
    pub crl_file: Option<PathBuf>,
    /// A certificate need not name the address that it comes from.
    pub skip_client_san_verification: bool,
    pub refuses_tls12: bool,
    pub refuses_tls13: bool,
    /// The certificate is self-signed, and the other side is not verified.
    pub is_self_signed: bool,
}

impl TlsFiles {
    /// Whether there is anything to serve with.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }
}

/// Why there is no secure stream.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0}: {1}")]
    File(PathBuf, String),
    #[error("cannot read certificates: {0}")]
    Io(#[from] io::Error),
    #[error("tls: {0}")]
    Session(String),
    #[error("{0}")]
    Handshake(io::Error),
    #[error("i/o timeout")]
    Late,
    #[error("tls: {0:?} is no name of a host")]
    Host(String),
    #[error("client certificate authentication failed")]
    NotAllowed,
    #[error("transport: certificate serial {0} revoked")]
    Revoked(String),
    #[error("tls: {0}")]
    Origin(String),
}

impl TlsError {
    /// The other side left before it was done.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Handshake(error) if error.kind() == io::ErrorKind::UnexpectedEof)
    }

    pub(super) fn session(error: impl std::fmt::Display) -> Self {
        Self::Session(error.to_string())
    }

    fn file(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::File(path.to_owned(), error.to_string())
    }
}

/// The files and the authorities, which are read once.
#[derive(Debug)]
pub struct Secrets {
    files: TlsFiles,
    authorities: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

/// What one handshake is made with.
pub(super) struct Material<C> {
    pub(super) config: Arc<C>,
    pub(super) revoked: BTreeSet<Vec<u8>>,
}

impl Secrets {
    /// Reads the authorities, and everything else once to see that it is there. Blocks; for use at start.
    ///
    /// # Errors
    /// A file is missing or not what it should be.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let mut authorities = RootCertStore::empty();
        match &files.trusted_ca_file {
            Some(path) => {
                for certificate in certificates(path)? {
                    authorities.add(certificate).map_err(|error| TlsError::file(path, error))?;
                }
            }
            None if files.is_self_signed => {}
            None => {
                authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(ring::default_provider());
        let secrets = Self { files, authorities: Arc::new(authorities), provider };
        if secrets.files.has_certificate() {
            secrets.server()?;
        }
        secrets.client()?;
        Ok(Arc::new(secrets))
    }

    pub(super) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Reads on a thread of its own.
    pub(super) async fn read<C: Send + Sync + 'static>(
        self: &Arc<Self>,
        read: fn(&Self) -> Result<Material<C>, TlsError>,
    ) -> Result<Material<C>, TlsError> {
        let secrets = Arc::clone(self);
        offload("certificates", move || read(&secrets)).await?
    }

    /// For the side that is connected to.
    pub(super) fn server(&self) -> Result<Material<ServerConfig>, TlsError> {
        let (chain, key) = pair(&self.files.cert_file, &self.files.key_file)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&self.versions()).map_err(TlsError::session)?;
        let builder = if self.files.client_cert_auth || self.files.trusted_ca_file.is_some() {
            let (authorities, provider) = (Arc::clone(&self.authorities), Arc::clone(&self.provider));
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(TlsError::session)?)
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(chain, key).map_err(TlsError::session)?;
        Ok(Material { config: Arc::new(config), revoked: self.revoked()? })
    }

    /// For the side that connects.
    pub(super) fn client(&self) -> Result<Material<ClientConfig>, TlsError> {
        let files = &self.files;
        let (cert, key) = match (&files.client_cert_file, &files.client_key_file) {
            (Some(cert), Some(key)) => (cert, key),
            _ => (&files.cert_file, &files.key_file),
        };
        let shown = match cert.as_os_str().is_empty() {
            true => None,
            false => Some(pair(cert, key)?),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&self.versions()).map_err(TlsError::session)?;
        let builder = if files.is_self_signed {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody))
        } else {
            builder.with_root_certificates(Arc::clone(&self.authorities))
        };
        let config = match shown {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(TlsError::session)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Material { config: Arc::new(config), revoked: self.revoked()? })
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let known = [(&TLS13, self.files.refuses_tls13), (&TLS12, self.files.refuses_tls12)];
        known.into_iter().filter(|(_, is_refused)| !is_refused).map(|(version, _)| version).collect()
    }

    fn revoked(&self) -> Result<BTreeSet<Vec<u8>>, TlsError> {
        let Some(path) = &self.files.crl_file else { return Ok(BTreeSet::new()) };
        let bytes = std::fs::read(path).map_err(|error| TlsError::file(path, error))?;
        let der = match parse_x509_pem(&bytes) {
            Ok((_, pem)) => pem.contents,
            Err(_) => bytes,
        };
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|error| TlsError::file(path, error))?;
        Ok(list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|error| TlsError::file(path, error))?;
    if certificates.is_empty() { Err(TlsError::file(path, "no certificate in it")) } else { Ok(certificates) }
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(cert: &Path, key: &Path) -> Result<Pair, TlsError> {
    let chain = certificates(cert)?;
    Ok((chain, PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file(key, error))?))
}

/// Takes any certificate: for members whose certificates are of their own making.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // A signature under a certificate that nobody vouches for proves nothing, and etcd's are of a curve that ring does not know.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme::{
            ECDSA_NISTP256_SHA256, ECDSA_NISTP384_SHA384, ECDSA_NISTP521_SHA512, ED25519, RSA_PKCS1_SHA256,
            RSA_PSS_SHA256,
        };
        vec![
            ECDSA_NISTP256_SHA256,
            ECDSA_NISTP384_SHA384,
            ECDSA_NISTP521_SHA512,
            ED25519,
            RSA_PSS_SHA256,
            RSA_PKCS1_SHA256,
        ]
    }
}
