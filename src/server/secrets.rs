//! What `https` URLs are served and dialed with: read at start, or made then.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{Config, Listen, Tls, Traffic},
    os::{
        net::Address,
        tls::{self, Secrets, TlsError, TlsFiles},
    },
    peer,
};

/// Of the links to other members, which from now on reach `https`. Blocks; for use at start.
///
/// # Errors
/// A file is missing or not what it should be.
pub(super) fn of_peers(config: &Config) -> Result<Option<Arc<Secrets>>, TlsError> {
    let Some(files) = files(config, "peer", &config.listen_peers, config.peer_tls.as_ref())? else { return Ok(None) };
    if files.has_certificate() {
        tracing::info!(tls_info = tls_info(&files), "starting with peer TLS");
    }
    let secrets = Secrets::load(files)?;
    peer::client::secure(Arc::clone(&secrets));
    Ok(Some(secrets))
}

/// What the listeners for clients have.
#[derive(Clone, Default)]
pub(super) struct ClientSecrets {
    pub(super) clients: Option<Arc<Secrets>>,
    /// As in etcd, whoever reads metrics there comes from where its certificate says.
    pub(super) metrics: Option<Arc<Secrets>>,
}

/// Of the listeners for clients. Blocks; for use at start.
///
/// # Errors
/// A file is missing or not what it should be.
pub(super) fn of_clients(config: &Config) -> Result<ClientSecrets, TlsError> {
    let listen: Vec<Listen> =
        config.listen.iter().filter(|listen| listen.traffic != Traffic::Metrics).cloned().collect();
    let Some(files) = files(config, "client", &listen, config.client_tls.as_ref())? else {
        return Ok(ClientSecrets::default());
    };
    tracing::info!(tls_info = tls_info(&files), cipher_suites = ?config.cipher_suites, "starting with client TLS");
    let of_metrics = TlsFiles { skip_client_san_verification: false, ..files.clone() };
    Ok(ClientSecrets {
        clients: Some(Secrets::load_to_serve(files)?),
        metrics: Some(Secrets::load_to_serve(of_metrics)?),
    })
}

/// The files of one side; its own certificate is made if it is to be.
fn files(config: &Config, side: &str, listen: &[Listen], tls: Option<&Tls>) -> Result<Option<TlsFiles>, TlsError> {
    Ok(match tls {
        None => None,
        Some(Tls::Files(files)) => Some(files.clone()),
        Some(Tls::OwnMaking { years, files }) => {
            let directory = config.data_dir.join("fixtures").join(side);
            let hosts = listen.iter().filter_map(|listen| match &listen.address {
                Address::Tcp(address) => Some(address.ip().to_string()),
                Address::Unix(_) => None,
            });
            let (cert_file, key_file) = tls::self_signed(&directory, &hosts.collect::<Vec<_>>(), *years)?;
            Some(TlsFiles { cert_file, key_file, ..files.clone() })
        }
    })
}

/// As etcd writes it.
fn tls_info(files: &TlsFiles) -> String {
    format!(
        "cert = {}, key = {}, client-cert={}, client-key={}, trusted-ca = {}, client-cert-auth = {}, crl-file = {}",
        files.cert_file.display(),
        files.key_file.display(),
        shown(&files.client_cert_file),
        shown(&files.client_key_file),
        shown(&files.trusted_ca_file),
        files.client_cert_auth,
        shown(&files.crl_file),
    )
}

fn shown(path: &Option<PathBuf>) -> impl Display {
    path.as_deref().unwrap_or(Path::new("")).display()
}
