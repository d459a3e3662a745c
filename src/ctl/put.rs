//! `put`: one key and its value, from the command line or from stdin.

use std::io::Read;

use super::command::{Command, Flag, Group};
use super::flags::Flags;
use super::go_format::parse_int;
use super::printer::Reply;
use super::session::{Exit, Session};
use crate::client::method;
use crate::proto::etcdserverpb::PutRequest;

pub static COMMAND: Command = Command {
    name: "put",
    arguments: "[options] <key> <value> (<value> can also be given from stdin)",
    short: "Puts the given key into the store",
    long: "
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
",
    group: Some(Group::KeyValue),
    flags: FLAGS,
    run: Some(run),
    ..Command::EMPTY
};

const FLAGS: &[Flag] = &[
    Flag::text("lease", "0", "lease ID (in hexadecimal) to attach to the key"),
    Flag::bool("prev-kv", "return the previous key-value pair before modification"),
    Flag::bool("ignore-value", "updates the key using its current value"),
    Flag::bool("ignore-lease", "updates the key using its current lease"),
];

fn run(session: &mut Session) -> Result<(), Exit> {
    let request = request(&session.flags, &session.flags.arguments, &mut session.io.input)?;
    let client = session.client()?;
    let call = session.call();
    let response = session.request(&client, &method::PUT, &request, call)?;
    session.print(&Reply::Put(response))
}

/// The request of these flags and arguments; also for `put` in a transaction.
pub fn request(flags: &Flags, arguments: &[Vec<u8>], input: &mut dyn Read) -> Result<PutRequest, Exit> {
    let missing = || Exit::arguments("put command needs 1 argument and input from stdin or 2 arguments");
    let key = arguments.first().ok_or_else(missing)?;
    let ignore_value = flags.bool("ignore-value");
    if ignore_value && arguments.len() > 1 {
        return Err(Exit::arguments("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let mut value = arguments.get(1).cloned().unwrap_or_default();
    if !ignore_value && arguments.len() < 2 {
        let read = input.read_to_end(&mut value);
        if read.is_err() || value.is_empty() {
            return Err(missing());
        }
    }
    let lease = parse_int(flags.text("lease").as_bytes(), 16)
        .map_err(|error| Exit::arguments(format!("bad lease ID ({error}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key: key.clone().into(),
        value: value.into(),
        lease,
        prev_kv: flags.bool("prev-kv"),
        ignore_value,
        ignore_lease: flags.bool("ignore-lease"),
    })
}
