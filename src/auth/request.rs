//! The requests of the log about authentication, by their field in etcd's `InternalRaftRequest`.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, InternalAuthenticateRequest,
};

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthRequest {
    Enable,
    Disable,
    /// A member has compared the password, and names a token.
    Authenticate(InternalAuthenticateRequest),
    UserAdd(AuthUserAddRequest),
    UserDelete(AuthUserDeleteRequest),
    UserChangePassword(AuthUserChangePasswordRequest),
    UserGrantRole(AuthUserGrantRoleRequest),
    UserRevokeRole(AuthUserRevokeRoleRequest),
    RoleAdd(AuthRoleAddRequest),
    RoleDelete(AuthRoleDeleteRequest),
    RoleGrantPermission(AuthRoleGrantPermissionRequest),
    RoleRevokePermission(AuthRoleRevokePermissionRequest),
    /// A question that etcd asks through the log and ringd from its state. Nothing follows from it.
    Question,
}

impl AuthRequest {
    /// Decodes the request of a field; `None` if the field is none of these.
    ///
    /// # Errors
    /// The bytes are no such request.
    pub fn parse(field: u32, bytes: &Bytes) -> Result<Option<Self>, DecodeError> {
        let bytes = bytes.clone();
        Ok(Some(match field {
            1000 => Self::Enable,
            1011 => Self::Disable,
            1012 => Self::Authenticate(Message::decode(bytes)?),
            1100 => Self::UserAdd(Message::decode(bytes)?),
            1101 => Self::UserDelete(Message::decode(bytes)?),
            1103 => Self::UserChangePassword(Message::decode(bytes)?),
            1104 => Self::UserGrantRole(Message::decode(bytes)?),
            1105 => Self::UserRevokeRole(Message::decode(bytes)?),
            1200 => Self::RoleAdd(Message::decode(bytes)?),
            1201 => Self::RoleDelete(Message::decode(bytes)?),
            1203 => Self::RoleGrantPermission(Message::decode(bytes)?),
            1204 => Self::RoleRevokePermission(Message::decode(bytes)?),
            1013 | 1102 | 1106 | 1107 | 1202 => Self::Question,
            _ => return Ok(None),
        }))
    }

    /// Whether only root may ask for it.
    #[must_use]
    pub fn needs_root(&self) -> bool {
        !matches!(self, Self::Authenticate(_) | Self::Question)
    }
}
