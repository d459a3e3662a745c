//! TLS: `--cert-file` and its kin for clients, `--peer-cert-file` and its kin between members.

use super::{
    listening::{Listen, Security, Traffic},
    notice::Notice,
    refused::{Refused, refuse},
    values::Values,
};
use crate::os::tls::{self, CipherSuite, TlsFiles};

/// What `https` URLs are served and dialed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    Files(TlsFiles),
    /// Certificate and key are made at the first start, good for so many years; the files are still to be named. As in etcd, all
    /// other settings of TLS but its versions and cipher suites are without effect then.
    OwnMaking {
        years: u32,
        files: TlsFiles,
    },
}

/// Whom a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Clients,
    Peers,
}

impl Side {
    /// In etcd's logs and errors.
    fn name(self) -> &'static str {
        if self == Side::Peers { "peer" } else { "client" }
    }

    /// The flag of this side for a setting that both have.
    fn flag(self, clients: &'static str, peers: &'static str) -> &'static str {
        if self == Side::Peers { peers } else { clients }
    }
}

impl Values {
    /// `None` if there is neither a certificate nor the wish to make one, nor an authority to verify others by.
    pub(super) fn peer_tls(&self) -> Result<Option<Tls>, Refused> {
        let files = TlsFiles {
            cert_file: self.text("peer-cert-file").into(),
            key_file: self.text("peer-key-file").into(),
            client_cert_file: self.path("peer-client-cert-file"),
            client_key_file: self.path("peer-client-key-file"),
            trusted_ca_file: self.path("peer-trusted-ca-file"),
            client_cert_auth: self.boolean("peer-client-cert-auth")?,
            allowed_cns: self.names("peer-cert-allowed-cn"),
            allowed_hostnames: self.names("peer-cert-allowed-hostname"),
            crl_file: self.path("peer-crl-file"),
            skip_client_san_verification: self.boolean("peer-skip-client-san-verification")?,
            ..self.common_tls()?
        };
        let (cns, hosts) = (&files.allowed_cns, &files.allowed_hostnames);
        if !cns.is_empty() && !hosts.is_empty() {
            let text =
                format!("AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns:?}, hostnames={hosts:?})");
            return Err(refuse(1, text));
        }
        let has_authority = files.trusted_ca_file.is_some();
        let dials = has_authority.then(|| Tls::Files(files.clone()));
        Ok(self.tls(Side::Peers, files)?.or(dials))
    }

    /// `None` if there is neither a certificate nor the wish to make one.
    pub(super) fn client_tls(&self) -> Result<Option<Tls>, Refused> {
        let files = TlsFiles {
            cert_file: self.text("cert-file").into(),
            key_file: self.text("key-file").into(),
            client_cert_file: self.path("client-cert-file"),
            client_key_file: self.path("client-key-file"),
            trusted_ca_file: self.path("trusted-ca-file"),
            client_cert_auth: self.boolean("client-cert-auth")?,
            allowed_hostnames: self.names("client-cert-allowed-hostname"),
            crl_file: self.path("client-crl-file"),
            skip_client_san_verification: true,
            ..self.common_tls()?
        };
        self.tls(Side::Clients, files)
    }

