//! `downgrade validate|enable|cancel`.

use super::command::{Command, Group};
use super::printer::Reply;
use super::session::{Exit, Session};
use crate::client::method;
use crate::proto::etcdserverpb::DowngradeRequest;
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;

pub static COMMAND: Command = Command {
    name: "downgrade",
    arguments: "<TARGET_VERSION>",
    short: "Downgrade related commands. Use `etcdctl downgrade --help` to see subcommands",
    long: "Downgrade related commands",
    group: Some(Group::Maintenance),
    commands: &[&VALIDATE, &ENABLE, &CANCEL],
    ..Command::EMPTY
};

static VALIDATE: Command = Command {
    name: "validate",
    arguments: "<TARGET_VERSION>",
    short: "Validate downgrade capability before starting downgrade",
    run: Some(|session| with_version(session, DowngradeAction::Validate, "validate")),
    ..Command::EMPTY
};

static ENABLE: Command = Command {
    name: "enable",
    arguments: "<TARGET_VERSION>",
    short: "Start a downgrade action to cluster",
    run: Some(|session| with_version(session, DowngradeAction::Enable, "enable")),
    ..Command::EMPTY
};

static CANCEL: Command = Command {
    name: "cancel",
    short: "Cancel the ongoing downgrade action to cluster",
    run: Some(|session| send(session, DowngradeAction::Cancel, "cancel", String::new())),
    ..Command::EMPTY
};

fn with_version(session: &mut Session, action: DowngradeAction, name: &'static str) -> Result<(), Exit> {
    let version = match session.arguments() {
        [] => return Err(Exit::arguments("TARGET_VERSION not provided")),
        [_] => session.argument(0).into_owned(),
        _ => return Err(Exit::arguments("too many arguments")),
    };
    if version.is_empty() {
        return Err(Exit::arguments("target version not provided"));
    }
    send(session, action, name, version)
}

fn send(session: &mut Session, action: DowngradeAction, name: &'static str, version: String) -> Result<(), Exit> {
    let client = session.client()?;
    let call = session.call();
    let request = DowngradeRequest { action: action as i32, version };
    let response = session.request(&client, &method::DOWNGRADE, &request, call)?;
    session.print(&Reply::Downgrade { action: name, response })
}
