//! `compaction`: drops the history before a revision.

use super::command::{Command, Flag, Group};
use super::go_format::parse_int;
use super::session::{ERROR, Exit, Session};
use crate::client::method;
use crate::proto::etcdserverpb::CompactionRequest;

pub static COMMAND: Command = Command {
    name: "compaction",
    arguments: "[options] <revision>",
    short: "Compacts the event history in etcd",
    group: Some(Group::KeyValue),
    flags: &[Flag::bool("physical", "'true' to wait for compaction to physically remove all old revisions")],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let [revision] = session.arguments() else {
        return Err(Exit::arguments("compaction command needs 1 argument"));
    };
    let revision = parse_int(revision, 10).map_err(|error| Exit::new(ERROR, error))?;
    let client = session.client()?;
    let request = CompactionRequest { revision, physical: session.flags.bool("physical") };
    let call = session.call();
    session.request(&client, &method::COMPACT, &request, call)?;
    writeln!(session.io.output, "compacted revision {revision}")?;
    Ok(())
}
