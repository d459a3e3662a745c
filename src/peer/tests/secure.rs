//! Links over TLS: certificates of an authority made for the test.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};

use super::*;
use crate::{
    os::tls::{Secrets, TlsFiles},
    peer::client,
};

/// An authority, and what it has signed in a directory.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a certificate for `hosts`, and says which files a member needs for it.
    fn files(&self, name: &str, hosts: &[&str], serial: u64) -> TlsFiles {
        let mut params =
            CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_file, key_file) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        std::fs::write(&cert_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        TlsFiles { cert_file, key_file, trusted_ca_file: Some(self.path("ca.pem")), ..TlsFiles::default() }
    }

    fn revoke(&self, serial: u64) -> PathBuf {
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
        let path = self.path("revoked.pem");
        std::fs::write(&path, params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }
}

/// Asks a member for a page and returns it, or says that there was none.
async fn page(member: &Member, files: &TlsFiles) -> Option<Bytes> {
    let url = format!("{}/version", member.url);
    let secrets = Some(Secrets::load(files.clone()).unwrap());
    let fields = http::HeaderMap::new();
    let patience = Duration::from_secs(60);
    let asked = client::request_with(secrets, http::Method::GET, &url, fields, Bytes::new(), patience).await;
    asked.ok().map(|response| response.body)
}

#[test]
fn messages_go_both_ways_encrypted() {
    on_executor(async {
        let authority = Authority::new();
        let one = Member::start_secure(1, authority.files("one", &["127.0.0.1"], 1));
        let two = Member::start_secure(2, authority.files("two", &["127.0.0.1"], 2));
        one.knows(&[&two]);
        two.knows(&[&one]);
        for number in 0..50 {
            one.send(append(1, 2, number, Bytes::from(vec![number as u8; 100_000])));
            assert_eq!(two.message().await.index(), number);
            two.send(heartbeat(2, 1, number));
            assert_eq!(one.message().await.commit(), number);
        }
        one.peers.stop().await;
        two.peers.stop().await;
    });
}

#[test]
fn only_certificates_that_fit_are_let_in() {
    on_executor(async {
        let (authority, other) = (Authority::new(), Authority::new());
        let mut files = authority.files("server", &["127.0.0.1"], 1);
        files.allowed_cns = vec!["server".into(), "friend".into(), "moved".into(), "revoked".into()];
        files.crl_file = Some(authority.revoke(99));
        let one = Member::start_secure(1, files);
        let friend = authority.files("friend", &["127.0.0.1"], 2);
        assert_eq!(page(&one, &friend).await.unwrap(), "GET /version");
        for (why, files) in [
            ("an unknown name", authority.files("stranger", &["127.0.0.1"], 3)),
            ("another address", authority.files("moved", &["192.0.2.1"], 4)),
            ("a revoked serial", authority.files("revoked", &["127.0.0.1"], 99)),
            (
                "another authority",
                TlsFiles {
                    trusted_ca_file: Some(authority.path("ca.pem")),
                    ..other.files("friend", &["127.0.0.1"], 5)
                },
            ),
        ] {
            assert!(page(&one, &files).await.is_none(), "{why}");
        }
        assert!(page(&one, &other.files("friend", &["127.0.0.1"], 6)).await.is_none(), "the server is not trusted");
        // A certificate that was replaced is shown at the next handshake.
        replace(&authority, &friend.cert_file, &friend.key_file);
        assert!(page(&one, &friend).await.is_none());
        one.peers.stop().await;
    });
}

/// Puts a certificate of an unknown name where another one was.
fn replace(authority: &Authority, cert: &Path, key: &Path) {
    let files = authority.files("replaced", &["127.0.0.1"], 7);
    std::fs::rename(files.cert_file, cert).unwrap();
    std::fs::rename(files.key_file, key).unwrap();
}

#[test]
fn certificates_of_ones_own_making_are_made_once() {
    on_executor(async {
        let directory = tempfile::tempdir().unwrap();
        let hosts = vec!["127.0.0.1".to_owned()];
        let fixtures = directory.path().join("data/fixtures/peer");
        let made = crate::os::tls::self_signed(&fixtures, &hosts, 1).unwrap();
        for own in ["data", "data/fixtures", "data/fixtures/peer", "data/fixtures/peer/key.pem"] {
            let mode = std::fs::metadata(directory.path().join(own)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{own} is for its owner only");
        }
        let before = std::fs::read(&made.0).unwrap();
        assert_eq!(crate::os::tls::self_signed(&fixtures, &hosts, 1).unwrap(), made);
        assert_eq!(std::fs::read(&made.0).unwrap(), before);
        let files = TlsFiles { cert_file: made.0, key_file: made.1, is_self_signed: true, ..TlsFiles::default() };
        let one = Member::start_secure(1, files.clone());
        assert_eq!(page(&one, &files).await.unwrap(), "GET /version");
        one.peers.stop().await;
    });
}

#[test]
fn an_authority_is_enough_to_connect() {
    on_executor(async {
        let authority = Authority::new();
        let asks_nobody = TlsFiles { trusted_ca_file: None, ..authority.files("open", &["127.0.0.1"], 1) };
        let (open, strict) = (
            Member::start_secure(1, asks_nobody),
            Member::start_secure(2, authority.files("strict", &["127.0.0.1"], 2)),
        );
        let bare = TlsFiles { trusted_ca_file: Some(authority.path("ca.pem")), ..TlsFiles::default() };
        assert_eq!(page(&open, &bare).await.unwrap(), "GET /version");
        assert!(page(&strict, &bare).await.is_none(), "it asks for a certificate");
        open.peers.stop().await;
        strict.peers.stop().await;
    });
}
