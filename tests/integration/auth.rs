//! The Auth service without authentication, compared with etcd's: refusals, empty lists, and users of a migrated database.

use std::fmt::Debug;

use prost::Message;
use ringd::proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthStatusResponse,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthenticateRequest, AuthenticateResponse, PutRequest, PutResponse,
};

use crate::{
    harness::{
        self,
        etcdctl::etcdctl,
        grpc::{Connection, Reply},
        masked::{decoded, masked},
        pair::Pair,
        server::{self, Program, Server},
    },
    utl::migrate,
};

const UNIMPLEMENTED: u32 = 12;

fn path(method: &str) -> String {
    format!("/etcdserverpb.Auth/{method}")
}

/// Without users: the same refusals and empty lists as in etcd, and a refusal of its own for changes.
pub fn without_users_agrees() {
    harness::run(async {
        let pair = Pair::start(&[]).await;
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        let _: PutResponse = pair.done("/etcdserverpb.KV/Put", &put).await;
        let named = AuthenticateRequest { name: "root".into(), password: "pw".into() };
        for request in [named, AuthenticateRequest::default()] {
            let _: Result<AuthenticateResponse, _> = pair.agree(&path("Authenticate"), &request).await;
        }
        let _: AuthStatusResponse = pair.done(&path("AuthStatus"), &AuthStatusRequest {}).await;
        let enabled: Result<AuthEnableResponse, _> = pair.agree(&path("AuthEnable"), &AuthEnableRequest {}).await;
        enabled.expect_err("there is no user");
        let _: AuthDisableResponse = pair.done(&path("AuthDisable"), &AuthDisableRequest {}).await;
        let users: AuthUserListResponse = pair.done(&path("UserList"), &AuthUserListRequest {}).await;
        let roles: AuthRoleListResponse = pair.done(&path("RoleList"), &AuthRoleListRequest {}).await;
        assert_eq!((users.users, roles.roles), (vec![], vec![]));
        for name in ["", "root", "nobody"] {
            let request = AuthUserGetRequest { name: name.into() };
            let _: Result<AuthUserGetResponse, _> = pair.agree(&path("UserGet"), &request).await;
            let request = AuthRoleGetRequest { role: name.into() };
            let _: Result<AuthRoleGetResponse, _> = pair.agree(&path("RoleGet"), &request).await;
        }
        for method in ["AuthStatus", "UserList", "RoleGet", "Authenticate"] {
            let nonsense = pair.both_encoded(&path(method), vec![0x0a, 0xff].into()).await;
            let [ours, theirs] = nonsense.map(|reply| (reply.code, reply.messages));
            assert_eq!(ours, theirs, "{method} with what is no message");
        }
        let ringd = &pair.connections[0];
        for (method, reply) in changes(ringd).await {
            assert_eq!(reply.code, Some(UNIMPLEMENTED), "{method}: {reply:?}");
            assert!(reply.message.contains("does not enable authentication or change users"), "{method}: {reply:?}");
        }
    });
}

async fn changes(ringd: &Connection) -> Vec<(&'static str, Reply)> {
    let encoded = [
        ("UserAdd", AuthUserAddRequest { name: "u".into(), ..AuthUserAddRequest::default() }.encode_to_vec()),
        ("UserDelete", AuthUserDeleteRequest::default().encode_to_vec()),
        ("UserChangePassword", AuthUserChangePasswordRequest::default().encode_to_vec()),
        ("UserGrantRole", AuthUserGrantRoleRequest::default().encode_to_vec()),
        ("UserRevokeRole", AuthUserRevokeRoleRequest::default().encode_to_vec()),
        ("RoleAdd", AuthRoleAddRequest { name: "r".into() }.encode_to_vec()),
        ("RoleDelete", AuthRoleDeleteRequest::default().encode_to_vec()),
        ("RoleGrantPermission", AuthRoleGrantPermissionRequest::default().encode_to_vec()),
        ("RoleRevokePermission", AuthRoleRevokePermissionRequest::default().encode_to_vec()),
    ];
    let mut replies = Vec::new();
    for (method, message) in encoded {
        replies.push((method, ringd.call(&path(method), message.into()).await));
    }
    replies
}

