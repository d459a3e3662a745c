//! The meaning of each RPC as functions over values: what is checked, what it reads, how its answer is encoded.
//!
//! Nothing here waits. A read is a function of a [`crate::apply::View`]; a write is a check and the bytes to propose. What waits
//! (for a read index, for a commit, for a window of HTTP/2 flow control) is the shell's affair. The table of refusals is on the
//! ground floor (`base::refusal`), because apply refuses with the same words.
//!
//! | file | holds |
//! |---|---|
//! | `check` | static checks of requests, in etcd's order |
//! | `corruption` | whose data is wrong |
//! | `downgrade` | the versions of a cluster |
//! | `election`, `lock` | who leads, who holds a name: what is asked of the store, and what its answers mean |
//! | `kv` | Range, read-only Txn: from a view to bytes |
//! | `members` | changes of the members, before they are proposed |
//! | `auth` | users and roles of a migrated database |
//! | `queue` | the queue of keys behind a lock and an election |
//! | `range_stream` | RangeStream: a range in pieces |
//! | `request_text` | requests in words for the log |
//! | `retention` | which revisions may go by themselves |
//! | `status` | Status, MemberList |

pub mod auth;
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
