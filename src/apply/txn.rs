//! Transactions: compares on the state before, checks of the path taken, then the operations in order.
//!
//! Every refusal comes before the first change, so a transaction is applied whole or not at all, the same way on every member.

use bytes::Bytes;

use super::outcome::{ApplyFailure, Stop};
use crate::{
    base::refusal::Refusal,
    lease::Lessor,
    mvcc::{KeyRange, RangeOptions, RecordFields, View, WriteTxn, collect},
    proto::etcdserverpb::{
        Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
        RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
};

/// Which branch each transaction takes, nested ones in the order of the path.
#[derive(Debug)]
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

/// Whether no operation of either branch can write. A nested transaction counts as a write.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered without a read index.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Answers a read-only transaction from a view.
///
/// # Errors
/// A range asks for a revision that is not there, or the database is damaged.
pub fn read(view: &View, request: &TxnRequest) -> Result<TxnResponse, Stop> {
    let path = decide(view, request)?;
    check(view, request, &path, &Lessor::default())?;
    let branch = branch(request, path.succeeded);
    let mut responses = Vec::with_capacity(branch.len());
    for op in branch {
        let response = match &op.request {
            Some(Request::RequestRange(request)) => Some(Response::ResponseRange(range(view, request)?)),
            _ => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse { header: Some(header(view.revision())), succeeded: path.succeeded, responses })
}

/// Runs a transaction that writes.
///
/// # Errors
/// It was refused and changed nothing, or the database is damaged.
pub fn write(txn: &mut WriteTxn<'_>, leases: &Lessor, request: &TxnRequest) -> Result<TxnResponse, Stop> {
    let path = {
        let view = txn.view();
        let path = decide(&view, request)?;
        check(&view, request, &path, leases)?;
        path
    };
    let mut response = execute(txn, request, &path)?;
    response.header = Some(header(txn.revision()));
    Ok(response)
}

fn decide(view: &View, request: &TxnRequest) -> Result<Path, Stop> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(view, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut nested = Vec::new();
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(inner)) = &op.request {
            nested.push(decide(view, inner)?);
        }
    }
    Ok(Path { succeeded, nested })
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

fn check(view: &View, request: &TxnRequest, path: &Path, leases: &Lessor) -> Result<(), Stop> {
    let mut nested = path.nested.iter();
    for op in branch(request, path.succeeded) {
        match &op.request {
            Some(Request::RequestRange(request)) => check_revision(view, request)?,
            Some(Request::RequestPut(request)) => check_put(view, request, leases)?,
            Some(Request::RequestTxn(request)) => {
                check(view, request, nested.next().expect("the path has every nested transaction"), leases)?;
            }
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Unlike a Range of its own, one inside a transaction takes a negative revision literally.
fn check_revision(view: &View, request: &RangeRequest) -> Result<(), Refusal> {
    if request.revision == 0 {
        Ok(())
    } else if request.revision > view.revision() {
        Err(Refusal::FutureRevision)
    } else if request.revision < view.compact_revision() {
        Err(Refusal::Compacted)
    } else {
        Ok(())
    }
}

/// Checks that the state before has what a put needs: its lease, and the key if its value or lease is kept.
///
/// # Errors
/// The lease or the key does not exist.
pub fn check_put(view: &View, request: &PutRequest, leases: &Lessor) -> Result<(), Stop> {
    if request.lease != 0 && !leases.contains(request.lease) {
        return Err(Refusal::LeaseNotFound.into());
    }
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && view.version(&request.key, 0)?.is_none() {
        return Err(Refusal::KeyNotFound.into());
    }
    Ok(())
}

fn execute(txn: &mut WriteTxn<'_>, request: &TxnRequest, path: &Path) -> Result<TxnResponse, Stop> {
    let branch = branch(request, path.succeeded);
    let mut nested = path.nested.iter();
    let mut responses = Vec::with_capacity(branch.len());
    for op in branch {
        let response = match &op.request {
            Some(Request::RequestRange(request)) => Some(Response::ResponseRange(range(&txn.view(), request)?)),
            Some(Request::RequestPut(request)) => Some(Response::ResponsePut(put(txn, request)?)),
            Some(Request::RequestDeleteRange(request)) => {
                Some(Response::ResponseDeleteRange(delete_range(txn, request)?))
            }
            Some(Request::RequestTxn(request)) => {
                let path = nested.next().expect("the path has every nested transaction");
                let mut inner = execute(txn, request, path)?;
                inner.header = Some(ResponseHeader::default());
                Some(Response::ResponseTxn(inner))
            }
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    Ok(TxnResponse { header: None, succeeded: path.succeeded, responses })
}

/// Answers a Range inside a transaction.
fn range(view: &View, request: &RangeRequest) -> Result<RangeResponse, Stop> {
    let options = RangeOptions::from_request(request).ok_or(Refusal::InvalidSortOption)?;
    let found = collect(view, &options)?;
    Ok(RangeResponse { header: Some(header(view.revision())), kvs: found.kvs, more: found.more, count: found.count })
}

/// Writes one key, and keeps its value or lease if the request says so. The caller has made the checks.
///
/// # Errors
/// The database is damaged.
pub fn put(txn: &mut WriteTxn<'_>, request: &PutRequest) -> Result<PutResponse, Stop> {
    let keeps = request.ignore_value || request.ignore_lease;
    let before = if keeps { txn.get(&request.key)? } else { None };
    let kept = before.unwrap_or_default();
    let value: &Bytes = if request.ignore_value { &kept.value } else { &request.value };
    let lease = if request.ignore_lease { kept.lease } else { request.lease };
    let prev_kv = txn.put(&request.key, value, lease, request.prev_kv)?;
    Ok(PutResponse { header: Some(header(txn.revision())), prev_kv })
}

/// Deletes a range.
///
/// # Errors
/// The database is damaged.
pub fn delete_range(txn: &mut WriteTxn<'_>, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Stop> {
    let deleted = txn.delete_range(KeyRange::new(&request.key, &request.range_end), request.prev_kv)?;
    Ok(DeleteRangeResponse { header: Some(header(txn.revision())), deleted: deleted.count, prev_kvs: deleted.previous })
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader { revision, ..ResponseHeader::default() }
}

/// Whether a compare holds for its key, or for every key of its range. A missing key compares as all zeros, except by value,
/// where it never holds.
fn holds(view: &View, compare: &Compare) -> Result<bool, Stop> {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    if compare.range_end.is_empty() {
        return match view.get(&compare.key, 0)? {
            Some(record) => Ok(compare_fields(compare, parse(record)?)),
            None => Ok(holds_for_missing(compare)),
        };
    }
    let mut cursor = view.index().cursor_at(range.start());
    let mut any = false;
    while let Some(entry) = cursor.next() {
        if !range.contains(entry.key()) {
            break;
        }
        let Some(version) = entry.version_at(view.revision()) else { continue };
        any = true;
        if !compare_fields(compare, parse(view.record(version.modified)?)?) {
            return Ok(false);
        }
    }
    Ok(any || holds_for_missing(compare))
}

fn parse(record: &[u8]) -> Result<RecordFields<'_>, Stop> {
    RecordFields::parse(record).map_err(|error| Stop::Failed(ApplyFailure::Record(error)))
}

fn holds_for_missing(compare: &Compare) -> bool {
    compare.target != CompareTarget::Value as i32 && compare_fields(compare, RecordFields::default())
}

fn compare_fields(compare: &Compare, fields: RecordFields<'_>) -> bool {
    let number = |found: i64, wanted: Option<i64>| found.cmp(&wanted.unwrap_or(0));
    let union = compare.target_union.as_ref();
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => match union {
            Some(TargetUnion::Value(value)) => fields.value.cmp(value),
            _ => fields.value.cmp(&[]),
        },
        Ok(CompareTarget::Version) => number(fields.version, as_version(union)),
        Ok(CompareTarget::Create) => number(fields.create_revision, as_create(union)),
        Ok(CompareTarget::Mod) => number(fields.mod_revision, as_mod(union)),
        Ok(CompareTarget::Lease) => number(fields.lease, as_lease(union)),
        // etcd leaves its result at 0, "equal", for a target it does not know.
        Err(_) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

fn as_version(union: Option<&TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::Version(number)) = union { Some(*number) } else { None }
}

fn as_create(union: Option<&TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::CreateRevision(number)) = union { Some(*number) } else { None }
}

fn as_mod(union: Option<&TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::ModRevision(number)) = union { Some(*number) } else { None }
}

fn as_lease(union: Option<&TargetUnion>) -> Option<i64> {
    if let Some(TargetUnion::Lease(number)) = union { Some(*number) } else { None }
}
