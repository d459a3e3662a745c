//! `ringctl`: the command line client. It prints what etcdctl 3.7.3 prints, byte for byte, because scripts
//! and people depend on that output, and because tests compare the two tools.
//!
//! ```text
//! words -> tree::find    -> flags::Flags -> get, put, ... (one file per command) -> printer (one file per format)
//!              |                |                     |
//!            help           go_format          client, by session
//! ```
//!
//! Invariants:
//! 1. Commands never touch the process: streams, environment and exit status are values ([`Io`], [`run`]).
//! 2. Arguments are checked before flags of the connection, those before the network, as etcdctl does.
//! 3. Exit status: 0 good, 1 error, 2 bad connection, 3 invalid input, 4 unsupported value, 5 interrupted,
//!    128 bad arguments.
//!
//! Deliberately different: no Go log lines on stderr beside the error (only where the log line is the whole
//! answer), and no panics on bad comparisons.

mod alarm;
mod auth;
mod check;
pub(crate) mod command;
mod compaction;
pub(crate) mod complete;
pub(crate) mod completion;
mod defrag;
mod del;
mod discovery;
mod downgrade;
mod elect;
mod endpoint;
pub(crate) mod exit;
pub(crate) mod flags;
mod get;
mod global;
pub(crate) mod go_format;
pub(crate) mod go_json;
pub(crate) mod help;
mod kubernetes;
mod lease;
mod lock;
mod make_mirror;
mod member;
mod move_leader;
pub(crate) mod printer;
mod process;
pub(crate) mod progress;
mod put;
mod role;
mod security;
pub(crate) mod session;
mod snapshot;
mod terminal;
pub(crate) mod tree;
mod txn;
mod user;
mod version;
mod watch;

use command::{Command, Found, find, suggestions};
use complete::{Program, Streams};
use flags::Flags;
use go_format::quote;
use session::{ERROR, Exit, Session};
pub use session::{Io, signals};

static ROOT: Command = Command {
    name: "etcdctl",
    short: "A simple command line client for etcd3.",
    shared_flags: global::FLAGS,
    commands: &[
        &get::COMMAND,
        &put::COMMAND,
        &del::COMMAND,
        &txn::COMMAND,
        &compaction::COMMAND,
        &alarm::COMMAND,
        &defrag::COMMAND,
        &endpoint::COMMAND,
        &move_leader::COMMAND,
        &snapshot::COMMAND,
        &watch::COMMAND,
        &lock::COMMAND,
        &elect::COMMAND,
        &check::COMMAND,
        &make_mirror::COMMAND,
        &completion::COMMAND,
        &version::COMMAND,
        &lease::COMMAND,
        &member::COMMAND,
        &auth::COMMAND,
        &user::COMMAND,
        &role::COMMAND,
        &downgrade::COMMAND,
        &global::COMMAND,
        &HELP,
    ],
    ..Command::EMPTY
};

static HELP: Command = Command {
    name: "help",
    arguments: "[command]",
    short: "Help about any command",
    long: "Help provides help for any command in the application.\n\
           Simply type etcdctl help [path to command] for full details.",
    group: Some(command::Group::Utility),
    run: Some(show_help),
    ..Command::EMPTY
};

/// Carries out one command line (without the program's name) and returns the exit status.
pub fn run(words: &[Vec<u8>], environment: Vec<(String, String)>, mut io: Io) -> i32 {
    let outcome = carry_out(words, environment, &mut io);
    let flushed = io.output.flush();
    match outcome {
        Ok(()) if flushed.is_ok() => 0,
        Ok(()) => ERROR,
        Err(exit) => {
            if let Some(message) = exit.message {
                // A closed stderr cannot be reported.
                let _closed = writeln!(io.errors, "Error: {message}");
            }
            exit.code
        }
    }
}

fn carry_out(words: &[Vec<u8>], environment: Vec<(String, String)>, io: &mut Io) -> Result<(), Exit> {
    let streams = Streams { output: io.output, errors: io.errors };
    if let Some(outcome) = complete::answer(Program { root: &ROOT, hides_root_flags: true }, words, streams) {
        return outcome;
    }
    let Found { path, rest } = find(&ROOT, words);
    let last = path[path.len() - 1];
    if path.len() == 1
        && let Some(word) = rest.iter().find(|word| !word.starts_with(b"-"))
    {
        return Err(unknown_command(word, io)?);
    }
    let flags = match Flags::parse(&path, &rest) {
        Ok(flags) => flags,
        Err(mistake) => {
            writeln!(io.errors, "Error: {mistake}\n{}", help::usage(&path))?;
            return Err(Exit::silent(ERROR));
        }
    };
    let run = match last.run {
        Some(run) if !flags.bool("help") => run,
        _ => {
            io.output.write_all(help::help(&path).as_bytes())?;
            return Ok(());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let io = Io {
        input: std::mem::replace(&mut io.input, Box::new(std::io::empty())),
        output: io.output,
        errors: io.errors,
        shares_streams: io.shares_streams,
        interrupt: std::mem::replace(&mut io.interrupt, Box::pin(std::future::pending())),
    };
    let mut session = Session::new(path, flags, io, environment, runtime);
    run(&mut session)
}

fn unknown_command(word: &[u8], io: &mut Io) -> Result<Exit, Exit> {
    let text = String::from_utf8_lossy(word);
    writeln!(io.errors, "Error: unknown command {} for {}", quote(word), quote(ROOT.name.as_bytes()))?;
    let mut suggested = suggestions(&ROOT, &text);
    suggested.sort_unstable();
    if !suggested.is_empty() {
        writeln!(io.errors, "\nDid you mean this?")?;
        suggested.iter().try_for_each(|name| writeln!(io.errors, "\t{name}"))?;
        writeln!(io.errors)?;
    }
    writeln!(io.errors, "Run '{} --help' for usage.", ROOT.name)?;
    Ok(Exit::silent(ERROR))
}

fn show_help(session: &mut Session) -> Result<(), Exit> {
    let Found { path, rest } = find(&ROOT, session.arguments());
    if path.len() == 1 && !rest.is_empty() {
        let words: Vec<String> = rest.iter().map(|word| format!("`{}`", String::from_utf8_lossy(word))).collect();
        write!(session.io.errors, "Unknown help topic [{}]\n{}", words.join(" "), help::usage(&path))?;
        return Ok(());
    }
    session.io.output.write_all(help::help(&path).as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests;
