//! What a certificate must be beyond signed: not revoked, and used from where it says. And what it says of its holder.

use std::{collections::BTreeSet, net::IpAddr};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::files::TlsError;
use crate::os::offload;

/// What a certificate says of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub common: Option<String>,
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// None of the certificates is revoked.
pub(super) fn check_revoked(certificates: &[CertificateDer<'_>], revoked: &BTreeSet<Vec<u8>>) -> Result<(), TlsError> {
    for der in certificates {
        let certificate = parse(der)?;
        let serial = certificate.raw_serial();
        if revoked.contains(serial) {
            // A number with its highest bit set has a zero in front of it.
            let digits = serial.iter().skip_while(|byte| **byte == 0).map(|byte| format!("{byte:02x}"));
            return Err(TlsError::Revoked(digits.collect()));
        }
    }
    Ok(())
}

/// A certificate that names hosts or addresses comes from one of them.
pub(super) async fn check_origin(certificates: &[CertificateDer<'_>], from: IpAddr) -> Result<(), TlsError> {
    let Some(first) = certificates.first() else { return Ok(()) };
    let names = names(&parse(first)?);
    if (names.dns.is_empty() && names.addresses.is_empty()) || names.addresses.contains(&from) {
        return Ok(());
    }
    if names.dns.is_empty() {
        let listed: Vec<_> = names.addresses.iter().map(IpAddr::to_string).collect();
        let text = format!("x509: certificate is valid for {}, not {from}", listed.join(", "));
        return Err(TlsError::Origin(text));
    }
    if let Ok(found) = offload::names(from).await
        && found.iter().any(|host| is_named(host.trim_end_matches('.'), &names.dns))
    {
        return Ok(());
    }
    for name in names.dns.iter().filter(|name| !name.starts_with('*')) {
        // The port does not matter to a lookup.
        let found = offload::addresses(&format!("{name}:0")).await.unwrap_or_default();
        if found.iter().any(|address| address.ip() == from) {
            return Ok(());
        }
    }
    Err(TlsError::Origin(format!("{:?} does not match any of DNSNames {:?}", from.to_string(), names.dns)))
}

/// Whether `host`, which the resolver has for an address, is one of these. As in etcd, a `*` stands for any number of labels here.
fn is_named(host: &str, dns: &[String]) -> bool {
    dns.iter().any(|pattern| match pattern.strip_prefix("*.") {
        Some(_) => host.ends_with(&pattern[1..]),
        None => host == pattern,
    })
}

impl Names {
    /// `None` if this is no certificate.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        parse(der).ok().map(|certificate| names(&certificate))
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

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(TlsError::session)
}

fn names(certificate: &X509Certificate<'_>) -> Names {
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let mut names = Names { common: common.map(str::to_owned), ..Names::default() };
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

    #[test]
    fn a_name_of_the_resolver_may_have_more_labels() {
        let dns = ["*.example.org".to_owned(), "one.example.com".to_owned()];
        for (host, expected) in
            [("a.b.example.org", true), ("one.example.com", true), ("example.org", false), ("a.one.example.com", false)]
        {
            assert_eq!(is_named(host, &dns), expected, "{host}");
        }
    }
}
