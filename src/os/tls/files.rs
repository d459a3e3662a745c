//! Where certificates come from, and what rustls is made with.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    CipherSuite, ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use x509_parser::{pem::parse_x509_pem, prelude::FromDer, revocation_list::CertificateRevocationList};

use super::{
    names::Names,
    suites,
    verifiers::{Allowed, AllowedClient, AllowedServer},
};
use crate::{
    base::certificates::{AnyServer, certificates_of},
    os::offload::offload,
};

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
    /// Of TLS 1.2; empty for all that there are.
    pub cipher_suites: Vec<CipherSuite>,
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

    fn allowed(&self) -> Allowed {
        Allowed { cns: self.allowed_cns.clone(), hostnames: self.allowed_hostnames.clone() }
    }

    /// Certificate and key that this side shows when it connects.
    fn shown_as_client(&self) -> (&Path, &Path) {
        match (&self.client_cert_file, &self.client_key_file) {
            (Some(cert), Some(key)) => (cert, key),
            _ => (&self.cert_file, &self.key_file),
        }
    }

    /// Every file that is named.
    fn all(&self) -> impl Iterator<Item = &Path> {
        let (cert, key) = self.shown_as_client();
        let named = [self.cert_file.as_path(), &self.key_file, cert, key];
        let others = [&self.trusted_ca_file, &self.crl_file].into_iter().flatten().map(PathBuf::as_path);
        named.into_iter().filter(|path| !path.as_os_str().is_empty()).chain(others)
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

/// The files, and what was made of them last.
#[derive(Debug)]
pub struct Secrets {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    of_machine: OnceLock<Arc<RootCertStore>>,
    server: Kept<ServerMaterial>,
    client: Kept<ClientMaterial>,
    /// The last certificates of this side that were whole, as it serves and as it connects.
    whole: [Mutex<Option<Arc<CertifiedKey>>>; 2],
}

/// What one handshake of the side that is connected to is made with.
#[derive(Debug)]
pub(super) struct ServerMaterial {
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    /// `None` if clients are not asked for certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    allowed: Allowed,
    key: Arc<CertifiedKey>,
    pub(super) revoked: BTreeSet<Vec<u8>>,
}

/// What one handshake of the side that connects is made with.
#[derive(Debug)]
pub(super) struct ClientMaterial {
    pub(super) config: Arc<ClientConfig>,
    pub(super) revoked: BTreeSet<Vec<u8>>,
}

/// What was made of files that looked like this.
type Kept<M> = Mutex<Option<(Vec<Option<Look>>, Arc<M>)>>;

/// What a file system says of a file: another content has another look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: (u64, u64),
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is noted of the other side during its handshake.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// The name by which it has asked; empty if by none.
    pub(super) server_name: Arc<OnceLock<String>>,
    /// Of its certificate, if a known authority has signed it.
    pub(super) names: Arc<OnceLock<Names>>,
}

/// Shows one certificate, and notes the name by which it was asked for.
#[derive(Debug)]
struct NotingResolver {
    key: Arc<CertifiedKey>,
    server_name: Arc<OnceLock<String>>,
}

impl ResolvesServerCert for NotingResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            let _first = self.server_name.set(name.to_owned());
        }
        Some(Arc::clone(&self.key))
    }
}

impl ServerMaterial {
    /// The configuration of one handshake.
    pub(super) fn config(&self, protocols: &[&[u8]]) -> (Arc<ServerConfig>, Noted) {
        let noted = Noted::default();
        let builder = match &self.verifier {
            Some(verifier) => self.builder.clone().with_client_cert_verifier(Arc::new(AllowedClient {
                inner: Arc::clone(verifier),
                allowed: self.allowed.clone(),
                shown: Arc::clone(&noted.names),
            })),
            None => self.builder.clone().with_no_client_auth(),
        };
        let (key, server_name) = (Arc::clone(&self.key), Arc::clone(&noted.server_name));
        let mut config = builder.with_cert_resolver(Arc::new(NotingResolver { key, server_name }));
        // A session that is taken up again would not be verified again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        (Arc::new(config), noted)
    }
}

