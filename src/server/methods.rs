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
pub const STATUS: MethodId = MethodId(6);
pub const ALARM: MethodId = MethodId(7);
pub const MEMBER_LIST: MethodId = MethodId(8);
pub const HEALTH_CHECK: MethodId = MethodId(9);

/// In the order of the constants above.
pub const METHODS: &[Method] = &[
    method("etcdserverpb.KV", "Range", Unary),
    method("etcdserverpb.KV", "RangeStream", ServerStream),
    method("etcdserverpb.KV", "Put", Unary),
    method("etcdserverpb.KV", "DeleteRange", Unary),
    method("etcdserverpb.KV", "Txn", Unary),
    method("etcdserverpb.KV", "Compact", Unary),
    method("etcdserverpb.Maintenance", "Status", Unary),
    method("etcdserverpb.Maintenance", "Alarm", Unary),
    method("etcdserverpb.Cluster", "MemberList", Unary),
    method("grpc.health.v1.Health", "Check", Unary),
];

const _: () = assert!(METHODS.len() == HEALTH_CHECK.0 as usize + 1);

/// The same methods as the metrics name them.
pub static MEASURED: [GrpcMethod; METHODS.len()] = measured();

const fn measured() -> [GrpcMethod; METHODS.len()] {
    let mut measured = [GrpcMethod { service: "", method: "", kind: "" }; METHODS.len()];
    let mut at = 0;
    while at < METHODS.len() {
        let Method { service, name, kind } = METHODS[at];
        let kind = match kind {
            Unary => "unary",
            ServerStream => "server_stream",
            BidiStream => "bidi_stream",
        };
        measured[at] = GrpcMethod { service, method: name, kind };
        at += 1;
    }
    measured
}
