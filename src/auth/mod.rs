//! Authentication and authorisation as state: users, roles, permissions, and whether they count.
//!
//! ```text
//!   entry ── request (decoded) ──▶ changes ──▶ Auth ──▶ buckets auth, authUsers, authRoles
//!                                               │
//!                                               ├─▶ apply: may the requester of an entry do this?     same answer on every member
//!                                               └─▶ the published view: reads, watches, administration on any core
//! ```
//!
//! | bucket | key | value |
//! |---|---|---|
//! | auth | `authRevision` | 8 bytes big-endian; 1 in a new database |
//! | auth | `authEnabled` | one byte, 1 if so |
//! | authUsers | name | marshalled authpb.User |
//! | authRoles | name | marshalled authpb.Role |
//!
//! Invariants
//!
//! 1. The state follows from the log alone, byte for byte as in etcd, so members of both kinds agree.
//! 2. Every change raises the revision by one, except that enabling and a repeated grant of a role leave it.
//! 3. What a user may do is compiled when a user or role changes; a check is a lookup by name and a binary search, and allocates
//!    nothing. While authentication is off it is one comparison.
//!
//! Deliberately absent: passwords in plain text (the services hash and compare them), tokens and their times (services), the
//! keys of leases (apply).
//!
//! On the path of every request while authentication is on.

mod changes;
mod ranges;
pub mod request;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;

use self::ranges::Ranges;
pub use self::{changes::TokenChange, request::AuthRequest};
use crate::{
    backend::{Backend, Bucket, ReadView},
    base::refusal::Refusal,
    pagefile::Corrupt,
    proto::authpb::{Permission, Role, User, permission::Type},
};

const REVISION: &[u8] = b"authRevision";
const ENABLED: &[u8] = b"authEnabled";
/// The user and the role that may do everything.
pub const ROOT: &str = "root";
/// The revision that etcd gives a new database.
const FIRST_REVISION: u64 = 1;

/// Users, roles, and whether they count.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    is_enabled: bool,
    revision: u64,
    users: BTreeMap<String, Arc<Account>>,
    roles: BTreeMap<String, Arc<Role>>,
}

/// A user with its compiled rights.
#[derive(Clone, Debug)]
struct Account {
    user: User,
    is_root: bool,
    reads: Ranges,
    writes: Ranges,
}

/// Who asks, as tokens and entries name it: a user and the revision at which it was identified. Nobody is an empty name at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester<'r> {
    pub user: &'r str,
    pub revision: u64,
}

/// What is done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Why the stored state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("bucket {bucket}, key {key}: {reason}")]
    Value { bucket: &'static str, key: String, reason: String },
}

impl Requester<'_> {
    pub const NOBODY: Requester<'static> = Requester { user: "", revision: 0 };
}

impl Auth {
    /// Reads the state of a page file.
    ///
    /// # Errors
    /// Damage, or an invalid value.
    pub fn restore(records: &ReadView) -> Result<Self, StoredError> {
        let mut auth = Self::default();
        visit(records, Bucket::Auth, |key, value| {
            match key {
                REVISION => {
                    let bytes = value.try_into().map_err(|_| bad("auth", key, "8 bytes are expected"))?;
                    auth.revision = u64::from_be_bytes(bytes);
                }
                ENABLED => auth.is_enabled = value == [1],
                _ => {}
            }
            Ok(())
        })?;
        visit(records, Bucket::AuthRoles, |key, value| {
            let role = Role::decode(value).map_err(|error| bad("authRoles", key, &error.to_string()))?;
            auth.roles.insert(text(key), Arc::new(role));
            Ok(())
        })?;
        let mut users = BTreeMap::new();
        visit(records, Bucket::AuthUsers, |key, value| {
            let user = User::decode(value).map_err(|error| bad("authUsers", key, &error.to_string()))?;
            users.insert(text(key), Arc::new(auth.compiled(user)));
            Ok(())
        })?;
        auth.users = users;
        Ok(auth)
    }

