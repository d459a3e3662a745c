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

use super::command::Path;
use super::flags::Flags;
use super::session::{Exit, INVALID_INPUT, Session};
use super::txn::split_words;
use super::watch as single;
use crate::base::limits::CLIENT_WATCH_QUEUE_MAX;
use crate::client::{Call, Client, Error, Watch};
use crate::proto::etcdserverpb::WatchResponse;

/// What the loop wakes for.
enum Next {
    Line(Option<Vec<u8>>),
    Response(usize, Result<WatchResponse, Error>),
}

/// A watch that was started: who asks it for progress, and what is done with its events.
struct Started {
    progress: mpsc::Sender<()>,
    command: Rc<[String]>,
}

pub fn run(session: &mut Session) -> Result<(), Exit> {
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
            Next::Line(Some(line)) => obey(session, &client, &line, &mut started, &sender)?,
            Next::Response(at, Ok(response)) => {
                let command = Rc::clone(&started[at].command);
                single::show(session, response, &command)?;
            }
            Next::Response(_, Err(error)) => single::show_end(session, &error)?,
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
                // A line without an end is none.
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

fn obey(
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
        b"watch" if words.len() < 2 && session.variable(single::KEY_VARIABLE).is_empty() => {
            writeln!(session.io.errors, "Invalid command {text} (command type or key is not provided)")?;
        }
        b"watch" => {
            let path: Path = vec![&single::COMMAND];
            let flags = Flags::parse(&path, &words[1..]).map_err(Exit::arguments)?;
            let (keys, command) = single::split_arguments(session, &flags)?;
            match single::request(&flags, &keys) {
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
                // A watch that has ended, or was asked already, has nothing to say.
                let _silent = one.progress.try_send(());
            }
        }
        _ => writeln!(session.io.errors, "Invalid command {text} (only support watch)")?,
    }
    Ok(())
}

fn start(session: &mut Session, watch: Watch, command: Rc<[String]>, at: usize, responses: Responses) -> Started {
    let (progress, asked) = mpsc::channel(1);
    session.wait(async { tokio::spawn(follow(watch, at, asked, responses)) });
    Started { progress, command }
}

/// Hands on what one watch says, until its end.
async fn follow(mut watch: Watch, at: usize, mut asked: mpsc::Receiver<()>, responses: Responses) {
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