    fn tls(&self, side: Side, files: TlsFiles) -> Result<Option<Tls>, Refused> {
        let text = |clients, peers| self.text(side.flag(clients, peers));
        let (cert, key) = (text("cert-file", "peer-cert-file"), text("key-file", "peer-key-file"));
        let client_cert = text("client-cert-file", "peer-client-cert-file");
        let client_key = text("client-key-file", "peer-client-key-file");
        if client_cert.is_empty() != client_key.is_empty() {
            let text = "ClientKeyFile and ClientCertFile must both be present or both absent";
            return Err(refuse(1, format!("{text}: key: {client_key}, cert: {client_cert}]")));
        }
        match (cert.is_empty(), key.is_empty()) {
            (false, false) => Ok(Some(Tls::Files(files))),
            (true, true) if self.boolean(side.flag("auto-tls", "peer-auto-tls"))? => {
                self.own_making(side, files).map(Some)
            }
            (true, true) => Ok(None),
            _ => Err(refuse(1, format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"))),
        }
    }

    /// What is set for both sides at once.
    fn common_tls(&self) -> Result<TlsFiles, Refused> {
        let suites = self.names("cipher-suites");
        let suites: Result<Vec<CipherSuite>, _> = suites.iter().map(|name| tls::suite(name)).collect();
        Ok(TlsFiles {
            cipher_suites: suites.map_err(|error| refuse(1, error.to_string()))?,
            refuses_tls12: self.text("tls-min-version") == "TLS1.3",
            refuses_tls13: self.text("tls-max-version") == "TLS1.2",
            ..TlsFiles::default()
        })
    }

    fn path<T: for<'a> From<&'a str>>(&self, name: &str) -> Option<T> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(Into::into)
    }

    pub(super) fn names(&self, name: &str) -> Vec<String> {
        self.text(name).split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    fn own_making(&self, side: Side, files: TlsFiles) -> Result<Tls, Refused> {
        let years = self.number("self-signed-cert-validity")?;
        if years == 0 {
            let why = "selfSignedCertValidity is invalid,it should be greater than 0";
            return Err(refuse(1, format!("failed to get {} self-signed certs: {why}", side.name())));
        }
        let TlsFiles { refuses_tls12, refuses_tls13, cipher_suites, skip_client_san_verification, .. } = files;
        let files = TlsFiles {
            refuses_tls12,
            refuses_tls13,
            cipher_suites,
            skip_client_san_verification: side == Side::Clients && skip_client_san_verification,
            is_self_signed: true,
            ..TlsFiles::default()
        };
        Ok(Tls::OwnMaking { years, files })
    }

    /// Refuses to listen encrypted without a certificate, and notes which settings of TLS are without effect.
    pub(super) fn check_tls(&mut self, listen: &[Listen], tls: Option<&Tls>) -> Result<(), Refused> {
        let is_for_peers = listen.iter().any(|listen| listen.traffic == Traffic::Peers);
        let side = if is_for_peers { Side::Peers } else { Side::Clients };
        let (is_served, asks_for_certificates) = match tls {
            Some(Tls::Files(files)) => (files.has_certificate(), files.client_cert_auth),
            Some(Tls::OwnMaking { .. }) => (true, false),
            None => (false, self.boolean(side.flag("client-cert-auth", "peer-client-cert-auth"))?),
        };
        let makes_its_own = self.boolean(side.flag("auto-tls", "peer-auto-tls"))?;
        if makes_its_own && is_served && matches!(tls, Some(Tls::Files(_))) {
            self.notices.push(Notice::AutoTlsIgnored { side: side.name() });
        }
        for listen in listen {
            let Listen { url, security, traffic, .. } = listen;
            if *security != Security::Plain && !is_served {
                return Err(refuse(1, no_certificate(listen)));
            }
            let can_be_plain = match traffic {
                Traffic::Metrics => false,
                Traffic::Peers => url.starts_with("http:"),
                _ => *security != Security::Tls,
            };
            if can_be_plain && is_served {
                self.notices.push(Notice::CertificateIgnored { side: side.name(), url: url.clone() });
            }
            if can_be_plain && asks_for_certificates {
                self.notices.push(Notice::CertAuthIgnored { side: side.name(), url: url.clone() });
            }
        }
        Ok(())
    }
}

/// In the words that etcd has for each kind of listener.
fn no_certificate(listen: &Listen) -> String {
    match listen.traffic {
        Traffic::Peers => {
            format!("cannot listen on TLS for {}: KeyFile and CertFile are not presented", listen.address)
        }
        Traffic::Metrics => {
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".to_owned()
        }
        _ => format!(
            "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
            listen.url
        ),
    }
}
