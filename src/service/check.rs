//! Static checks of KV requests, in etcd's order: the first that fails is the answer.
//!
//! Depth of nested transactions is bounded twice over before these recurse: by the message decoder (100 levels) and by
//! the operation budget, which shrinks at every level.

use std::collections::BTreeSet;

use crate::{
    base::refusal::Refusal,
    proto::etcdserverpb::{
        DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        range_request::{SortOrder, SortTarget},
        request_op::Request,
    },
};

/// Checks a Range or one inside a transaction.
///
/// # Errors
/// The client's mistake.
pub fn range(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(Refusal::InvalidSortOption) }
}

/// Checks a RangeStream: only the natural order, no filters.
///
/// # Errors
/// The client's mistake.
pub fn range_stream(request: &RangeRequest) -> Result<(), Refusal> {
    range(request)?;
    let natural = request.sort_order() == SortOrder::None
        || (request.sort_target() == SortTarget::Key && request.sort_order() == SortOrder::Ascend);
    if !natural {
        return Err(Refusal::RangeStreamSort);
    }
    let filters =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    if filters == [0; 4] { Ok(()) } else { Err(Refusal::RangeStreamFilter) }
}

/// Checks a Put or one inside a transaction.
///
/// # Errors
/// The client's mistake.
pub fn put(request: &PutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        Err(Refusal::EmptyKey)
    } else if request.ignore_value && !request.value.is_empty() {
        Err(Refusal::ValueProvided)
    } else if request.ignore_lease && request.lease != 0 {
        Err(Refusal::LeaseProvided)
    } else {
        Ok(())
    }
}

/// Checks a DeleteRange or one inside a transaction.
///
/// # Errors
/// The client's mistake.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

/// Checks a whole transaction: first its shape, then that no branch puts a key twice or under its own delete.
///
/// # Errors
/// The client's mistake.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), Refusal> {
    shape(request, ops_max)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

fn shape(request: &TxnRequest, ops_max: usize) -> Result<(), Refusal> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > ops_max {
        return Err(Refusal::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| operation(op, ops_max - ops))
}

fn operation(op: &RequestOp, ops_max: usize) -> Result<(), Refusal> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => shape(request, ops_max),
        None => Err(Refusal::KeyNotFound),
    }
}

/// The keys that one branch may put and the ranges it may delete, its nested transactions included.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Writes<'a> {
    fn of(ops: &'a [RequestOp]) -> Result<Self, Refusal> {
        let mut writes = Self::default();
        for op in ops {
            if let Some(Request::RequestDeleteRange(request)) = &op.request {
                writes.deletes.push((&request.key, &request.range_end));
            }
        }
        for op in ops {
            if let Some(Request::RequestTxn(request)) = &op.request {
                writes.absorb(Self::of(&request.success)?, Self::of(&request.failure)?)?;
            }
        }
        for op in ops {
            if let Some(Request::RequestPut(request)) = &op.request {
                writes.put(&request.key)?;
            }
        }
        Ok(writes)
    }

    /// Takes over both branches of a nested transaction. Only one of them will run, so they may put the same key.
    fn absorb(&mut self, success: Self, failure: Self) -> Result<(), Refusal> {
        for key in &success.puts {
            self.put(key)?;
        }
        for key in &failure.puts {
            if success.puts.contains(key) {
                continue;
            }
            self.put(key)?;
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Refusal> {
        let deleted = self.deletes.iter().any(|(start, end)| is_under(start, end, key));
        if deleted || !self.puts.insert(key) { Err(Refusal::DuplicateKey) } else { Ok(()) }
    }
}

/// Whether a put of `key` collides with a delete of `[start, end)`. As in etcd, an end of one zero byte is taken literally here,
/// not as "everything from start on", so such a delete collides with nothing.
fn is_under(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    if end.is_empty() { key == start } else { key >= start && key < end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static str) -> RequestOp {
        RequestOp { request: Some(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() })) }
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        let request = DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false };
        RequestOp { request: Some(Request::RequestDeleteRange(request)) }
    }

    fn txn_op(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        let request = TxnRequest { compare: vec![], success, failure };
        RequestOp { request: Some(Request::RequestTxn(request)) }
    }

    fn checked(success: Vec<RequestOp>) -> Result<(), Refusal> {
        txn(&TxnRequest { compare: vec![], success, failure: vec![] }, 128)
    }

    #[test]
    fn a_branch_puts_a_key_once() {
        assert_eq!(checked(vec![put_op("a"), put_op("b")]), Ok(()));
        assert_eq!(checked(vec![put_op("a"), put_op("a")]), Err(Refusal::DuplicateKey));
        assert_eq!(checked(vec![put_op("b"), delete_op("a", "c")]), Err(Refusal::DuplicateKey));
        assert_eq!(checked(vec![put_op("c"), delete_op("a", "c")]), Ok(()));
        assert_eq!(checked(vec![put_op("c"), delete_op("a", "\0")]), Ok(()));
        assert_eq!(checked(vec![delete_op("a", "c"), delete_op("b", "d")]), Ok(()));
    }

    #[test]
    fn branches_of_one_nested_txn_may_put_the_same_key() {
        assert_eq!(checked(vec![txn_op(vec![put_op("a")], vec![put_op("a")])]), Ok(()));
        let twice = vec![txn_op(vec![put_op("a")], vec![]), txn_op(vec![], vec![put_op("a")])];
        assert_eq!(checked(twice), Err(Refusal::DuplicateKey));
        assert_eq!(checked(vec![put_op("a"), txn_op(vec![put_op("a")], vec![])]), Err(Refusal::DuplicateKey));
        assert_eq!(checked(vec![put_op("a"), txn_op(vec![delete_op("a", "")], vec![])]), Err(Refusal::DuplicateKey));
    }

    #[test]
    fn the_budget_shrinks_with_depth() {
        let nested = TxnRequest { success: vec![txn_op(vec![put_op("a")], vec![])], ..Default::default() };
        assert_eq!(txn(&nested, 2), Ok(()));
        assert_eq!(txn(&nested, 1), Err(Refusal::TooManyOps));
        assert_eq!(checked(vec![RequestOp { request: None }]), Err(Refusal::KeyNotFound));
    }
}
