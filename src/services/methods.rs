//! The methods that are served, as data; the position in the table is the method's id.

use crate::{
    metrics::GrpcMethod,
    rpc::{
        Method, MethodId,
        MethodKind::{self, BidiStream, ServerStream, Unary},
    },
};

const fn method(service: &'static str, name: &'static str, kind: MethodKind) -> Method {
    Method { service, name, kind }
}

pub const RANGE: MethodId = MethodId(0);
pub const RANGE_STREAM: MethodId = MethodId(1);
pub const PUT: MethodId = MethodId(2);
pub const DELETE_RANGE: MethodId = MethodId(3);
pub const TXN: MethodId = MethodId(4);
pub const COMPACT: MethodId = MethodId(5);
pub const WATCH: MethodId = MethodId(6);
pub const LEASE_GRANT: MethodId = MethodId(7);
pub const LEASE_REVOKE: MethodId = MethodId(8);
pub const LEASE_KEEP_ALIVE: MethodId = MethodId(9);
pub const LEASE_TIME_TO_LIVE: MethodId = MethodId(10);
pub const LEASES: MethodId = MethodId(11);
pub const MEMBER_LIST: MethodId = MethodId(12);
pub const MEMBER_ADD: MethodId = MethodId(13);
pub const MEMBER_REMOVE: MethodId = MethodId(14);
pub const MEMBER_UPDATE: MethodId = MethodId(15);
pub const MEMBER_PROMOTE: MethodId = MethodId(16);
pub const ALARM: MethodId = MethodId(17);
pub const STATUS: MethodId = MethodId(18);
pub const DEFRAGMENT: MethodId = MethodId(19);
pub const HASH: MethodId = MethodId(20);
pub const HASH_KV: MethodId = MethodId(21);
pub const SNAPSHOT: MethodId = MethodId(22);
pub const MOVE_LEADER: MethodId = MethodId(23);
pub const DOWNGRADE: MethodId = MethodId(24);
pub const LOCK: MethodId = MethodId(25);
pub const UNLOCK: MethodId = MethodId(26);
pub const CAMPAIGN: MethodId = MethodId(27);
pub const PROCLAIM: MethodId = MethodId(28);
pub const LEADER: MethodId = MethodId(29);
pub const OBSERVE: MethodId = MethodId(30);
pub const RESIGN: MethodId = MethodId(31);
pub const HEALTH_CHECK: MethodId = MethodId(32);
pub const HEALTH_LIST: MethodId = MethodId(33);
pub const HEALTH_WATCH: MethodId = MethodId(34);
pub const AUTH_ENABLE: MethodId = MethodId(35);
pub const AUTH_DISABLE: MethodId = MethodId(36);
pub const AUTH_STATUS: MethodId = MethodId(37);
pub const AUTHENTICATE: MethodId = MethodId(38);
pub const USER_ADD: MethodId = MethodId(39);
pub const USER_GET: MethodId = MethodId(40);
pub const USER_LIST: MethodId = MethodId(41);
pub const USER_DELETE: MethodId = MethodId(42);
pub const USER_CHANGE_PASSWORD: MethodId = MethodId(43);
pub const USER_GRANT_ROLE: MethodId = MethodId(44);
pub const USER_REVOKE_ROLE: MethodId = MethodId(45);
pub const ROLE_ADD: MethodId = MethodId(46);
pub const ROLE_GET: MethodId = MethodId(47);
pub const ROLE_LIST: MethodId = MethodId(48);
pub const ROLE_DELETE: MethodId = MethodId(49);
pub const ROLE_GRANT_PERMISSION: MethodId = MethodId(50);
pub const ROLE_REVOKE_PERMISSION: MethodId = MethodId(51);

/// Whether a method is one of the Auth service.
pub(super) fn is_auth(method: MethodId) -> bool {
    (AUTH_ENABLE.0..=ROLE_REVOKE_PERMISSION.0).contains(&method.0)
}

