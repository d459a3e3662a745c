//! Replies as one line of JSON, shaped like the Go structs that etcdctl marshals.

use std::io::Write;

use super::super::exit::Exit;
use super::super::go_json::{self, Object};
use super::reply::{EndpointHash, EndpointStatus, Health, Reply, header};
use crate::proto::authpb::Permission;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::*;
use crate::proto::mvccpb::{Event, KeyValue};

pub fn print(reply: &Reply, hex: bool, output: &mut dyn Write) -> Result<(), Exit> {
    let text = match reply {
        Reply::Health(list) => go_json::array(list, health),
        Reply::Status(list) => go_json::array(list, status),
        Reply::HashKv(list) => go_json::array(list, hash),
        reply => go_json::object(|object| write(reply, hex, object)),
    };
    writeln!(output, "{text}")?;
    Ok(())
}

fn write(reply: &Reply, hex: bool, object: &mut Object) {
    match reply {
        Reply::Get(response) => range(response, object),
        Reply::Put(response) => put(response, object),
        Reply::Delete(response) => delete(response, object),
        Reply::Txn(response) => txn(response, object),
        Reply::Watch(response) => watch(response, object),
        Reply::LeaseGrant(_) | Reply::LeaseKeepAlive(_) | Reply::LeaseTimeToLive { .. } | Reply::LeaseList(_) => {
            lease(reply, object)
        }
        Reply::MemberAdd(response) => {
            let added = response.member.as_ref();
            members(&response.header, added, &response.members, hex, object);
        }
        Reply::MemberRemove { response, .. } => members(&response.header, None, &response.members, hex, object),
        Reply::MemberUpdate { response, .. } => members(&response.header, None, &response.members, hex, object),
        Reply::MemberPromote { response, .. } => members(&response.header, None, &response.members, hex, object),
        Reply::MemberList(response) => members(&response.header, None, &response.members, hex, object),
        Reply::Downgrade { response, .. } => {
            head(&response.header, object);
            object.text_or_skip("version", &response.version);
        }
        Reply::Alarm(response) => {
            head(&response.header, object);
            object.objects_or_skip("alarms", &response.alarms, |alarm, object| {
                object.number_or_skip("memberID", alarm.member_id);
                object.number_or_skip("alarm", alarm.alarm);
            });
        }
        Reply::RoleGet { response, .. } => {
            head(&response.header, object);
            object.objects_or_skip("perm", &response.perm, permission);
        }
        Reply::RoleList(response) => {
            head(&response.header, object);
            object.texts_or_skip("roles", &response.roles);
        }
        Reply::UserGet { response, .. } => {
            head(&response.header, object);
            object.texts_or_skip("roles", &response.roles);
        }
        Reply::UserList(response) => {
            head(&response.header, object);
            object.texts_or_skip("users", &response.users);
        }
        Reply::AuthStatus(response) => {
            head(&response.header, object);
            object.bool_or_skip("enabled", response.enabled);
            object.number_or_skip("authRevision", response.auth_revision);
        }
        reply => head(&only_header(reply), object),
    }
}

/// The header of replies without other fields.
fn only_header(reply: &Reply) -> Option<ResponseHeader> {
    match reply {
        Reply::LeaseRevoke { response, .. } => response.header,
        Reply::MoveLeader { response, .. } => response.header,
        Reply::RoleAdd { response, .. } => response.header,
        Reply::RoleDelete { response, .. } => response.header,
        Reply::RoleGrantPermission { response, .. } => response.header,
        Reply::RoleRevokePermission { response, .. } => response.header,
        Reply::UserAdd { response, .. } => response.header,
        Reply::UserDelete { response, .. } => response.header,
        Reply::UserChangePassword(response) => response.header,
        Reply::UserGrantRole { response, .. } => response.header,
        Reply::UserRevokeRole { response, .. } => response.header,
        _ => unreachable!("replies with more than a header are written above"),
    }
}

fn head(header: &Option<ResponseHeader>, object: &mut Object) {
    object.object_or_skip("header", header.as_ref(), header_fields);
}

fn header_fields(header: &ResponseHeader, object: &mut Object) {
    object.number_or_skip("cluster_id", header.cluster_id);
    object.number_or_skip("member_id", header.member_id);
    object.number_or_skip("revision", header.revision);
    object.number_or_skip("raft_term", header.raft_term);
}

fn range(response: &RangeResponse, object: &mut Object) {
    head(&response.header, object);
    object.objects_or_skip("kvs", &response.kvs, pair);
    object.bool_or_skip("more", response.more);
    object.number_or_skip("count", response.count);
}

fn put(response: &PutResponse, object: &mut Object) {
    head(&response.header, object);
    object.object_or_skip("prev_kv", response.prev_kv.as_ref(), pair);
}

fn delete(response: &DeleteRangeResponse, object: &mut Object) {
    head(&response.header, object);
    object.number_or_skip("deleted", response.deleted);
    object.objects_or_skip("prev_kvs", &response.prev_kvs, pair);
}

fn pair(pair: &KeyValue, object: &mut Object) {
    object.bytes_or_skip("key", &pair.key);
    object.number_or_skip("create_revision", pair.create_revision);
    object.number_or_skip("mod_revision", pair.mod_revision);
    object.number_or_skip("version", pair.version);
    object.bytes_or_skip("value", &pair.value);
    object.number_or_skip("lease", pair.lease);
}

