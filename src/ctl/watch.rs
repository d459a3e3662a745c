//! `watch`: events of a key, a range or a prefix, each perhaps passed to a command.
//!
//! `watch -i`: lines of stdin start watches and ask for progress, while events of all of them are shown.
//!
//! ```text
//!   stdin ─ thread ─ lines ──┐
//!                            ├─▶ one loop: starts watches, asks, prints
//!   watch ─ task ─ responses ┘
//!         ◀── progress ──────┘
//! ```
//!
//! It ends with stdin, a line that is no valid `watch`, or a command that fails.

use std::io::{BufRead, BufReader, Read};
use std::rc::Rc;

use tokio::sync::mpsc;

use super::command::{Command, Flag, Group, Path};
use super::flags::Flags;
use super::get;
use super::go_format::quote;
use super::printer::Reply;
use super::process;
use super::session::{ERROR, Exit, INTERRUPTED, INVALID_INPUT, Session};
use super::txn::split_words;
use crate::base::limits::CLIENT_WATCH_QUEUE_MAX;
use crate::client::watch::cancellation;
use crate::client::{Call, Client, Error, Watch};
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
    let (key, end) = (session.variable(KEY_VARIABLE), session.variable(END_VARIABLE));
    if key.is_empty() && !end.is_empty() {
        let text = format!("{KEY_VARIABLE} is empty but got {END_VARIABLE}={}", quote(end.as_bytes()));
        return Err(Exit::arguments(text));
    }
    if session.flags.bool("interactive") {
        return run_interactive(session);
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

/// Splits `watch a b -- command`; the environment may have the keys.
fn split_arguments(session: &Session, flags: &Flags) -> Result<Arguments, Exit> {
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

fn request(flags: &Flags, keys: &[Vec<u8>]) -> Result<WatchCreateRequest, Exit> {
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

fn show(session: &mut Session, response: WatchResponse, command: &[String]) -> Result<(), Exit> {
    if let Some(error) = cancellation(&response).filter(|_| response.canceled) {
        writeln!(session.io.errors, "watch was canceled ({error})")?;
    }
    let revision = response.header.map_or(0, |header| header.revision);
    if response.events.is_empty() && !response.canceled && response.compact_revision == 0 && revision != 0 {
        writeln!(session.io.output, "progress notify: {revision}")?;
    }
    let events = if command.is_empty() { Vec::new() } else { response.events.clone() };
    session.print(&Reply::Watch(response))?;
    events.iter().try_for_each(|event| run_command(session, revision, event, command))
}

/// Shows a watch that ended with an error as one that was canceled for that reason.
fn show_end(session: &mut Session, error: &Error) -> Result<(), Exit> {
    writeln!(session.io.errors, "watch was canceled ({error})")?;
    session.print(&Reply::Watch(WatchResponse { canceled: true, ..Default::default() }))
}

/// Runs the command with the event in its environment. Its failure ends the watch.
fn run_command(session: &mut Session, revision: i64, event: &Event, command: &[String]) -> Result<(), Exit> {
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

// Interactive.

/// The event that the loop handles next.
enum Next {
    Line(Option<Vec<u8>>),
    Response(usize, Result<WatchResponse, Error>),
}

/// A started watch: the channel for progress requests, and the command for its events.
struct Started {
    progress: mpsc::Sender<()>,
    command: Rc<[String]>,
}

fn run_interactive(session: &mut Session) -> Result<(), Exit> {
    let client = session.client()?;
    let mut lines = read_lines(std::mem::replace(&mut session.io.input, Box::new(std::io::empty())));
    let (sender, mut responses) = mpsc::channel(CLIENT_WATCH_QUEUE_MAX);
    let mut started: Vec<Started> = Vec::new();
    loop {
        let next = session.wait(async {
            tokio::select! {
                line = lines.recv() => Next::Line(line),
                Some((at, response)) = responses.recv() => Next::Response(at, response),
            }
        });
        match next {
            Next::Line(None) => return Err(Exit::new(INVALID_INPUT, "error reading watch request line: EOF")),
            Next::Line(Some(line)) => obey_line(session, &client, &line, &mut started, &sender)?,
            Next::Response(at, Ok(response)) => {
                let command = Rc::clone(&started[at].command);
                show(session, response, &command)?;
            }
            Next::Response(_, Err(error)) => show_end(session, &error)?,
        }
    }
}

/// Lines of stdin without their ends. The thread ends with stdin, or with the process.
fn read_lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, lines) = mpsc::channel(CLIENT_WATCH_QUEUE_MAX);
    std::thread::spawn(move || {
        let mut input = BufReader::new(input);
        loop {
            let mut line = Vec::new();
            match input.read_until(b'\n', &mut line) {
                Ok(_) if line.pop_if(|last| *last == b'\n').is_some() => {}
                // A last line without an end is ignored.
                _ => return,
            }
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

type Responses = mpsc::Sender<(usize, Result<WatchResponse, Error>)>;

fn obey_line(
    session: &mut Session,
    client: &Client,
    line: &[u8],
    started: &mut Vec<Started>,
    responses: &Responses,
) -> Result<(), Exit> {
    let text = String::from_utf8_lossy(line).into_owned();
    let words = split_words(line)?;
    let Some(first) = words.first() else {
        writeln!(session.io.errors, "Invalid command: {text} (watch and progress supported)")?;
        return Ok(());
    };
    match first.as_slice() {
        b"watch" if words.len() < 2 && session.variable(KEY_VARIABLE).is_empty() => {
            writeln!(session.io.errors, "Invalid command {text} (command type or key is not provided)")?;
        }
        b"watch" => {
            let path: Path = vec![&COMMAND];
            let flags = Flags::parse(&path, &words[1..]).map_err(Exit::arguments)?;
            let (keys, command) = split_arguments(session, &flags)?;
            match request(&flags, &keys) {
                Ok(request) => {
                    let watch = client.watch(request, Call::default().require_leader());
                    started.push(start(session, watch, command.into(), started.len(), responses.clone()));
                }
                Err(exit) => {
                    let reason = exit.message.unwrap_or_default();
                    writeln!(session.io.errors, "Invalid command {text} ({reason})")?;
                }
            }
        }
        b"progress" => {
            for one in started {
                // A watch that has ended, or has a request already, is skipped.
                let _silent = one.progress.try_send(());
            }
        }
        _ => writeln!(session.io.errors, "Invalid command {text} (only support watch)")?,
    }
    Ok(())
}

fn start(session: &mut Session, watch: Watch, command: Rc<[String]>, at: usize, responses: Responses) -> Started {
    let (progress, asked) = mpsc::channel(1);
    session.spawn(forward(watch, at, asked, responses));
    Started { progress, command }
}

/// Forwards the responses of one watch until its end.
async fn forward(mut watch: Watch, at: usize, mut asked: mpsc::Receiver<()>, responses: Responses) {
    loop {
        let next = tokio::select! {
            next = watch.next() => next,
            Some(()) = asked.recv() => {
                watch.request_progress();
                continue;
            }
        };
        let response = match next {
            Ok(Some(response)) => Ok(response),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        if responses.send((at, response)).await.is_err() {
            return;
        }
    }
}
