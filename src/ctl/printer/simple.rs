//! Replies as short text for people.

use std::io::{self, Write};

use super::super::exit::Exit;
use super::reply::{Health, Reply, alarm_name, header, rows};
use crate::proto::authpb::Permission;
use crate::proto::authpb::permission::Type;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::*;
use crate::proto::mvccpb::{KeyValue, event::EventType};
use crate::service::queue::prefix_end;

pub fn print(
    reply: &Reply,
    hex: bool,
    value_only: bool,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), Exit> {
    let mut printer = Simple { hex, value_only, output };
    match reply {
        Reply::Get(response) => printer.pairs(&response.kvs)?,
        Reply::Put(response) => printer.put(response)?,
        Reply::Delete(response) => printer.delete(response)?,
        Reply::Txn(response) => printer.txn(response)?,
        Reply::Watch(response) => printer.watch(response)?,
        Reply::MemberList(_) | Reply::Status(_) | Reply::HashKv(_) => printer.rows(reply)?,
        Reply::Health(list) => health(list, output, errors)?,
        Reply::RoleGet { role, response } => printer.role(role, response)?,
        Reply::Alarm(response) => printer.alarms(response)?,
        Reply::RoleList(AuthRoleListResponse { roles: names, .. })
        | Reply::UserList(AuthUserListResponse { users: names, .. }) => {
            names.iter().try_for_each(|name| writeln!(output, "{name}"))?;
        }
        Reply::LeaseList(response) => {
            writeln!(output, "found {} leases", response.leases.len())?;
            response.leases.iter().try_for_each(|lease| writeln!(output, "{:016x}", lease.id))?;
        }
        Reply::LeaseTimeToLive { response, with_keys } => printer.time_to_live(response, *with_keys)?,
        Reply::RoleRevokePermission { role, key, end, .. } => printer.revoked(role, key, end)?,
        Reply::UserGet { user, response } => {
            writeln!(output, "User: {user}")?;
            let roles: String = response.roles.iter().map(|role| format!(" {role}")).collect();
            writeln!(output, "Roles:{roles}")?;
        }
        Reply::AuthStatus(response) => {
            writeln!(output, "Authentication Status: {}", response.enabled)?;
            writeln!(output, "AuthRevision: {}", response.auth_revision)?;
        }
        reply => writeln!(output, "{}", sentence(reply))?,
    }
    Ok(())
}

/// The replies that are one sentence.
fn sentence(reply: &Reply) -> String {
    match reply {
        Reply::LeaseGrant(response) => format!("lease {:016x} granted with TTL({}s)", response.id, response.ttl),
        Reply::LeaseRevoke { id, .. } => format!("lease {id:016x} revoked"),
        Reply::LeaseKeepAlive(response) => format!("lease {:016x} keepalived with TTL({})", response.id, response.ttl),
        Reply::MemberAdd(response) => {
            let member = response.member.clone().unwrap_or_default();
            let learner = if member.is_learner { " as learner " } else { " " };
            let cluster = header(&response.header).cluster_id;
            format!("Member {:16x} added{learner}to cluster {cluster:16x}", member.id)
        }
        Reply::MemberRemove { id, response } => {
            format!("Member {id:16x} removed from cluster {:16x}", header(&response.header).cluster_id)
        }
        Reply::MemberUpdate { id, response } => {
            format!("Member {id:16x} updated in cluster {:16x}", header(&response.header).cluster_id)
        }
        Reply::MemberPromote { id, response } => {
            format!("Member {id:16x} promoted in cluster {:16x}", header(&response.header).cluster_id)
        }
        Reply::MoveLeader { from, to, .. } => format!("Leadership transferred from {from:x} to {to:x}"),
        Reply::Downgrade { action, response } => {
            format!("Downgrade {action} success, cluster version {}", response.version)
        }
        Reply::RoleAdd { role, .. } => format!("Role {role} created"),
        Reply::RoleDelete { role, .. } => format!("Role {role} deleted"),
        Reply::RoleGrantPermission { role, .. } => format!("Role {role} updated"),
        Reply::UserAdd { user, .. } => format!("User {user} created"),
        Reply::UserDelete { user, .. } => format!("User {user} deleted"),
        Reply::UserChangePassword(_) => "Password updated".to_owned(),
        Reply::UserGrantRole { user, role, .. } => format!("Role {role} is granted to user {user}"),
        Reply::UserRevokeRole { user, role, .. } => format!("Role {role} is revoked from user {user}"),
        _ => unreachable!("replies of several lines are printed by their own functions"),
    }
}

fn health(list: &[Health], output: &mut dyn Write, errors: &mut dyn Write) -> io::Result<()> {
    for health in list {
        if health.error.is_empty() {
            writeln!(
                output,
                "{} is healthy: successfully committed proposal: took = {}",
                health.endpoint, health.took
            )?;
        } else {
            writeln!(errors, "{} is unhealthy: failed to commit proposal: {}", health.endpoint, health.error)?;
        }
    }
    Ok(())
}

struct Simple<'a> {
    hex: bool,
    value_only: bool,
    output: &'a mut dyn Write,
}

