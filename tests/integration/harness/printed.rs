//! What command line clients print, without what differs from one start to the next or from one server to the other.

use serde_json::Value;

use super::{etcdctl::Printed, server::Server};

/// Fields of JSON.
pub const MASKED: [&str; 11] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "leader",
    "dbSize",
    "dbSizeInUse",
    "dbSizeQuota",
    "took",
];

/// Text or lines of JSON, and no log.
pub fn masked(printed: Printed, server: &Server) -> Printed {
    let line = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(mut value) if value.is_object() || value.is_array() => {
            mask(&mut value);
            value.to_string()
        }
        _ => line.to_owned(),
    };
    let lines: String = printed.stdout.lines().map(|one| line(one) + "\n").collect();
    Printed { stdout: without_ids(&lines), stderr: without_variables(&printed.stderr, server), ..printed }
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if MASKED.contains(&name.as_str()) {
                    *field = Value::Null;
                } else {
                    mask(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => (),
    }
}

/// `--write-out=fields` prints the header line by line.
pub fn without_ids(text: &str) -> String {
    let masked = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""];
    text.lines()
        .filter(|line| !masked.iter().any(|name| line.starts_with(name)))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// etcdctl's own log lines carry times and addresses.
pub fn without_variables(text: &str, server: &Server) -> String {
    text.lines()
        .filter(|line| !line.starts_with('{'))
        .map(|line| line.replace(&server.endpoint(), "ENDPOINT"))
        .fold(String::new(), |all, line| all + &line + "\n")
}
