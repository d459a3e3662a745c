//! Replies as lines `"Name" : value`.

use std::io::{self, Write};

use super::super::exit::Exit;
use super::super::go_format::quote;
use super::reply::{EndpointStatus, Reply, alarm_name, header, unsupported};
use crate::proto::authpb::permission::Type;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::*;
use crate::proto::mvccpb::{KeyValue, event::EventType};

pub fn print(reply: &Reply, hex: bool, output: &mut dyn Write) -> Result<(), Exit> {
    let mut printer = Fields { hex, output };
    match reply {
        Reply::Get(response) => printer.get(response)?,
        Reply::Put(response) => printer.put(response)?,
        Reply::Delete(response) => printer.delete(response)?,
        Reply::Txn(response) => printer.txn(response)?,
        Reply::Watch(response) => printer.watch(response)?,
        Reply::LeaseGrant(response) => printer.lease(&response.header, response.id, response.ttl)?,
        Reply::LeaseKeepAlive(response) => printer.lease(&response.header, response.id, response.ttl)?,
        Reply::LeaseRevoke { response, .. } => printer.header(&response.header)?,
        Reply::LeaseTimeToLive { response, .. } => printer.time_to_live(response)?,
        Reply::LeaseList(response) => {
            printer.header(&response.header)?;
            response.leases.iter().try_for_each(|lease| printer.lease_id(lease.id))?;
        }
        Reply::MemberList(response) => printer.members(response)?,
        Reply::Health(list) => {
            for health in list {
                printer.quoted("Endpoint", health.endpoint.as_bytes())?;
                printer.line("Health", health.healthy)?;
                printer.line("Took", &health.took)?;
                printer.line("Error", &health.error)?;
                printer.blank()?;
            }
        }
        Reply::Status(list) => list.iter().try_for_each(|status| printer.status(status))?,
        Reply::HashKv(list) => {
            for hash in list {
                printer.header(&hash.response.header)?;
                printer.quoted("Endpoint", hash.endpoint.as_bytes())?;
                printer.line("Hash", hash.response.hash)?;
                printer.line("HashRevision", hash.response.hash_revision)?;
                printer.blank()?;
            }
        }
        Reply::Alarm(response) => {
            printer.header(&response.header)?;
            for alarm in &response.alarms {
                printer.member_id("MemberID", alarm.member_id)?;
                printer.line("AlarmType", alarm_name(alarm.alarm))?;
                printer.blank()?;
            }
        }
        Reply::RoleGet { response, .. } => printer.role(response)?,
        Reply::RoleList(response) => {
            printer.header(&response.header)?;
            let roles: String = response.roles.iter().map(|role| format!(" {}", quote(role.as_bytes()))).collect();
            writeln!(printer.output, "\"Roles\" :{roles}")?;
        }
        Reply::RoleAdd { response, .. } => printer.header(&response.header)?,
        Reply::RoleDelete { response, .. } => printer.header(&response.header)?,
        Reply::RoleGrantPermission { response, .. } => printer.header(&response.header)?,
        Reply::RoleRevokePermission { response, .. } => printer.header(&response.header)?,
        Reply::UserAdd { response, .. } => printer.header(&response.header)?,
        Reply::UserDelete { response, .. } => printer.header(&response.header)?,
        Reply::UserChangePassword(response) => printer.header(&response.header)?,
        Reply::UserGrantRole { response, .. } => printer.header(&response.header)?,
        Reply::UserRevokeRole { response, .. } => printer.header(&response.header)?,
        Reply::MemberAdd(_)
        | Reply::MemberRemove { .. }
        | Reply::MemberUpdate { .. }
        | Reply::MemberPromote { .. }
        | Reply::MoveLeader { .. }
        | Reply::Downgrade { .. }
        | Reply::UserGet { .. }
        | Reply::UserList(_)
        | Reply::AuthStatus(_) => return Err(unsupported("fields")),
    }
    Ok(())
}

struct Fields<'a> {
    hex: bool,
    output: &'a mut dyn Write,
}

