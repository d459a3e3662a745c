//! JSON Web Tokens (RFC 7519): `--auth-token=jwt,sign-method=...,priv-key=...,pub-key=...,ttl=...`.
//!
//! | claim | value |
//! |---|---|
//! | `username` | text |
//! | `revision` | number: the revision of users and roles; an older token is refused after a change |
//! | `exp` | seconds since 1970 |
//!
//! | `sign-method` | keys |
//! |---|---|
//! | RS256, RS384, RS512, PS256, PS384, PS512 | RSA, 2048 bits or more |
//! | ES256, ES384 | EC of that curve |
//! | EdDSA | Ed25519 |
//! | HS256, HS384, HS512 | the bytes of the file of `priv-key` |
//!
//! With a public key alone tokens are verified and none is given. The method of a token must be the configured one.

use std::{collections::BTreeMap, fs, time::Duration};

use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::{
    identity::{Identity, Life, unix_seconds},
    jwt_keys::{KeyError, Keys},
    ring_provider,
};
use crate::base::{go_duration, refusal::Refusal};

const TTL_DEFAULT: Duration = Duration::from_secs(300);
const METHODS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// Why a member cannot give or verify such tokens.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("auth: invalid auth options: {0}")]
    Option(String),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The options of `--auth-token`.
pub struct JwtOptions {
    method: Algorithm,
    public_key: Option<Vec<u8>>,
    private_key: Option<Vec<u8>>,
    ttl: Duration,
}

/// Gives and verifies tokens.
pub struct Jwt {
    method: Algorithm,
    keys: Keys,
    validation: Validation,
    ttl: Duration,
}

#[derive(Serialize)]
struct Given<'c> {
    exp: u64,
    revision: u64,
    username: &'c str,
}

#[derive(Deserialize)]
struct Claims {
    username: String,
    revision: Number,
    exp: Option<Number>,
}

impl JwtOptions {
    /// Reads the options, and the files that they name. Options that are not known are named in the log, as etcd does.
    ///
    /// # Errors
    /// There is no such method; a file cannot be read; the TTL is none.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self, JwtError> {
        let text = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let known = ["sign-method", "pub-key", "priv-key", "ttl"];
        let unknown: Vec<&String> = options.keys().filter(|name| !known.contains(&name.as_str())).collect();
        if !unknown.is_empty() {
            tracing::warn!(keys = ?unknown, "unknown JWT options");
        }
        let named = text("sign-method").unwrap_or_default();
        let method = METHODS.iter().find(|(name, _)| *name == named).map(|(_, method)| *method);
        let method = method.ok_or_else(|| {
            let names: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
            JwtError::Option(format!("sign-method {named:?} is none of {}", names.join(", ")))
        })?;
        let ttl = match text("ttl") {
            None => TTL_DEFAULT,
            Some(ttl) => go_duration::parse(ttl).map_err(|error| JwtError::Option(format!("ttl: {error}")))?,
        };
        let file = |name: &str| {
            let read = |path: &str| fs::read(path).map_err(|error| JwtError::Option(format!("{name} {path}: {error}")));
            text(name).map(read).transpose()
        };
        Ok(Self { method, public_key: file("pub-key")?, private_key: file("priv-key")?, ttl })
    }
}

impl Jwt {
    /// # Errors
    /// The keys are none for the method, or do not belong together.
    pub fn new(options: &JwtOptions) -> Result<Self, JwtError> {
        ring_provider::install();
        let keys = Keys::new(options.method, options.private_key.as_deref(), options.public_key.as_deref())?;
        let mut validation = Validation::new(options.method);
        validation.required_spec_claims.clear();
        (validation.leeway, validation.validate_nbf, validation.validate_aud) = (0, true, false);
        Ok(Self { method: options.method, keys, validation, ttl: options.ttl })
    }

    /// Who shows this token.
    pub(super) fn verify(&self, token: &str) -> Option<Identity> {
        let verified = jsonwebtoken::decode::<Claims>(token, &self.keys.verify, &self.validation);
        let claims = verified.inspect_err(|error| tracing::warn!(%error, "failed to parse a JWT token")).ok()?.claims;
        let revision = claims.revision.as_u64().or_else(|| claims.revision.as_f64().map(|revision| revision as u64))?;
        let life = match claims.exp {
            None => Life::Unlimited,
            Some(end) => Life::Until(end.as_f64()?),
        };
        Some(Identity { user: claims.username.into(), revision: Some(revision), life, is_ended: Default::default() })
    }

