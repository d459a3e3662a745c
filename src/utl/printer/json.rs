//! One line of JSON.

use super::reply::Reply;
use crate::ctl::go_json;

pub fn text(reply: &Reply) -> String {
    let object = match reply {
        Reply::Status(status) => go_json::object(|object| {
            object.number("hash", status.hash);
            object.number("revision", status.revision);
            object.number("totalKey", status.total_keys);
            object.number("totalSize", status.total_size);
            object.text("version", &status.version);
        }),
        Reply::Hash(hash) => go_json::object(|object| {
            object.number("hash", hash.hash);
            object.number("hashRevision", hash.hash_revision);
            object.number("compactRevision", hash.compact_revision);
        }),
    };
    format!("{object}\n")
}