impl Fields<'_> {
    fn line(&mut self, name: &str, value: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.output, "\"{name}\" : {value}")
    }

    fn quoted(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.line(name, quote(value))
    }

    fn blank(&mut self) -> io::Result<()> {
        writeln!(self.output)
    }

    fn member_id(&mut self, name: &str, id: u64) -> io::Result<()> {
        if self.hex { self.line(name, format_args!("{id:x}")) } else { self.line(name, id) }
    }

    fn lease_id(&mut self, id: i64) -> io::Result<()> {
        self.lease_named("ID", id)
    }

    fn lease_named(&mut self, name: &str, id: i64) -> io::Result<()> {
        if self.hex { self.line(name, format_args!("{id:016x}")) } else { self.line(name, id) }
    }

    fn header(&mut self, of: &Option<ResponseHeader>) -> io::Result<()> {
        let header = header(of);
        self.member_id("ClusterID", header.cluster_id)?;
        self.member_id("MemberID", header.member_id)?;
        if header.revision > 0 {
            self.line("Revision", header.revision)?;
        }
        self.line("RaftTerm", header.raft_term)
    }

    fn pair(&mut self, prefix: &str, pair: &KeyValue) -> io::Result<()> {
        self.quoted(&format!("{prefix}Key"), &pair.key)?;
        self.line(&format!("{prefix}CreateRevision"), pair.create_revision)?;
        self.line(&format!("{prefix}ModRevision"), pair.mod_revision)?;
        self.line(&format!("{prefix}Version"), pair.version)?;
        self.quoted(&format!("{prefix}Value"), &pair.value)?;
        self.lease_named(&format!("{prefix}Lease"), pair.lease)
    }

    fn get(&mut self, response: &RangeResponse) -> io::Result<()> {
        self.header(&response.header)?;
        response.kvs.iter().try_for_each(|pair| self.pair("", pair))?;
        self.line("More", response.more)?;
        self.line("Count", response.count)
    }

    fn put(&mut self, response: &PutResponse) -> io::Result<()> {
        self.header(&response.header)?;
        response.prev_kv.iter().try_for_each(|pair| self.pair("Prev", pair))
    }

    fn delete(&mut self, response: &DeleteRangeResponse) -> io::Result<()> {
        self.header(&response.header)?;
        self.line("Deleted", response.deleted)?;
        response.prev_kvs.iter().try_for_each(|pair| self.pair("Prev", pair))
    }

    fn txn(&mut self, response: &TxnResponse) -> io::Result<()> {
        self.header(&response.header)?;
        self.line("Succeeded", response.succeeded)?;
        for operation in &response.responses {
            match &operation.response {
                Some(Response::ResponseRange(response)) => self.get(response)?,
                Some(Response::ResponsePut(response)) => self.put(response)?,
                Some(Response::ResponseDeleteRange(response)) => self.delete(response)?,
                other => self.quoted("Unknown", format!("{other:?}").as_bytes())?,
            }
        }
        Ok(())
    }

    fn watch(&mut self, response: &WatchResponse) -> io::Result<()> {
        self.header(&response.header)?;
        for event in &response.events {
            self.line("Type", if event.r#type == EventType::Put as i32 { "PUT" } else { "DELETE" })?;
            event.prev_kv.iter().try_for_each(|pair| self.pair("Prev", pair))?;
            self.pair("", &event.kv.clone().unwrap_or_default())?;
        }
        Ok(())
    }

    fn lease(&mut self, header: &Option<ResponseHeader>, id: i64, ttl: i64) -> io::Result<()> {
        self.header(header)?;
        self.lease_id(id)?;
        self.line("TTL", ttl)
    }

    fn time_to_live(&mut self, response: &LeaseTimeToLiveResponse) -> io::Result<()> {
        self.lease(&response.header, response.id, response.ttl)?;
        self.line("GrantedTTL", response.granted_ttl)?;
        response.keys.iter().try_for_each(|key| self.quoted("Key", key))
    }

    fn members(&mut self, response: &MemberListResponse) -> io::Result<()> {
        self.header(&response.header)?;
        for member in &response.members {
            self.member_id("ID", member.id)?;
            self.quoted("Name", member.name.as_bytes())?;
            member.peer_ur_ls.iter().try_for_each(|url| self.quoted("PeerURL", url.as_bytes()))?;
            member.client_ur_ls.iter().try_for_each(|url| self.quoted("ClientURL", url.as_bytes()))?;
            self.line("IsLearner", member.is_learner)?;
            self.blank()?;
        }
        Ok(())
    }

    fn status(&mut self, status: &EndpointStatus) -> io::Result<()> {
        let response = &status.response;
        let downgrade = response.downgrade_info.clone().unwrap_or_default();
        self.header(&response.header)?;
        self.quoted("Version", response.version.as_bytes())?;
        self.quoted("StorageVersion", response.storage_version.as_bytes())?;
        self.line("DBSize", response.db_size)?;
        self.line("DBSizeInUse", response.db_size_in_use)?;
        self.line("DBSizeQuota", response.db_size_quota)?;
        self.line("Leader", response.leader)?;
        self.line("IsLearner", response.is_learner)?;
        self.line("RaftIndex", response.raft_index)?;
        self.line("RaftAppliedIndex", response.raft_applied_index)?;
        self.line("Errors", format_args!("[{}]", response.errors.join(" ")))?;
        self.quoted("Endpoint", status.endpoint.as_bytes())?;
        self.quoted("DowngradeTargetVersion", downgrade.target_version.as_bytes())?;
        self.line("DowngradeEnabled", downgrade.enabled)?;
        self.blank()
    }

    fn role(&mut self, response: &AuthRoleGetResponse) -> io::Result<()> {
        self.header(&response.header)?;
        for permission in &response.perm {
            let kind = Type::try_from(permission.perm_type).unwrap_or_default();
            // Two blanks: etcdctl prints one with the name and one before the value.
            self.line("PermType", format_args!(" {}", kind.as_str_name()))?;
            self.quoted("Key", &permission.key)?;
            self.quoted("RangeEnd", &permission.range_end)?;
        }
        Ok(())
    }
}
