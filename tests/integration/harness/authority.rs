//! An authority that signs certificates for a test, and a client that shows them, or none.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;

use super::server;

/// What the certificate of a member on this machine names.
pub const LOCAL: [&str; 2] = ["127.0.0.1", "localhost"];

pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let directory = server::directory();
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("written");
        Authority { directory, issuer: Issuer::new(params, key) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a certificate with this common name for these hosts and addresses.
    pub fn sign(&self, name: &str, hosts: &[&str], serial: u64) -> Pair {
        self.sign_until(name, hosts, serial, 4096)
    }

    /// [`Self::sign`], good until the first day of a year.
    pub fn sign_until(&self, name: &str, hosts: &[&str], serial: u64, year: i32) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let pair =
            Pair { cert: self.path(&format!("{name}-{serial}.pem")), key: self.path(&format!("{name}-{serial}.key")) };
        fs::write(&pair.cert, certificate.pem()).expect("written");
        fs::write(&pair.key, key.serialize_pem()).expect("written");
        pair
    }

    /// The flags of a server that shows clients this pair and asks them for certificates of this authority.
    pub fn client_flags(&self, pair: &Pair) -> Vec<String> {
        let files =
            [("--cert-file", &pair.cert), ("--key-file", &pair.key), ("--trusted-ca-file", &self.path("ca.pem"))];
        let flags = files.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]);
        flags.chain(["--client-cert-auth".to_owned()]).collect()
    }

    /// The flags of a command line client that trusts this authority and shows this pair, or none.
    pub fn etcdctl_flags(&self, pair: Option<&Pair>) -> Vec<String> {
        let mut flags = vec![format!("--cacert={}", self.path("ca.pem").display())];
        if let Some(pair) = pair {
            flags.extend([format!("--cert={}", pair.cert.display()), format!("--key={}", pair.key.display())]);
        }
        flags
    }

    /// The flags of a member that shows this pair and asks others for certificates of this authority.
    pub fn flags(&self, pair: &Pair) -> Vec<String> {
        let files = [
            ("--peer-cert-file", &pair.cert),
            ("--peer-key-file", &pair.key),
            ("--peer-trusted-ca-file", &self.path("ca.pem")),
        ];
        let flags = files.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]);
        flags.chain(["--peer-client-cert-auth".to_owned()]).collect()
    }

    /// Writes a revocation list with this serial number, in the only form that etcd reads.
    pub fn revoke(&self, serial: u64) -> PathBuf {
        let at = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: at,
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.path("revoked.crl");
        fs::write(&path, params.signed_by(&self.issuer).expect("signed").der()).expect("written");
        path
    }

    /// Asks a port for a page as the holder of this pair, and returns the certificate that the port shows.
    ///
    /// # Errors
    /// There is no page.
    pub fn ask(&self, port: u16, pair: Option<&Pair>) -> Result<CertificateDer<'static>, String> {
        self.ask_trusting(&self.path("ca.pem"), port, pair)
    }

    /// [`Self::ask`], if the port's certificate is of this authority.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_trusting(&self, ca: &Path, port: u16, pair: Option<&Pair>) -> Result<CertificateDer<'static>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder =
            builder.with_safe_default_protocol_versions().expect("known versions").with_root_certificates(roots);
        let config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_file(&pair.cert).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        let name = ServerName::try_from(LOCAL[0]).expect("an address");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let socket = TcpStream::connect((LOCAL[0], port)).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(session, socket);
        let request = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut answer = Vec::new();
        let asked = stream.write_all(request).and_then(|()| stream.read_to_end(&mut answer));
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(format!("{asked:?}, {}", String::from_utf8_lossy(&answer)));
        }
        let shown = stream.conn.peer_certificates().and_then(<[_]>::first).expect("a server shows a certificate");
        Ok(shown.clone().into_owned())
    }
}
