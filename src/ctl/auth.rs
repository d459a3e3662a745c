//! `auth enable|disable|status`.

use super::command::{Command, Group};
use super::printer::Reply;
use super::session::{Exit, Session};
use crate::client::{Call, Client, Error, method};
use crate::proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest, AuthUserGrantRoleRequest,
};

pub static COMMAND: Command = Command {
    name: "auth",
    arguments: "<enable or disable>",
    short: "Enable or disable authentication. Use `etcdctl auth --help` to see subcommands",
    long: "Enable or disable authentication",
    group: Some(Group::Authentication),
    commands: &[&ENABLE, &DISABLE, &STATUS],
    ..Command::EMPTY
};

static ENABLE: Command =
    Command { name: "enable", short: "Enables authentication", run: Some(enable), ..Command::EMPTY };

static DISABLE: Command =
    Command { name: "disable", short: "Disables authentication", run: Some(disable), ..Command::EMPTY };

static STATUS: Command =
    Command { name: "status", short: "Returns authentication status", run: Some(status), ..Command::EMPTY };

fn enable(session: &mut Session) -> Result<(), Exit> {
    no_arguments(session, "enable")?;
    let client = session.client()?;
    let call = session.call();
    session.wait(enable_with_root(&client, call))?;
    writeln!(session.io.output, "Authentication Enabled")?;
    Ok(())
}

/// Grants user root the role root first, if it lacks it.
async fn enable_with_root(client: &Client, call: Call) -> Result<(), Error> {
    loop {
        match client.call(&method::AUTH_ENABLE, &AuthEnableRequest {}, call).await {
            Ok(_) => return Ok(()),
            Err(error) if error.message() == "etcdserver: root user does not have root role" => {
                client.call(&method::ROLE_ADD, &AuthRoleAddRequest { name: "root".to_owned() }, call).await?;
                let grant = AuthUserGrantRoleRequest { user: "root".to_owned(), role: "root".to_owned() };
                client.call(&method::USER_GRANT_ROLE, &grant, call).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn disable(session: &mut Session) -> Result<(), Exit> {
    no_arguments(session, "disable")?;
    let client = session.client()?;
    let call = session.call();
    session.request(&client, &method::AUTH_DISABLE, &AuthDisableRequest {}, call)?;
    writeln!(session.io.output, "Authentication Disabled")?;
    Ok(())
}

fn status(session: &mut Session) -> Result<(), Exit> {
    no_arguments(session, "status")?;
    let client = session.client()?;
    let call = session.call();
    let response = session.request(&client, &method::AUTH_STATUS, &AuthStatusRequest {}, call)?;
    session.print(&Reply::AuthStatus(response))
}

fn no_arguments(session: &Session, name: &str) -> Result<(), Exit> {
    if session.arguments().is_empty() {
        return Ok(());
    }
    Err(Exit::arguments(format!("auth {name} command does not accept any arguments")))
}
