//! The requests of the log as changes of users and roles, in etcd's words and order.

use std::sync::Arc;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Account, Auth, AuthRequest, ENABLED, ROOT, ranges};
use crate::{
    backend::{Backend, Bucket},
    base::{go_sort, refusal::Refusal},
    proto::{
        authpb::{Permission, Role, User, UserAddOptions},
        etcdserverpb::{
            AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
            AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
            AuthUserRevokeRoleRequest, InternalAuthenticateRequest,
        },
    },
};

/// Base64 as Go decodes it: bits after the last byte are ignored.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
/// Cost of a password that etcd before 3.5 wrote into its log in plain text.
const PLAIN_PASSWORD_COST: u32 = 10;

/// What becomes of tokens. Each member keeps those of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// The token stands for the user from now on.
    Assigned { token: String, user: String },
    /// No token of the user is valid any more.
    UserEnded { user: String },
    /// No token is valid any more.
    AllEnded,
}

impl Auth {
    /// Carries out a request at an index of the log. The requester was checked before.
    ///
    /// # Errors
    /// It is refused, and nothing has changed.
    pub fn apply(
        &mut self,
        backend: &mut Backend,
        request: &AuthRequest,
        index: u64,
    ) -> Result<Option<TokenChange>, Refusal> {
        match request {
            AuthRequest::Enable => self.enable(backend).map(|()| None),
            AuthRequest::Disable => Ok(self.disable(backend)),
            AuthRequest::Authenticate(request) => self.assign_token(request, index).map(Some),
            AuthRequest::UserAdd(request) => self.add_user(backend, request, index).map(|()| None),
            AuthRequest::UserDelete(request) => self.delete_user(backend, request).map(Some),
            AuthRequest::UserChangePassword(request) => self.change_password(backend, request, index).map(Some),
            AuthRequest::UserGrantRole(request) => self.grant_role(backend, request).map(|()| None),
            AuthRequest::UserRevokeRole(request) => self.revoke_role(backend, request).map(|()| None),
            AuthRequest::RoleAdd(request) => self.add_role(backend, request).map(|()| None),
            AuthRequest::RoleDelete(request) => self.delete_role(backend, request).map(|()| None),
            AuthRequest::RoleGrantPermission(request) => self.grant_permission(backend, request).map(|()| None),
            AuthRequest::RoleRevokePermission(request) => self.revoke_permission(backend, request).map(|()| None),
            AuthRequest::Question => Ok(None),
        }
    }

    fn enable(&mut self, backend: &mut Backend) -> Result<(), Refusal> {
        if self.is_enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(Refusal::RootUserNotExist)?;
        if !root.is_root {
            return Err(Refusal::RootRoleNotExist);
        }
        self.set_enabled(backend, true);
        Ok(())
    }

    fn disable(&mut self, backend: &mut Backend) -> Option<TokenChange> {
        if !self.is_enabled {
            return None;
        }
        self.set_enabled(backend, false);
        self.count_change(backend);
        Some(TokenChange::AllEnded)
    }

    /// The token has the index of the entry before its own, as etcd's has.
    fn assign_token(&self, request: &InternalAuthenticateRequest, index: u64) -> Result<TokenChange, Refusal> {
        if !self.is_enabled {
            return Err(Refusal::AuthNotEnabled);
        }
        let account = self.users.get(&request.name).ok_or(Refusal::AuthFailed)?;
        if account.has_no_password() {
            return Err(Refusal::AuthFailed);
        }
        let token = format!("{}.{}", request.simple_token, index.saturating_sub(1));
        Ok(TokenChange::Assigned { token, user: request.name.clone() })
    }

    fn add_user(&mut self, backend: &mut Backend, request: &AuthUserAddRequest, index: u64) -> Result<(), Refusal> {
        if request.name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.users.contains_key(&request.name) {
            return Err(Refusal::UserExists);
        }
        let options = request.options.unwrap_or(UserAddOptions { no_password: false });
        let password = match options.no_password {
            true => Bytes::new(),
            false => stored_password(&request.password, &request.hashed_password, index)?,
        };
        let name = Bytes::copy_from_slice(request.name.as_bytes());
        self.put_user(backend, User { name, password, roles: Vec::new(), options: Some(options) });
        self.count_change(backend);
        Ok(())
    }

    fn delete_user(&mut self, backend: &mut Backend, request: &AuthUserDeleteRequest) -> Result<TokenChange, Refusal> {
        if self.is_enabled && request.name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.users.remove(&request.name).ok_or(Refusal::UserNotFound)?;
        backend.delete(Bucket::AuthUsers, request.name.as_bytes());
        self.count_change(backend);
        Ok(TokenChange::UserEnded { user: request.name.clone() })
    }

    fn change_password(
        &mut self,
        backend: &mut Backend,
        request: &AuthUserChangePasswordRequest,
        index: u64,
    ) -> Result<TokenChange, Refusal> {
        let account = self.users.get(&request.name).ok_or(Refusal::UserNotFound)?;
        let password = match account.has_no_password() {
            true => Bytes::new(),
            false => stored_password(&request.password, &request.hashed_password, index)?,
        };
        let name = Bytes::copy_from_slice(request.name.as_bytes());
        let user = User { name, password, roles: account.user.roles.clone(), options: account.user.options };
        self.put_user(backend, user);
        self.count_change(backend);
        Ok(TokenChange::UserEnded { user: request.name.clone() })
    }

    fn grant_role(&mut self, backend: &mut Backend, request: &AuthUserGrantRoleRequest) -> Result<(), Refusal> {
        let mut user = self.user(&request.user)?.clone();
        if request.role != ROOT {
            self.role(&request.role)?;
        }
        if user.roles.binary_search(&request.role).is_ok() {
            return Ok(());
        }
        user.roles.push(request.role.clone());
        user.roles.sort_unstable();
        self.put_user(backend, user);
        self.count_change(backend);
        Ok(())
    }

