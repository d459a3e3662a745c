//! Who makes a call, and whether it may.
//!
//! ```text
//!   metadata `token`, else `authorization` ─▶ this core's tokens ─▶ those of the member ─▶ a user
//!   no token, `--client-cert-auth` ────────▶ common name of the certificate ─────────────▶ a user
//!   neither ───────────────────────────────────────────────────────────────────────────▶ nobody
//! ```
//!
//! | right | calls |
//! |---|---|
//! | none | AuthStatus, Authenticate, health |
//! | any user | Status, AlarmGet, MemberList, LeaseGrant, LeaseRevoke, LeaseTimeToLive |
//! | root | Compact, Defragment, Hash, HashKV, Snapshot, MoveLeader, Downgrade, changes of alarms and members |
//! | by keys, here | Range, RangeStream, a Txn that only reads, Watch, keys of leases |
//! | by keys, when the entry is applied | Put, DeleteRange, Txn, LeaseRevoke, changes of users and roles |
//!
//! A token that is refused is refused where etcd looks at it: after the checks of the request itself, and after the read round.
//! While authentication is off, all of this is one comparison.
//!
//! A token may be younger than this member's state. Then one read round, which ends within the request timeout, brings everything
//! that was committed before; a token that is unknown after it was made up. etcd waits for its index, however far that is.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::HashMap;
use bytes::Bytes;
use prost::Message;

use crate::{
    apply::View,
    auth::{Auth, Requester},
    base::{limits, refusal::Refusal},
    os::clock,
    proto::etcdserverpb::{AlarmRequest, alarm_request::AlarmAction},
    rpc::{Call, MethodId},
    services::{Services, methods, tokens::Identity},
};

/// As often as etcd.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What a call has shown.
#[derive(Clone, Default)]
pub(super) enum Credentials {
    /// Nothing; or authentication is off.
    #[default]
    Nobody,
    User(Rc<Known>),
    /// A token that is not valid.
    Invalid,
}

/// A user that this core knows. The inner count is shared between cores, so calls count on the outer one.
pub(super) struct Known(Arc<Identity>);

/// The outcome of looking at a call.
pub(super) enum Identified {
    Now(Credentials),
    /// The token may be assigned by an entry that is not applied here yet.
    Later,
}

/// Tokens and common names that this core has seen.
#[derive(Default)]
pub(super) struct Seen {
    by_token: RefCell<HashMap<Box<str>, Rc<Known>>>,
    by_name: RefCell<HashMap<Box<str>, Rc<Known>>>,
    /// When tokens that have ended were dropped last.
    swept: Cell<Option<Instant>>,
}

impl Credentials {
    /// The requester for checks and entries.
    ///
    /// # Errors
    /// The token is not valid.
    pub(super) fn requester(&self, auth: &Auth) -> Result<Requester<'_>, Refusal> {
        match self {
            _ if !auth.is_enabled() => Ok(Requester::NOBODY),
            Self::Nobody => Ok(Requester::NOBODY),
            Self::User(known) if known.0.is_valid() => {
                Ok(Requester { user: &known.0.user, revision: known.0.revision.unwrap_or(auth.revision()) })
            }
            Self::User(_) | Self::Invalid => Err(Refusal::InvalidAuthToken),
        }
    }

    /// The user, whatever has become of its token since. A stream outlives its token.
    pub(super) fn user(&self) -> Requester<'_> {
        match self {
            Self::User(known) => Requester { user: &known.0.user, revision: 0 },
            Self::Nobody | Self::Invalid => Requester::NOBODY,
        }
    }

    /// Whether a read may be answered from `view`.
    ///
    /// # Errors
    /// `check` refuses it, or the token is not valid or not of the present revision.
    pub(super) fn check_read(
        &self,
        view: &View,
        check: impl FnOnce(&Auth, Requester<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let auth = &*view.auth;
        if !auth.is_enabled() {
            return Ok(());
        }
        let who = self.requester(auth)?;
        check(auth, who)?;
        if who.revision != 0 && who.revision != auth.revision() {
            return Err(Refusal::AuthOldRevision);
        }
        Ok(())
    }

    /// Whether there is a user at all.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn check_identity(&self, auth: &Auth) -> Result<(), Refusal> {
        if !auth.is_enabled() {
            return Ok(());
        }
        self.requester(auth)?;
        if matches!(self, Self::Nobody) { Err(Refusal::UserEmpty) } else { Ok(()) }
    }

    /// Whether the user may administrate.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn check_root(&self, auth: &Auth) -> Result<(), Refusal> {
        if !auth.is_enabled() {
            return Ok(());
        }
        auth.check_root(self.requester(auth)?)
    }

    /// Checks what follows from the method alone.
    pub(super) fn check_method(&self, auth: &Auth, method: MethodId, message: &Bytes) -> Result<(), Refusal> {
        if !auth.is_enabled() {
            return Ok(());
        }
        match method {
            methods::STATUS | methods::LEASE_REVOKE | methods::LEASE_TIME_TO_LIVE => self.check_identity(auth),
            methods::ALARM if is_question(message) => self.check_identity(auth),
            methods::ALARM
            | methods::COMPACT
            | methods::DEFRAGMENT
            | methods::HASH
            | methods::HASH_KV
            | methods::SNAPSHOT
            | methods::MOVE_LEADER
            | methods::DOWNGRADE
            | methods::MEMBER_REMOVE
            | methods::MEMBER_PROMOTE => self.check_root(auth),
            _ => Ok(()),
        }
    }
}

fn is_question(message: &Bytes) -> bool {
    AlarmRequest::decode(message.clone()).is_ok_and(|request| request.action == AlarmAction::Get as i32)
}

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

impl Identified {
    fn or_invalid(self) -> Credentials {
        match self {
            Self::Now(credentials) => credentials,
            Self::Later => Credentials::Invalid,
        }
    }
}
