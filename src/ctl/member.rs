//! `member add|remove|update|promote|list`.

use std::io::Write;

use super::command::{Command, Flag, Group};
use super::get::{is_serializable, unknown_consistency};
use super::go_format::quote;
use super::printer::{Format, Reply};
use super::session::{ERROR, Exit, Session, parse_member};
use crate::client::method;
use crate::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
};

pub static COMMAND: Command = Command {
    name: "member",
    arguments: "<subcommand>",
    short: "Membership related commands. Use `etcdctl member --help` to see subcommands",
    long: "Membership related commands",
    group: Some(Group::Maintenance),
    commands: &[&ADD, &REMOVE, &UPDATE, &LIST, &PROMOTE],
    ..Command::EMPTY
};

static ADD: Command = Command {
    name: "add",
    arguments: "<memberName> [options]",
    short: "Adds a member into the cluster",
    flags: &[
        Flag::text("peer-urls", "", "comma separated peer URLs for the new member."),
        Flag::bool("learner", "indicates if the new member is raft learner"),
    ],
    run: Some(add),
    ..Command::EMPTY
};

static REMOVE: Command = Command {
    name: "remove",
    arguments: "<memberID>",
    short: "Removes a member from the cluster",
    run: Some(remove),
    ..Command::EMPTY
};

static UPDATE: Command = Command {
    name: "update",
    arguments: "<memberID> [options]",
    short: "Updates a member in the cluster",
    flags: &[Flag::text("peer-urls", "", "comma separated peer URLs for the updated member.")],
    run: Some(update),
    ..Command::EMPTY
};

static LIST: Command = Command {
    name: "list",
    short: "Lists all members in the cluster",
    long: "When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.
",
    flags: &[Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)")],
    run: Some(list),
    ..Command::EMPTY
};

static PROMOTE: Command = Command {
    name: "promote",
    arguments: "<memberID>",
    short: "Promotes a non-voting member in the cluster",
    long: "Promotes a non-voting learner member to a voting one in the cluster.\n",
    run: Some(promote),
    ..Command::EMPTY
};

fn add(session: &mut Session) -> Result<(), Exit> {
    if session.arguments().is_empty() {
        return Err(Exit::arguments("member name not provided"));
    }
    if session.arguments().len() > 1 {
        return Err(Exit::arguments(too_many(session)));
    }
    let name = session.argument(0).into_owned();
    let urls = session.flags.text("peer-urls").to_owned();
    if urls.is_empty() {
        return Err(Exit::arguments("member peer urls not provided"));
    }
    let client = session.client()?;
    check_urls(&urls)?;
    let request = MemberAddRequest { peer_ur_ls: split(&urls), is_learner: session.flags.bool("learner") };
    let call = session.call();
    let response = session.request(&client, &method::MEMBER_ADD, &request, call)?;
    let new_id = response.member.as_ref().map_or(0, |member| member.id);
    let cluster = initial_cluster(&response.members, new_id, &name);
    session.print(&Reply::MemberAdd(response))?;
    if matches!(session.format(), Format::Simple { .. }) {
        let output = &mut session.io.output;
        writeln!(output, "\nETCD_NAME={}", quote(name.as_bytes()))?;
        writeln!(output, "ETCD_INITIAL_CLUSTER={}", quote(cluster.as_bytes()))?;
        writeln!(output, "ETCD_INITIAL_ADVERTISE_PEER_URLS={}", quote(urls.as_bytes()))?;
        writeln!(output, "ETCD_INITIAL_CLUSTER_STATE=\"existing\"")?;
    }
    Ok(())
}

fn too_many(session: &Session) -> String {
    let mut text = "too many arguments".to_owned();
    for at in 0..session.arguments().len() {
        let argument = session.argument(at);
        if argument.to_lowercase().starts_with("http") {
            text.push_str(&format!(", did you mean --peer-urls={argument}"));
        }
    }
    text
}

/// What the new member has to be started with.
fn initial_cluster(members: &[Member], new_id: u64, new_name: &str) -> String {
    let each = |member: &Member| {
        let name = if member.id == new_id { new_name } else { &member.name };
        member.peer_ur_ls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>()
    };
    members.iter().flat_map(each).collect::<Vec<_>>().join(",")
}

fn remove(session: &mut Session) -> Result<(), Exit> {
    let id = only_member(session)?;
    let client = session.client()?;
    let call = session.call();
    let response = session.request(&client, &method::MEMBER_REMOVE, &MemberRemoveRequest { id }, call)?;
    session.print(&Reply::MemberRemove { id, response })
}

fn update(session: &mut Session) -> Result<(), Exit> {
    let id = only_member(session)?;
    let urls = session.flags.text("peer-urls").to_owned();
    if urls.is_empty() {
        return Err(Exit::arguments("member peer urls not provided"));
    }
    let client = session.client()?;
    check_urls(&urls)?;
    let call = session.call();
    let request = MemberUpdateRequest { id, peer_ur_ls: split(&urls) };
    let response = session.request(&client, &method::MEMBER_UPDATE, &request, call)?;
    session.print(&Reply::MemberUpdate { id, response })
}

fn promote(session: &mut Session) -> Result<(), Exit> {
    let id = only_member(session)?;
    let client = session.client()?;
    let call = session.call();
    let response = session.request(&client, &method::MEMBER_PROMOTE, &MemberPromoteRequest { id }, call)?;
    session.print(&Reply::MemberPromote { id, response })
}

fn list(session: &mut Session) -> Result<(), Exit> {
    // etcdctl blames the flag of `get` here, whose default is `l`.
    let linearizable = !is_serializable(session.flags.text("consistency")).map_err(|_| unknown_consistency("l"))?;
    let client = session.client()?;
    let call = session.call();
    let response = session.request(&client, &method::MEMBER_LIST, &MemberListRequest { linearizable }, call)?;
    session.print(&Reply::MemberList(response))
}

fn only_member(session: &Session) -> Result<u64, Exit> {
    match session.arguments() {
        [id] => parse_member(id),
        _ => Err(Exit::arguments("member ID is not provided")),
    }
}

/// What etcd's client refuses to send.
fn check_urls(urls: &str) -> Result<(), Exit> {
    for url in urls.split(',').map(str::trim) {
        let (scheme, rest) = url.split_once("://").unwrap_or((url.split(':').next().unwrap_or_default(), ""));
        match scheme {
            "unix" | "unixs" => continue,
            "http" | "https" if url.contains("://") => {}
            _ => return Err(Exit::new(ERROR, format!("URL scheme must be http, https, unix, or unixs: {url}"))),
        }
        let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
        if !host.rsplit_once(':').is_some_and(|(name, _)| !name.contains(':') || name.ends_with(']')) {
            let text = format!("URL address does not have the form \"host:port\": {url}");
            return Err(Exit::new(ERROR, text));
        }
        if path.is_some() {
            return Err(Exit::new(ERROR, format!("URL must not contain a path: {url}")));
        }
    }
    Ok(())
}

fn split(urls: &str) -> Vec<String> {
    urls.split(',').map(str::to_owned).collect()
}