/// In the order of the constants above.
pub const METHODS: &[Method] = &[
    method("etcdserverpb.KV", "Range", Unary),
    method("etcdserverpb.KV", "RangeStream", ServerStream),
    method("etcdserverpb.KV", "Put", Unary),
    method("etcdserverpb.KV", "DeleteRange", Unary),
    method("etcdserverpb.KV", "Txn", Unary),
    method("etcdserverpb.KV", "Compact", Unary),
    method("etcdserverpb.Watch", "Watch", BidiStream),
    method("etcdserverpb.Lease", "LeaseGrant", Unary),
    method("etcdserverpb.Lease", "LeaseRevoke", Unary),
    method("etcdserverpb.Lease", "LeaseKeepAlive", BidiStream),
    method("etcdserverpb.Lease", "LeaseTimeToLive", Unary),
    method("etcdserverpb.Lease", "LeaseLeases", Unary),
    method("etcdserverpb.Cluster", "MemberList", Unary),
    method("etcdserverpb.Cluster", "MemberAdd", Unary),
    method("etcdserverpb.Cluster", "MemberRemove", Unary),
    method("etcdserverpb.Cluster", "MemberUpdate", Unary),
    method("etcdserverpb.Cluster", "MemberPromote", Unary),
    method("etcdserverpb.Maintenance", "Alarm", Unary),
    method("etcdserverpb.Maintenance", "Status", Unary),
    method("etcdserverpb.Maintenance", "Defragment", Unary),
    method("etcdserverpb.Maintenance", "Hash", Unary),
    method("etcdserverpb.Maintenance", "HashKV", Unary),
    method("etcdserverpb.Maintenance", "Snapshot", ServerStream),
    method("etcdserverpb.Maintenance", "MoveLeader", Unary),
    method("etcdserverpb.Maintenance", "Downgrade", Unary),
    method("v3lockpb.Lock", "Lock", Unary),
    method("v3lockpb.Lock", "Unlock", Unary),
    method("v3electionpb.Election", "Campaign", Unary),
    method("v3electionpb.Election", "Proclaim", Unary),
    method("v3electionpb.Election", "Leader", Unary),
    method("v3electionpb.Election", "Observe", ServerStream),
    method("v3electionpb.Election", "Resign", Unary),
    method("grpc.health.v1.Health", "Check", Unary),
    method("grpc.health.v1.Health", "List", Unary),
    method("grpc.health.v1.Health", "Watch", ServerStream),
    method("etcdserverpb.Auth", "AuthEnable", Unary),
    method("etcdserverpb.Auth", "AuthDisable", Unary),
    method("etcdserverpb.Auth", "AuthStatus", Unary),
    method("etcdserverpb.Auth", "Authenticate", Unary),
    method("etcdserverpb.Auth", "UserAdd", Unary),
    method("etcdserverpb.Auth", "UserGet", Unary),
    method("etcdserverpb.Auth", "UserList", Unary),
    method("etcdserverpb.Auth", "UserDelete", Unary),
    method("etcdserverpb.Auth", "UserChangePassword", Unary),
    method("etcdserverpb.Auth", "UserGrantRole", Unary),
    method("etcdserverpb.Auth", "UserRevokeRole", Unary),
    method("etcdserverpb.Auth", "RoleAdd", Unary),
    method("etcdserverpb.Auth", "RoleGet", Unary),
    method("etcdserverpb.Auth", "RoleList", Unary),
    method("etcdserverpb.Auth", "RoleDelete", Unary),
    method("etcdserverpb.Auth", "RoleGrantPermission", Unary),
    method("etcdserverpb.Auth", "RoleRevokePermission", Unary),
];

const _: () = assert!(METHODS.len() == ROLE_REVOKE_PERMISSION.0 as usize + 1);

/// The same methods as the metrics name them.
pub static MEASURED: [GrpcMethod; METHODS.len()] = measured();

/// etcd registers Lock and Election after its metrics have looked at the server, so their series begin with their calls.
const fn joins_late(at: usize) -> bool {
    at >= LOCK.0 as usize && at <= RESIGN.0 as usize
}

const fn measured() -> [GrpcMethod; METHODS.len()] {
    let mut measured = [GrpcMethod { service: "", method: "", kind: "", from_start: true }; METHODS.len()];
    let mut at = 0;
    while at < METHODS.len() {
        let Method { service, name, kind } = METHODS[at];
        let kind = match kind {
            Unary => "unary",
            ServerStream => "server_stream",
            BidiStream => "bidi_stream",
        };
        measured[at] = GrpcMethod { service, method: name, kind, from_start: !joins_late(at) };
        at += 1;
    }
    measured
}
