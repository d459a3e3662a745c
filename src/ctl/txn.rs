//! `txn`: comparisons and two lists of operations from stdin, each list ended by an empty line.

use std::io::empty;

use super::command::{Command, Flag, Found, Group, find};
use super::flags::Flags;
use super::go_format::{parse_int, quote, unquote};
use super::help::usage;
use super::printer::Reply;
use super::session::{Exit, INVALID_INPUT, Session};
use super::{del, get, put};
use crate::client::{Call, method};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

pub static COMMAND: Command = Command {
    name: "txn",
    arguments: "[options]",
    short: "Txn processes all the requests in one transaction",
    long: "Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.

A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
etcdctl txn -i
# compares:
mod(\"key1\") > \"0\"

# success requests (get, put, delete):
put key1 \"overwrote-key1\"

# failure requests (get, put, delete):
put key1 \"created-key1\"
put key2 \"some extra key\"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options.",
    group: Some(Group::KeyValue),
    flags: &[Flag::bool("interactive", "Input transaction in interactive mode").letter('i')],
    run: Some(run),
    ..Command::EMPTY
};

/// The commands of an operation line.
static OPERATIONS: Command = Command { commands: &[&put::COMMAND, &get::COMMAND, &del::COMMAND], ..Command::EMPTY };

fn run(session: &mut Session) -> Result<(), Exit> {
    if !session.arguments().is_empty() {
        return Err(Exit::arguments("txn command does not accept argument"));
    }
    let client = session.client()?;
    prompt(session, "compares:")?;
    let compare = read_block(session, |_, line| comparison(line))?;
    prompt(session, "success requests (get, put, del):")?;
    let success = read_block(session, operation)?;
    prompt(session, "failure requests (get, put, del):")?;
    let failure = read_block(session, operation)?;
    let request = TxnRequest { compare, success, failure };
    // No bound, as in etcdctl, because a person may take long to type.
    let response = session.request(&client, &method::TXN, &request, Call::default())?;
    session.print(&Reply::Txn(response))
}

fn prompt(session: &mut Session, text: &str) -> Result<(), Exit> {
    if session.flags.bool("interactive") {
        writeln!(session.io.output, "{text}")?;
        session.io.output.flush()?;
    }
    Ok(())
}

fn read_block<T>(
    session: &mut Session,
    parse: impl Fn(&mut Session, &[u8]) -> Result<T, Exit>,
) -> Result<Vec<T>, Exit> {
    let mut items = Vec::new();
    loop {
        let line = session.read_line()?.ok_or_else(|| Exit::new(INVALID_INPUT, "EOF"))?;
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(items);
        }
        items.push(parse(session, line)?);
    }
}

fn operation(session: &mut Session, line: &[u8]) -> Result<RequestOp, Exit> {
    let text = String::from_utf8_lossy(line);
    let words = split_words(line)?;
    if words.len() < 2 {
        return Err(Exit::new(INVALID_INPUT, format!("invalid txn compare request: {text}")));
    }
    let invalid = || Exit::new(INVALID_INPUT, format!("invalid txn request: {text}"));
    let Found { path, rest } = find(&OPERATIONS, &words);
    let [_, command] = path[..] else {
        return Err(invalid());
    };
    let flags = match Flags::parse(&path, &rest) {
        Ok(flags) => flags,
        Err(_) => {
            writeln!(session.io.errors, "{}", usage(&path))?;
            return Err(invalid());
        }
    };
    let request = match command.name {
        "put" => Request::RequestPut(put::request(&flags, &flags.arguments, &mut empty())?),
        "get" => Request::RequestRange(get::request(&flags, &flags.arguments)?),
        _ => Request::RequestDeleteRange(del::request(&flags, &flags.arguments, session.io.errors)?),
    };
    Ok(RequestOp { request: Some(request) })
}

/// Words of a line: double-quoted (with escapes), single-quoted (as they are), or up to the next blank.
pub fn split_words(line: &[u8]) -> Result<Vec<Vec<u8>>, Exit> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((&first, tail)) = rest.split_first() {
        match first {
            b'"' => match quoted_len(rest) {
                Some(len) => {
                    let (value, _) = unquote(&rest[..len]).map_err(|error| Exit::new(INVALID_INPUT, error))?;
                    words.push(value);
                    rest = &rest[len..];
                }
                None => rest = tail,
            },
            b'\'' => match tail.iter().position(|byte| *byte == b'\'') {
                Some(len) => {
                    words.push(tail[..len].to_vec());
                    rest = &tail[len + 1..];
                }
                None => rest = tail,
            },
            first if first.is_ascii_whitespace() => rest = tail,
            _ => {
                let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                words.push(rest[..len].to_vec());
                rest = &rest[len..];
            }
        }
    }
    Ok(words)
}