fn txn(response: &TxnResponse, object: &mut Object) {
    head(&response.header, object);
    object.bool_or_skip("succeeded", response.succeeded);
    object.objects_or_skip("responses", &response.responses, |operation, object| {
        object.object("Response", |object| match &operation.response {
            Some(Response::ResponseRange(response)) => {
                object.object("response_range", |object| range(response, object))
            }
            Some(Response::ResponsePut(response)) => object.object("response_put", |object| put(response, object)),
            Some(Response::ResponseDeleteRange(response)) => {
                object.object("response_delete_range", |object| delete(response, object));
            }
            // etcdctl's own transactions do not nest, so this depth is one.
            Some(Response::ResponseTxn(response)) => {
                object.object("response_txn", |object| head(&response.header, object))
            }
            None => {}
        });
    });
}

fn watch(response: &WatchResponse, object: &mut Object) {
    object.object("Header", |object| header_fields(&header(&response.header), object));
    object.objects_or_null("Events", &response.events, event);
    object.number("CompactRevision", response.compact_revision);
    object.bool("Canceled", response.canceled);
    object.bool("Created", response.created);
    object.text("CancelReason", &response.cancel_reason);
}

fn event(event: &Event, object: &mut Object) {
    object.number_or_skip("type", event.r#type);
    object.object_or_skip("kv", event.kv.as_ref(), pair);
    object.object_or_skip("prev_kv", event.prev_kv.as_ref(), pair);
}

/// Lease replies carry the header's fields among their own.
fn lease(reply: &Reply, object: &mut Object) {
    match reply {
        Reply::LeaseGrant(response) => {
            header_fields(&header(&response.header), object);
            object.number("ID", response.id);
            object.number("TTL", response.ttl);
            object.text("Error", &response.error);
        }
        Reply::LeaseKeepAlive(response) => {
            header_fields(&header(&response.header), object);
            object.number("ID", response.id);
            object.number("TTL", response.ttl);
        }
        Reply::LeaseTimeToLive { response, .. } => {
            header_fields(&header(&response.header), object);
            object.number("id", response.id);
            object.number("ttl", response.ttl);
            object.number("granted-ttl", response.granted_ttl);
            object.byte_strings("keys", &response.keys);
        }
        Reply::LeaseList(response) => {
            header_fields(&header(&response.header), object);
            object.objects("leases", &response.leases, |lease, object| object.number("id", lease.id));
        }
        _ => unreachable!("only lease replies come here"),
    }
}

fn members(
    header: &Option<ResponseHeader>,
    added: Option<&Member>,
    members: &[Member],
    hex: bool,
    object: &mut Object,
) {
    if hex {
        object.object_or_skip("header", header.as_ref(), hex_header_fields);
        object.object_or_skip("member", added, hex_member);
        return object.objects("members", members, hex_member);
    }
    head(header, object);
    object.object_or_skip("member", added, |added, object| {
        object.number_or_skip("ID", added.id);
        member(added, object);
    });
    object.objects_or_skip("members", members, |each, object| {
        object.number_or_skip("ID", each.id);
        member(each, object);
    });
}

fn hex_header_fields(header: &ResponseHeader, object: &mut Object) {
    object.text("cluster_id", &format!("{:x}", header.cluster_id));
    object.text("member_id", &format!("{:x}", header.member_id));
    object.number_or_skip("revision", header.revision);
    object.number_or_skip("raft_term", header.raft_term);
}

fn hex_member(each: &Member, object: &mut Object) {
    object.text("ID", &format!("{:x}", each.id));
    member(each, object);
}

fn member(member: &Member, object: &mut Object) {
    object.text_or_skip("name", &member.name);
    object.texts_or_skip("peerURLs", &member.peer_ur_ls);
    object.texts_or_skip("clientURLs", &member.client_ur_ls);
    object.bool_or_skip("isLearner", member.is_learner);
}

fn health(health: &Health, object: &mut Object) {
    object.text("endpoint", &health.endpoint);
    object.bool("health", health.healthy);
    object.text("took", &health.took);
    object.text_or_skip("error", &health.error);
}

fn status(status: &EndpointStatus, object: &mut Object) {
    let response = &status.response;
    object.text("Endpoint", &status.endpoint);
    object.object("Status", |object| {
        head(&response.header, object);
        object.text_or_skip("version", &response.version);
        object.number_or_skip("dbSize", response.db_size);
        object.number_or_skip("leader", response.leader);
        object.number_or_skip("raftIndex", response.raft_index);
        object.number_or_skip("raftTerm", response.raft_term);
        object.number_or_skip("raftAppliedIndex", response.raft_applied_index);
        object.texts_or_skip("errors", &response.errors);
        object.number_or_skip("dbSizeInUse", response.db_size_in_use);
        object.bool_or_skip("isLearner", response.is_learner);
        object.text_or_skip("storageVersion", &response.storage_version);
        object.number_or_skip("dbSizeQuota", response.db_size_quota);
        object.object_or_skip("downgradeInfo", response.downgrade_info.as_ref(), |info, object| {
            object.bool_or_skip("enabled", info.enabled);
            object.text_or_skip("targetVersion", &info.target_version);
        });
    });
}

fn hash(hash: &EndpointHash, object: &mut Object) {
    let response = &hash.response;
    object.text("Endpoint", &hash.endpoint);
    object.object("HashKV", |object| {
        head(&response.header, object);
        object.number_or_skip("hash", response.hash);
        object.number_or_skip("compact_revision", response.compact_revision);
        object.number_or_skip("hash_revision", response.hash_revision);
    });
}

fn permission(permission: &Permission, object: &mut Object) {
    object.number_or_skip("permType", permission.perm_type);
    object.bytes_or_skip("key", &permission.key);
    object.bytes_or_skip("range_end", &permission.range_end);
}
