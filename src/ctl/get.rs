//! `get`: one key, a range, or everything from a key on.

use bytes::Bytes;

use super::command::{Command, Flag, Group};
use super::flags::Flags;
use super::go_format::quote;
use super::kubernetes;
use super::printer::{Format, Reply};
use super::session::{BAD_FEATURE, Exit, Session};
use crate::client::{Call, Client, Error, method};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::service::queue::prefix_end;

pub static COMMAND: Command = Command {
    name: "get",
    arguments: "[options] <key> [range_end]",
    short: "Gets the key or a range of keys",
    group: Some(Group::KeyValue),
    flags: FLAGS,
    run: Some(run),
    ..Command::EMPTY
};

const FLAGS: &[Flag] = &[
    Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)").values(&["l", "s"]),
    Flag::text("order", "", "Order of results; ASCEND or DESCEND (ASCEND by default)").values(&["ASCEND", "DESCEND"]),
    Flag::text("sort-by", "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION")
        .values(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"]),
    Flag::int("limit", "Maximum number of results"),
    Flag::bool("prefix", "Get keys with matching prefix"),
    Flag::bool("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
    Flag::int("rev", "Specify the kv revision"),
    Flag::bool("keys-only", "Get only the keys"),
    Flag::bool("count-only", "Get only the count"),
    Flag::bool("print-value-only", "Only write values when using the \"simple\" output format"),
    Flag::int("min-create-rev", "Minimum create revision"),
    Flag::int("max-create-rev", "Maximum create revision"),
    Flag::int("min-mod-rev", "Minimum modification revision"),
    Flag::int("max-mod-rev", "Maximum modification revision"),
    Flag::bool("stream", "Use the RangeStream RPC"),
    Flag::text("decode", "", "Print values as YAML that others have stored in protobuf; kubernetes is known")
        .values(kubernetes::FORMATS),
];

fn run(session: &mut Session) -> Result<(), Exit> {
    let request = request(&session.flags, session.arguments())?;
    let decodes = decodes(&session.flags)?;
    let client = session.client()?;
    let call = session.call();
    let response = if session.flags.bool("stream") {
        session.wait(collect(&client, &request, call))?
    } else {
        session.request(&client, &method::RANGE, &request, call)?
    };
    if session.flags.bool("count-only") && !matches!(session.format(), Format::Fields { .. }) {
        return Err(Exit::arguments("--count-only is only for `--write-out=fields`"));
    }
    if session.flags.bool("print-value-only") {
        session.print_value_only()?;
    }
    if decodes {
        kubernetes::print(&response.kvs, session.io.output)?;
        return Ok(session.io.output.flush()?);
    }
    session.print(&Reply::Get(response))
}

/// Whether values are decoded.
fn decodes(flags: &Flags) -> Result<bool, Exit> {
    let format = flags.text("decode");
    if format.is_empty() {
        return Ok(false);
    }
    if !kubernetes::FORMATS.contains(&format) {
        return Err(Exit::new(BAD_FEATURE, format!("unknown format {} for --decode", quote(format.as_bytes()))));
    }
    let conflicts = ["keys-only", "count-only", "print-value-only"];
    if let Some(flag) = conflicts.into_iter().find(|flag| flags.bool(flag)) {
        return Err(Exit::arguments(format!("`--decode` and `--{flag}` cannot be set at the same time, choose one")));
    }
    if flags.text("write-out") != "simple" {
        return Err(Exit::arguments("--decode is only for `--write-out=simple`"));
    }
    Ok(true)
}

/// The parts of a streamed range as one response.
async fn collect(client: &Client, request: &RangeRequest, call: Call) -> Result<RangeResponse, Error> {
    let mut stream = client.server_stream(&method::RANGE_STREAM, request, call).await?;
    let mut whole = RangeResponse::default();
    while let Some(part) = stream.next().await? {
        let Some(part) = part.range_response else {
            continue;
        };
        whole.header = part.header.or(whole.header);
        whole.kvs.extend(part.kvs);
        whole.more |= part.more;
        whole.count = if part.count == 0 { whole.count } else { part.count };
    }
    Ok(whole)
}

/// The request of these flags and arguments; also for `get` in a transaction.
pub fn request(flags: &Flags, arguments: &[Vec<u8>]) -> Result<RangeRequest, Exit> {
    let Some(key) = arguments.first() else {
        return Err(Exit::arguments("get command needs one argument as key and an optional argument as range_end"));
    };
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    if prefix && from_key {
        return Err(Exit::arguments("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    if flags.bool("keys-only") && flags.bool("count-only") {
        return Err(Exit::arguments("`--keys-only` and `--count-only` cannot be set at the same time, choose one"));
    }
    let serializable = is_serializable(flags.text("consistency"))?;
    if arguments.len() > 1 && (prefix || from_key) {
        let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
        return Err(Exit::arguments(text));
    }
    let (order, target) = sorting(flags)?;
    let (key, range_end) = range(key, arguments.get(1), prefix, from_key);
    let positive = |name| flags.int(name).max(0);
    let request = RangeRequest {
        key,
        range_end,
        limit: flags.int("limit"),
        revision: positive("rev"),
        sort_order: order as i32,
        sort_target: target as i32,
        serializable,
        keys_only: flags.bool("keys-only"),
        count_only: flags.bool("count-only"),
        min_mod_revision: positive("min-mod-rev"),
        max_mod_revision: positive("max-mod-rev"),
        min_create_revision: positive("min-create-rev"),
        max_create_revision: positive("max-create-rev"),
    };
    check_bounds("CreateRev", flags.int("min-create-rev"), flags.int("max-create-rev"))?;
    check_bounds("ModRev", flags.int("min-mod-rev"), flags.int("max-mod-rev"))?;
    Ok(request)
}

/// Key and end of the range; an empty key with `--prefix` or `--from-key` means every key.
pub fn range(key: &[u8], end: Option<&Vec<u8>>, prefix: bool, from_key: bool) -> (Bytes, Bytes) {
    let key_bytes = Bytes::copy_from_slice(key);
    let no_end = Bytes::from_static(b"\0");
    match end {
        _ if (prefix || from_key) && key.is_empty() => (no_end.clone(), no_end),
        _ if from_key => (key_bytes, no_end),
        _ if prefix => (key_bytes, prefix_end(key)),
        Some(end) => (key_bytes, Bytes::copy_from_slice(end)),
        None => (key_bytes, Bytes::new()),
    }
}

/// `--consistency`.
pub fn is_serializable(consistency: &str) -> Result<bool, Exit> {
    match consistency {
        "s" => Ok(true),
        "l" => Ok(false),
        other => Err(unknown_consistency(other)),
    }
}

/// The error of an unknown `--consistency`.
pub fn unknown_consistency(text: &str) -> Exit {
    Exit::new(BAD_FEATURE, format!("unknown consistency flag {}", quote(text.as_bytes())))
}

fn sorting(flags: &Flags) -> Result<(SortOrder, SortTarget), Exit> {
    let order = match flags.text("order").to_uppercase().as_str() {
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        "" => SortOrder::None,
        _ => return Err(Exit::new(BAD_FEATURE, format!("bad sort order {}", flags.text("order")))),
    };
    let target = match flags.text("sort-by").to_uppercase().as_str() {
        "CREATE" => SortTarget::Create,
        "KEY" | "" => SortTarget::Key,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(Exit::new(BAD_FEATURE, format!("bad sort target {}", flags.text("sort-by")))),
    };
    // Keys come in ascending order anyway; a request for that order would make the server read everything first.
    match (order, target) {
        (SortOrder::Ascend, SortTarget::Key) => Ok((SortOrder::None, target)),
        pair => Ok(pair),
    }
}

fn check_bounds(name: &str, min: i64, max: i64) -> Result<(), Exit> {
    if max > 0 && min > max {
        return Err(Exit::new(BAD_FEATURE, format!("getMin{name}(={min}) > getMax{name}(={max})")));
    }
    Ok(())
}
