//! `defrag`: each endpoint, one after the other.

use std::time::Instant;

use super::command::{Command, Flag, Group};
use super::go_format::duration;
use super::session::{ERROR, Exit, Session};
use crate::client::method;
use crate::proto::etcdserverpb::DefragmentRequest;

pub static COMMAND: Command = Command {
    name: "defrag",
    short: "Defragments the storage of the etcd members with given endpoints",
    group: Some(Group::Maintenance),
    shared_flags: &[Flag::bool("cluster", "use all endpoints from the cluster member list")],
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    session.settle()?;
    let mut failed = false;
    for endpoint in session.chosen_endpoints()? {
        let client = session.client_of(&endpoint)?;
        let call = session.call();
        let started = Instant::now();
        let outcome = session.request(&client, &method::DEFRAGMENT, &DefragmentRequest {}, call);
        let took = duration(started.elapsed());
        match outcome {
            Ok(_) => writeln!(session.io.output, "Finished defragmenting etcd member[{endpoint}]. took {took}")?,
            Err(error) => {
                writeln!(session.io.errors, "Failed to defragment etcd member[{endpoint}]. took {took}. ({error})")?;
                failed = true;
            }
        }
    }
    if failed { Err(Exit::silent(ERROR)) } else { Ok(()) }
}
