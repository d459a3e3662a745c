//! The meaning of each RPC as functions over values: checks, reads, and encoding of answers.
//!
//! Nothing here waits. A read is a function of a [`crate::apply::View`]; a write is a check and the bytes to propose. Waiting (for a
//! read index, for a commit, for a window of HTTP/2 flow control) is part of the shell. The table of refusals is in
//! `base::refusal`, because apply refuses with the same texts.
//!
//! | file | holds |
//! |---|---|
//! | `check` | static checks of requests, in etcd's order |
//! | `corruption` | whose data is wrong |
//! | `downgrade` | the versions of a cluster |
//! | `election`, `lock` | requests of contenders for leadership and names, and the meaning of the answers |
//! | `kv` | Range, read-only Txn: from a view to bytes |
//! | `members` | changes of the members, before they are proposed |
//! | `queue` | the queue of keys that lock and election use |
//! | `range_stream` | RangeStream: a range in pieces |
//! | `request_text` | requests as text for the log |
//! | `retention` | automatic compaction |
//! | `status` | Status, MemberList |

pub mod check;
pub mod corruption;
pub mod downgrade;
pub mod election;
pub mod kv;
pub mod lock;
pub mod members;
pub mod queue;
pub mod range_stream;
pub mod request_text;
pub mod retention;
pub mod status;