    /// Gives a new database its first revision, as etcd does at its first start: members of both kinds count from the same number.
    pub fn found(&mut self, backend: &mut Backend) {
        if self.revision == 0 {
            self.set_revision(FIRST_REVISION, backend);
        }
    }

    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// The number of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The member itself as the requester of an entry.
    #[must_use]
    pub fn root(&self) -> Requester<'static> {
        match self.is_enabled {
            true => Requester { user: ROOT, revision: self.revision },
            false => Requester::NOBODY,
        }
    }

    /// Whether a requester may read or write all of a range.
    ///
    /// # Errors
    /// It may not; it is nobody, or was identified before the last change.
    pub fn check(&self, who: Requester<'_>, key: &[u8], range_end: &[u8], access: Access) -> Result<(), Refusal> {
        if !self.is_enabled {
            return Ok(());
        }
        self.check_current(who)?;
        let account = self.users.get(who.user).ok_or(Refusal::PermissionDenied)?;
        let ranges = match access {
            Access::Read => &account.reads,
            Access::Write => &account.writes,
        };
        if account.is_root || ranges.cover(key, range_end) { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    /// Whether a requester was identified at the present revision or a later one.
    ///
    /// # Errors
    /// It is nobody, or was identified before.
    pub fn check_current(&self, who: Requester<'_>) -> Result<(), Refusal> {
        if who.revision == 0 {
            return Err(Refusal::UserEmpty);
        }
        if who.revision < self.revision {
            return Err(Refusal::AuthOldRevision);
        }
        Ok(())
    }

    /// Whether a requester may administrate. As in etcd its revision does not matter.
    ///
    /// # Errors
    /// It may not.
    pub fn check_root(&self, who: Requester<'_>) -> Result<(), Refusal> {
        if !self.is_enabled {
            return Ok(());
        }
        if who.user.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        let account = self.users.get(who.user).ok_or(Refusal::UserNotFound)?;
        if account.is_root { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    /// The hashed password of a user, to be compared.
    ///
    /// # Errors
    /// There is none to compare with.
    pub fn password_of(&self, name: &str) -> Result<Bytes, Refusal> {
        if !self.is_enabled {
            return Err(Refusal::AuthNotEnabled);
        }
        let account = self.users.get(name).ok_or(Refusal::AuthFailed)?;
        if account.has_no_password() {
            return Err(Refusal::NoPasswordUser);
        }
        Ok(account.user.password.clone())
    }

    /// The roles of a user.
    ///
    /// # Errors
    /// No such user, or the requester is neither that user nor root.
    pub fn roles_of(&self, who: Requester<'_>, name: &str) -> Result<Vec<String>, Refusal> {
        if who.user != name {
            self.check_root(who)?;
        }
        Ok(self.user(name)?.roles.clone())
    }

    /// The permissions of a role; those of `root` are not stored.
    ///
    /// # Errors
    /// No such role, or the requester neither has it nor is root.
    pub fn permissions_of(&self, who: Requester<'_>, name: &str) -> Result<Vec<Permission>, Refusal> {
        let has_role =
            self.users.get(who.user).is_some_and(|account| account.user.roles.iter().any(|role| role == name));
        if !has_role {
            self.check_root(who)?;
        }
        let role = self.role(name)?;
        if role.name != ROOT {
            return Ok(role.key_permission.clone());
        }
        let (key, range_end) = (Bytes::new(), Bytes::from_static(b"\0"));
        Ok(vec![Permission { perm_type: Type::Readwrite as i32, key, range_end }])
    }

    /// The names of all users, in their order.
    ///
    /// # Errors
    /// The requester may not ask.
    pub fn user_names(&self, who: Requester<'_>) -> Result<Vec<String>, Refusal> {
        self.check_root(who)?;
        Ok(self.users.keys().cloned().collect())
    }

    /// The names of all roles, in their order.
    ///
    /// # Errors
    /// The requester may not ask.
    pub fn role_names(&self, who: Requester<'_>) -> Result<Vec<String>, Refusal> {
        self.check_root(who)?;
        Ok(self.roles.keys().cloned().collect())
    }

    fn user(&self, name: &str) -> Result<&User, Refusal> {
        self.users.get(name).map(|account| &account.user).ok_or(Refusal::UserNotFound)
    }

    fn role(&self, name: &str) -> Result<&Role, Refusal> {
        self.roles.get(name).map(|role| &**role).ok_or(Refusal::RoleNotFound)
    }

    /// A user with what its roles allow. A role that does not exist allows nothing.
    fn compiled(&self, user: User) -> Account {
        let permissions =
            || user.roles.iter().filter_map(|name| self.roles.get(name)).flat_map(|role| &role.key_permission);
        let of = |access: Type| {
            let allow = move |permission: &&Permission| {
                permission.perm_type == Type::Readwrite as i32 || permission.perm_type == access as i32
            };
            Ranges::of(permissions().filter(allow).map(|permission| (&permission.key, &permission.range_end)))
        };
        let (reads, writes) = (of(Type::Read), of(Type::Write));
        let is_root = user.roles.iter().any(|role| role == ROOT);
        Account { user, is_root, reads, writes }
    }

    fn set_revision(&mut self, revision: u64, backend: &mut Backend) {
        self.revision = revision;
        let value = Bytes::copy_from_slice(&revision.to_be_bytes());
        backend.put(Bucket::Auth, Bytes::from_static(REVISION), value);
    }
}

impl Account {
    fn has_no_password(&self) -> bool {
        self.user.options.is_some_and(|options| options.no_password)
    }
}

fn visit(
    records: &ReadView,
    bucket: Bucket,
    mut visitor: impl FnMut(&[u8], &[u8]) -> Result<(), StoredError>,
) -> Result<(), StoredError> {
    let pages = records.pages();
    let Some(root) = pages.bucket(bucket.name())? else { return Ok(()) };
    let mut cursor = pages.cursor(root);
    let mut item = cursor.first()?;
    while let Some(found) = item {
        visitor(found.key, found.value)?;
        item = cursor.next_item()?;
    }
    Ok(())
}

/// Names are strings in every request.
fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn bad(bucket: &'static str, key: &[u8], reason: &str) -> StoredError {
    StoredError::Value { bucket, key: text(key), reason: reason.to_owned() }
}
