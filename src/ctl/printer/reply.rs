//! Replies of commands, and parts that several formats share.

use super::super::exit::{BAD_FEATURE, Exit};
use crate::base::human_size::human_size;
use crate::proto::etcdserverpb::*;

/// The result of a command.
pub enum Reply {
    Get(RangeResponse),
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Watch(WatchResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke { id: i64, response: LeaseRevokeResponse },
    LeaseKeepAlive(LeaseKeepAliveResponse),
    LeaseTimeToLive { response: LeaseTimeToLiveResponse, with_keys: bool },
    LeaseList(LeaseLeasesResponse),
    MemberAdd(MemberAddResponse),
    MemberRemove { id: u64, response: MemberRemoveResponse },
    MemberUpdate { id: u64, response: MemberUpdateResponse },
    MemberPromote { id: u64, response: MemberPromoteResponse },
    MemberList(MemberListResponse),
    Health(Vec<Health>),
    Status(Vec<EndpointStatus>),
    HashKv(Vec<EndpointHash>),
    MoveLeader { from: u64, to: u64, response: MoveLeaderResponse },
    Downgrade { action: &'static str, response: DowngradeResponse },
    Alarm(AlarmResponse),
    RoleAdd { role: String, response: AuthRoleAddResponse },
    RoleDelete { role: String, response: AuthRoleDeleteResponse },
    RoleGet { role: String, response: AuthRoleGetResponse },
    RoleList(AuthRoleListResponse),
    RoleGrantPermission { role: String, response: AuthRoleGrantPermissionResponse },
    RoleRevokePermission { role: String, key: Vec<u8>, end: Vec<u8>, response: AuthRoleRevokePermissionResponse },
    UserAdd { user: String, response: AuthUserAddResponse },
    UserDelete { user: String, response: AuthUserDeleteResponse },
    UserGet { user: String, response: AuthUserGetResponse },
    UserList(AuthUserListResponse),
    UserChangePassword(AuthUserChangePasswordResponse),
    UserGrantRole { user: String, role: String, response: AuthUserGrantRoleResponse },
    UserRevokeRole { user: String, role: String, response: AuthUserRevokeRoleResponse },
    AuthStatus(AuthStatusResponse),
}

/// One line of `endpoint health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub endpoint: String,
    pub healthy: bool,
    pub took: String,
    pub error: String,
}

/// One line of `endpoint status`.
pub struct EndpointStatus {
    pub endpoint: String,
    pub response: StatusResponse,
}

/// One line of `endpoint hashkv`.
pub struct EndpointHash {
    pub endpoint: String,
    pub response: HashKvResponse,
}

pub(super) fn unsupported(format: &str) -> Exit {
    Exit::new(BAD_FEATURE, format!("{format} not supported as output format"))
}

/// A header, or zeros where the server sent none.
pub(super) fn header(header: &Option<ResponseHeader>) -> ResponseHeader {
    header.unwrap_or_default()
}

/// `NOSPACE`, `CORRUPT` or the number.
pub(super) fn alarm_name(alarm: i32) -> String {
    AlarmType::try_from(alarm).map_or_else(|_| alarm.to_string(), |alarm| alarm.as_str_name().to_owned())
}

/// Head and rows of replies that are tables.
pub(super) fn rows(reply: &Reply) -> Option<(Vec<&'static str>, Vec<Vec<String>>)> {
    Some(match reply {
        Reply::MemberList(response) => member_rows(response),
        Reply::Health(list) => health_rows(list),
        Reply::Status(list) => status_rows(list),
        Reply::HashKv(list) => hash_rows(list),
        _ => return None,
    })
}

fn member_rows(response: &MemberListResponse) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let row = |member: &Member| {
        vec![
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    (
        vec!["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"],
        response.members.iter().map(row).collect(),
    )
}

fn health_rows(list: &[Health]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let row = |health: &Health| {
        vec![health.endpoint.clone(), health.healthy.to_string(), health.took.clone(), health.error.clone()]
    };
    (vec!["endpoint", "health", "took", "error"], list.iter().map(row).collect())
}

fn status_rows(list: &[EndpointStatus]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let head = vec![
        "endpoint",
        "ID",
        "version",
        "storage version",
        "db size",
        "in use",
        "percentage not in use",
        "quota",
        "is leader",
        "is learner",
        "raft term",
        "raft index",
        "raft applied index",
        "errors",
        "downgrade target version",
        "downgrade enabled",
    ];
    (head, list.iter().map(status_row).collect())
}

fn status_row(status: &EndpointStatus) -> Vec<String> {
    let response = &status.response;
    let member = header(&response.header).member_id;
    let downgrade = response.downgrade_info.clone().unwrap_or_default();
    let unused = 100 - (response.db_size_in_use * 100).checked_div(response.db_size).unwrap_or_default();
    let size = |bytes: i64| human_size(bytes as u64);
    vec![
        status.endpoint.clone(),
        format!("{member:x}"),
        response.version.clone(),
        response.storage_version.clone(),
        size(response.db_size),
        size(response.db_size_in_use),
        format!("{unused}%"),
        size(response.db_size_quota),
        (response.leader == member).to_string(),
        response.is_learner.to_string(),
        response.raft_term.to_string(),
        response.raft_index.to_string(),
        response.raft_applied_index.to_string(),
        response.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

fn hash_rows(list: &[EndpointHash]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let row = |hash: &EndpointHash| {
        vec![hash.endpoint.clone(), hash.response.hash.to_string(), hash.response.hash_revision.to_string()]
    };
    (vec!["endpoint", "hash", "hash_revision"], list.iter().map(row).collect())
}
