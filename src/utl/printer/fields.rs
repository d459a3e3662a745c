//! One line per field.

use super::reply::Reply;

pub fn text(reply: &Reply) -> String {
    match reply {
        Reply::Status(status) => format!(
            "\"Hash\" : {}\n\"Revision\" : {}\n\"Keys\" : {}\n\"Size\" : {}\n\"Version\" : {}\n",
            status.hash, status.revision, status.total_keys, status.total_size, status.version
        ),
        Reply::Hash(hash) => format!(
            "\"Hash\" : {}\n\"Hash revision\" : {}\n\"Compact revision\" : {}\n",
            hash.hash, hash.hash_revision, hash.compact_revision
        ),
    }
}
