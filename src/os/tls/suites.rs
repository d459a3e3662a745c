//! `--cipher-suites`: suites of TLS 1.2 by the names that Go has for them.

use rustls::{CipherSuite, crypto::CryptoProvider};

/// The suites that there are, with the other names by which etcd knows two of them.
const KNOWN: [(&str, CipherSuite); 8] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The suites of TLS 1.3, of which neither etcd nor ringd leaves one out.
const ALWAYS: [(&str, CipherSuite); 3] = [
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// Suites that Go has and rustls does not: without authenticated encryption, or without a fresh key for each connection.
const WEAK: [&str; 16] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Why a suite cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuiteError {
    #[error("unexpected TLS cipher suite {0:?}")]
    Unknown(String),
    #[error(
        "TLS cipher suite {0:?} is not served by ringd: it lacks forward secrecy or authenticated encryption; take \
         TLS_ECDHE_{{ECDSA,RSA}}_WITH_{{AES_128_GCM_SHA256,AES_256_GCM_SHA384,CHACHA20_POLY1305_SHA256}}"
    )]
    Weak(String),
}

/// The suite of this name.
///
/// # Errors
/// There is none, or it is one that is not served.
pub fn suite(name: &str) -> Result<CipherSuite, SuiteError> {
    match KNOWN.iter().chain(&ALWAYS).find(|(known, _)| *known == name) {
        Some((_, suite)) => Ok(*suite),
        None if WEAK.contains(&name) => Err(SuiteError::Weak(name.to_owned())),
        None => Err(SuiteError::Unknown(name.to_owned())),
    }
}

/// Leaves out all suites of TLS 1.2 but these; none is left out if there are none.
pub(super) fn limit(mut provider: CryptoProvider, suites: &[CipherSuite]) -> CryptoProvider {
    if !suites.is_empty() {
        provider.cipher_suites.retain(|known| known.tls13().is_some() || suites.contains(&known.suite()));
    }
    provider
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;

    use super::*;

    #[test]
    fn all_suites_of_rustls_have_a_name_of_gos() {
        for known in ring::default_provider().cipher_suites {
            assert!(KNOWN.iter().chain(&ALWAYS).any(|(_, suite)| *suite == known.suite()), "{known:?}");
        }
        assert_eq!(suite("TLS_NONE"), Err(SuiteError::Unknown("TLS_NONE".to_owned())));
        assert!(matches!(suite("TLS_RSA_WITH_AES_128_CBC_SHA"), Err(SuiteError::Weak(_))));
    }

    #[test]
    fn suites_of_tls_1_3_stay() {
        let one = suite("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305").expect("known");
        let left = limit(ring::default_provider(), &[one]).cipher_suites;
        assert_eq!(left.len(), 4);
        assert!(left.iter().any(|suite| suite.suite() == one));
    }
}
