//! The cryptography of signed tokens by `ring`, which TLS uses too: `jsonwebtoken` takes the provider from its user.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        self as asymmetric, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding, RsaKeyPair, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use signature::{Error, Signer, Verifier};

use super::jwt_keys::curve;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(RingSigner { algorithm: *algorithm, key: key.clone() })),
    verifier_factory: |algorithm, key| Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() })),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `ring` the provider of this process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another provider would have been installed by this program; it has no other.
        let _installed = PROVIDER.install_default();
    });
}

struct RingSigner {
    algorithm: Algorithm,
    key: EncodingKey,
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        self.sign(message).map_err(Error::from_source)
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.check(message, signature).map_err(Error::from_source)
    }
}

impl RingSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let (random, key) = (SystemRandom::new(), self.key.as_bytes());
        if let Some(algorithm) = hmac_of(self.algorithm) {
            return Ok(hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec());
        }
        if let Some(padding) = padding_of(self.algorithm) {
            let pair = RsaKeyPair::from_der(key).or_else(|_| RsaKeyPair::from_pkcs8(key));
            let pair = pair.map_err(|_| ErrorKind::InvalidKeyFormat)?;
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(padding, &random, message, &mut signature).map_err(|_| ErrorKind::InvalidKeyFormat)?;
            return Ok(signature);
        }
        if let Some(curve) = curve(self.algorithm) {
            let pair = EcdsaKeyPair::from_pkcs8(curve, key, &random).map_err(|_| ErrorKind::InvalidEcdsaKey)?;
            return Ok(pair.sign(&random, message).map_err(|_| ErrorKind::InvalidEcdsaKey)?.as_ref().to_vec());
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(pair.sign(message).as_ref().to_vec())
    }
}

impl RingVerifier {
    fn check(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        let key = self.key.try_get_as_bytes()?;
        if let Some(algorithm) = hmac_of(self.algorithm) {
            let key = hmac::Key::new(algorithm, key);
            return Ok(hmac::verify(&key, message, signature).map_err(|_| ErrorKind::InvalidSignature)?);
        }
        let key = UnparsedPublicKey::new(verification_of(self.algorithm), key);
        Ok(key.verify(message, signature).map_err(|_| ErrorKind::InvalidSignature)?)
    }
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn padding_of(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        Algorithm::RS256 => Some(&asymmetric::RSA_PKCS1_SHA256),
        Algorithm::RS384 => Some(&asymmetric::RSA_PKCS1_SHA384),
        Algorithm::RS512 => Some(&asymmetric::RSA_PKCS1_SHA512),
        Algorithm::PS256 => Some(&asymmetric::RSA_PSS_SHA256),
        Algorithm::PS384 => Some(&asymmetric::RSA_PSS_SHA384),
        Algorithm::PS512 => Some(&asymmetric::RSA_PSS_SHA512),
        _ => None,
    }
}

fn verification_of(algorithm: Algorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        Algorithm::RS256 => &asymmetric::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &asymmetric::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &asymmetric::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &asymmetric::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &asymmetric::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &asymmetric::RSA_PSS_2048_8192_SHA512,
        Algorithm::ES256 => &asymmetric::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &asymmetric::ECDSA_P384_SHA384_FIXED,
        _ => &asymmetric::ED25519,
    }
}
