//! Every RPC of etcd as one typed row: path, request, response, and whether the official client repeats it.

use std::marker::PhantomData;

use crate::proto::etcdserverpb::*;
use crate::proto::v3electionpb::*;
use crate::proto::v3lockpb::*;

/// One RPC. `Q` is the request message, `A` the response message.
pub struct Method<Q, A> {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// May be sent again after the server became unavailable, even if it may have been carried out.
    pub repeatable: bool,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    const fn repeatable(path: &'static str) -> Self {
        Self { path, repeatable: true, messages: PhantomData }
    }

    const fn once(path: &'static str) -> Self {
        Self { path, repeatable: false, messages: PhantomData }
    }
}

pub const RANGE: Method<RangeRequest, RangeResponse> = Method::repeatable("/etcdserverpb.KV/Range");
pub const RANGE_STREAM: Method<RangeRequest, RangeStreamResponse> = Method::once("/etcdserverpb.KV/RangeStream");
pub const PUT: Method<PutRequest, PutResponse> = Method::once("/etcdserverpb.KV/Put");
pub const DELETE_RANGE: Method<DeleteRangeRequest, DeleteRangeResponse> = Method::once("/etcdserverpb.KV/DeleteRange");
pub const TXN: Method<TxnRequest, TxnResponse> = Method::once("/etcdserverpb.KV/Txn");
pub const COMPACT: Method<CompactionRequest, CompactionResponse> = Method::once("/etcdserverpb.KV/Compact");

pub const WATCH: Method<WatchRequest, WatchResponse> = Method::once("/etcdserverpb.Watch/Watch");

pub const LEASE_GRANT: Method<LeaseGrantRequest, LeaseGrantResponse> =
    Method::repeatable("/etcdserverpb.Lease/LeaseGrant");
pub const LEASE_REVOKE: Method<LeaseRevokeRequest, LeaseRevokeResponse> =
    Method::repeatable("/etcdserverpb.Lease/LeaseRevoke");
pub const LEASE_KEEP_ALIVE: Method<LeaseKeepAliveRequest, LeaseKeepAliveResponse> =
    Method::repeatable("/etcdserverpb.Lease/LeaseKeepAlive");
pub const LEASE_TIME_TO_LIVE: Method<LeaseTimeToLiveRequest, LeaseTimeToLiveResponse> =
    Method::repeatable("/etcdserverpb.Lease/LeaseTimeToLive");
pub const LEASE_LEASES: Method<LeaseLeasesRequest, LeaseLeasesResponse> =
    Method::repeatable("/etcdserverpb.Lease/LeaseLeases");

pub const MEMBER_ADD: Method<MemberAddRequest, MemberAddResponse> = Method::once("/etcdserverpb.Cluster/MemberAdd");
pub const MEMBER_REMOVE: Method<MemberRemoveRequest, MemberRemoveResponse> =
    Method::once("/etcdserverpb.Cluster/MemberRemove");
pub const MEMBER_UPDATE: Method<MemberUpdateRequest, MemberUpdateResponse> =
    Method::once("/etcdserverpb.Cluster/MemberUpdate");
pub const MEMBER_LIST: Method<MemberListRequest, MemberListResponse> =
    Method::repeatable("/etcdserverpb.Cluster/MemberList");
pub const MEMBER_PROMOTE: Method<MemberPromoteRequest, MemberPromoteResponse> =
    Method::once("/etcdserverpb.Cluster/MemberPromote");

pub const ALARM: Method<AlarmRequest, AlarmResponse> = Method::repeatable("/etcdserverpb.Maintenance/Alarm");
pub const STATUS: Method<StatusRequest, StatusResponse> = Method::repeatable("/etcdserverpb.Maintenance/Status");
pub const DEFRAGMENT: Method<DefragmentRequest, DefragmentResponse> =
    Method::once("/etcdserverpb.Maintenance/Defragment");
pub const HASH: Method<HashRequest, HashResponse> = Method::repeatable("/etcdserverpb.Maintenance/Hash");
pub const HASH_KV: Method<HashKvRequest, HashKvResponse> = Method::repeatable("/etcdserverpb.Maintenance/HashKV");
pub const SNAPSHOT: Method<SnapshotRequest, SnapshotResponse> =
    Method::repeatable("/etcdserverpb.Maintenance/Snapshot");