impl Simple<'_> {
    fn pairs(&mut self, pairs: &[KeyValue]) -> io::Result<()> {
        pairs.iter().try_for_each(|pair| self.pair(pair))
    }

    fn pair(&mut self, pair: &KeyValue) -> io::Result<()> {
        if !self.value_only {
            self.bytes_line(&pair.key)?;
        }
        self.bytes_line(&pair.value)
    }

    fn bytes_line(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.hex {
            bytes.iter().try_for_each(|byte| write!(self.output, "\\x{byte:02x}"))?;
        } else {
            self.output.write_all(bytes)?;
        }
        self.output.write_all(b"\n")
    }

    fn put(&mut self, response: &PutResponse) -> io::Result<()> {
        writeln!(self.output, "OK")?;
        response.prev_kv.iter().try_for_each(|pair| self.pair(pair))
    }

    fn delete(&mut self, response: &DeleteRangeResponse) -> io::Result<()> {
        writeln!(self.output, "{}", response.deleted)?;
        self.pairs(&response.prev_kvs)
    }

    fn txn(&mut self, response: &TxnResponse) -> io::Result<()> {
        writeln!(self.output, "{}", if response.succeeded { "SUCCESS" } else { "FAILURE" })?;
        for operation in &response.responses {
            writeln!(self.output)?;
            match &operation.response {
                Some(Response::ResponseRange(response)) => self.pairs(&response.kvs)?,
                Some(Response::ResponsePut(response)) => self.put(response)?,
                Some(Response::ResponseDeleteRange(response)) => self.delete(response)?,
                other => writeln!(self.output, "unexpected response {other:?}")?,
            }
        }
        Ok(())
    }

    fn watch(&mut self, response: &WatchResponse) -> io::Result<()> {
        for event in &response.events {
            writeln!(self.output, "{}", if event.r#type == EventType::Put as i32 { "PUT" } else { "DELETE" })?;
            event.prev_kv.iter().try_for_each(|pair| self.pair(pair))?;
            self.pair(&event.kv.clone().unwrap_or_default())?;
        }
        Ok(())
    }

    fn rows(&mut self, reply: &Reply) -> io::Result<()> {
        let (_, rows) = rows(reply).unwrap_or_default();
        rows.iter().try_for_each(|row| writeln!(self.output, "{}", row.join(", ")))
    }

    fn alarms(&mut self, response: &AlarmResponse) -> io::Result<()> {
        for alarm in &response.alarms {
            let member = if alarm.member_id == 0 { String::new() } else { format!("memberID:{}", alarm.member_id) };
            let kind = if alarm.alarm == 0 { String::new() } else { format!("alarm:{}", alarm_name(alarm.alarm)) };
            writeln!(self.output, "{}", format!("{member} {kind}").trim())?;
        }
        Ok(())
    }

    fn time_to_live(&mut self, response: &LeaseTimeToLiveResponse, with_keys: bool) -> io::Result<()> {
        if response.granted_ttl == 0 && response.ttl == -1 {
            return writeln!(self.output, "lease {:016x} already expired", response.id);
        }
        let (granted, left) = (response.granted_ttl, response.ttl);
        write!(self.output, "lease {:016x} granted with TTL({granted}s), remaining({left}s)", response.id)?;
        if with_keys {
            write!(self.output, ", attached keys([")?;
            self.output.write_all(&response.keys.join(&b' '))?;
            write!(self.output, "])")?;
        }
        writeln!(self.output)
    }

    fn role(&mut self, role: &str, response: &AuthRoleGetResponse) -> io::Result<()> {
        writeln!(self.output, "Role {role}")?;
        let everything = role == "root" && response.perm.is_empty();
        for (title, kind) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
            writeln!(self.output, "{title}")?;
            if everything {
                writeln!(self.output, "\t[, <open ended>")?;
            }
            for permission in &response.perm {
                if permission.perm_type == kind as i32 || permission.perm_type == Type::Readwrite as i32 {
                    self.permission(permission)?;
                }
            }
        }
        Ok(())
    }

    fn permission(&mut self, permission: &Permission) -> io::Result<()> {
        let (key, end) = (&permission.key, &permission.range_end);
        write!(self.output, "\t")?;
        if end.is_empty() {
            self.output.write_all(key)?;
            return writeln!(self.output);
        }
        self.range(key, end)?;
        if !key.is_empty() && prefix_end(key)[..] == end[..] {
            write!(self.output, " (prefix ")?;
            self.output.write_all(key)?;
            write!(self.output, ")")?;
        }
        writeln!(self.output)
    }

    fn range(&mut self, key: &[u8], end: &[u8]) -> io::Result<()> {
        write!(self.output, "[")?;
        self.output.write_all(key)?;
        write!(self.output, ", ")?;
        if end == b"\0" {
            return write!(self.output, "<open ended>");
        }
        self.output.write_all(end)?;
        write!(self.output, ")")
    }

    fn revoked(&mut self, role: &str, key: &[u8], end: &[u8]) -> io::Result<()> {
        if end.is_empty() {
            write!(self.output, "Permission of key ")?;
            self.output.write_all(key)?;
        } else {
            write!(self.output, "Permission of range ")?;
            self.range(key, end)?;
        }
        writeln!(self.output, " is revoked from role {role}")
    }
}
