//! The Auth service on one core.
//!
//! | call | path |
//! |---|---|
//! | Authenticate | a confirmed read, bcrypt on a helper thread, an entry that assigns the token; again if users changed meanwhile |
//! | UserAdd, UserChangePassword | bcrypt on a helper thread, then an entry |
//! | other changes | an entry |
//! | AuthStatus, UserGet, UserList, RoleGet, RoleList | a confirmed read. etcd sends these through the log too |

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;

use crate::{
    apply::{View, request::Kind},
    auth::{Auth, Requester},
    base::refusal::Refusal,
    proto::etcdserverpb::{
        AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest,
        AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleListResponse,
        AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
        AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGetResponse,
        AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
        AuthenticateRequest, AuthenticateResponse, InternalAuthenticateRequest, ResponseHeader,
    },
    rpc::{Body, Call, Reply, Responder},
    services::{Services, credentials::Credentials, decode, encoded, methods, refuse},
};

/// How a question is answered from users and roles.
type Answer<Q, R> = fn(&Auth, Requester<'_>, Q, ResponseHeader) -> Result<R, Refusal>;

impl Services {
    /// Any call of the service.
    pub(super) fn auth(
        self: &Rc<Self>,
        call: &Call,
        who: Credentials,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        match call.method {
            methods::AUTHENTICATE => self.authenticate(call, message, responder),
            methods::AUTH_STATUS => self.read_auth(call, who, message, responder, status),
            methods::USER_GET => self.read_auth(call, who, message, responder, user),
            methods::USER_LIST => self.read_auth(call, who, message, responder, users),
            methods::ROLE_GET => self.read_auth(call, who, message, responder, role),
            methods::ROLE_LIST => self.read_auth(call, who, message, responder, roles),
            methods::USER_ADD => self.add_user(call, who, message, responder),
            methods::USER_CHANGE_PASSWORD => self.change_password(call, who, message, responder),
            _ => self.change_auth(call, who, &message, responder),
        }
    }

    fn change_auth(&self, call: &Call, who: Credentials, message: &Bytes, responder: Responder) -> Option<Reply> {
        let bytes = message.clone();
        let (checked, kind) = match call.method {
            methods::AUTH_ENABLE => (decode::<AuthEnableRequest>(bytes).map(drop), Kind::AuthEnable),
            methods::AUTH_DISABLE => (decode::<AuthDisableRequest>(bytes).map(drop), Kind::AuthDisable),
            methods::USER_DELETE => (decode::<AuthUserDeleteRequest>(bytes).map(drop), Kind::AuthUserDelete),
            methods::USER_GRANT_ROLE => (decode::<AuthUserGrantRoleRequest>(bytes).map(drop), Kind::AuthUserGrantRole),
            methods::USER_REVOKE_ROLE => {
                (decode::<AuthUserRevokeRoleRequest>(bytes).map(drop), Kind::AuthUserRevokeRole)
            }
            methods::ROLE_ADD => (decode::<AuthRoleAddRequest>(bytes).map(drop), Kind::AuthRoleAdd),
            methods::ROLE_DELETE => (decode::<AuthRoleDeleteRequest>(bytes).map(drop), Kind::AuthRoleDelete),
            methods::ROLE_GRANT_PERMISSION => {
                (decode::<AuthRoleGrantPermissionRequest>(bytes).map(drop), Kind::AuthRoleGrantPermission)
            }
            methods::ROLE_REVOKE_PERMISSION => {
                (decode::<AuthRoleRevokePermissionRequest>(bytes).map(drop), Kind::AuthRoleRevokePermission)
            }
            other => unreachable!("method {} is none of the Auth service", other.0),
        };
        self.propose_if(checked, call, kind, message, who, responder)
    }

    fn add_user(self: &Rc<Self>, call: &Call, who: Credentials, message: Bytes, responder: Responder) -> Option<Reply> {
        let peer = call.peer;
        self.answer_later(message, responder, async move |front, mut request: AuthUserAddRequest, responder| {
            if !request.options.is_some_and(|options| options.no_password) {
                let password = std::mem::take(&mut request.password);
                request.hashed_password = front.hash_password(responder, peer, password).await.map_err(refuse)?;
            }
            front.propose_as(Kind::AuthUserAdd, &request.encode_to_vec(), &who).await.map(Body::Message).map_err(refuse)
        })
    }

    /// An empty password leaves the hash that the request carries, as in etcd.
    fn change_password(
        self: &Rc<Self>,
        call: &Call,
        who: Credentials,
        message: Bytes,
        responder: Responder,
    ) -> Option<Reply> {
        let peer = call.peer;
        self.answer_later(
            message,
            responder,
            async move |front, mut request: AuthUserChangePasswordRequest, responder| {
                if !request.password.is_empty() {
                    let password = std::mem::take(&mut request.password);
                    request.hashed_password = front.hash_password(responder, peer, password).await.map_err(refuse)?;
                }
                let message = request.encode_to_vec();
                front.propose_as(Kind::AuthUserChangePassword, &message, &who).await.map(Body::Message).map_err(refuse)
            },
        )
    }

    fn authenticate(self: &Rc<Self>, call: &Call, message: Bytes, responder: Responder) -> Option<Reply> {
        let (peer, since) = (call.peer, call.started);
        self.answer_later(message, responder, async move |front, request: AuthenticateRequest, responder| {
            front.confirmed(since).await.map_err(refuse)?;
            loop {
                let (revision, hashed) = {
                    let view = front.shared.view.load();
                    (view.auth.revision(), view.auth.password_of(&request.name).map_err(refuse)?)
                };
                let signed = front.log_in(responder, peer, request.clone(), revision, hashed).await;
                let signed = signed.inspect_err(|error| {
                    tracing::warn!(user = request.name, %error, "invalid authentication was requested");
                });
                let signed = signed.map_err(refuse)?;
                let simple_token = front.shared.tokens.prefix();
                let inner =
                    InternalAuthenticateRequest { name: request.name.clone(), simple_token, ..Default::default() };
                let answer = front.propose(Kind::Authenticate, &inner.encode_to_vec()).await.map_err(refuse)?;
                if front.shared.view.load().auth.revision() != revision {
                    tracing::info!("users changed while a password was compared; comparing again");
                    continue;
                }
                return match signed {
                    None => Ok(Body::Message(answer)),
                    Some(token) => {
                        let answer: AuthenticateResponse = decode(answer)?;
                        encoded(&AuthenticateResponse { token, ..answer })
                    }
                };
            }
        })
    }

    fn read_auth<Q, R>(
        self: &Rc<Self>,
        call: &Call,
        who: Credentials,
        message: Bytes,
        responder: Responder,
        answer: Answer<Q, R>,
    ) -> Option<Reply>
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
    {
        let since = call.started;
        self.answer_later(message, responder, async move |front, request, _| {
            front.confirmed(since).await.map_err(refuse)?;
            let view: &View = &front.shared.view.load();
            let answered = who
                .requester(&view.auth)
                .and_then(|who| answer(&view.auth, who, request, view.header(view.kv.revision())));
            answered.map_err(refuse).and_then(|response| encoded(&response))
        })
    }
}

fn status(
    auth: &Auth,
    _: Requester<'_>,
    _: AuthStatusRequest,
    header: ResponseHeader,
) -> Result<AuthStatusResponse, Refusal> {
    let (enabled, auth_revision) = (auth.is_enabled(), auth.revision());
    Ok(AuthStatusResponse { header: Some(header), enabled, auth_revision })
}

fn user(
    auth: &Auth,
    who: Requester<'_>,
    request: AuthUserGetRequest,
    header: ResponseHeader,
) -> Result<AuthUserGetResponse, Refusal> {
    Ok(AuthUserGetResponse { header: Some(header), roles: auth.roles_of(who, &request.name)? })
}

fn users(
    auth: &Auth,
    who: Requester<'_>,
    _: AuthUserListRequest,
    header: ResponseHeader,
) -> Result<AuthUserListResponse, Refusal> {
    Ok(AuthUserListResponse { header: Some(header), users: auth.user_names(who)? })
}

fn role(
    auth: &Auth,
    who: Requester<'_>,
    request: AuthRoleGetRequest,
    header: ResponseHeader,
) -> Result<AuthRoleGetResponse, Refusal> {
    Ok(AuthRoleGetResponse { header: Some(header), perm: auth.permissions_of(who, &request.role)? })
}

fn roles(
    auth: &Auth,
    who: Requester<'_>,
    _: AuthRoleListRequest,
    header: ResponseHeader,
) -> Result<AuthRoleListResponse, Refusal> {
    Ok(AuthRoleListResponse { header: Some(header), roles: auth.role_names(who)? })
}
