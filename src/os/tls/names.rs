//! What a certificate says of its holder.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, error::X509Error, extensions::GeneralName, nom::Err, prelude::FromDer,
};

/// What a certificate says of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub common: Option<String>,
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

impl Names {
    /// `None` if this is no certificate.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        parse(der).ok().map(|certificate| Self::in_certificate(&certificate))
    }

    pub(super) fn in_certificate(certificate: &X509Certificate<'_>) -> Self {
        let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let mut names = Self { common: common.map(str::to_owned), ..Self::default() };
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else { return names };
        for name in &alternatives.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        names
    }

    /// Whether the certificate is good for this host or address.
    pub(super) fn covers(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        self.dns.iter().any(|pattern| matches(pattern, host))
    }
}

/// A name, or `*.` for one label in front of a name.
fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(host),
        Some(rest) => {
            host.split_once('.').is_some_and(|(first, tail)| !first.is_empty() && tail.eq_ignore_ascii_case(rest))
        }
    }
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, X509Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| match error {
        Err::Incomplete(_) => X509Error::InvalidCertificate,
        Err::Error(error) | Err::Failure(error) => error,
    })?;
    Ok(certificate)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(matches("*.example.org", "a.example.org") && matches("A.example.org", "a.example.ORG"));
        for host in ["example.org", "a.b.example.org", ".example.org", "a.example.com"] {
            assert!(!matches("*.example.org", host), "{host}");
        }
    }
}
