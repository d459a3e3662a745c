//! Requests as text for the log: etcd's texts, with the sizes of values in place of values.
//!
//! etcd mixes two writers, and tools match its lines: requests that may carry values (`put`, `txn`, compares of
//! values) have the older text form (`<...>`, a space after every field, octal escapes), all others the newer one
//! (`{...}`, hexadecimal escapes).

use std::fmt::{Display, Write};

use crate::{
    apply::request::{Operation, RaftRequest},
    auth::AuthRequest,
    proto::etcdserverpb::{
        Compare, DeleteRangeRequest, LeaseCheckpointRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        compare::TargetUnion, request_op::Request,
    },
};

/// `key:"k" range_end:"z" limit:3`.
#[must_use]
pub fn range(request: &RangeRequest) -> String {
    let mut text = Fields::default();
    text.bytes("key", &request.key).bytes("range_end", &request.range_end);
    text.number("limit", request.limit).number("revision", request.revision);
    if request.sort_order != 0 {
        text.set("sort_order", request.sort_order().as_str_name());
    }
    if request.sort_target != 0 {
        text.set("sort_target", request.sort_target().as_str_name());
    }
    text.flag("serializable", request.serializable).flag("keys_only", request.keys_only);
    text.flag("count_only", request.count_only);
    text.number("min_mod_revision", request.min_mod_revision).number("max_mod_revision", request.max_mod_revision);
    text.number("min_create_revision", request.min_create_revision);
    text.number("max_create_revision", request.max_create_revision);
    text.0
}

/// `key:"k" value_size:3 `.
#[must_use]
pub fn put(request: &PutRequest) -> String {
    let mut text = String::new();
    if !request.key.is_empty() {
        add(&mut text, "key", format_args!("{}", octal(&request.key)));
    }
    for (name, number) in [("value_size", request.value.len() as i64), ("lease", request.lease)] {
        if number != 0 {
            add(&mut text, name, number);
        }
    }
    let flags =
        [("prev_kv", request.prev_kv), ("ignore_value", request.ignore_value), ("ignore_lease", request.ignore_lease)];
    flags.into_iter().filter(|(_, flag)| *flag).for_each(|(name, _)| add(&mut text, name, true));
    text
}

/// `key:"k" range_end:"l" prev_kv:true`.
#[must_use]
pub fn delete_range(request: &DeleteRangeRequest) -> String {
    let mut text = Fields::default();
    text.bytes("key", &request.key).bytes("range_end", &request.range_end).flag("prev_kv", request.prev_kv);
    text.0
}

/// `compare:<...> success:<...> failure:<...>`. Recursive: the decoder has bounded the depth.
#[must_use]
pub fn txn(request: &TxnRequest) -> String {
    let joined = |texts: Vec<String>| texts.join(" ");
    let compares = joined(request.compare.iter().map(compare).collect());
    let success = joined(request.success.iter().map(operation).collect());
    let failure = joined(request.failure.iter().map(operation).collect());
    format!("compare:<{compares}> success:<{success}> failure:<{failure}>")
}

/// A whole entry of the log: `header:<ID:7 > put:<...>`.
#[must_use]
pub fn entry(request: &RaftRequest) -> String {
    let id = request.id;
    let (name, text) = match &request.operation {
        Operation::Put(put) => return format!("header:<ID:{id}> put:<{}>", self::put(put)),
        Operation::Txn(txn) => return format!("header:<ID:{id}> txn:<{}>", self::txn(txn)),
        Operation::LeaseGrant(grant) => {
            return format!("header:<ID:{id}> lease_grant:<ttl:{}-second id:{:016x}>", grant.ttl, grant.id);
        }
        Operation::LeaseRevoke(revoke) => return format!("header:<ID:{id}> lease_revoke:<id:{:016x}>", revoke.id),
        Operation::LeaseCheckpoint(request) => ("lease_checkpoint", lease_checkpoints(request)),
        Operation::DeleteRange(delete) => ("delete_range", delete_range(delete)),
        Operation::Compaction(compaction) => {
            let mut text = Fields::default();
            text.number("revision", compaction.revision).flag("physical", compaction.physical);
            ("compaction", text.0)
        }
        Operation::Alarm(alarm) => {
            let mut text = Fields::default();
            if alarm.action != 0 {
                text.set("action", alarm.action().as_str_name());
            }
            if alarm.member_id != 0 {
                text.set("memberID", alarm.member_id);
            }
            if alarm.alarm != 0 {
                text.set("alarm", alarm.alarm().as_str_name());
            }
            ("alarm", text.0)
        }
        Operation::ClusterVersionSet(set) => {
            let mut text = Fields::default();
            text.bytes("ver", set.ver.as_bytes());
            ("cluster_version_set", text.0)
        }
        Operation::ClusterMemberAttrSet(set) => {
            let mut text = Fields::default();
            text.set("member_ID", set.member_id);
            ("cluster_member_attr_set", text.0)
        }
        Operation::DowngradeInfoSet(set) => {
            let mut text = Fields::default();
            text.flag("enabled", set.enabled).bytes("ver", set.ver.as_bytes());
            ("downgrade_info_set", text.0)
        }
        Operation::DowngradeVersionTest => ("downgrade_version_test", String::new()),
        Operation::Auth(request) => auth(request),
        Operation::Unknown(field) => ("unknown", field.to_string()),
    };
    format!("header:{{ID:{id}}} {name}:{{{text}}}")
}

