//! `endpoint health|status|hashkv`: each endpoint asked on its own.

use std::io::{self, IsTerminal};
use std::time::Instant;

use super::command::{Command, Flag, Group, Kind};
use super::go_format::duration;
use super::printer::{EndpointHash, EndpointStatus, Health, Reply};
use super::session::{BAD_CONNECTION, BAD_FEATURE, ERROR, Exit, Session};
use crate::client::{Call, Client, Code, Error, Options, method};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType, HashKvRequest, RangeRequest, StatusRequest, StatusResponse};

pub static COMMAND: Command = Command {
    name: "endpoint",
    arguments: "<subcommand>",
    short: "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands",
    long: "Endpoint related commands",
    group: Some(Group::Maintenance),
    shared_flags: &[Flag::bool("cluster", "use all endpoints from the cluster member list")],
    commands: &[&HEALTH, &STATUS, &HASH_KV],
    ..Command::EMPTY
};

/// Moves the cursor of a terminal to the upper left corner and clears the screen (ECMA-48: CUP, ED).
const CLEAR_SCREEN: &[u8] = b"\x1b[H\x1b[2J";

static HEALTH: Command = Command {
    name: "health",
    short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
    run: Some(health),
    ..Command::EMPTY
};

static STATUS: Command = Command {
    name: "status",
    short: "Prints out the status of endpoints specified in `--endpoints` flag",
    long: "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors.
",
    flags: &[
        Flag::bool("watch", "Print the status again and again until interrupted; on a terminal in place"),
        Flag::new("interval", Kind::Duration, "2s", "Pause between two prints of --watch"),
    ],
    run: Some(status),
    ..Command::EMPTY
};

static HASH_KV: Command = Command {
    name: "hashkv",
    short: "Prints the KV history hash for each endpoint in --endpoints",
    shared_flags: &[Flag::int("rev", "maximum revision to hash (default: latest revision)")],
    run: Some(hash_kv),
    ..Command::EMPTY
};

fn health(session: &mut Session) -> Result<(), Exit> {
    let options = session.settle()?;
    let endpoints = session.chosen_endpoints()?;
    let call = session.call();
    let list = session.wait(async {
        let ask = |endpoint| tokio::spawn(health_of(endpoint, options.clone(), call));
        // All are asked at once; one that hangs must not eat the time of the others.
        let asked: Vec<_> = endpoints.into_iter().map(ask).collect();
        let mut list = Vec::new();
        for answer in asked {
            list.extend(answer.await);
        }
        list
    });
    let sick = list.iter().any(|health| !health.error.is_empty());
    session.print(&Reply::Health(list))?;
    if sick {
        return Err(Exit::new(ERROR, "unhealthy cluster"));
    }
    Ok(())
}

async fn health_of(endpoint: String, options: Options, call: Call) -> Health {
    let sick = |endpoint, took, error: String| Health { endpoint, healthy: false, took, error };
    let options = Options { endpoints: vec![endpoint.clone()], ..options };
    let client = match Client::connect(options).await {
        Ok(client) => client,
        Err(error) => return sick(endpoint, String::new(), error.to_string()),
    };
    let started = Instant::now();
    let outcome = probe(&client, call).await;
    let took = duration(started.elapsed());
    if let Err(error) = outcome {
        return sick(endpoint, took, error.to_string());
    }
    match alarms(&client, call).await {
        Ok(alarms) if alarms.is_empty() => Health { endpoint, healthy: true, took, error: String::new() },
        Ok(alarms) => sick(endpoint, took, format!("Active Alarm(s): {alarms}")),
        Err(_) => sick(endpoint, took, "Unable to fetch the alarm list".to_owned()),
    }
}