    /// A new token.
    ///
    /// # Errors
    /// There is a public key only.
    pub(super) fn sign(&self, user: &str, revision: u64) -> Result<String, Refusal> {
        let key = self.keys.sign.as_ref().ok_or(Refusal::VerifyOnly)?;
        let exp = (unix_seconds() + self.ttl.as_secs_f64()) as u64;
        let given = Given { exp, revision, username: user };
        jsonwebtoken::encode(&Header::new(self.method), &given, key).map_err(|error| {
            tracing::error!(%error, user, "failed to sign a JWT token");
            Refusal::VerifyOnly
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a secret of some length";

    fn hmac(method: Algorithm, ttl: Duration) -> Jwt {
        let options = JwtOptions { method, public_key: None, private_key: Some(SECRET.to_vec()), ttl };
        Jwt::new(&options).expect("a key")
    }

    #[test]
    fn a_token_names_its_user_and_revision() {
        let jwt = hmac(Algorithm::HS256, TTL_DEFAULT);
        let token = jwt.sign("alice", 7).expect("signed");
        let alice = jwt.verify(&token).expect("valid");
        assert_eq!((&*alice.user, alice.revision, alice.is_valid()), ("alice", Some(7), true));
        for wrong in [&token[1..], &token[..token.len() - 2], "", "a.b.c", "abc.1"] {
            assert!(jwt.verify(wrong).is_none(), "{wrong}");
        }
        assert!(hmac(Algorithm::HS512, TTL_DEFAULT).verify(&token).is_none(), "of another method");
        let ended = hmac(Algorithm::HS256, Duration::ZERO).sign("alice", 7).expect("signed");
        assert!(jwt.verify(&ended).is_none_or(|identity| !identity.is_valid()), "out of time");
    }

    #[test]
    fn claims_of_another_type_are_refused() {
        #[derive(Serialize)]
        struct Any(serde_json::Value);
        let jwt = hmac(Algorithm::HS256, TTL_DEFAULT);
        let sign = |claims: &str| {
            let claims = Any(serde_json::from_str(claims).expect("JSON"));
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, jwt.keys.sign.as_ref().unwrap()).unwrap()
        };
        for (claims, is_valid) in [
            (r#"{"username":"u","revision":1}"#, true),
            (r#"{"username":"u","revision":1.0,"exp":9999999999}"#, true),
            (r#"{"username":"u","revision":"1"}"#, false),
            (r#"{"username":1,"revision":1}"#, false),
            (r#"{"username":"u"}"#, false),
            (r#"{"username":"u","revision":1,"exp":"9999999999"}"#, false),
            (r#"{"username":"u","revision":1,"nbf":9999999999}"#, false),
            (r#"{"username":"u","revision":1,"exp":1}"#, false),
        ] {
            assert_eq!(jwt.verify(&sign(claims)).is_some(), is_valid, "{claims}");
        }
    }

    #[test]
    fn options_are_checked() {
        let read = |options: &[(&str, &str)]| {
            let options = options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            JwtOptions::read(&options).map(|options| options.ttl).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[("sign-method", "RS256"), ("ttl", "1m")]), Ok(Duration::from_secs(60)));
        assert_eq!(read(&[("sign-method", "RS256"), ("other", "1")]), Ok(TTL_DEFAULT));
        for (options, part) in [
            (&[("ttl", "1m")][..], "sign-method"),
            (&[("sign-method", "none")], "sign-method"),
            (&[("sign-method", "ES512")], "sign-method"),
            (&[("sign-method", "RS256"), ("ttl", "soon")], "ttl"),
            (&[("sign-method", "RS256"), ("pub-key", "/nowhere")], "pub-key /nowhere"),
        ] {
            let text = read(options).expect_err(part);
            assert!(text.starts_with("auth: invalid auth options: ") && text.contains(part), "{text}");
        }
    }
}
