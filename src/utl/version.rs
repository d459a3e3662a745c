//! `version`: of the etcdutl that this tool stands for.

use super::{Command, session::Session};
use crate::{base::version, ctl::exit::Exit};

pub static COMMAND: Command =
    Command { name: "version", short: "Prints the version of etcdutl", run: Some(run), ..Command::EMPTY };

fn run(session: &mut Session) -> Result<(), Exit> {
    let api = version::CLUSTER.rsplit_once('.').map_or(version::CLUSTER, |(api, _)| api);
    write!(session.io.output, "etcdutl version: {}\nAPI version: {api}\n", version::SERVER)?;
    Ok(())
}