/// Users and roles of a migration are shown as etcd shows them, before and after authentication was enabled, which ringd reports that
/// it does not enforce.
pub fn migrated_users_agree() {
    let folder = server::directory();
    let source = folder.path().join("etcd");
    let etcd = Server::start(Program::Etcd, &source);
    let setup = [
        "user add root:secret",
        "user add alice:secret",
        "user add nopassword --no-password",
        "role add root",
        "role add readers",
        "role add nothing",
        "role grant-permission readers read a",
        "role grant-permission readers write b c",
        "role grant-permission readers readwrite d --from-key",
        "user grant-role root root",
        "user grant-role alice readers",
        "user grant-role alice nothing",
    ];
    run(&etcd, &setup);
    etcd.stop();
    let data = folder.path().join("ringd");
    migrate(&source, &data);
    let servers = [Server::start(Program::Ringd, &data), Server::start(Program::Etcd, &source)];
    harness::run(async {
        let connections = [servers[0].connect().await, servers[1].connect().await];
        let status: AuthStatusResponse = same(&connections, "AuthStatus", &AuthStatusRequest {}).await;
        assert!(status.auth_revision > 1 && !status.enabled, "{status:?}");
        let users: AuthUserListResponse = same(&connections, "UserList", &AuthUserListRequest {}).await;
        assert_eq!(users.users, ["alice", "nopassword", "root"]);
        for name in users.users {
            let _: AuthUserGetResponse = same(&connections, "UserGet", &AuthUserGetRequest { name }).await;
        }
        let roles: AuthRoleListResponse = same(&connections, "RoleList", &AuthRoleListRequest {}).await;
        assert_eq!(roles.roles, ["nothing", "readers", "root"]);
        for role in roles.roles {
            let _: AuthRoleGetResponse = same(&connections, "RoleGet", &AuthRoleGetRequest { role }).await;
        }
        let reply = connections[0].call(&path("AuthEnable"), AuthEnableRequest {}.encode_to_vec().into()).await;
        assert_eq!(reply.code, Some(UNIMPLEMENTED), "{reply:?}");
    });
    let revision = |server: &Server| {
        let page = server.page("/metrics");
        page.lines().find(|line| line.starts_with("etcd_debugging_auth_revision ")).map(str::to_owned)
    };
    assert_eq!(revision(&servers[0]), revision(&servers[1]));
    let [ringd, etcd] = servers;
    ringd.stop();
    run(&etcd, &["auth enable"]);
    etcd.stop();
    let enabled = folder.path().join("enabled");
    migrate(&source, &enabled);
    let ringd = Server::start(Program::Ringd, &enabled);
    let status = etcdctl(&ringd.endpoint(), &["auth", "status"], "");
    assert!(status.stdout.starts_with("Authentication Status: false"), "{status:?}");
    assert!(!etcdctl(&ringd.endpoint(), &["auth", "disable"], "").success);
    let put = etcdctl(&ringd.endpoint(), &["--user", "root:secret", "put", "a", "b"], "");
    assert!(put.success, "{put:?}");
    ringd.stop();
}

fn run(server: &Server, commands: &[&str]) {
    for command in commands {
        let done = etcdctl(&server.endpoint(), &command.split(' ').collect::<Vec<_>>(), "");
        assert!(done.success, "{command}: {done:?}");
    }
}

/// The answer that both give, without the header: the two have applied different numbers of entries.
async fn same<Q, R>(connections: &[Connection; 2], method: &str, request: &Q) -> R
where
    Q: Message + Debug,
    R: Message + Default + Debug + PartialEq,
{
    let path = path(method);
    let mut answers = Vec::new();
    for connection in connections {
        let reply = connection.call(&path, request.encode_to_vec().into()).await;
        assert_eq!(reply.code, Some(0), "{method} {request:?}: {reply:?}");
        answers.push(decoded::<R>(&masked(&reply.messages[0])));
    }
    assert_eq!(answers[0], answers[1], "{method} {request:?}: ringd, then etcd");
    answers.swap_remove(0)
}
