//! The keys of signed tokens, from PEM.
//!
//! | kind | private | public |
//! |---|---|---|
//! | RSA | PKCS#1 or PKCS#8 | SubjectPublicKeyInfo, PKCS#1, or a certificate |
//! | EC | SEC 1 or PKCS#8 | SubjectPublicKeyInfo or a certificate |
//! | Ed25519 | PKCS#8 | SubjectPublicKeyInfo or a certificate |

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};
use x509_parser::{
    pem::Pem,
    prelude::{FromDer, X509Certificate},
    x509::SubjectPublicKeyInfo,
};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("auth: missing key data")]
    Missing,
    #[error("auth: public and private keys don't match")]
    Mismatch,
    #[error("{which}: not a key for this method")]
    Unusable { which: &'static str },
}

/// A key to verify with, and usually one to sign with.
pub(super) struct Keys {
    pub(super) verify: DecodingKey,
    pub(super) sign: Option<EncodingKey>,
}

impl Keys {
    /// # Errors
    /// There is no key, one that is none for the method, or two that do not belong together.
    pub(super) fn new(method: Algorithm, private: Option<&[u8]>, public: Option<&[u8]>) -> Result<Self, KeyError> {
        let (private, public) = (given(private), given(public));
        let family = method.family();
        if family == AlgorithmFamily::Hmac {
            let secret = private.ok_or(KeyError::Missing)?;
            let unusable = |_| KeyError::Unusable { which: "priv-key" };
            let verify = DecodingKey::from_secret(secret).map_err(unusable)?;
            return Ok(Self { verify, sign: Some(EncodingKey::from_secret(secret).map_err(unusable)?) });
        }
        let signing = private.map(|pem| Signing::read(method, pem)).transpose()?;
        let verifying = public.map(|pem| public_key(method, pem)).transpose()?;
        let key = match (&signing, verifying) {
            (None, None) => return Err(KeyError::Missing),
            (Some(signing), Some(public)) if signing.public != public => return Err(KeyError::Mismatch),
            (Some(signing), _) => signing.public.clone(),
            (None, Some(public)) => public,
        };
        let verify = match family {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_der(&key),
            AlgorithmFamily::Ec => DecodingKey::from_ec_der(&key),
            _ => DecodingKey::from_ed_der(&key),
        };
        Ok(Self { verify, sign: signing.map(|signing| signing.key) })
    }
}

fn given(pem: Option<&[u8]>) -> Option<&[u8]> {
    pem.filter(|pem| !pem.is_empty())
}

/// A private key, and its public key as `ring` takes it.
struct Signing {
    key: EncodingKey,
    public: Vec<u8>,
}

impl Signing {
    fn read(method: Algorithm, pem: &[u8]) -> Result<Self, KeyError> {
        Self::find(method, pem).ok_or(KeyError::Unusable { which: "priv-key" })
    }

    fn find(method: Algorithm, pem: &[u8]) -> Option<Self> {
        let block =
            Pem::iter_from_buffer(pem).filter_map(Result::ok).find(|block| block.label.ends_with("PRIVATE KEY"))?;
        let der = &block.contents[..];
        match (method.family(), &*block.label) {
            (AlgorithmFamily::Rsa, "RSA PRIVATE KEY") => Some(Self::of_rsa(der, &RsaKeyPair::from_der(der).ok()?)),
            (AlgorithmFamily::Rsa, "PRIVATE KEY") => Some(Self::of_rsa(der, &RsaKeyPair::from_pkcs8(der).ok()?)),
            (AlgorithmFamily::Ec, "PRIVATE KEY") => Self::of_ec(method, der),
            (AlgorithmFamily::Ec, "EC PRIVATE KEY") => Self::of_ec(method, &pkcs8_of(method, der)?),
            (AlgorithmFamily::Ed, "PRIVATE KEY") => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
                Some(Self { key: EncodingKey::from_ed_der(der), public: pair.public_key().as_ref().to_vec() })
            }
            _ => None,
        }
    }

    fn of_rsa(der: &[u8], pair: &RsaKeyPair) -> Self {
        Self { key: EncodingKey::from_rsa_der(der), public: pair.public_key().as_ref().to_vec() }
    }

    fn of_ec(method: Algorithm, der: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(curve(method)?, der, &SystemRandom::new()).ok()?;
        Some(Self { key: EncodingKey::from_ec_der(der), public: pair.public_key().as_ref().to_vec() })
    }
}

