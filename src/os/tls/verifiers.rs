//! Verifiers of certificates that also check the allowed names. They do it during the handshake, so that a refused peer receives the TLS
//! alert "bad certificate", as from etcd (`VerifyPeerCertificate` of Go's `crypto/tls`).

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::names::Names;

/// The names that `--*-allowed-cn` and `--*-allowed-hostname` list. With neither, all are allowed.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    pub(super) cns: Vec<String>,
    pub(super) hostnames: Vec<String>,
}

impl Allowed {
    /// rustls has no error for this. Of those whose alert is Go's, "bad certificate", this one has no other use here: a wrong host has
    /// its context with it.
    pub(super) const REFUSED: CertificateError = CertificateError::NotValidForName;

    fn check(&self, names: Option<&Names>) -> Result<(), Error> {
        let is_allowed = if !self.cns.is_empty() {
            names.and_then(|names| names.common.as_ref()).is_some_and(|common| self.cns.contains(common))
        } else if !self.hostnames.is_empty() {
            names.is_some_and(|names| self.hostnames.iter().any(|host| names.covers(host)))
        } else {
            true
        };
        if is_allowed { Ok(()) } else { Err(Error::InvalidCertificate(Self::REFUSED)) }
    }
}

/// Verifies the certificate of one client, and notes the names in it.
#[derive(Debug)]
pub(super) struct AllowedClient {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) allowed: Allowed,
    /// Of a certificate that a known authority has signed.
    pub(super) shown: Arc<OnceLock<Names>>,
}

impl ClientCertVerifier for AllowedClient {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(certificate, intermediates, now)?;
        if let Some(names) = Names::of(certificate) {
            let _first = self.shown.set(names);
        }
        self.allowed.check(self.shown.get())?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Verifies the certificates of servers.
#[derive(Debug)]
pub(super) struct AllowedServer {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) allowed: Allowed,
}

impl ServerCertVerifier for AllowedServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(certificate, intermediates, host, ocsp_response, now)?;
        self.allowed.check(Names::of(certificate).as_ref())?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
