//! `ringutl`: tools on files while no server runs. It prints what etcdutl 3.7.3 prints, byte for byte, and works on the files of ringd
//! and of etcd, which have the same database format.
//!
//! ```text
//!   words ─▶ ctl::tree, ctl::flags    ─▶ snapshot_status, hashkv ──────▶ database (shared lock, read only) ─▶ printer
//!                                     ├▶ defrag ───────────────────────▶ database (lock) ─▶ snapshot::StateCopy ─▶ new file, rename
//!                                     ├▶ snapshot_restore ─▶ founding: copy ─▶ page file changed ─▶ log founded
//!                                     └▶ migrate ─▶ etcd_dir ─▶ etcd_wal ─▶ tail, applied by apply::Applier ──▶ founding
//! ```
//!
//! Invariants
//!
//! 1. A source is never written: restoring and migrating change a copy.
//! 2. A data directory is made page file first, log last: without a log it is no member, so a tool that ends early leaves
//!    nothing that a server would serve.
//! 3. A database that a server has open is never opened: both lock it.
//! 4. No committed change is left out silently: what this version cannot take over is refused, with a remedy.
//! 5. Plain reads and writes, no io_uring: a tool works where only the server's kernel settings are missing.
//! 6. Exit status as etcdutl: 0 good, 1 error, 4 unsupported format, 128 bad arguments.
//!
//! Deliberately different from etcdutl: `migrate --from` takes over a data directory of etcd; a database that cannot be opened or
//! locked is an error with a reason (etcdutl panics); `hashkv` and `snapshot status` never write to their file; a restore that
//! fails removes everything it made.

mod completion;
mod database;
mod defrag;
mod etcd_dir;
mod etcd_wal;
mod founding;
mod hashkv;
mod help;
mod migrate;
mod printer;
mod schema;
mod session;
mod snapshot;
mod snapshot_restore;
mod snapshot_status;
mod tail;
mod version;

use crate::ctl::{
    complete::{self, Program, Streams},
    exit::{ERROR, Exit},
    flags::Flags,
    go_format::quote,
    tree::{self, Flag, Kind},
};
pub use session::Io;
use session::{Command, Session, misuse};

static ROOT: Command = Command {
    name: "etcdutl",
    short: "An administrative command line tool for etcd3.",
    shared_flags: &[
        Flag::new(
            "timeout",
            Kind::Duration,
            "10s",
            "time to wait to obtain a file lock on db file, 0 to block indefinitely",
        ),
        Flag::text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)").letter('w'),
    ],
    commands: &[
        &defrag::COMMAND,
        &snapshot::COMMAND,
        &hashkv::COMMAND,
        &version::COMMAND,
        &completion::COMMAND,
        &migrate::COMMAND,
        &HELP,
    ],
    ..Command::EMPTY
};

static HELP: Command = Command {
    name: "help",
    arguments: "[command]",
    short: "Help about any command",
    run: Some(show_help),
    ..Command::EMPTY
};

/// Carries out one command line (without the program's name) and returns the exit status.
pub fn run(words: &[Vec<u8>], mut io: Io) -> i32 {
    let outcome = carry_out(words, &mut io);
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

fn carry_out(words: &[Vec<u8>], io: &mut Io) -> Result<(), Exit> {
    let streams = Streams { output: io.output, errors: io.errors };
    if let Some(outcome) = complete::answer(Program { root: &ROOT, hides_root_flags: false }, words, streams) {
        return outcome;
    }
    let tree::Found { path, rest } = tree::find(&ROOT, words);
    let last = path[path.len() - 1];
    if path.len() == 1
        && let Some(word) = rest.iter().find(|word| !word.starts_with(b"-"))
    {
        let message = format!("unknown command {} for {}", quote(word), quote(ROOT.name.as_bytes()));
        writeln!(io.errors, "Error: {message}\nRun '{} --help' for usage.", ROOT.name)?;
        return Err(Exit::new(ERROR, message));
    }
    let flags = match Flags::parse(&path, &rest) {
        Ok(flags) => flags,
        Err(mistake) => return Err(misuse(&path, io.errors, &mistake)),
    };
    let run = match last.run {
        Some(run) if !flags.bool("help") => run,
        _ => {
            io.output.write_all(help::usage(&path).as_bytes())?;
            return Ok(());
        }
    };
    let io = Io { output: io.output, errors: io.errors, owns_stderr: io.owns_stderr };
    run(&mut Session { path, flags, io })
}

fn show_help(session: &mut Session) -> Result<(), Exit> {
    let tree::Found { path, rest } = tree::find(&ROOT, &session.flags.arguments);
    if path.len() == 1 && !rest.is_empty() {
        let words: Vec<String> = rest.iter().map(|word| format!("`{}`", String::from_utf8_lossy(word))).collect();
        write!(session.io.errors, "Unknown help topic [{}]\n{}", words.join(" "), help::usage_before_parsing(&path))?;
        return Ok(());
    }
    session.io.output.write_all(help::usage(&path).as_bytes())?;
    Ok(())
}
