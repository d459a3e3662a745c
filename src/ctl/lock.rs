//! `lock`: holds a name until interrupted, or while a command runs. If no server can be reached at the end, the lease releases the
//! name, so unlocking is bounded by the command's time-out.

use super::command::{Command, Flag, Group, Kind};
use super::printer::Reply;
use super::process;
use super::session::{ERROR, Exit, Session};
use crate::client::{self, Call, Client, Lock, method};
use crate::service::queue;

pub static COMMAND: Command = Command {
    name: "lock",
    arguments: "<lockname> [exec-command arg1 arg2 ...]",
    short: "Acquires a named lock",
    group: Some(Group::Concurrency),
    flags: &[Flag::new("ttl", Kind::Int, "10", "timeout for session")],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let Some((name, words)) = session.arguments().split_first() else {
        return Err(Exit::arguments("lock takes a lock name argument and an optional command to execute"));
    };
    let name = name.clone();
    let words: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let client = session.client()?;
    let ttl = match session.flags.int("ttl") {
        ttl if ttl > 0 => ttl,
        _ => client::session::TTL_SECONDS_DEFAULT,
    };
    let lease = session.wait(client::Session::open(&client, ttl))?;
    let mut lock = Lock::new(&lease, &name);
    match session.wait_or_interrupt(lock.acquire()) {
        Some(outcome) => outcome.map_err(|error| Exit::new(ERROR, error))?,
        None => {
            // A lock that has not joined the queue needs no unlocking.
            let call = session.call();
            let _nothing = session.wait(lock.release(call));
            return Err(Exit::new(ERROR, "context canceled"));
        }
    }
    if words.is_empty() { hold(session, &client, &lease, &mut lock) } else { hold_for(session, &words, &mut lock) }
}

/// Holds the lock while a command runs; its exit status is returned.
fn hold_for(session: &mut Session, words: &[String], lock: &mut Lock) -> Result<(), Exit> {
    let variables = [
        ("ETCD_LOCK_KEY", String::from_utf8_lossy(lock.key()).into_owned()),
        ("ETCD_LOCK_REV", lock.revision().to_string()),
    ];
    let ended = process::run(session, words, &variables)?;
    let call = session.call();
    let released = session.wait(lock.release(call));
    ended.map_err(|failure| Exit::new(failure.code.unwrap_or(ERROR), failure.text))?;
    released.map_err(|error| Exit::new(ERROR, error))
}

/// Shows the key and holds the lock until the user interrupts, or the session is lost.
fn hold(session: &mut Session, client: &Client, lease: &client::Session, lock: &mut Lock) -> Result<(), Exit> {
    let response = session.request(client, &method::RANGE, &queue::read(lock.key()), Call::default())?;
    if response.kvs.is_empty() {
        return Err(Exit::new(ERROR, "lock lost on init"));
    }
    session.print(&Reply::Get(response))?;
    if session.wait_or_interrupt(lease.lost()).is_some() {
        return Err(Exit::new(ERROR, "session expired"));
    }
    let call = session.call();
    session.wait(lock.release(call)).map_err(|error| Exit::new(ERROR, error))
}
