//! Certificates for both ends of TLS, the server's (`os/tls`) and the client's (`client/tls`): reading them, and the verifier that takes any.

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{
        CertificateDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

/// Why a text has no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    #[error(transparent)]
    Pem(#[from] pem::Error),
    #[error("no certificate in it")]
    None,
}

/// All certificates of a PEM text, at least one.
pub fn certificates_of(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
    let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() { Err(CertificatesError::None) } else { Ok(certificates) }
}

/// Takes any certificate of a server and any signature under it: for clients that were told so (`--insecure-skip-tls-verify`), and for
/// members with self-signed certificates.
#[derive(Debug)]
pub struct AnyServer;

// A signature under a certificate that no authority has signed proves nothing, so signatures are not verified either.
impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // The self-signed certificates of etcd are on the curve P-521, which ring cannot verify.
        let mut schemes = ring::default_provider().signature_verification_algorithms.supported_schemes();
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_certificates_is_refused() {
        for text in ["", "no PEM", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(certificates_of(text.as_bytes()), Err(CertificatesError::None)), "{text}");
        }
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(certificates_of(cut.as_bytes()), Err(CertificatesError::Pem(_))));
    }

    #[test]
    fn all_certificates_of_a_text_are_read() {
        let one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let read = certificates_of(one.repeat(2).as_bytes()).expect("PEM");
        assert_eq!(read, vec![CertificateDer::from(vec![0, 0, 0]); 2]);
    }
}
