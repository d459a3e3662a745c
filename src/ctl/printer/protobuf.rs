//! Replies as the bytes of their message, nothing else.

use std::io::Write;

use prost::Message;

use super::super::exit::{BAD_FEATURE, Exit};
use super::reply::{Reply, unsupported};

pub fn print(reply: &Reply, output: &mut dyn Write) -> Result<(), Exit> {
    output.write_all(&bytes(reply)?)?;
    Ok(())
}

fn bytes(reply: &Reply) -> Result<Vec<u8>, Exit> {
    Ok(match reply {
        Reply::Get(response) => response.encode_to_vec(),
        Reply::Put(response) => response.encode_to_vec(),
        Reply::Delete(response) => response.encode_to_vec(),
        Reply::Txn(response) => response.encode_to_vec(),
        Reply::Watch(response) => response.encode_to_vec(),
        Reply::LeaseRevoke { response, .. } => response.encode_to_vec(),
        Reply::MemberAdd(response) => response.encode_to_vec(),
        Reply::MemberRemove { response, .. } => response.encode_to_vec(),
        Reply::MemberUpdate { response, .. } => response.encode_to_vec(),
        Reply::MemberPromote { response, .. } => response.encode_to_vec(),
        Reply::MemberList(response) => response.encode_to_vec(),
        Reply::MoveLeader { response, .. } => response.encode_to_vec(),
        Reply::Downgrade { response, .. } => response.encode_to_vec(),
        Reply::Alarm(response) => response.encode_to_vec(),
        Reply::RoleAdd { response, .. } => response.encode_to_vec(),
        Reply::RoleDelete { response, .. } => response.encode_to_vec(),
        Reply::RoleGet { response, .. } => response.encode_to_vec(),
        Reply::RoleList(response) => response.encode_to_vec(),
        Reply::RoleGrantPermission { response, .. } => response.encode_to_vec(),
        Reply::RoleRevokePermission { response, .. } => response.encode_to_vec(),
        Reply::UserAdd { response, .. } => response.encode_to_vec(),
        Reply::UserDelete { response, .. } => response.encode_to_vec(),
        Reply::UserGet { response, .. } => response.encode_to_vec(),
        Reply::UserList(response) => response.encode_to_vec(),
        Reply::UserChangePassword(response) => response.encode_to_vec(),
        Reply::UserGrantRole { response, .. } => response.encode_to_vec(),
        Reply::UserRevokeRole { response, .. } => response.encode_to_vec(),
        Reply::AuthStatus(response) => response.encode_to_vec(),
        Reply::Health(_) | Reply::Status(_) | Reply::HashKv(_) => return Err(unsupported("protobuf")),
        // etcdctl wraps lease replies in types of its own, which it then cannot marshal.
        Reply::LeaseGrant(_) => return Err(not_a_message("LeaseGrantResponse")),
        Reply::LeaseKeepAlive(_) => return Err(not_a_message("LeaseKeepAliveResponse")),
        Reply::LeaseTimeToLive { .. } => return Err(not_a_message("LeaseTimeToLiveResponse")),
        Reply::LeaseList(_) => return Err(not_a_message("LeaseLeasesResponse")),
    })
}

fn not_a_message(name: &str) -> Exit {
    Exit::new(BAD_FEATURE, format!("marshal unsupported for type *clientv3.{name}"))
}
