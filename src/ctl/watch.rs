//! `watch`: events of a key, a range or a prefix, each perhaps handed to a command.

use super::command::{Command, Flag, Group};
use super::flags::Flags;
use super::get;
use super::go_format::quote;
use super::printer::Reply;
use super::session::{ERROR, Exit, INTERRUPTED, Session};
use super::{interactive, process};
use crate::client::watch::cancellation;
use crate::client::{Call, Error};
use crate::proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use crate::proto::mvccpb::Event;
use crate::proto::mvccpb::event::EventType;

pub static COMMAND: Command = Command {
    name: "watch",
    arguments: "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    short: "Watches events stream on keys or prefixes",
    group: Some(Group::KeyValue),
    flags: &[
        Flag::bool("interactive", "Interactive mode").letter('i'),
        Flag::bool("prefix", "Watch on a prefix if prefix is set"),
        Flag::int("rev", "Revision to start watching"),
        Flag::bool("prev-kv", "get the previous key-value pair before the event happens"),
        Flag::bool("progress-notify", "get periodic watch progress notification from server"),
    ],
    run: Some(run),
    ..Command::EMPTY
};

/// The environment may name key and end of the range.
pub const KEY_VARIABLE: &str = "ETCDCTL_WATCH_KEY";
const END_VARIABLE: &str = "ETCDCTL_WATCH_RANGE_END";

fn run(session: &mut Session) -> Result<(), Exit> {
    let (key, end) = (session.variable(KEY_VARIABLE), session.variable(END_VARIABLE));
    if key.is_empty() && !end.is_empty() {
        let text = format!("{KEY_VARIABLE} is empty but got {END_VARIABLE}={}", quote(end.as_bytes()));
        return Err(Exit::arguments(text));
    }
    if session.flags.bool("interactive") {
        return interactive::run(session);
    }
    let (keys, command) = split_arguments(session, &session.flags)?;
    let client = session.client()?;
    let request = request(&session.flags, &keys)?;
    let mut watch = client.watch(request, Call::default().require_leader());
    loop {
        let next = session.wait(watch.next());
        match next {
            Ok(Some(response)) => show(session, response, &command)?,
            Ok(None) => break,
            Err(error) => {
                show_end(session, &error)?;
                break;
            }
        }
    }
    Err(Exit::new(INTERRUPTED, "watch is canceled by the server"))
}

/// Keys to watch, and the command for each event.
type Arguments = (Vec<Vec<u8>>, Vec<String>);

/// Takes `watch a b -- command` apart; the environment may stand for the keys.
pub fn split_arguments(session: &Session, flags: &Flags) -> Result<Arguments, Exit> {
    let (key, end) = (session.variable(KEY_VARIABLE), session.variable(END_VARIABLE));
    let (keys, command) = flags.arguments.split_at(flags.separator.unwrap_or(flags.arguments.len()));
    if flags.separator.is_some() && command.is_empty() {
        return Err(Exit::arguments("bad number of arguments (found separator --, but no commands)"));
    }
    if !key.is_empty() && !keys.is_empty() {
        return Err(Exit::arguments("bad number of arguments (found conflicting environment key)"));
    }
    let given = [key, end].into_iter().filter(|text| !text.is_empty()).map(|text| text.as_bytes().to_vec());
    let keys: Vec<Vec<u8>> = given.chain(keys.iter().cloned()).collect();
    if keys.is_empty() && command.is_empty() {
        return Err(Exit::arguments("bad number of arguments"));
    }
    let command = command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    Ok((keys, command))
}

pub fn request(flags: &Flags, keys: &[Vec<u8>]) -> Result<WatchCreateRequest, Exit> {
    let prefix = flags.bool("prefix");
    let (key, end) = match keys {
        [] => return Err(Exit::arguments("bad number of arguments")),
        [_, _] if prefix => return Err(Exit::arguments("`range_end` and `--prefix` are mutually exclusive")),
        [key, end] => (key, Some(end)),
        [key, ..] => (key, None),
    };
    let (key, range_end) = get::range(key, end, prefix, false);
    Ok(WatchCreateRequest {
        key,
        range_end,
        start_revision: flags.int("rev"),
        progress_notify: flags.bool("progress-notify"),
        prev_kv: flags.bool("prev-kv"),
        ..Default::default()
    })
}

pub fn show(session: &mut Session, response: WatchResponse, command: &[String]) -> Result<(), Exit> {
    if let Some(error) = cancellation(&response).filter(|_| response.canceled) {
        writeln!(session.io.errors, "watch was canceled ({error})")?;
    }
    let revision = response.header.map_or(0, |header| header.revision);
    if response.events.is_empty() && !response.canceled && response.compact_revision == 0 && revision != 0 {
        writeln!(session.io.output, "progress notify: {revision}")?;
    }
    let events = if command.is_empty() { Vec::new() } else { response.events.clone() };
    session.print(&Reply::Watch(response))?;
    events.iter().try_for_each(|event| hand_over(session, revision, event, command))
}

/// A watch that ends with an error looks like one canceled for that reason.
pub fn show_end(session: &mut Session, error: &Error) -> Result<(), Exit> {
    writeln!(session.io.errors, "watch was canceled ({error})")?;
    session.print(&Reply::Watch(WatchResponse { canceled: true, ..Default::default() }))
}

/// Runs the command with the event in its environment; its failure ends the watch.
fn hand_over(session: &mut Session, revision: i64, event: &Event, command: &[String]) -> Result<(), Exit> {
    let pair = event.kv.clone().unwrap_or_default();
    let kind = if event.r#type == EventType::Put as i32 { "PUT" } else { "DELETE" };
    let variables = [
        ("ETCD_WATCH_REVISION", revision.to_string()),
        ("ETCD_WATCH_EVENT_TYPE", quote(kind.as_bytes())),
        ("ETCD_WATCH_KEY", quote(&pair.key)),
        ("ETCD_WATCH_VALUE", quote(&pair.value)),
    ];
    let Err(failure) = process::run(session, command, &variables)? else {
        return Ok(());
    };
    let words: Vec<String> = command.iter().map(|word| quote(word.as_bytes())).collect();
    writeln!(session.io.errors, "command [{}] error ({})", words.join(" "), failure.text)?;
    Err(Exit::silent(ERROR))
}