impl Secrets {
    /// Reads everything once to see that it is there. Blocks; for use at start.
    ///
    /// # Errors
    /// A file is missing or not what it should be.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let secrets = Self::load_to_serve(files)?;
        secrets.make_client()?;
        Ok(secrets)
    }

    /// [`Self::load`] for a side that never connects.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_to_serve(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(suites::limit(ring::default_provider(), &files.cipher_suites));
        let secrets = Self {
            files,
            provider,
            of_machine: OnceLock::new(),
            server: Mutex::default(),
            client: Mutex::default(),
            whole: Default::default(),
        };
        if secrets.files.has_certificate() {
            secrets.make_server()?;
        }
        let (cert, key) = secrets.files.shown_as_client();
        if !cert.as_os_str().is_empty() {
            secrets.pair(cert, key)?;
        }
        Ok(Arc::new(secrets))
    }

    pub(super) fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// For the side that is connected to. Reads on a thread of its own.
    pub(super) async fn server(self: &Arc<Self>) -> Result<Arc<ServerMaterial>, TlsError> {
        let secrets = Arc::clone(self);
        offload("certificates", move || secrets.current(&secrets.server, Self::make_server)).await?
    }

    /// For the side that connects. Reads on a thread of its own.
    pub(super) async fn client(self: &Arc<Self>) -> Result<Arc<ClientMaterial>, TlsError> {
        let secrets = Arc::clone(self);
        offload("certificates", move || secrets.current(&secrets.client, Self::make_client)).await?
    }

    /// What the files hold now: what was made of them last, if none has changed since.
    fn current<M>(&self, kept: &Kept<M>, make: fn(&Self) -> Result<M, TlsError>) -> Result<Arc<M>, TlsError> {
        let (now, looks) = (SystemTime::now(), self.files.all().map(Look::of).collect::<Vec<_>>());
        if let Some((known, material)) = &*lock(kept)
            && *known == looks
        {
            return Ok(Arc::clone(material));
        }
        let material = Arc::new(make(self)?);
        // A file that has just changed may change again and look the same.
        if looks.iter().flatten().all(|look| look.is_settled(now)) {
            *lock(kept) = Some((looks, Arc::clone(&material)));
        }
        Ok(material)
    }

    fn make_server(&self) -> Result<ServerMaterial, TlsError> {
        let key = self.last_whole(0, &self.files.cert_file, &self.files.key_file)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&self.versions()).map_err(TlsError::session)?;
        let verifier = if self.files.client_cert_auth || self.files.trusted_ca_file.is_some() {
            let (authorities, provider) = (self.authorities()?, Arc::clone(&self.provider));
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
            let verifier = match self.files.trusted_ca_file {
                Some(_) => verifier,
                // All of a machine's are too many to be named to the other side.
                None => verifier.clear_root_hint_subjects(),
            };
            Some(verifier.build().map_err(TlsError::session)?)
        } else {
            None
        };
        Ok(ServerMaterial { builder, verifier, allowed: self.files.allowed(), key, revoked: self.revoked()? })
    }

    fn make_client(&self) -> Result<ClientMaterial, TlsError> {
        let (cert, key) = self.files.shown_as_client();
        let shown = match cert.as_os_str().is_empty() {
            true => None,
            false => Some(self.last_whole(1, cert, key)?),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(&self.versions()).map_err(TlsError::session)?;
        let inner: Arc<dyn ServerCertVerifier> = if self.files.is_self_signed {
            Arc::new(AnyServer)
        } else {
            let (authorities, provider) = (self.authorities()?, Arc::clone(&self.provider));
            let verifier = WebPkiServerVerifier::builder_with_provider(authorities, provider);
            verifier.build().map_err(TlsError::session)?
        };
        let verifier = AllowedServer { inner, allowed: self.files.allowed() };
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match shown {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = rustls::client::Resumption::disabled();
        Ok(ClientMaterial { config: Arc::new(config), revoked: self.revoked()? })
    }

    /// This side's certificate. While its files do not make one, because only one of them was replaced yet, it is the last one.
    fn last_whole(&self, at: usize, cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
        let mut last = lock(&self.whole[at]);
        match (self.pair(cert, key), &*last) {
            (Ok(pair), _) => {
                let pair = Arc::new(pair);
                *last = Some(Arc::clone(&pair));
                Ok(pair)
            }
            (Err(error), None) => Err(error),
            (Err(error), Some(pair)) => {
                tracing::warn!(
                    cert_file = %cert.display(),
                    key_file = %key.display(),
                    %error,
                    "cannot read the certificate anew; showing the one that was read before"
                );
                Ok(Arc::clone(pair))
            }
        }
    }

    fn pair(&self, cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(cert)?;
        let der = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file(key, error))?;
        CertifiedKey::from_der(chain, der, &self.provider).map_err(|error| TlsError::file(key, error))
    }

    /// Who may sign the other side's certificate.
    fn authorities(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let Some(path) = &self.files.trusted_ca_file else {
            let of_machine = self.of_machine.get_or_init(|| {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Arc::new(store)
            });
            return Ok(Arc::clone(of_machine));
        };
        let mut store = RootCertStore::empty();
        for certificate in certificates(path)? {
            store.add(certificate).map_err(|error| TlsError::file(path, error))?;
        }
        Ok(Arc::new(store))
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let known = [(&TLS13, self.files.refuses_tls13), (&TLS12, self.files.refuses_tls12)];
        known.into_iter().filter(|(_, is_refused)| !is_refused).map(|(version, _)| version).collect()
    }

    fn revoked(&self) -> Result<BTreeSet<Vec<u8>>, TlsError> {
        let Some(path) = &self.files.crl_file else { return Ok(BTreeSet::new()) };
        let bytes = fs::read(path).map_err(|error| TlsError::file(path, error))?;
        let der = match parse_x509_pem(&bytes) {
            Ok((_, pem)) => pem.contents,
            Err(_) => bytes,
        };
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|error| TlsError::file(path, error))?;
        Ok(list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect())
    }
}

impl Look {
    /// `None` if there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            inode: (data.dev(), data.ino()),
            size_bytes: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }

    /// Whether the file has been as it is for longer than a file system's clock is coarse.
    fn is_settled(self, now: SystemTime) -> bool {
        const COARSE: Duration = Duration::from_secs(2);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let last = self.modified.max(self.changed).0;
        u64::try_from(last).is_ok_and(|seconds| Duration::from_secs(seconds) + COARSE < now)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|error| TlsError::file(path, error))?;
    certificates_of(&text).map_err(|error| TlsError::file(path, error))
}
