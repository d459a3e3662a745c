//! `elect`: campaigns with a proposal and leads until interrupted, or follows the leaders.

use super::command::{Command, Flag, Group};
use super::printer::Reply;
use super::session::{ERROR, Exit, Session};
use crate::client::{self, Call, Election, method};
use crate::proto::etcdserverpb::RangeResponse;
use crate::service::queue;

pub static COMMAND: Command = Command {
    name: "elect",
    arguments: "<election-name> [proposal]",
    short: "Observes and participates in leader election",
    group: Some(Group::Concurrency),
    flags: &[Flag::bool("listen", "observation mode").letter('l')],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let arguments = session.arguments().to_vec();
    if arguments.is_empty() || arguments.len() > 2 {
        let text = "elect takes one election name argument and an optional proposal argument";
        return Err(Exit::arguments(text));
    }
    let client = session.client()?;
    match (arguments.get(1), session.flags.bool("listen")) {
        (None, false) => Err(Exit::arguments("no proposal argument but -l not set")),
        (Some(_), true) => Err(Exit::arguments("proposal given but -l is set")),
        (None, true) => observe(session, &client, &arguments[0]),
        (Some(proposal), false) => campaign(session, &client, &arguments[0], proposal),
    }
}

fn observe(session: &mut Session, client: &client::Client, name: &[u8]) -> Result<(), Exit> {
    // An observer needs no lease, but etcdctl grants one, and fails if it is refused.
    let _lease = session.wait(client::Session::open(client, client::session::TTL_SECONDS_DEFAULT))?;
    let mut leaders = client.observe(name);
    while let Some(next) = session.wait_or_interrupt(leaders.next()) {
        let leader = next.map_err(|_| Exit::new(ERROR, "elect: observer lost"))?;
        let kvs = leader.kv.into_iter().collect();
        session.print(&Reply::Get(RangeResponse { header: leader.header, kvs, ..RangeResponse::default() }))?;
    }
    Ok(())
}

fn campaign(session: &mut Session, client: &client::Client, name: &[u8], proposal: &[u8]) -> Result<(), Exit> {
    let lease = session.wait(client::Session::open(client, client::session::TTL_SECONDS_DEFAULT))?;
    let mut election = Election::new(&lease, name);
    let proposal = bytes::Bytes::copy_from_slice(proposal);
    match session.wait_or_interrupt(election.campaign(&proposal)) {
        Some(outcome) => outcome.map_err(|error| Exit::new(ERROR, error))?,
        None => {
            // If this fails, the candidacy ends with the lease.
            let call = session.call();
            let _kept = session.wait(election.resign(call));
            return Err(Exit::new(ERROR, "context canceled"));
        }
    }
    let response = session.request(client, &method::RANGE, &queue::read(election.key()), Call::default())?;
    session.print(&Reply::Get(response))?;
    if session.wait_or_interrupt(lease.lost()).is_some() {
        return Err(Exit::new(ERROR, "elect: session expired"));
    }
    let call = session.call();
    session.wait(election.resign(call)).map_err(|error| Exit::new(ERROR, error))
}
