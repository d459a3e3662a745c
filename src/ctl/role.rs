//! `role add|delete|get|list|grant-permission|revoke-permission`.

use super::command::{Command, Flag, Group};
use super::printer::Reply;
use super::session::{Exit, Session};
use super::user::connect_and_call;
use crate::client::method;
use crate::proto::authpb::Permission;
use crate::proto::authpb::permission::Type;
use crate::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest,
    AuthRoleRevokePermissionRequest,
};
use crate::service::queue::prefix_end;

pub static COMMAND: Command = Command {
    name: "role",
    arguments: "<subcommand>",
    short: "Role related commands. Use `etcdctl role --help` to see subcommands",
    long: "Role related commands",
    group: Some(Group::Authentication),
    commands: &[&ADD, &DELETE, &GET, &LIST, &GRANT, &REVOKE],
    ..Command::EMPTY
};

static ADD: Command =
    Command { name: "add", arguments: "<role name>", short: "Adds a new role", run: Some(add), ..Command::EMPTY };

static DELETE: Command =
    Command { name: "delete", arguments: "<role name>", short: "Deletes a role", run: Some(delete), ..Command::EMPTY };

static GET: Command = Command {
    name: "get",
    arguments: "<role name>",
    short: "Gets detailed information of a role",
    run: Some(get),
    ..Command::EMPTY
};

static LIST: Command = Command { name: "list", short: "Lists all roles", run: Some(list), ..Command::EMPTY };

static GRANT: Command = Command {
    name: "grant-permission",
    arguments: "[options] <role name> <permission type> <key> [endkey]",
    short: "Grants a key to a role",
    flags: &[
        Flag::bool("prefix", "grant a prefix permission"),
        Flag::bool(
            "from-key",
            "grant a permission of keys that are greater than or equal to the given key using byte compare",
        ),
    ],
    run: Some(grant),
    ..Command::EMPTY
};

static REVOKE: Command = Command {
    name: "revoke-permission",
    arguments: "<role name> <key> [endkey]",
    short: "Revokes a key from a role",
    flags: &[
        Flag::bool("prefix", "revoke a prefix permission"),
        Flag::bool(
            "from-key",
            "revoke a permission of keys that are greater than or equal to the given key using byte compare",
        ),
    ],
    run: Some(revoke),
    ..Command::EMPTY
};

fn add(session: &mut Session) -> Result<(), Exit> {
    let role = only_role(session, "add")?;
    let response = connect_and_call(session, &method::ROLE_ADD, &AuthRoleAddRequest { name: role.clone() })?;
    session.print(&Reply::RoleAdd { role, response })
}

fn delete(session: &mut Session) -> Result<(), Exit> {
    let role = only_role(session, "delete")?;
    let response = connect_and_call(session, &method::ROLE_DELETE, &AuthRoleDeleteRequest { role: role.clone() })?;
    session.print(&Reply::RoleDelete { role, response })
}

fn get(session: &mut Session) -> Result<(), Exit> {
    let role = only_role(session, "get")?;
    let response = connect_and_call(session, &method::ROLE_GET, &AuthRoleGetRequest { role: role.clone() })?;
    session.print(&Reply::RoleGet { role, response })
}

fn list(session: &mut Session) -> Result<(), Exit> {
    if !session.arguments().is_empty() {
        return Err(Exit::arguments("role list command requires no arguments"));
    }
    let response = connect_and_call(session, &method::ROLE_LIST, &AuthRoleListRequest {})?;
    session.print(&Reply::RoleList(response))
}

fn grant(session: &mut Session) -> Result<(), Exit> {
    if session.arguments().len() < 3 {
        let text = "role grant command requires role name, permission type, and key [endkey] as its argument";
        return Err(Exit::arguments(text));
    }
    let role = session.argument(0).into_owned();
    let perm_type = permission_type(&session.argument(1))?;
    let (key, range_end) = range(session, 2)?;
    let permission = Permission { perm_type: perm_type as i32, key: key.into(), range_end: range_end.into() };
    let request = AuthRoleGrantPermissionRequest { name: role.clone(), perm: Some(permission) };
    let response = connect_and_call(session, &method::ROLE_GRANT_PERMISSION, &request)?;
    session.print(&Reply::RoleGrantPermission { role, response })
}

fn revoke(session: &mut Session) -> Result<(), Exit> {
    if session.arguments().len() < 2 {
        let text = "role revoke-permission command requires role name and key [endkey] as its argument";
        return Err(Exit::arguments(text));
    }
    let role = session.argument(0).into_owned();
    let shown_key = session.arguments()[1].clone();
    let (key, end) = range(session, 1)?;
    let request =
        AuthRoleRevokePermissionRequest { role: role.clone(), key: key.into(), range_end: end.clone().into() };
    let response = connect_and_call(session, &method::ROLE_REVOKE_PERMISSION, &request)?;
    session.print(&Reply::RoleRevokePermission { role, key: shown_key, end, response })
}

fn permission_type(text: &str) -> Result<Type, Exit> {
    match text.to_uppercase().as_str() {
        "READ" => Ok(Type::Read),
        "WRITE" => Ok(Type::Write),
        "READWRITE" => Ok(Type::Readwrite),
        _ => Err(Exit::arguments(format!("invalid permission type: {text}"))),
    }
}

/// Key and end of a permission from the arguments at `at`; an empty key stands for all keys.
fn range(session: &Session, at: usize) -> Result<(Vec<u8>, Vec<u8>), Exit> {
    let (prefix, from_key) = (session.flags.bool("prefix"), session.flags.bool("from-key"));
    let arguments = &session.arguments()[at..];
    let key = arguments[0].clone();
    let exclusive = || Exit::arguments("--from-key and --prefix flags are mutually exclusive");
    let no_end = || b"\0".to_vec();
    if key.is_empty() {
        return match (prefix, from_key) {
            (true, true) => Err(exclusive()),
            (false, false) => Ok((no_end(), Vec::new())),
            _ => Ok((no_end(), no_end())),
        };
    }
    let end = match (arguments.get(1), prefix, from_key) {
        (None, true, true) => return Err(exclusive()),
        (None, true, false) => prefix_end(&key).into(),
        (None, false, true) => no_end(),
        (None, false, false) => Vec::new(),
        (Some(_), true, _) => return Err(Exit::arguments("unexpected endkey argument with --prefix flag")),
        (Some(_), _, true) => return Err(Exit::arguments("unexpected endkey argument with --from-key flag")),
        (Some(end), false, false) => end.clone(),
    };
    Ok((key, end))
}

fn only_role(session: &Session, name: &str) -> Result<String, Exit> {
    match session.arguments().len() {
        1 => Ok(session.argument(0).into_owned()),
        _ => Err(Exit::arguments(format!("role {name} command requires role name as its argument"))),
    }
}