pub const MOVE_LEADER: Method<MoveLeaderRequest, MoveLeaderResponse> =
    Method::repeatable("/etcdserverpb.Maintenance/MoveLeader");
pub const DOWNGRADE: Method<DowngradeRequest, DowngradeResponse> = Method::once("/etcdserverpb.Maintenance/Downgrade");

pub const AUTH_ENABLE: Method<AuthEnableRequest, AuthEnableResponse> = Method::once("/etcdserverpb.Auth/AuthEnable");
pub const AUTH_DISABLE: Method<AuthDisableRequest, AuthDisableResponse> =
    Method::once("/etcdserverpb.Auth/AuthDisable");
pub const AUTH_STATUS: Method<AuthStatusRequest, AuthStatusResponse> = Method::once("/etcdserverpb.Auth/AuthStatus");
pub const AUTHENTICATE: Method<AuthenticateRequest, AuthenticateResponse> =
    Method::once("/etcdserverpb.Auth/Authenticate");
pub const USER_ADD: Method<AuthUserAddRequest, AuthUserAddResponse> = Method::once("/etcdserverpb.Auth/UserAdd");
pub const USER_GET: Method<AuthUserGetRequest, AuthUserGetResponse> = Method::repeatable("/etcdserverpb.Auth/UserGet");
pub const USER_LIST: Method<AuthUserListRequest, AuthUserListResponse> =
    Method::repeatable("/etcdserverpb.Auth/UserList");
pub const USER_DELETE: Method<AuthUserDeleteRequest, AuthUserDeleteResponse> =
    Method::once("/etcdserverpb.Auth/UserDelete");
pub const USER_CHANGE_PASSWORD: Method<AuthUserChangePasswordRequest, AuthUserChangePasswordResponse> =
    Method::once("/etcdserverpb.Auth/UserChangePassword");
pub const USER_GRANT_ROLE: Method<AuthUserGrantRoleRequest, AuthUserGrantRoleResponse> =
    Method::once("/etcdserverpb.Auth/UserGrantRole");
pub const USER_REVOKE_ROLE: Method<AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse> =
    Method::once("/etcdserverpb.Auth/UserRevokeRole");
pub const ROLE_ADD: Method<AuthRoleAddRequest, AuthRoleAddResponse> = Method::once("/etcdserverpb.Auth/RoleAdd");
pub const ROLE_GET: Method<AuthRoleGetRequest, AuthRoleGetResponse> = Method::repeatable("/etcdserverpb.Auth/RoleGet");
pub const ROLE_LIST: Method<AuthRoleListRequest, AuthRoleListResponse> =
    Method::repeatable("/etcdserverpb.Auth/RoleList");
pub const ROLE_DELETE: Method<AuthRoleDeleteRequest, AuthRoleDeleteResponse> =
    Method::once("/etcdserverpb.Auth/RoleDelete");
pub const ROLE_GRANT_PERMISSION: Method<AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse> =
    Method::once("/etcdserverpb.Auth/RoleGrantPermission");
pub const ROLE_REVOKE_PERMISSION: Method<AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse> =
    Method::once("/etcdserverpb.Auth/RoleRevokePermission");

pub const LOCK: Method<LockRequest, LockResponse> = Method::once("/v3lockpb.Lock/Lock");
pub const UNLOCK: Method<UnlockRequest, UnlockResponse> = Method::once("/v3lockpb.Lock/Unlock");
pub const CAMPAIGN: Method<CampaignRequest, CampaignResponse> = Method::once("/v3electionpb.Election/Campaign");
pub const PROCLAIM: Method<ProclaimRequest, ProclaimResponse> = Method::once("/v3electionpb.Election/Proclaim");
pub const LEADER: Method<LeaderRequest, LeaderResponse> = Method::once("/v3electionpb.Election/Leader");
pub const OBSERVE: Method<LeaderRequest, LeaderResponse> = Method::once("/v3electionpb.Election/Observe");
pub const RESIGN: Method<ResignRequest, ResignResponse> = Method::once("/v3electionpb.Election/Resign");