/// Names, never passwords or tokens.
fn auth(request: &AuthRequest) -> (&'static str, String) {
    let named = |fields: &[(&'static str, &str)]| {
        let mut text = Fields::default();
        for (name, value) in fields {
            text.bytes(name, value.as_bytes());
        }
        text.0
    };
    match request {
        AuthRequest::Enable => ("auth_enable", String::new()),
        AuthRequest::Disable => ("auth_disable", String::new()),
        AuthRequest::Authenticate(request) => ("authenticate", named(&[("name", &request.name)])),
        AuthRequest::UserAdd(request) => ("auth_user_add", named(&[("name", &request.name)])),
        AuthRequest::UserDelete(request) => ("auth_user_delete", named(&[("name", &request.name)])),
        AuthRequest::UserChangePassword(request) => ("auth_user_change_password", named(&[("name", &request.name)])),
        AuthRequest::UserGrantRole(request) => {
            ("auth_user_grant_role", named(&[("user", &request.user), ("role", &request.role)]))
        }
        AuthRequest::UserRevokeRole(request) => {
            ("auth_user_revoke_role", named(&[("name", &request.name), ("role", &request.role)]))
        }
        AuthRequest::RoleAdd(request) => ("auth_role_add", named(&[("name", &request.name)])),
        AuthRequest::RoleDelete(request) => ("auth_role_delete", named(&[("role", &request.role)])),
        AuthRequest::RoleGrantPermission(request) => ("auth_role_grant_permission", named(&[("name", &request.name)])),
        AuthRequest::RoleRevokePermission(request) => {
            ("auth_role_revoke_permission", named(&[("role", &request.role)]))
        }
        AuthRequest::Question => ("auth", String::new()),
    }
}

fn lease_checkpoints(request: &LeaseCheckpointRequest) -> String {
    let mut all = Fields::default();
    for checkpoint in &request.checkpoints {
        let mut text = Fields::default();
        text.number("ID", checkpoint.id).number("remaining_TTL", checkpoint.remaining_ttl);
        all.set("checkpoints", format_args!("{{{}}}", text.0));
    }
    all.0
}

fn operation(op: &RequestOp) -> String {
    match &op.request {
        Some(Request::RequestPut(request)) => format!("request_put:<{}>", put(request)),
        Some(Request::RequestTxn(request)) => format!("request_txn:<{}>", txn(request)),
        Some(Request::RequestRange(request)) => format!("request_range:{{{}}}", range(request)),
        Some(Request::RequestDeleteRange(request)) => format!("request_delete_range:{{{}}}", delete_range(request)),
        None => String::new(),
    }
}

fn compare(compare: &Compare) -> String {
    let (result, target) = (compare.result().as_str_name(), compare.target().as_str_name());
    if let Some(TargetUnion::Value(value)) = &compare.target_union {
        let mut text = String::new();
        if compare.result != 0 {
            add(&mut text, "result", result);
        }
        if compare.target != 0 {
            add(&mut text, "target", target);
        }
        add(&mut text, "key", octal(&compare.key));
        add(&mut text, "value_size", value.len());
        if !compare.range_end.is_empty() {
            add(&mut text, "range_end", octal(&compare.range_end));
        }
        return text;
    }
    let mut text = Fields::default();
    if compare.result != 0 {
        text.set("result", result);
    }
    if compare.target != 0 {
        text.set("target", target);
    }
    text.bytes("key", &compare.key);
    let (name, number) = match compare.target_union {
        Some(TargetUnion::Version(version)) => ("version", version),
        Some(TargetUnion::CreateRevision(revision)) => ("create_revision", revision),
        Some(TargetUnion::ModRevision(revision)) => ("mod_revision", revision),
        Some(TargetUnion::Lease(lease)) => ("lease", lease),
        Some(TargetUnion::Value(_)) | None => ("", 0),
    };
    if !name.is_empty() {
        text.set(name, number);
    }
    text.bytes("range_end", &compare.range_end);
    text.0
}

/// The newer form: fields that are not zero, one space between them.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn set(&mut self, name: &str, value: impl Display) -> &mut Self {
        let space = if self.0.is_empty() { "" } else { " " };
        let _infallible = write!(self.0, "{space}{name}:{value}");
        self
    }

    fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.set(name, hexadecimal(value)) }
    }

    fn number(&mut self, name: &str, value: i64) -> &mut Self {
        if value == 0 { self } else { self.set(name, value) }
    }

    fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        if value { self.set(name, true) } else { self }
    }
}