    fn revoke_role(&mut self, backend: &mut Backend, request: &AuthUserRevokeRoleRequest) -> Result<(), Refusal> {
        if self.is_enabled && request.name == ROOT && request.role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let user = without_role(self.user(&request.name)?, &request.role).ok_or(Refusal::RoleNotGranted)?;
        self.put_user(backend, user);
        self.count_change(backend);
        Ok(())
    }

    fn add_role(&mut self, backend: &mut Backend, request: &AuthRoleAddRequest) -> Result<(), Refusal> {
        if request.name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.roles.contains_key(&request.name) {
            return Err(Refusal::RoleExists);
        }
        let name = Bytes::copy_from_slice(request.name.as_bytes());
        self.put_role(backend, Role { name, key_permission: Vec::new() });
        self.count_change(backend);
        Ok(())
    }

    fn delete_role(&mut self, backend: &mut Backend, request: &AuthRoleDeleteRequest) -> Result<(), Refusal> {
        if self.is_enabled && request.role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.roles.remove(&request.role).ok_or(Refusal::RoleNotFound)?;
        backend.delete(Bucket::AuthRoles, request.role.as_bytes());
        let left: Vec<User> =
            self.users.values().filter_map(|account| without_role(&account.user, &request.role)).collect();
        left.into_iter().for_each(|user| self.put_user(backend, user));
        self.count_change(backend);
        Ok(())
    }

    /// A permission on the same range takes the new type. As in etcd only the first with the same key is looked at.
    fn grant_permission(
        &mut self,
        backend: &mut Backend,
        request: &AuthRoleGrantPermissionRequest,
    ) -> Result<(), Refusal> {
        let given = request.perm.as_ref().ok_or(Refusal::PermissionNotGiven)?;
        if !ranges::is_valid(&given.key, &given.range_end) {
            return Err(Refusal::InvalidAuthManagement);
        }
        let mut role = self.role(&request.name)?.clone();
        let permissions = &mut role.key_permission;
        let at = permissions.partition_point(|permission| permission.key < given.key);
        match permissions.get_mut(at) {
            Some(same) if same.key == given.key && same.range_end == given.range_end => {
                same.perm_type = given.perm_type
            }
            _ => {
                permissions.push(given.clone());
                go_sort::sort(permissions, |one: &Permission, other: &Permission| one.key < other.key);
            }
        }
        self.put_role(backend, role);
        self.count_change(backend);
        Ok(())
    }

    fn revoke_permission(
        &mut self,
        backend: &mut Backend,
        request: &AuthRoleRevokePermissionRequest,
    ) -> Result<(), Refusal> {
        let mut role = self.role(&request.role)?.clone();
        let before = role.key_permission.len();
        role.key_permission
            .retain(|permission| permission.key != request.key || permission.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(Refusal::PermissionNotGranted);
        }
        self.put_role(backend, role);
        self.count_change(backend);
        Ok(())
    }

    // State and buckets.

    fn set_enabled(&mut self, backend: &mut Backend, is_enabled: bool) {
        self.is_enabled = is_enabled;
        let value = if is_enabled { &[1] } else { &[0] };
        backend.put(Bucket::Auth, Bytes::from_static(ENABLED), Bytes::from_static(value));
    }

    fn count_change(&mut self, backend: &mut Backend) {
        self.set_revision(self.revision.wrapping_add(1), backend);
    }

    fn put_user(&mut self, backend: &mut Backend, user: User) {
        backend.put(Bucket::AuthUsers, user.name.clone(), user.encode_to_vec().into());
        let (name, account) = (super::text(&user.name), self.compiled(user));
        self.users.insert(name, Arc::new(account));
    }

    /// Users with this role are compiled again.
    fn put_role(&mut self, backend: &mut Backend, role: Role) {
        backend.put(Bucket::AuthRoles, role.name.clone(), role.encode_to_vec().into());
        let name = super::text(&role.name);
        self.roles.insert(name.clone(), Arc::new(role));
        let has_role = |account: &&Arc<Account>| account.user.roles.contains(&name);
        let users: Vec<User> = self.users.values().filter(has_role).map(|account| account.user.clone()).collect();
        for user in users {
            let (name, account) = (super::text(&user.name), self.compiled(user));
            self.users.insert(name, Arc::new(account));
        }
    }
}

fn without_role(user: &User, role: &str) -> Option<User> {
    let roles: Vec<String> = user.roles.iter().filter(|other| *other != role).cloned().collect();
    (roles.len() < user.roles.len()).then(|| User { roles, ..user.clone() })
}

/// The password as it is stored: a bcrypt hash, which requests carry in base64.
///
/// etcd before 3.5 logged passwords in plain text and hashed them on each member with a salt of its own. Here the salt follows
/// from the entry, so that all members store the same.
fn stored_password(plain: &str, hashed: &str, index: u64) -> Result<Bytes, Refusal> {
    if plain.is_empty() || !hashed.is_empty() {
        let digits = hashed.replace(['\r', '\n'], "");
        return BASE64.decode(digits).map(Bytes::from).map_err(|_| Refusal::NoPasswordUser);
    }
    let digest = Sha256::new().chain_update(index.to_be_bytes()).chain_update(plain).finalize();
    let salt: [u8; 16] = digest[..16].try_into().expect("a digest has 32 bytes");
    let parts = bcrypt::hash_with_salt(plain, PLAIN_PASSWORD_COST, salt)
        .expect("the cost is one that bcrypt has, and any password hashes");
    Ok(parts.format_for_version(bcrypt::Version::TwoA).into())
}
