//! `user add|delete|get|list|passwd|grant-role|revoke-role`. None of them is bounded in time, as in etcdctl.

use super::command::{Command, Flag, Group, Kind};
use super::printer::Reply;
use super::session::{Exit, Session};
use crate::client::{Call, Method, method};
use crate::proto::authpb::UserAddOptions;
use crate::proto::etcdserverpb::{
    AuthRoleGetRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
};

pub static COMMAND: Command = Command {
    name: "user",
    arguments: "<subcommand>",
    short: "User related commands. Use `etcdctl user --help` to see subcommands",
    long: "User related commands",
    group: Some(Group::Authentication),
    commands: &[&ADD, &DELETE, &GET, &LIST, &PASSWD, &GRANT_ROLE, &REVOKE_ROLE],
    ..Command::EMPTY
};

static ADD: Command = Command {
    name: "add",
    arguments: "<user name or user:password> [options]",
    short: "Adds a new user",
    flags: &[
        Flag::new("interactive", Kind::Bool, "true", "Read password from stdin instead of interactive terminal"),
        Flag::text("new-user-password", "", "Supply password from the command line flag"),
        Flag::bool("no-password", "Create a user without password (CN based auth only)"),
    ],
    run: Some(add),
    ..Command::EMPTY
};

static DELETE: Command =
    Command { name: "delete", arguments: "<user name>", short: "Deletes a user", run: Some(delete), ..Command::EMPTY };

static GET: Command = Command {
    name: "get",
    arguments: "<user name> [options]",
    short: "Gets detailed information of a user",
    flags: &[Flag::bool("detail", "Show permissions of roles granted to the user")],
    run: Some(get),
    ..Command::EMPTY
};

static LIST: Command = Command { name: "list", short: "Lists all users", run: Some(list), ..Command::EMPTY };

static PASSWD: Command = Command {
    name: "passwd",
    arguments: "<user name> [options]",
    short: "Changes password of user",
    flags: &[Flag::new(
        "interactive",
        Kind::Bool,
        "true",
        "If true, read password from stdin instead of interactive terminal",
    )],
    run: Some(passwd),
    ..Command::EMPTY
};

static GRANT_ROLE: Command = Command {
    name: "grant-role",
    arguments: "<user name> <role name>",
    short: "Grants a role to a user",
    run: Some(grant_role),
    ..Command::EMPTY
};

static REVOKE_ROLE: Command = Command {
    name: "revoke-role",
    arguments: "<user name> <role name>",
    short: "Revokes a role from a user",
    run: Some(revoke_role),
    ..Command::EMPTY
};

fn add(session: &mut Session) -> Result<(), Exit> {
    let argument = only_argument(session, "user add command requires user name as its argument")?;
    let given = session.flags.text("new-user-password").to_owned();
    let no_password = session.flags.bool("no-password");
    let (user, password) = if no_password {
        (argument, String::new())
    } else if !given.is_empty() {
        (argument, given)
    } else if let Some((user, password)) = argument.split_once(':') {
        if user.is_empty() {
            return Err(Exit::arguments("empty user name is not allowed"));
        }
        (user.to_owned(), password.to_owned())
    } else {
        let password = read_password(session, &argument)?;
        (argument, password)
    };
    let request = AuthUserAddRequest {
        name: user.clone(),
        password,
        options: Some(UserAddOptions { no_password }),
        ..Default::default()
    };
    let response = connect_and_call(session, &method::USER_ADD, &request)?;
    session.print(&Reply::UserAdd { user, response })
}

fn delete(session: &mut Session) -> Result<(), Exit> {
    let user = only_argument(session, "user delete command requires user name as its argument")?;
    let response = connect_and_call(session, &method::USER_DELETE, &AuthUserDeleteRequest { name: user.clone() })?;
    session.print(&Reply::UserDelete { user, response })
}

fn get(session: &mut Session) -> Result<(), Exit> {
    let user = only_argument(session, "user get command requires user name as its argument")?;
    let client = session.client()?;
    let request = AuthUserGetRequest { name: user.clone() };
    let response = session.request(&client, &method::USER_GET, &request, Call::default())?;
    if !session.flags.bool("detail") {
        return session.print(&Reply::UserGet { user, response });
    }
    writeln!(session.io.output, "User: {user}")?;
    for role in response.roles {
        writeln!(session.io.output)?;
        let request = AuthRoleGetRequest { role: role.clone() };
        let response = session.request(&client, &method::ROLE_GET, &request, Call::default())?;
        session.print(&Reply::RoleGet { role, response })?;
    }
    Ok(())
}

fn list(session: &mut Session) -> Result<(), Exit> {
    if !session.arguments().is_empty() {
        return Err(Exit::arguments("user list command requires no arguments"));
    }
    let response = connect_and_call(session, &method::USER_LIST, &AuthUserListRequest {})?;
    session.print(&Reply::UserList(response))
}

fn passwd(session: &mut Session) -> Result<(), Exit> {
    let name = only_argument(session, "user passwd command requires user name as its argument")?;
    let password = read_password(session, &name)?;
    let request = AuthUserChangePasswordRequest { name, password, ..Default::default() };
    let response = connect_and_call(session, &method::USER_CHANGE_PASSWORD, &request)?;
    session.print(&Reply::UserChangePassword(response))
}

fn grant_role(session: &mut Session) -> Result<(), Exit> {
    let text = "user grant command requires user name and role name as its argument";
    let (user, role) = two_arguments(session, text)?;
    let request = AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let response = connect_and_call(session, &method::USER_GRANT_ROLE, &request)?;
    session.print(&Reply::UserGrantRole { user, role, response })
}

fn revoke_role(session: &mut Session) -> Result<(), Exit> {
    let text = "user revoke-role requires user name and role name as its argument";
    let (user, role) = two_arguments(session, text)?;
    let request = AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
    let response = connect_and_call(session, &method::USER_REVOKE_ROLE, &request)?;
    session.print(&Reply::UserRevokeRole { user, role, response })
}

/// Twice from the terminal, or with `--interactive=false` once from stdin.
fn read_password(session: &mut Session, name: &str) -> Result<String, Exit> {
    if !session.flags.bool("interactive") {
        let line = session.read_line()?.unwrap_or_default();
        let text = String::from_utf8_lossy(&line);
        return Ok(text.split_whitespace().next().unwrap_or_default().to_owned());
    }
    let first = session.ask_secret(&format!("Password of {name}: "))?;
    if first.is_empty() {
        return Err(Exit::arguments("empty password"));
    }
    let second = session.ask_secret(&format!("Type password of {name} again for confirmation: "))?;
    if first != second {
        return Err(Exit::arguments("given passwords are different"));
    }
    Ok(first)
}

fn only_argument(session: &Session, text: &str) -> Result<String, Exit> {
    match session.arguments().len() {
        1 => Ok(session.argument(0).into_owned()),
        _ => Err(Exit::arguments(text)),
    }
}

fn two_arguments(session: &Session, text: &str) -> Result<(String, String), Exit> {
    match session.arguments().len() {
        2 => Ok((session.argument(0).into_owned(), session.argument(1).into_owned())),
        _ => Err(Exit::arguments(text)),
    }
}

/// Connects and makes one call without a bound.
pub fn connect_and_call<Q, A>(session: &mut Session, method: &Method<Q, A>, request: &Q) -> Result<A, Exit>
where
    Q: prost::Message,
    A: prost::Message + Default,
{
    let client = session.client()?;
    Ok(session.request(&client, method, request, Call::default())?)
}
