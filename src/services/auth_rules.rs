//! What the flags say of users.

/// What the flags say of users and their tokens.
#[derive(Clone, Copy, Debug)]
pub struct AuthRules {
    pub bcrypt_cost: u32,
    /// The common name of a client's certificate is a user.
    pub client_cert_auth: bool,
    /// A watch whose right was taken away is cancelled.
    pub recheck_watches: bool,
}
