//! `lease grant|revoke|timetolive|list|keep-alive`.

use super::command::{Command, Flag, Group};
use super::go_format::parse_int;
use super::printer::{Format, Reply};
use super::session::{BAD_CONNECTION, ERROR, Exit, Session, parse_lease};
use crate::client::{Call, method};
use crate::proto::etcdserverpb::{LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest};

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
    if session.flags.bool("once") {
        let kept = session.wait(client.keep_alive_once(id)).map_err(|error| Exit::new(BAD_CONNECTION, error))?;
        let kept = kept.ok_or_else(|| Exit::new(BAD_CONNECTION, "etcdserver: requested lease not found"))?;
        return session.print(&Reply::LeaseKeepAlive(kept));
    }
    let mut beats = client.keep_alive(id);
    loop {
        match session.wait(beats.next()) {
            Ok(Some(response)) => session.print(&Reply::LeaseKeepAlive(response))?,
            Ok(None) => return expired(session, id),
            Err(error) => {
                // etcdctl treats this as the end of the lease; here it is logged in addition.
                session.log("warn", "the lease can no longer be kept alive", "error", &error.to_string())?;
                return expired(session, id);
            }
        }
    }
}

/// The end of a lease; only the simple format has a line for it.
fn expired(session: &mut Session, id: i64) -> Result<(), Exit> {
    if matches!(session.format(), Format::Simple { .. }) {
        writeln!(session.io.output, "lease {id:016x} expired or revoked.")?;
    }
    Ok(())
}
