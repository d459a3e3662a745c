//! One answered request against the journal: what it must have changed, and what it must have shown.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::journal::{Journal, is_inside, shown};
use crate::proto::{
    etcdserverpb::{
        Compare, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse, compare::CompareTarget,
        compare::TargetUnion, request_op::Request, response_op::Response,
    },
    mvccpb::KeyValue,
};

/// The state before a transaction, with what it has written so far.
struct Evaluation<'a> {
    journal: &'a Journal,
    /// The revision before.
    base: i64,
    /// The written values, in order.
    writes: Vec<(Bytes, Option<Bytes>)>,
    overlay: BTreeMap<Bytes, Option<Bytes>>,
}

/// Checks the answer to a transaction, or to a put or delete, which is a transaction of one operation without a response.
///
/// # Errors
/// The journal says something else.
pub fn check(
    journal: &Journal,
    request: &TxnRequest,
    revision: i64,
    answer: Option<&TxnResponse>,
) -> Result<(), String> {
    if revision > journal.newest() {
        return Err(format!("a write is answered with revision {revision}, which no member has announced"));
    }
    let mut evaluation = Evaluation::new(journal, revision - 1);
    let first = evaluation.run(request, answer);
    let made: Vec<(&Bytes, Option<&Bytes>)> =
        journal.changes(revision).iter().map(|(key, value)| (key, value.as_ref().map(|value| &value.value))).collect();
    let wanted: Vec<(&Bytes, Option<&Bytes>)> =
        evaluation.writes.iter().map(|(key, value)| (key, value.as_ref())).collect();
    if !wanted.is_empty() && wanted == made {
        return first;
    }
    // It has changed nothing, and its revision is that of an earlier one.
    let mut evaluation = Evaluation::new(journal, revision);
    let second = evaluation.run(request, answer);
    if evaluation.writes.is_empty() {
        return second;
    }
    Err(format!(
        "the answered request {} is not what revision {revision} has: {}",
        described(request),
        shown(journal.changes(revision))
    ))
}

/// A request, for people.
#[must_use]
pub fn described(request: &TxnRequest) -> String {
    let one = |op: &RequestOp| match &op.request {
        Some(Request::RequestPut(put)) => {
            let value: String = put.value.escape_ascii().to_string().chars().take(24).collect();
            format!("put {}={value}", put.key.escape_ascii())
        }
        Some(Request::RequestDeleteRange(delete)) => format!("delete {}", delete.key.escape_ascii()),
        Some(Request::RequestRange(range)) => format!("read {}", range.key.escape_ascii()),
        Some(Request::RequestTxn(inner)) => format!("({})", described(inner)),
        None => String::new(),
    };
    let branch = |ops: &[RequestOp]| ops.iter().map(one).collect::<Vec<_>>().join(", ");
    match request.compare.is_empty() {
        true => branch(&request.success),
        false => format!(
            "if {} compares {{{}}} else {{{}}}",
            request.compare.len(),
            branch(&request.success),
            branch(&request.failure)
        ),
    }
}

/// Checks what a range has shown at a revision.
///
/// # Errors
/// The journal has other keys or values.
pub fn check_range(journal: &Journal, request: &RangeRequest, revision: i64, kvs: &[KeyValue]) -> Result<(), String> {
    if revision > journal.newest() {
        return Err(format!("a read shows revision {revision}, which no member has announced"));
    }
    let wanted = journal.range(&request.key, &request.range_end, revision);
    if wanted.iter().copied().eq(kvs) {
        return Ok(());
    }
    let list = |kvs: &mut dyn Iterator<Item = &KeyValue>| {
        kvs.map(|kv| format!("{}@{}", kv.key.escape_ascii(), kv.mod_revision)).collect::<Vec<_>>().join(" ")
    };
    Err(format!(
        "a read of {} at revision {revision} shows {:?}, and not {:?}",
        request.key.escape_ascii(),
        list(&mut kvs.iter()),
        list(&mut wanted.into_iter())
    ))
}

impl<'a> Evaluation<'a> {
    fn new(journal: &'a Journal, base: i64) -> Self {
        Self { journal, base, writes: Vec::new(), overlay: BTreeMap::new() }
    }

