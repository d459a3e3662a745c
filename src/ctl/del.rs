//! `del`: one key or a range.

use std::io::Write;

use super::command::{Command, Flag, Group};
use super::flags::Flags;
use super::get;
use super::go_format::quote;
use super::printer::Reply;
use super::session::{Exit, Session, grace};
use crate::client::method;
use crate::proto::etcdserverpb::DeleteRangeRequest;

pub static COMMAND: Command = Command {
    name: "del",
    arguments: "[options] <key> [range_end]",
    short: "Removes the specified key or range of keys [key, range_end)",
    group: Some(Group::KeyValue),
    flags: FLAGS,
    run: Some(run),
    ..Command::EMPTY
};

const FLAGS: &[Flag] = &[
    Flag::bool("prefix", "delete keys with matching prefix"),
    Flag::bool("prev-kv", "return deleted key-value pairs"),
    Flag::bool("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
    Flag::bool("range", "delete range of keys"),
];

fn run(session: &mut Session) -> Result<(), Exit> {
    let request = request(&session.flags, &session.flags.arguments, session.io.errors)?;
    let client = session.client()?;
    let call = session.call();
    let response = session.request(&client, &method::DELETE_RANGE, &request, call)?;
    session.print(&Reply::Delete(response))
}

/// The request of these flags and arguments; also for `del` in a transaction. A range without
/// `--range` is delayed by two seconds.
pub fn request(flags: &Flags, arguments: &[Vec<u8>], errors: &mut dyn Write) -> Result<DeleteRangeRequest, Exit> {
    let (key, end) = match arguments {
        [key] => (key, None),
        [key, end] => (key, Some(end)),
        _ => {
            let text = "del command needs one argument as key and an optional argument as range_end";
            return Err(Exit::arguments(text));
        }
    };
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    if prefix && from_key {
        return Err(Exit::arguments("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    if let Some(end) = end {
        if prefix || from_key {
            let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
            return Err(Exit::arguments(text));
        }
        if !flags.bool("range") {
            let (from, to) = (quote(key), quote(end));
            writeln!(
                errors,
                "Warning: Keys between {from} and {to} will be deleted. Please interrupt the command within \
                 next 2 seconds to cancel. You can provide `--range` flag to avoid the delay."
            )?;
            std::thread::sleep(grace());
        }
    }
    let (key, range_end) = get::range(key, end, prefix, from_key);
    Ok(DeleteRangeRequest { key, range_end, prev_kv: flags.bool("prev-kv") })
}