/// The curve that a method signs with.
pub(super) fn curve(method: Algorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match method {
        Algorithm::ES256 => Some(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => Some(&ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => None,
    }
}

/// A PKCS#8 structure (RFC 5958) around a SEC 1 key: version 0, the algorithm with its curve, and the key as an octet string.
fn pkcs8_of(method: Algorithm, sec1: &[u8]) -> Option<Vec<u8>> {
    const P256: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    const P384: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
    let algorithm = match method {
        Algorithm::ES256 => P256,
        Algorithm::ES384 => P384,
        _ => return None,
    };
    let content = [&b"\x02\x01\x00"[..], algorithm, &tagged(0x04, sec1)?].concat();
    tagged(0x30, &content)
}

/// A DER element of up to 64 KiB.
fn tagged(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let [high, low] = u16::try_from(content.len()).ok()?.to_be_bytes();
    let head = match (high, low) {
        (0, ..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    Some([&head[..], content].concat())
}

fn public_key(method: Algorithm, pem: &[u8]) -> Result<Vec<u8>, KeyError> {
    find_public(method, pem).ok_or(KeyError::Unusable { which: "pub-key" })
}

fn find_public(method: Algorithm, pem: &[u8]) -> Option<Vec<u8>> {
    let block = Pem::iter_from_buffer(pem).find_map(Result::ok)?;
    let der = &block.contents[..];
    match &*block.label {
        "PUBLIC KEY" => bits_of(method, &SubjectPublicKeyInfo::from_der(der).ok()?.1),
        "CERTIFICATE" => bits_of(method, X509Certificate::from_der(der).ok()?.1.public_key()),
        "RSA PUBLIC KEY" if method.family() == AlgorithmFamily::Rsa => Some(block.contents),
        _ => None,
    }
}

fn bits_of(method: Algorithm, info: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    let kind = info.algorithm.algorithm.to_id_string();
    let wanted = match method.family() {
        AlgorithmFamily::Rsa => "1.2.840.113549.1.1.1",
        AlgorithmFamily::Ec => "1.2.840.10045.2.1",
        _ => "1.3.101.112",
    };
    (kind == wanted).then(|| info.subject_public_key.data.to_vec())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Header, Validation};

    use super::*;
    use crate::services::tokens::ring_provider;

    macro_rules! key {
        ($name:literal) => {
            Some(&include_bytes!(concat!("testkeys/", $name, ".pem"))[..])
        };
    }

    fn keys(method: Algorithm, private: Option<&[u8]>, public: Option<&[u8]>) -> Result<Keys, String> {
        ring_provider::install();
        Keys::new(method, private, public).map_err(|error| error.to_string())
    }

    /// Whether a token that one side signs is valid for the other.
    fn agree(method: Algorithm, signing: &Keys, verifying: &Keys) -> bool {
        let claims = serde_json::json!({"a": 1});
        let token =
            jsonwebtoken::encode(&Header::new(method), &claims, signing.sign.as_ref().expect("private")).unwrap();
        let mut validation = Validation::new(method);
        validation.required_spec_claims.clear();
        jsonwebtoken::decode::<serde_json::Value>(token, &verifying.verify, &validation).is_ok()
    }

    #[test]
    fn every_form_of_a_key_is_the_same_key() {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let rsa_private = [key!("rsa-pkcs1"), key!("rsa-pkcs8")];
        let rsa_public = [key!("rsa-public"), key!("rsa-public-pkcs1"), key!("rsa-certificate")];
        let (p256, p256_public) = ([key!("p256-sec1"), key!("p256-pkcs8")], [key!("p256-public")]);
        let (p384, p384_public) = ([key!("p384-sec1")], [key!("p384-public")]);
        let (ed, ed_public) = ([key!("ed25519-pkcs8")], [key!("ed25519-public")]);
        let rsa = [RS256, RS384, RS512, PS256, PS384, PS512].map(|method| (method, &rsa_private[..], &rsa_public[..]));
        let others = [
            (ES256, &p256[..], &p256_public[..]),
            (ES384, &p384[..], &p384_public[..]),
            (EdDSA, &ed[..], &ed_public[..]),
        ];
        for (method, private, public) in rsa.into_iter().chain(others) {
            for private in private {
                let alone = keys(method, *private, None).unwrap_or_else(|error| panic!("{method:?}: {error}"));
                assert!(agree(method, &alone, &alone), "{method:?}");
                for public in public {
                    let both = keys(method, *private, *public).unwrap_or_else(|error| panic!("{method:?}: {error}"));
                    let verify_only = keys(method, None, *public).expect("a public key");
                    assert!(verify_only.sign.is_none());
                    assert!(agree(method, &both, &verify_only), "{method:?}");
                }
            }
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        let refused = |method, private, public| keys(method, private, public).err().expect("refused");
        for method in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256] {
            assert_eq!(refused(method, None, None), "auth: missing key data");
            assert_eq!(refused(method, Some(b""), None), "auth: missing key data");
        }
        assert_eq!(refused(Algorithm::HS256, None, Some(b"secret")), "auth: missing key data");
        let mismatch = "auth: public and private keys don't match";
        let other = rcgen::KeyPair::generate().expect("a key").public_key_pem();
        assert_eq!(refused(Algorithm::ES256, key!("p256-sec1"), Some(other.as_bytes())), mismatch);
        for (method, key) in [
            (Algorithm::RS256, key!("p256-sec1")),
            (Algorithm::ES256, key!("p384-sec1")),
            (Algorithm::ES256, key!("rsa-pkcs8")),
            (Algorithm::EdDSA, key!("p256-pkcs8")),
            (Algorithm::RS256, Some(&b"nonsense"[..])),
        ] {
            assert_eq!(refused(method, key, None), "priv-key: not a key for this method");
        }
        assert_eq!(refused(Algorithm::RS256, None, key!("p256-public")), "pub-key: not a key for this method");
    }
}
