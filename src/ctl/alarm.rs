//! `alarm list|disarm`.

use super::command::{Command, Group};
use super::printer::Reply;
use super::session::{Exit, Session};
use crate::client::{Call, Client, Error, method};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmResponse};

pub static COMMAND: Command = Command {
    name: "alarm",
    arguments: "<subcommand>",
    short: "Alarm related commands. Use `etcdctl alarm --help` to see subcommands",
    long: "Alarm related commands",
    group: Some(Group::Maintenance),
    commands: &[&DISARM, &LIST],
    ..Command::EMPTY
};

static DISARM: Command = Command { name: "disarm", short: "Disarms all alarms", run: Some(disarm), ..Command::EMPTY };

static LIST: Command = Command { name: "list", short: "Lists all alarms", run: Some(list), ..Command::EMPTY };

fn disarm(session: &mut Session) -> Result<(), Exit> {
    if !session.arguments().is_empty() {
        return Err(Exit::arguments("alarm disarm command accepts no arguments"));
    }
    let client = session.client()?;
    let call = session.call();
    let response = session.wait(disarm_all(&client, call))?;
    session.print(&Reply::Alarm(response))
}

/// Disarms each active alarm, because the server has no request for all of them.
async fn disarm_all(client: &Client, call: Call) -> Result<AlarmResponse, Error> {
    let active = client.call(&method::ALARM, &get_alarms(), call).await?;
    let mut disarmed = AlarmResponse::default();
    for alarm in active.alarms {
        let request =
            AlarmRequest { action: AlarmAction::Deactivate as i32, member_id: alarm.member_id, alarm: alarm.alarm };
        disarmed.alarms.extend(client.call(&method::ALARM, &request, call).await?.alarms);
    }
    Ok(disarmed)
}

fn list(session: &mut Session) -> Result<(), Exit> {
    if !session.arguments().is_empty() {
        return Err(Exit::arguments("alarm list command accepts no arguments"));
    }
    let client = session.client()?;
    let call = session.call();
    let response = session.request(&client, &method::ALARM, &get_alarms(), call)?;
    session.print(&Reply::Alarm(response))
}

fn get_alarms() -> AlarmRequest {
    AlarmRequest { action: AlarmAction::Get as i32, ..Default::default() }
}
