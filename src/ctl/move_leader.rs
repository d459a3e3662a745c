//! `move-leader`: asks the leader among the endpoints to step aside for another member.

use super::command::{Command, Group};
use super::go_format::parse_uint;
use super::printer::Reply;
use super::session::{Exit, Session};
use crate::client::method;
use crate::proto::etcdserverpb::{MoveLeaderRequest, StatusRequest};

pub static COMMAND: Command = Command {
    name: "move-leader",
    arguments: "<transferee-member-id>",
    short: "Transfers leadership to another etcd cluster member.",
    group: Some(Group::Maintenance),
    run: Some(run),
    ..Command::EMPTY
};

fn run(session: &mut Session) -> Result<(), Exit> {
    let [target] = session.arguments() else {
        return Err(Exit::arguments("move-leader command needs 1 argument"));
    };
    let target = parse_uint(target, 16).map_err(Exit::arguments)?;
    let endpoints = session.settle()?.endpoints;
    let call = session.call();
    for endpoint in &endpoints {
        let client = session.client_of(endpoint)?;
        let status = session.request(&client, &method::STATUS, &StatusRequest {}, call)?;
        if status.header.unwrap_or_default().member_id == status.leader {
            let request = MoveLeaderRequest { target_id: target };
            let response = session.request(&client, &method::MOVE_LEADER, &request, call)?;
            return session.print(&Reply::MoveLeader { from: status.leader, to: target, response });
        }
    }
    Err(Exit::arguments(format!("no leader endpoint given at [{}]", endpoints.join(" "))))
}
