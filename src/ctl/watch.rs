//! `watch`: events of a key, a range or a prefix, each perhaps handed to a command. Its output is passed on
//! when it ends.

use std::process::{Command as Process, Stdio};

use super::command::{Command, Flag, Group};
use super::get;
use super::go_format::{io_error, quote};
use super::printer::Reply;
use super::session::{ERROR, Exit, INTERRUPTED, Session};
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
const KEY_VARIABLE: &str = "ETCDCTL_WATCH_KEY";
const END_VARIABLE: &str = "ETCDCTL_WATCH_RANGE_END";

fn run(session: &mut Session) -> Result<(), Exit> {
    if session.flags.bool("interactive") {
        return Err(Exit::arguments("interactive mode is not supported: start one watch per command"));
    }
    let (keys, command) = split_arguments(session)?;
    let client = session.client()?;
    let request = request(session, &keys)?;
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

fn split_arguments(session: &Session) -> Result<Arguments, Exit> {
    let key = session.variable(KEY_VARIABLE);
    let end = session.variable(END_VARIABLE);
    if key.is_empty() && !end.is_empty() {
        let text = format!("{KEY_VARIABLE} is empty but got {END_VARIABLE}={}", quote(end.as_bytes()));
        return Err(Exit::arguments(text));
    }
    let at = session.flags.separator.unwrap_or(session.arguments().len());
    let (keys, command) = session.arguments().split_at(at);
    if session.flags.separator.is_some() && command.is_empty() {
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

fn request(session: &Session, keys: &[Vec<u8>]) -> Result<WatchCreateRequest, Exit> {
    let prefix = session.flags.bool("prefix");
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
        start_revision: session.flags.int("rev"),
        progress_notify: session.flags.bool("progress-notify"),
        prev_kv: session.flags.bool("prev-kv"),
        ..Default::default()
    })
}

fn show(session: &mut Session, response: WatchResponse, command: &[String]) -> Result<(), Exit> {
    if response.canceled {
        writeln!(session.io.errors, "watch was canceled ({})", cancel_text(&response))?;
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
fn show_end(session: &mut Session, error: &Error) -> Result<(), Exit> {
    writeln!(session.io.errors, "watch was canceled ({error})")?;
    session.print(&Reply::Watch(WatchResponse { canceled: true, ..Default::default() }))
}

fn cancel_text(response: &WatchResponse) -> String {
    if response.compact_revision != 0 {
        return "etcdserver: mvcc: required revision has been compacted".to_owned();
    }
    if response.cancel_reason.is_empty() {
        return "etcdserver: mvcc: required revision is a future revision".to_owned();
    }
    Error::status(crate::client::Code::FailedPrecondition, response.cancel_reason.clone()).to_string()
}

/// Runs the command with the event in its environment; its failure ends the watch.
fn hand_over(session: &mut Session, revision: i64, event: &Event, command: &[String]) -> Result<(), Exit> {
    let pair = event.kv.clone().unwrap_or_default();
    let kind = if event.r#type == EventType::Put as i32 { "PUT" } else { "DELETE" };
    let outcome = Process::new(&command[0])
        .args(&command[1..])
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(kind.as_bytes()))
        .env("ETCD_WATCH_KEY", quote(&pair.key))
        .env("ETCD_WATCH_VALUE", quote(&pair.value))
        .stdin(Stdio::null())
        .output();
    let failure = match outcome {
        Ok(result) => {
            session.io.output.write_all(&result.stdout)?;
            session.io.output.flush()?;
            session.io.errors.write_all(&result.stderr)?;
            match result.status.code() {
                Some(0) => return Ok(()),
                Some(code) => format!("exit status {code}"),
                None => result.status.to_string(),
            }
        }
        Err(error) if command[0].contains('/') => format!("fork/exec {}: {}", command[0], io_error(&error)),
        Err(_) => format!("exec: {}: executable file not found in $PATH", quote(command[0].as_bytes())),
    };
    let words: Vec<String> = command.iter().map(|word| quote(word.as_bytes())).collect();
    writeln!(session.io.errors, "command [{}] error ({failure})", words.join(" "))?;
    Err(Exit::silent(ERROR))
}
