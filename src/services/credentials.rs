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
    time::Instant,
};

use ahash::HashMap;
use bytes::Bytes;
use prost::Message;

use crate::{
    apply::View,
    auth::{Auth, Requester},
    base::refusal::Refusal,
    proto::etcdserverpb::{AlarmRequest, alarm_request::AlarmAction},
    rpc::MethodId,
    services::{methods, tokens::Identity},
};

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
pub(super) struct Known(pub(super) Arc<Identity>);

/// The outcome of looking at a call.
pub(super) enum Identified {
    Now(Credentials),
    /// The token may be assigned by an entry that is not applied here yet.
    Later,
}

/// Tokens and common names that this core has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) by_token: RefCell<HashMap<Box<str>, Rc<Known>>>,
    pub(super) by_name: RefCell<HashMap<Box<str>, Rc<Known>>>,
    /// When tokens that have ended were dropped last.
    pub(super) swept: Cell<Option<Instant>>,
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

impl Identified {
    pub(super) fn or_invalid(self) -> Credentials {
        match self {
            Self::Now(credentials) => credentials,
            Self::Later => Credentials::Invalid,
        }
    }
}
