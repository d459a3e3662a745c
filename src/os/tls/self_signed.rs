//! Certificates of one's own making (`--auto-tls`, `--peer-auto-tls`).

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::files::TlsError;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Certificate and key in `directory` for `hosts`, good for `years`; made if they are not there. Blocks; for use at start.
///
/// # Errors
/// The directory cannot be written, or a host is no name.
pub fn self_signed(directory: &Path, hosts: &[String], years: u32) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert_path, key_path) = (directory.join("cert.pem"), directory.join("key.pem"));
    if cert_path.exists() && key_path.exists() {
        return Ok((cert_path, key_path));
    }
    let failed = |error: &dyn std::fmt::Display| TlsError::File(directory.to_owned(), error.to_string());
    fs::create_dir_all(directory)?;
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(|error| failed(&error))?;
    let now = SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + YEAR * years).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let certificate = params.self_signed(&key).map_err(|error| failed(&error))?;
    fs::write(&cert_path, certificate.pem())?;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&key_path)?;
    file.write_all(key.serialize_pem().as_bytes())?;
    Ok((cert_path, key_path))
}
