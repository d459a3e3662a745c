//! `version`: of the etcdctl that this tool stands for.

use super::command::{Command, Group};
use super::session::{Exit, Session};
use crate::base::version;

pub static COMMAND: Command = Command {
    name: "version",
    short: "Prints the version of etcdctl",
    group: Some(Group::Utility),
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    write!(session.io.output, "etcdctl version: {}\nAPI version: 3.7\n", version::SERVER)?;
    Ok(())
}
