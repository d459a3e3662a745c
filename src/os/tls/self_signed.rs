//! Certificates of one's own making (`--auto-tls`, `--peer-auto-tls`).

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::{
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
};

use super::files::TlsError;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Certificate and key in `directory` for `hosts`, good for `years`; made if they are not there. Nobody verifies them, so that a pair
/// of a kind that cannot be served with, such as etcd's own, is replaced. Blocks; for use at start.
///
/// # Errors
/// The directory cannot be written, or a host is no name.
pub fn self_signed(directory: &Path, hosts: &[String], years: u32) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert_path, key_path) = (directory.join("cert.pem"), directory.join("key.pem"));
    if cert_path.exists() && key_path.exists() {
        if is_usable(&key_path) {
            return Ok((cert_path, key_path));
        }
        tracing::warn!(path = %key_path.display(), "the key is of a kind that is not known here; making another one");
    }
    let failed = |error: &dyn std::fmt::Display| TlsError::File(directory.to_owned(), error.to_string());
    // The data directory is one of those that are made here.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(|error| failed(&error))?;
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + YEAR * years).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    fs::write(&cert_path, certificate.pem())?;
    tracing::info!(path = %cert_path.display(), "created cert file");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&key_path)?;
    file.write_all(key.serialize_pem().as_bytes())?;
    tracing::info!(path = %key_path.display(), "created key file");
    Ok((cert_path, key_path))
}

fn is_usable(key: &Path) -> bool {
    let key = PrivateKeyDer::from_pem_file(key);
    key.is_ok_and(|key| ring::default_provider().key_provider.load_private_key(key).is_ok())
}
