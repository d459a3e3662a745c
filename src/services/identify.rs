//! From a call to its credentials: tokens that this core has seen, those of the member, and names in certificates.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    apply::View,
    base::limits,
    os::clock,
    rpc::Call,
    services::{
        Services,
        credentials::{Credentials, Identified, Known},
        tokens::Identity,
    },
};

/// As often as etcd.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Services {
    /// Looks at the credentials of a call; `now` is when its token counts as used.
    pub(super) fn identify(&self, call: &Call, view: &View, now: Instant) -> Identified {
        if !view.auth.is_enabled() {
            return Identified::Now(Credentials::Nobody);
        }
        let Some(shown) = call.metadata("token").or_else(|| call.metadata("authorization")) else {
            return Identified::Now(self.by_certificate(call));
        };
        let Ok(token) = std::str::from_utf8(shown) else { return Identified::Now(Credentials::Invalid) };
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        if let Some(known) = self.known(token, now) {
            return Identified::Now(Credentials::User(known));
        }
        match self.shared.tokens.index_of(token) {
            // A token is assigned by the entry after its index.
            Some(index) if index >= view.applied => Identified::Later,
            _ => Identified::Now(Credentials::Invalid),
        }
    }

    /// The same, after what was committed before is applied, if that can make a difference.
    pub(super) async fn identify_fully(&self, call: &Call) -> Credentials {
        let now = clock::now();
        let seen = self.identify(call, &self.shared.view.load(), now);
        let Identified::Later = seen else { return seen.or_invalid() };
        let waiting = self.seen_waiting.get();
        if waiting >= limits::TOKENS_AWAITED_PER_CORE_MAX {
            return Credentials::Invalid;
        }
        self.seen_waiting.set(waiting + 1);
        // Without a confirmation the state may lack the token's entry all the same, and it counts as unknown.
        let _unconfirmed = self.confirmed(now).await;
        self.seen_waiting.set(self.seen_waiting.get() - 1);
        self.identify(call, &self.shared.view.load(), clock::now()).or_invalid()
    }

    fn known(&self, token: &str, now: Instant) -> Option<Rc<Known>> {
        let tokens = &self.shared.tokens;
        let by_token = &mut *self.seen.by_token.borrow_mut();
        if let Some(known) = by_token.get(token) {
            if tokens.use_again(&known.0, now) {
                return Some(Rc::clone(known));
            }
            by_token.remove(token);
        }
        let identity = tokens.find(token).filter(|identity| tokens.use_again(identity, now))?;
        if by_token.len() >= limits::TOKENS_PER_CORE_MAX {
            by_token.clear();
        }
        let known = Rc::new(Known(identity));
        by_token.insert(token.into(), Rc::clone(&known));
        Some(known)
    }

    /// A request of the gateway carries the gateway's own certificate, which stands for no user.
    fn by_certificate(&self, call: &Call) -> Credentials {
        let Some(name) = call.common_name.as_deref().filter(|_| self.shared.auth.client_cert_auth) else {
            return Credentials::Nobody;
        };
        if call.metadata("grpcgateway-accept").is_some() {
            return Credentials::Nobody;
        }
        let by_name = &mut *self.seen.by_name.borrow_mut();
        if let Some(known) = by_name.get(name) {
            return Credentials::User(Rc::clone(known));
        }
        if by_name.len() >= limits::TOKENS_PER_CORE_MAX {
            by_name.clear();
        }
        let known = Rc::new(Known(Arc::new(Identity::by_certificate(name))));
        by_name.insert(name.into(), Rc::clone(&known));
        Credentials::User(known)
    }

    /// Drops tokens that have ended, of this core and, on the first, of the member.
    pub(super) fn sweep_tokens(&self, now: Instant) {
        let swept = self.seen.swept.get();
        if swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP_EVERY) {
            return;
        }
        self.seen.swept.set(Some(now));
        if self.id == 0 {
            self.shared.tokens.sweep(now);
        }
        self.seen.by_token.borrow_mut().retain(|_, known| known.0.is_valid());
    }
}
