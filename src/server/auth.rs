//! From the flags about users to their tokens.

use crate::{
    config::{AuthSettings, AuthToken},
    services::{
        AuthRules,
        tokens::{Jwt, JwtError, JwtOptions, TokenSettings},
    },
};

/// Reads the keys of signed tokens.
///
/// # Errors
/// There is none, or it is no key for the method.
pub(super) fn tokens(settings: &AuthSettings) -> Result<TokenSettings, JwtError> {
    Ok(match &settings.token {
        AuthToken::Simple => {
            tracing::warn!("simple token is not cryptographically signed");
            TokenSettings::Simple { ttl: settings.token_ttl }
        }
        AuthToken::None => TokenSettings::None,
        AuthToken::Jwt(options) => TokenSettings::Jwt(Box::new(Jwt::new(&JwtOptions::read(options)?)?)),
    })
}

pub(super) fn rules(settings: &AuthSettings) -> AuthRules {
    AuthRules {
        bcrypt_cost: settings.bcrypt_cost,
        client_cert_auth: settings.client_cert_auth,
        recheck_watches: settings.recheck_watches,
    }
}
