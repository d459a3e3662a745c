//! TLS between members: `--peer-cert-file` and its kin.

use super::{
    refused::{Refused, refuse},
    values::Values,
};
use crate::os::tls::TlsFiles;

/// What `https` peer URLs are served and dialed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTls {
    Files(TlsFiles),
    /// Certificate and key are made at the first start, good for so many years; the files are still to be named.
    OwnMaking {
        years: u32,
        files: TlsFiles,
    },
}

impl Values {
    /// `None` if there is neither a certificate nor the wish to make one.
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
            (true, true) if self.boolean("peer-auto-tls")? => Ok(Some(PeerTls::OwnMaking {
                years: self.number("self-signed-cert-validity")?,
                files: TlsFiles { is_self_signed: true, ..files },
            })),
            (true, true) => Ok(None),
            _ => Err(refuse(1, format!("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]"))),
        }
    }
}
