//! TLS between members: `--peer-cert-file` and its kin.

use super::{
    listening::Listen,
    notice::Notice,
    refused::{Refused, refuse},
    values::Values,
};
use crate::os::tls::TlsFiles;

/// What `https` peer URLs are served and dialed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTls {
    Files(TlsFiles),
    /// Certificate and key are made at the first start, good for so many years; the files are still to be named. As in etcd, all
    /// other settings of TLS but its versions are without effect then.
    OwnMaking {
        years: u32,
        files: TlsFiles,
    },
}

impl Values {
    /// `None` if there is neither a certificate nor the wish to make one, nor an authority to verify others by.
    pub(super) fn peer_tls(&self) -> Result<Option<PeerTls>, Refused> {
        let path = |name: &str| Some(self.text(name)).filter(|text| !text.is_empty()).map(Into::into);
        let list = |name: &str| {
            let names = self.text(name).split(',').filter(|text| !text.is_empty());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let (cert, key) = (self.text("peer-cert-file"), self.text("peer-key-file"));
        let (client_cert, client_key) = (self.text("peer-client-cert-file"), self.text("peer-client-key-file"));
        let files = TlsFiles {
            cert_file: cert.into(),
            key_file: key.into(),
            client_cert_file: path("peer-client-cert-file"),
            client_key_file: path("peer-client-key-file"),
            trusted_ca_file: path("peer-trusted-ca-file"),
            client_cert_auth: self.boolean("peer-client-cert-auth")?,
            allowed_cns: list("peer-cert-allowed-cn"),
            allowed_hostnames: list("peer-cert-allowed-hostname"),
            crl_file: path("peer-crl-file"),
            skip_client_san_verification: self.boolean("peer-skip-client-san-verification")?,
            refuses_tls12: self.text("tls-min-version") == "TLS1.3",
            refuses_tls13: self.text("tls-max-version") == "TLS1.2",
            is_self_signed: false,
        };
        let (cns, hosts) = (&files.allowed_cns, &files.allowed_hostnames);
        if !cns.is_empty() && !hosts.is_empty() {
            let text =
                format!("AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns:?}, hostnames={hosts:?})");
            return Err(refuse(1, text));
        }
        if client_cert.is_empty() != client_key.is_empty() {
            let text = "ClientKeyFile and ClientCertFile must both be present or both absent";
            return Err(refuse(1, format!("{text}: key: {client_key}, cert: {client_cert}]")));
        }
        match (cert.is_empty(), key.is_empty()) {
            (false, false) => Ok(Some(PeerTls::Files(files))),
            (true, true) if self.boolean("peer-auto-tls")? => self.own_making(&files).map(Some),
            (true, true) => Ok(files.trusted_ca_file.is_some().then_some(PeerTls::Files(files))),
            _ => Err(refuse(1, format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"))),
        }
    }

    fn own_making(&self, files: &TlsFiles) -> Result<PeerTls, Refused> {
        let years = self.number("self-signed-cert-validity")?;
        if years == 0 {
            let text =
                "failed to get peer self-signed certs: selfSignedCertValidity is invalid,it should be greater than 0";
            return Err(refuse(1, text));
        }
        let TlsFiles { refuses_tls12, refuses_tls13, .. } = *files;
        let files = TlsFiles { refuses_tls12, refuses_tls13, is_self_signed: true, ..TlsFiles::default() };
        Ok(PeerTls::OwnMaking { years, files })
    }

    /// Refuses to listen encrypted without a certificate, and notes which settings of TLS are without effect.
    pub(super) fn check_peer_tls(&mut self, listen: &[Listen], tls: Option<&PeerTls>) -> Result<(), Refused> {
        let (is_served, asks_for_certificates) = match tls {
            Some(PeerTls::Files(files)) => (files.has_certificate(), files.client_cert_auth),
            Some(PeerTls::OwnMaking { .. }) => (true, false),
            None => (false, self.boolean("peer-client-cert-auth")?),
        };
        if self.boolean("peer-auto-tls")? && is_served && matches!(tls, Some(PeerTls::Files(_))) {
            self.notices.push(Notice::PeerAutoTlsIgnored);
        }
        for listen in listen {
            if listen.is_secure() && !is_served {
                let text = "KeyFile and CertFile are not presented";
                return Err(refuse(1, format!("cannot listen on TLS for {}: {text}", listen.address)));
            }
            let url = || listen.url.clone();
            if listen.url.starts_with("http:") && is_served {
                self.notices.push(Notice::PeerCertificateIgnored { url: url() });
            }
            if listen.url.starts_with("http:") && asks_for_certificates {
                self.notices.push(Notice::PeerCertAuthIgnored { url: url() });
            }
        }
        Ok(())
    }
}