/// The older form: a space after every field.
fn add(text: &mut String, name: &str, value: impl Display) {
    let _infallible = write!(text, "{name}:{value} ");
}

fn octal(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        let _infallible = match byte {
            b'\n' => write!(text, "\\n"),
            b'\r' => write!(text, "\\r"),
            b'\t' => write!(text, "\\t"),
            b'"' | b'\\' => write!(text, "\\{}", char::from(*byte)),
            b' '..=b'~' => write!(text, "{}", char::from(*byte)),
            _ => write!(text, "\\{byte:03o}"),
        };
    }
    text + "\""
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            let _infallible = match char {
                '\n' => write!(text, "\\n"),
                '\r' => write!(text, "\\r"),
                '\t' => write!(text, "\\t"),
                '"' | '\\' => write!(text, "\\{char}"),
                _ if char < ' ' || char == '\x7f' => write!(text, "\\x{:02x}", u32::from(char)),
                _ => write!(text, "{char}"),
            };
        }
        for byte in chunk.invalid() {
            let _infallible = write!(text, "\\x{byte:02x}");
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::etcdserverpb::{CompactionRequest, range_request::SortOrder};

    const KEY: &[u8] = b"a\xc3\xa9\x01\xff\"\\";

    fn of_nobody(id: u64, operation: Operation) -> RaftRequest {
        RaftRequest { id, user: Bytes::new(), auth_revision: 0, operation }
    }

    #[test]
    fn texts_are_those_that_etcd_logged() {
        let range = RangeRequest {
            key: KEY.into(),
            range_end: "zz".into(),
            limit: 3,
            sort_order: SortOrder::Descend as i32,
            ..RangeRequest::default()
        };
        assert_eq!(
            super::range(&range),
            "key:\"a\u{e9}\\x01\\xff\\\"\\\\\" range_end:\"zz\" limit:3 sort_order:DESCEND"
        );
        let put = PutRequest { key: KEY.into(), value: "b".into(), ..PutRequest::default() };
        assert_eq!(super::put(&put), "key:\"a\\303\\251\\001\\377\\\"\\\\\" value_size:1 ");
        let request = of_nobody(7, Operation::Put(put));
        let text = "header:<ID:7> put:<key:\"a\\303\\251\\001\\377\\\"\\\\\" value_size:1 >";
        assert_eq!(entry(&request), text);
        let compaction = CompactionRequest { revision: 2, physical: false };
        let request = of_nobody(8, Operation::Compaction(compaction));
        assert_eq!(entry(&request), "header:{ID:8} compaction:{revision:2}");
    }

    #[test]
    fn transactions_show_sizes_in_place_of_values() {
        let of_value = Compare {
            target: 3,
            key: "a".into(),
            target_union: Some(TargetUnion::Value("bcd".into())),
            ..Compare::default()
        };
        let of_revision = Compare {
            result: 1,
            target: 2,
            key: "a".into(),
            target_union: Some(TargetUnion::ModRevision(1)),
            ..Compare::default()
        };
        let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        let get = RangeRequest { key: "k".into(), ..RangeRequest::default() };
        let delete = DeleteRangeRequest { key: "k".into(), ..DeleteRangeRequest::default() };
        let op = |request| RequestOp { request: Some(request) };
        let request = TxnRequest {
            compare: vec![of_value, of_revision],
            success: vec![op(Request::RequestPut(put)), op(Request::RequestRange(get))],
            failure: vec![op(Request::RequestDeleteRange(delete))],
        };
        let text = concat!(
            "compare:<target:VALUE key:\"a\" value_size:3  result:GREATER target:MOD key:\"a\" mod_revision:1> ",
            "success:<request_put:<key:\"k\" value_size:1 > request_range:{key:\"k\"}> ",
            "failure:<request_delete_range:{key:\"k\"}>",
        );
        assert_eq!(txn(&request), text);
    }
}
