//! Shared parts of the checks: flags, clients, and cleaning up.

use std::time::Duration;

use super::super::command::Flag;
use super::super::go_format::quote;
use super::super::session::{BAD_CONNECTION, BAD_FEATURE, ERROR, Exit, INVALID_INPUT, Session};
use super::load::Outcome;
use crate::client::{Call, Client, method};
use crate::proto::etcdserverpb::{CompactionRequest, DefragmentRequest, DeleteRangeRequest, RangeRequest};
use crate::service::queue::prefix_end;

pub const AUTO_COMPACT: Flag = Flag::bool("auto-compact", "Compact storage with last revision after test is finished.");
pub const AUTO_DEFRAG: Flag = Flag::bool("auto-defrag", "Defragment storage after test is finished.");

/// Deleting, compacting and defragmenting may take longer than an ordinary command.
pub const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

/// The index of a workload in a table of small, medium, large and very large.
pub fn workload(session: &Session) -> Result<usize, Exit> {
    match session.flags.text("load") {
        "s" | "small" => Ok(0),
        "m" | "medium" => Ok(1),
        "l" | "large" => Ok(2),
        "xl" | "xLarge" => Ok(3),
        other => Err(Exit::new(BAD_FEATURE, format!("unknown load option {other}"))),
    }
}

/// As many clients as the workload has, each with a connection of its own.
pub fn clients(session: &mut Session, count: usize) -> Result<Vec<Client>, Exit> {
    let options = session.settle()?;
    let connect = |_| session.wait(Client::connect(options.clone())).map_err(|error| Exit::new(BAD_CONNECTION, error));
    (0..count).map(connect).collect()
}

/// Checks that no key is under the prefix, because the check deletes all of them.
pub fn expect_nothing(session: &mut Session, client: &Client, hint_quotes: &str) -> Result<(), Exit> {
    let prefix = session.flags.text("prefix").to_owned();
    let key = bytes::Bytes::copy_from_slice(prefix.as_bytes());
    let request = RangeRequest { range_end: prefix_end(&key), key, limit: 1, ..RangeRequest::default() };
    let found = session.request(client, &method::RANGE, &request, Call::default())?;
    if found.kvs.is_empty() {
        return Ok(());
    }
    let quoted = quote(prefix.as_bytes());
    let text =
        format!("prefix {quoted} has keys. Delete with {hint_quotes}etcdctl del --prefix {prefix}{hint_quotes} first");
    Err(Exit::new(INVALID_INPUT, text))
}

/// Deletes the keys of the check; returns the revision of the deletion.
pub fn delete(session: &mut Session, client: &Client, call: Call) -> Result<i64, crate::client::Error> {
    let key = bytes::Bytes::copy_from_slice(session.flags.text("prefix").as_bytes());
    let request = DeleteRangeRequest { range_end: prefix_end(&key), key, ..DeleteRangeRequest::default() };
    let response = session.request(client, &method::DELETE_RANGE, &request, call)?;
    Ok(response.header.map_or(0, |header| header.revision))
}

pub fn compact(session: &mut Session, client: &Client, revision: i64) -> Result<(), Exit> {
    writeln!(session.io.output, "Compacting with revision {revision}")?;
    let request = CompactionRequest { revision, physical: true };
    session.request(client, &method::COMPACT, &request, Call::within(CLEANUP_TIMEOUT))?;
    writeln!(session.io.output, "Compacted with revision {revision}")?;
    Ok(())
}

pub fn defragment(session: &mut Session) -> Result<(), Exit> {
    for endpoint in session.flags.list("endpoints").to_vec() {
        let quoted = quote(endpoint.as_bytes());
        writeln!(session.io.output, "Defragmenting {quoted}")?;
        let client = session.client_of(&endpoint)?;
        session.request(&client, &method::DEFRAGMENT, &DefragmentRequest {}, Call::within(CLEANUP_TIMEOUT))?;
        writeln!(session.io.output, "Defragmented {quoted}")?;
    }
    Ok(())
}

/// Prints the errors of the calls. True if there were any.
pub fn show_errors(session: &mut Session, outcome: &Outcome) -> Result<bool, Exit> {
    if outcome.errors.is_empty() {
        return Ok(false);
    }
    writeln!(session.io.output, "FAIL: too many errors")?;
    for (text, count) in &outcome.errors {
        writeln!(session.io.output, "FAIL: ERROR({text}) -> {count}")?;
    }
    Ok(true)
}

pub fn failed() -> Exit {
    Exit::silent(ERROR)
}