/// A linearizable read of any key. A refused one went through consensus too.
async fn probe(client: &Client, call: Call) -> Result<(), Error> {
    let request = RangeRequest { key: "health".into(), ..Default::default() };
    match client.call(&method::RANGE, &request, call).await {
        Err(error) if error.code() != Code::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

async fn alarms(client: &Client, call: Call) -> Result<String, Error> {
    let request = AlarmRequest { action: AlarmAction::Get as i32, ..Default::default() };
    let response = client.call(&method::ALARM, &request, call).await?;
    let name = |alarm: i32| match AlarmType::try_from(alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE ",
        Ok(AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    };
    Ok(response.alarms.iter().map(|alarm| name(alarm.alarm)).collect())
}

fn status(session: &mut Session) -> Result<(), Exit> {
    let options = session.settle()?;
    if !session.flags.bool("watch") {
        let endpoints = session.chosen_endpoints()?;
        let call = session.call();
        let answers = session.wait(ask_status(endpoints, options, call));
        return print_status(session, answers);
    }
    watch_status(session, &options)
}

/// Until the user interrupts it. Endpoints that fail are reported each time, because a watcher waits for them to come back.
fn watch_status(session: &mut Session, options: &Options) -> Result<(), Exit> {
    let interval = session.flags.duration("interval");
    let redraws = session.io.shares_streams && io::stdout().is_terminal();
    loop {
        let asked = session.chosen_endpoints();
        let call = session.call();
        if redraws {
            session.io.output.write_all(CLEAR_SCREEN)?;
        }
        let printed = match asked {
            Ok(endpoints) => match session.wait_or_interrupt(ask_status(endpoints, options.clone(), call)) {
                None => return Ok(()),
                Some(answers) => {
                    // An endpoint without a client is one more that fails, and not the end of the command.
                    let answers =
                        answers.into_iter().map(|(endpoint, answer)| (endpoint, Ok(answer.unwrap_or_else(Err))));
                    print_status(session, answers.collect())
                }
            },
            Err(exit) => Err(exit),
        };
        match printed {
            Err(exit) if exit.code == BAD_FEATURE => return Err(exit),
            Err(Exit { message: Some(message), .. }) => writeln!(session.io.errors, "Error: {message}")?,
            _ => {}
        }
        session.io.output.flush()?;
        // The timer needs the runtime that it is polled on when it is made.
        if session.wait_or_interrupt(async { tokio::time::sleep(interval).await }).is_none() {
            return Ok(());
        }
    }
}

/// The answer of an endpoint; the outer error: there is no client for it.
type StatusAnswer = (String, Result<Result<StatusResponse, Error>, Error>);

/// Asks all at once, so that one that hangs does not hold up the others.
async fn ask_status(endpoints: Vec<String>, options: Options, call: Call) -> Vec<StatusAnswer> {
    let ask = |endpoint: String| {
        let options = Options { endpoints: vec![endpoint.clone()], ..options.clone() };
        tokio::spawn(async move {
            let answer = match Client::connect(options).await {
                Ok(client) => Ok(client.call(&method::STATUS, &StatusRequest {}, call).await),
                Err(error) => Err(error),
            };
            (endpoint, answer)
        })
    };
    let asked: Vec<_> = endpoints.into_iter().map(ask).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.extend(answer.await);
    }
    answers
}

fn print_status(session: &mut Session, answers: Vec<StatusAnswer>) -> Result<(), Exit> {
    let mut list = Vec::new();
    let mut failed = false;
    for (endpoint, answer) in answers {
        match answer.map_err(|error| Exit::new(BAD_CONNECTION, error))? {
            Ok(response) => list.push(EndpointStatus { endpoint, response }),
            Err(error) => {
                writeln!(session.io.errors, "Failed to get the status of endpoint {endpoint} ({error})")?;
                failed = true;
            }
        }
    }
    session.print(&Reply::Status(list))?;
    if failed { Err(Exit::silent(ERROR)) } else { Ok(()) }
}

fn hash_kv(session: &mut Session) -> Result<(), Exit> {
    session.settle()?;
    let request = HashKvRequest { revision: session.flags.int("rev") };
    let mut list = Vec::new();
    let mut failure = None;
    for endpoint in session.chosen_endpoints()? {
        let client = session.client_of(&endpoint)?;
        let call = session.call();
        match session.request(&client, &method::HASH_KV, &request, call) {
            Ok(response) => list.push(EndpointHash { endpoint, response }),
            Err(error) => {
                writeln!(session.io.errors, "Failed to get the hash of endpoint {endpoint} ({error})")?;
                failure = Some(error);
            }
        }
    }
    session.print(&Reply::HashKv(list))?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}