    /// Runs the request, and compares each step with the answer, if there is one.
    fn run(&mut self, request: &TxnRequest, answer: Option<&TxnResponse>) -> Result<(), String> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        if let Some(answer) = answer
            && answer.succeeded != succeeded
        {
            // The writes of the other branch still tell which revision is meant.
            self.run_branch(branch(request, answer.succeeded), &answer.responses).ok();
            return Err(format!("a transaction says {}, and not {succeeded}", answer.succeeded));
        }
        let responses = answer.map_or(&[][..], |answer| &answer.responses);
        self.run_branch(branch(request, succeeded), responses)
    }

    fn run_branch(&mut self, ops: &[RequestOp], responses: &[ResponseOp]) -> Result<(), String> {
        let mut result = Ok(());
        for (at, op) in ops.iter().enumerate() {
            let response = responses.get(at).and_then(|response| response.response.as_ref());
            let checked = self.run_op(op, response);
            result = result.and(checked);
        }
        result
    }

    fn run_op(&mut self, op: &RequestOp, response: Option<&Response>) -> Result<(), String> {
        match &op.request {
            Some(Request::RequestPut(put)) => self.write(put.key.clone(), Some(put.value.clone())),
            Some(Request::RequestDeleteRange(delete)) => {
                let keys = self.keys(&delete.key, &delete.range_end);
                if let Some(Response::ResponseDeleteRange(response)) = response
                    && response.deleted != keys.len() as i64
                {
                    return Err(format!("a deletion says {} keys, and not {}", response.deleted, keys.len()));
                }
                keys.into_iter().for_each(|key| self.write(key, None));
            }
            Some(Request::RequestRange(range)) => {
                if let Some(Response::ResponseRange(response)) = response
                    && range.limit == 0
                {
                    let keys = self.keys(&range.key, &range.range_end);
                    let wanted: Vec<_> = keys.iter().map(|key| (key, self.value(key))).collect();
                    let shown: Vec<_> = response.kvs.iter().map(|kv| (&kv.key, Some(&kv.value))).collect();
                    if wanted != shown {
                        return Err(format!("a read of a transaction shows {shown:?}, and not {wanted:?}"));
                    }
                }
            }
            Some(Request::RequestTxn(inner)) => {
                let answer = match response {
                    Some(Response::ResponseTxn(answer)) => Some(answer),
                    _ => None,
                };
                return self.run(inner, answer);
            }
            None => {}
        }
        Ok(())
    }

    fn write(&mut self, key: Bytes, value: Option<Bytes>) {
        self.overlay.insert(key.clone(), value.clone());
        self.writes.push((key, value));
    }

    fn value(&self, key: &Bytes) -> Option<&Bytes> {
        match self.overlay.get(key) {
            Some(value) => value.as_ref(),
            None => self.journal.at(key, self.base).map(|kv| &kv.value),
        }
    }

    fn keys(&self, key: &Bytes, end: &Bytes) -> Vec<Bytes> {
        let stored = self.journal.range(key, end, self.base).into_iter().map(|kv| kv.key.clone());
        let mut keys: Vec<Bytes> = stored.filter(|key| !self.overlay.contains_key(key)).collect();
        let written = self.overlay.iter().filter(|(at, value)| value.is_some() && is_inside(at, key, end));
        keys.extend(written.map(|(key, _)| key.clone()));
        keys.sort_unstable();
        keys
    }

    /// Compares look at the state before the whole transaction. Only equality is asked for.
    fn holds(&self, compare: &Compare) -> bool {
        let found = self.journal.at(&compare.key, self.base);
        match (compare.target(), &compare.target_union) {
            (CompareTarget::Value, Some(TargetUnion::Value(value))) => found.is_some_and(|kv| kv.value == value),
            (CompareTarget::Create, Some(TargetUnion::CreateRevision(at))) => {
                found.map_or(0, |kv| kv.create_revision) == *at
            }
            (CompareTarget::Mod, Some(TargetUnion::ModRevision(at))) => found.map_or(0, |kv| kv.mod_revision) == *at,
            (CompareTarget::Version, Some(TargetUnion::Version(at))) => found.map_or(0, |kv| kv.version) == *at,
            _ => unreachable!("the clients of the simulation ask for nothing else"),
        }
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}
