//! Users: which tokens they get, and what their passwords cost.

use std::{collections::BTreeMap, time::Duration};

use super::{
    refused::{Refused, refuse},
    values::Values,
};

/// The costs that bcrypt has; etcd takes its default for any other.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
const COST_DEFAULT: u32 = 10;

/// `--auth-token`, `--auth-token-ttl` and what else is said of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    pub token: AuthToken,
    /// Of simple tokens; zero is the default.
    pub token_ttl: Duration,
    pub bcrypt_cost: u32,
    /// The common name of a client's certificate is a user.
    pub client_cert_auth: bool,
    /// A watch whose right was taken away is cancelled.
    pub recheck_watches: bool,
}

/// The kind of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    Simple,
    /// JSON Web Tokens, with these options.
    Jwt(BTreeMap<String, String>),
    /// Nobody can authenticate.
    None,
}

impl Values {
    pub(super) fn auth(&self) -> Result<AuthSettings, Refused> {
        let cost = self.number("bcrypt-cost")?;
        Ok(AuthSettings {
            token: token(self.text("auth-token"))?,
            token_ttl: Duration::from_secs(self.number("auth-token-ttl")?),
            bcrypt_cost: if COSTS.contains(&cost) { cost } else { COST_DEFAULT },
            client_cert_auth: self.boolean("client-cert-auth")?,
            recheck_watches: self.boolean("auth-recheck-watches")?,
        })
    }
}

fn token(text: &str) -> Result<AuthToken, Refused> {
    let invalid = || refuse(1, format!("--auth-token={text}: auth: invalid auth options"));
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let [name, value] = part.split('=').collect::<Vec<_>>()[..] else { return Err(invalid()) };
        if options.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(invalid());
        }
    }
    match kind {
        "simple" => Ok(AuthToken::Simple),
        "jwt" => Ok(AuthToken::Jwt(options)),
        "" => Ok(AuthToken::None),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_tokens_are_names_and_values() {
        assert_eq!(token("simple").expect("a kind"), AuthToken::Simple);
        assert_eq!(token("").expect("a kind"), AuthToken::None);
        let options =
            BTreeMap::from([("sign-method".to_owned(), "RS256".to_owned()), ("ttl".to_owned(), String::new())]);
        assert_eq!(token("jwt,sign-method=RS256,ttl=").expect("a kind"), AuthToken::Jwt(options));
        for wrong in ["other", "jwt,ttl", "jwt,ttl=1=2", "jwt,ttl=1s,ttl=2s", "jwt,"] {
            let refused = token(wrong).expect_err(wrong);
            assert!(refused.text.ends_with("auth: invalid auth options"), "{}", refused.text);
        }
    }
}
