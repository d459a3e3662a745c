//! What a certificate must be beyond signed and of an allowed name: not revoked, and used from where it says.

use std::{collections::BTreeSet, net::IpAddr};

use rustls::pki_types::CertificateDer;

use super::{
    files::TlsError,
    names::{Names, parse},
};
use crate::os::offload;

/// None of the certificates is revoked.
pub(super) fn check_revoked(certificates: &[CertificateDer<'_>], revoked: &BTreeSet<Vec<u8>>) -> Result<(), TlsError> {
    for der in certificates {
        let certificate = parse(der).map_err(TlsError::session)?;
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
    let names = Names::in_certificate(&parse(first).map_err(TlsError::session)?);
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

#[cfg(test)]
mod tests {
    use super::*;

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
