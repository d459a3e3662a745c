//! `lease grant|revoke|timetolive|list|keep-alive`.

use std::time::Duration;

use super::command::{Command, Flag, Group};
use super::go_format::parse_int;
use super::printer::{Format, Reply};
use super::session::{BAD_CONNECTION, ERROR, Exit, Session, parse_lease};
use crate::client::{Call, Client, Error, method};
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};

pub static COMMAND: Command = Command {
    name: "lease",
    arguments: "<subcommand>",
    short: "Lease related commands. Use `etcdctl lease --help` to see subcommands",
    long: "Lease related commands",
    group: Some(Group::KeyValue),
    commands: &[&GRANT, &REVOKE, &TIME_TO_LIVE, &LIST, &KEEP_ALIVE],
    ..Command::EMPTY
};

static GRANT: Command =
    Command { name: "grant", arguments: "<ttl>", short: "Creates leases", run: Some(grant), ..Command::EMPTY };

static REVOKE: Command =
    Command { name: "revoke", arguments: "<leaseID>", short: "Revokes leases", run: Some(revoke), ..Command::EMPTY };

static TIME_TO_LIVE: Command = Command {
    name: "timetolive",
    arguments: "<leaseID> [options]",
    short: "Get lease information",
    flags: &[Flag::bool("keys", "Get keys attached to this lease")],
    run: Some(time_to_live),
    ..Command::EMPTY
};

static LIST: Command = Command { name: "list", short: "List all active leases", run: Some(list), ..Command::EMPTY };

static KEEP_ALIVE: Command = Command {
    name: "keep-alive",
    arguments: "[options] <leaseID>",
    short: "Keeps leases alive (renew)",
    flags: &[Flag::bool("once", "Resets the keep-alive time to its original value and cobrautl.Exits immediately")],
    run: Some(keep_alive),
    ..Command::EMPTY
};

fn grant(session: &mut Session) -> Result<(), Exit> {
    let [ttl] = session.arguments() else {
        return Err(Exit::arguments("lease grant command needs TTL argument"));
    };
    let ttl = parse_int(ttl, 10).map_err(|error| Exit::arguments(format!("bad TTL ({error})")))?;
    let client = session.client()?;
    let call = session.call();
    let response = session
        .request(&client, &method::LEASE_GRANT, &LeaseGrantRequest { ttl, id: 0 }, call)
        .map_err(|error| Exit::new(ERROR, format!("failed to grant lease ({error})")))?;
    session.print(&Reply::LeaseGrant(response))
}

fn revoke(session: &mut Session) -> Result<(), Exit> {
    let [id] = session.arguments() else {
        return Err(Exit::arguments("lease revoke command needs 1 argument"));
    };
    let id = parse_lease(id)?;
    let client = session.client()?;
    let call = session.call();
    let response = session
        .request(&client, &method::LEASE_REVOKE, &LeaseRevokeRequest { id }, call)
        .map_err(|error| Exit::new(ERROR, format!("failed to revoke lease ({error})")))?;
    session.print(&Reply::LeaseRevoke { id, response })
}

fn time_to_live(session: &mut Session) -> Result<(), Exit> {
    if session.arguments().len() != 1 {
        return Err(Exit::arguments("lease timetolive command needs lease ID as argument"));
    }
    let with_keys = session.flags.bool("keys");
    let client = session.client()?;
    let id = parse_lease(&session.arguments()[0])?;
    let request = LeaseTimeToLiveRequest { id, keys: with_keys };
    let response = session
        .request(&client, &method::LEASE_TIME_TO_LIVE, &request, Call::default())
        .map_err(|error| Exit::new(BAD_CONNECTION, error))?;
    session.print(&Reply::LeaseTimeToLive { response, with_keys })
}

fn list(session: &mut Session) -> Result<(), Exit> {
    let client = session.client()?;
    let response = session
        .request(&client, &method::LEASE_LEASES, &LeaseLeasesRequest {}, Call::default())
        .map_err(|error| Exit::new(BAD_CONNECTION, error))?;
    session.print(&Reply::LeaseList(response))
}

fn keep_alive(session: &mut Session) -> Result<(), Exit> {
    let [id] = session.arguments() else {
        return Err(Exit::arguments("lease keep-alive command needs lease ID as argument"));
    };
    let id = parse_lease(id)?;
    let client = session.client()?;
    loop {
        let beat = session.wait(beat(&client, id)).map_err(|error| Exit::new(BAD_CONNECTION, error))?;
        let once = session.flags.bool("once");
        let Some(response) = beat else {
            return expired(session, id, once);
        };
        let pause = Duration::from_millis(response.ttl as u64 * 1000 / 3);
        session.print(&Reply::LeaseKeepAlive(response))?;
        if once {
            return Ok(());
        }
        session.wait(tokio::time::sleep(pause));
    }
}

/// One renewal; `None` if the lease is gone.
async fn beat(client: &Client, id: i64) -> Result<Option<LeaseKeepAliveResponse>, Error> {
    let mut stream =
        client.server_stream(&method::LEASE_KEEP_ALIVE, &LeaseKeepAliveRequest { id }, Call::default()).await?;
    let response = stream.next().await?;
    Ok(response.filter(|response| response.ttl > 0))
}

fn expired(session: &mut Session, id: i64, once: bool) -> Result<(), Exit> {
    if once {
        return Err(Exit::new(BAD_CONNECTION, "etcdserver: requested lease not found"));
    }
    if matches!(session.format(), Format::Simple { .. }) {
        writeln!(session.io.output, "lease {id:016x} expired or revoked.")?;
    }
    Ok(())
}
