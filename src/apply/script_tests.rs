//! Scripts about transactions: the branch taken, checks before the first change, and the view of nested transactions.

use std::error::Error;
use std::fmt::Write as _;

use super::txn;
use crate::base::script_tests;
use crate::lease::{Lessor, Terms};
use crate::mvcc::{Store, test_disk::Disk};
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};

#[derive(goldenscript::Command)]
enum Command {
    /// Adds a compare. Example: if a version equal 0
    If { key: String, target: String, result: String, value: String },
    /// Adds an operation to the branch taken if all compares hold: put, range, delete or begin. Example: then put a 1
    Then { kind: String, key: Option<String>, value: Option<String> },
    /// Adds an operation to the other branch.
    Else { kind: String, key: Option<String>, value: Option<String> },
    /// Ends the nested transaction that `then begin` or `else begin` began.
    End,
    /// Runs the transaction.
    Commit,
}

/// A transaction under construction, and whether it belongs to its parent's first branch.
struct Open {
    request: TxnRequest,
    is_then: bool,
}

struct Transactions {
    store: Store,
    disk: Disk,
    leases: Lessor,
    open: Vec<Open>,
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            store: Store::default(),
            disk: Disk::default(),
            leases: Lessor::new(Terms::default()),
            open: vec![Open { request: TxnRequest::default(), is_then: true }],
        }
    }
}

impl goldenscript::Runner for Transactions {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        match command {
            Command::If { key, target, result, value } => {
                let compare = compare(key, target, result, value)?;
                self.innermost().compare.push(compare);
            }
            Command::Then { kind, key, value } => self.add(true, kind, key.as_deref(), value.as_deref())?,
            Command::Else { kind, key, value } => self.add(false, kind, key.as_deref(), value.as_deref())?,
            Command::End => {
                let Open { request, is_then } = self.open.pop().ok_or("no transaction is open")?;
                self.branch(is_then).push(RequestOp { request: Some(Request::RequestTxn(request)) });
            }
            Command::Commit => return self.commit(),
        }
        Ok(String::new())
    }
}

impl Transactions {
    fn innermost(&mut self) -> &mut TxnRequest {
        &mut self.open.last_mut().expect("the outermost stays open").request
    }

    fn branch(&mut self, is_then: bool) -> &mut Vec<RequestOp> {
        let request = self.innermost();
        if is_then { &mut request.success } else { &mut request.failure }
    }

    fn add(&mut self, is_then: bool, kind: &str, key: Option<&str>, value: Option<&str>) -> Result<(), Box<dyn Error>> {
        let key = key.unwrap_or_default().to_owned().into();
        let value = value.unwrap_or_default().to_owned().into();
        let request = match kind {
            "begin" => {
                self.open.push(Open { request: TxnRequest::default(), is_then });
                return Ok(());
            }
            "put" => Request::RequestPut(PutRequest { key, value, ..PutRequest::default() }),
            "keep" => Request::RequestPut(PutRequest { key, ignore_value: true, ..PutRequest::default() }),
            "leased" => Request::RequestPut(PutRequest { key, lease: 99, ..PutRequest::default() }),
            "range" => Request::RequestRange(RangeRequest { key, range_end: value, ..RangeRequest::default() }),
            "future" => Request::RequestRange(RangeRequest { key, revision: 1000, ..RangeRequest::default() }),
            "delete" => Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                range_end: value,
                ..DeleteRangeRequest::default()
            }),
            other => return Err(format!("no such operation: {other}").into()),
        };
        self.branch(is_then).push(RequestOp { request: Some(request) });
        Ok(())
    }

    fn commit(&mut self) -> Result<String, Box<dyn Error>> {
        let request = std::mem::take(self.innermost());
        let mut txn = self.store.write(&mut self.disk.backend);
        let outcome = txn::write(&mut txn, &self.leases, &request);
        let revision = txn.end().revision;
        let mut output = String::new();
        match outcome {
            Ok(response) => show(&response, 0, &mut output),
            Err(stop) => {
                let _ = writeln!(output, "refused: {stop}");
            }
        }
        let _ = write!(output, "store at revision {revision}");
        Ok(output)
    }
}

fn compare(key: &str, target: &str, result: &str, value: &str) -> Result<Compare, Box<dyn Error>> {
    let number = || value.parse::<i64>();
    let (target, union) = match target {
        "value" => (CompareTarget::Value, TargetUnion::Value(value.to_owned().into())),
        "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        other => return Err(format!("no such target: {other}").into()),
    };
    let result = match result {
        "equal" => CompareResult::Equal,
        "greater" => CompareResult::Greater,
        "less" => CompareResult::Less,
        "differs" => CompareResult::NotEqual,
        other => return Err(format!("no such result: {other}").into()),
    };
    Ok(Compare {
        key: key.to_owned().into(),
        target: target as i32,
        result: result as i32,
        target_union: Some(union),
        ..Compare::default()
    })
}

fn show(response: &TxnResponse, depth: usize, output: &mut String) {
    let indent = "  ".repeat(depth);
    let _ = writeln!(output, "{indent}compares hold: {}", response.succeeded);
    for op in &response.responses {
        match op.response.as_ref().expect("every operation has an answer") {
            Response::ResponsePut(_) => {
                let _ = writeln!(output, "{indent}put");
            }
            Response::ResponseDeleteRange(answer) => {
                let _ = writeln!(output, "{indent}deleted {}", answer.deleted);
            }
            Response::ResponseRange(answer) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let pairs = answer.kvs.iter().map(|kv| format!("{}={}", text(&kv.key), text(&kv.value)));
                let _ = writeln!(output, "{indent}range: {}", pairs.collect::<Vec<_>>().join(" "));
            }
            Response::ResponseTxn(answer) => show(answer, depth + 1, output),
        }
    }
}

#[test]
fn scripts() {
    script_tests::run("apply", Transactions::default);
}