/// Length of the double-quoted word at the start of `text`, if it ends.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// `target("key") op "value"`.
fn comparison(line: &[u8]) -> Result<Compare, Exit> {
    let invalid = |text: String| Exit::new(INVALID_INPUT, text);
    let text = String::from_utf8_lossy(line);
    let malformed = format!("malformed comparison: {text}");
    let Some(at) = line.iter().position(|byte| *byte == b'(') else {
        return Err(invalid(malformed));
    };
    let (target, rest) = (String::from_utf8_lossy(&line[..at]), &line[at + 1..]);
    let parts = Parts::scan(rest);
    let (Some(key), Some(op), Some(value)) = (&parts.key, &parts.op, &parts.value) else {
        return Err(invalid(format!("{malformed}; got {target}({parts}")));
    };
    let number = || parse_int(value, 10).map_err(|_| invalid(format!("invalid txn compare request: {text}")));
    let (target, union) = match &*target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        "lease" => {
            let lease = parse_int(value, 16).map_err(|_| invalid(format!("invalid txn compare request: {text}")))?;
            (CompareTarget::Lease, TargetUnion::Lease(lease))
        }
        target => return Err(invalid(format!("{malformed} (unknown target {target})"))),
    };
    let result = match op.as_slice() {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        _ => return Err(invalid(format!("{malformed} (unknown operator {})", String::from_utf8_lossy(op)))),
    };
    Ok(Compare {
        result: result as i32,
        target: target as i32,
        key: key.clone().into(),
        range_end: bytes::Bytes::new(),
        target_union: Some(union),
    })
}

/// The part of `"key") op "value"` that could be parsed.
#[derive(Default)]
struct Parts {
    key: Option<Vec<u8>>,
    op: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl Parts {
    fn scan(text: &[u8]) -> Self {
        let mut parts = Self::default();
        let Ok((key, rest)) = unquote(text.trim_ascii_start()) else {
            return parts;
        };
        parts.key = Some(key);
        let Some(rest) = rest.strip_prefix(b")") else {
            return parts;
        };
        let rest = rest.trim_ascii_start();
        let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        if len == 0 {
            return parts;
        }
        parts.op = Some(rest[..len].to_vec());
        parts.value = unquote(rest[len..].trim_ascii_start()).ok().map(|(value, _)| value);
        parts
    }
}

impl std::fmt::Display for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = |part: &Option<Vec<u8>>| part.clone().unwrap_or_default();
        write!(
            f,
            "{}) {} {}",
            quote(&bytes(&self.key)),
            String::from_utf8_lossy(&bytes(&self.op)),
            quote(&bytes(&self.value))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_quoted_in_two_ways() {
        let words = |line: &str| split_words(line.as_bytes()).unwrap();
        assert_eq!(words(r#"put key1 "a \"b\"" 'c "d'"#), [&b"put"[..], b"key1", b"a \"b\"", b"c \"d"]);
        assert_eq!(words("  put\ta'b c  "), [&b"put"[..], b"a'b", b"c"]);
        assert_eq!(words(r#"put "open"#), [&b"put"[..], b"open"]);
    }

    #[test]
    fn comparisons_name_target_operator_and_value() {
        let compare = comparison(br#"mod("key1") > "7""#).unwrap();
        assert_eq!(compare.target, CompareTarget::Mod as i32);
        assert_eq!(compare.result, CompareResult::Greater as i32);
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(7)));
        assert_eq!(&compare.key[..], b"key1");
        let message = |line: &str| comparison(line.as_bytes()).unwrap_err().message.unwrap();
        assert_eq!(message("mod"), "malformed comparison: mod");
        assert_eq!(message(r#"mod("k") >"#), r#"malformed comparison: mod("k") >; got mod("k") > """#);
        assert_eq!(message(r#"mod("k") > "x""#), r#"invalid txn compare request: mod("k") > "x""#);
    }
}
