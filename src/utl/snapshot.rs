//! `snapshot`: the two commands on snapshot files.

use super::{Command, snapshot_restore, snapshot_status};

pub static COMMAND: Command = Command {
    name: "snapshot",
    arguments: "<subcommand>",
    short: "Manages etcd node snapshots",
    commands: &[&snapshot_restore::COMMAND, &snapshot_status::COMMAND],
    ..Command::EMPTY
};
