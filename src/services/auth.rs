//! The Auth service on one core, as far as it is served: what etcd answers on a server without authentication.
//!
//! | call | answer |
//! |---|---|
//! | Authenticate | refused: authentication is not enabled. Clients that are given a user then go on without a token |
//! | AuthStatus | not enabled, with the stored revision |
//! | AuthDisable | done: it is not enabled |
//! | AuthEnable | refused as by etcd without the user and role `root` |
//! | UserGet, UserList, RoleGet, RoleList | what a migrated database brought along |
//! | every change | UNIMPLEMENTED |
//!
//! Authentication that was enabled in a migrated database is not enforced, so AuthStatus does not claim it; disabling it is a
//! change. etcd sends all of these but Authenticate through the log, so they wait for a confirmed read.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;

use crate::{
    base::refusal::Refusal,
    proto::etcdserverpb::{
        AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleGetRequest,
        AuthRoleGetResponse, AuthRoleListRequest, AuthRoleListResponse, AuthStatusRequest, AuthStatusResponse,
        AuthUserGetRequest, AuthUserGetResponse, AuthUserListRequest, AuthUserListResponse, AuthenticateRequest,
        ResponseHeader,
    },
    rpc::{Call, Reply, Responder},
    service::{auth::AuthView, kv::ReadStop},
    services::{Services, decode, encoded, ended, methods, refuse},
};

/// How a request is answered from the stored users and roles.
type Answer<Q, R> = fn(Q, ResponseHeader, AuthView<'_>) -> Result<R, ReadStop>;

impl Services {
    /// Any call of the service.
    pub(super) fn auth(self: &Rc<Self>, call: &Call, message: Bytes, responder: Responder) -> Option<Reply> {
        match call.method {
            methods::AUTHENTICATE => {
                let decoded = decode::<AuthenticateRequest>(message);
                Some(decoded.and_then(|_| Err(refuse(Refusal::AuthNotEnabled))))
            }
            methods::AUTH_STATUS => self.read_auth(call, message, responder, status),
            methods::AUTH_ENABLE => self.read_auth(call, message, responder, enable),
            methods::AUTH_DISABLE => self.read_auth(call, message, responder, disable),
            methods::USER_GET => self.read_auth(call, message, responder, user),
            methods::USER_LIST => self.read_auth(call, message, responder, users),
            methods::ROLE_GET => self.read_auth(call, message, responder, role),
            methods::ROLE_LIST => self.read_auth(call, message, responder, roles),
            _ => Some(Err(refuse(Refusal::AuthNotServed))),
        }
    }

    fn read_auth<Q, R>(
        self: &Rc<Self>,
        call: &Call,
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
            let view = front.shared.view.load();
            let answered = answer(request, view.header(view.kv.revision()), AuthView(view.kv.records().pages()));
            answered.map_err(ended).and_then(|response| encoded(&response))
        })
    }
}

fn status(_: AuthStatusRequest, header: ResponseHeader, auth: AuthView<'_>) -> Result<AuthStatusResponse, ReadStop> {
    Ok(AuthStatusResponse { header: Some(header), enabled: false, auth_revision: auth.revision()? })
}

fn enable(_: AuthEnableRequest, _: ResponseHeader, auth: AuthView<'_>) -> Result<AuthEnableResponse, ReadStop> {
    auth.check_root()?;
    Err(Refusal::AuthNotServed.into())
}

fn disable(_: AuthDisableRequest, header: ResponseHeader, auth: AuthView<'_>) -> Result<AuthDisableResponse, ReadStop> {
    match auth.is_enabled()? {
        false => Ok(AuthDisableResponse { header: Some(header) }),
        true => Err(Refusal::AuthNotServed.into()),
    }
}

fn user(
    request: AuthUserGetRequest,
    header: ResponseHeader,
    auth: AuthView<'_>,
) -> Result<AuthUserGetResponse, ReadStop> {
    Ok(AuthUserGetResponse { header: Some(header), roles: auth.roles_of(&request.name)? })
}

fn users(_: AuthUserListRequest, header: ResponseHeader, auth: AuthView<'_>) -> Result<AuthUserListResponse, ReadStop> {
    Ok(AuthUserListResponse { header: Some(header), users: auth.users()? })
}

fn role(
    request: AuthRoleGetRequest,
    header: ResponseHeader,
    auth: AuthView<'_>,
) -> Result<AuthRoleGetResponse, ReadStop> {
    Ok(AuthRoleGetResponse { header: Some(header), perm: auth.permissions_of(&request.role)? })
}

fn roles(_: AuthRoleListRequest, header: ResponseHeader, auth: AuthView<'_>) -> Result<AuthRoleListResponse, ReadStop> {
    Ok(AuthRoleListResponse { header: Some(header), roles: auth.roles()? })
}
