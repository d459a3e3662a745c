//! `check perf|datascale`: checks that a cluster sustains a workload.

mod cluster;
mod datascale;
mod load;
mod perf;

use super::command::{Command, Group};

pub static COMMAND: Command = Command {
    name: "check",
    arguments: "<subcommand>",
    short: "commands for checking properties of the etcd cluster. Use `etcdctl check --help` to see subcommands",
    long: "commands for checking properties of the etcd cluster",
    group: Some(Group::Utility),
    commands: &[&perf::COMMAND, &datascale::COMMAND],
    ..Command::EMPTY
};
