//! Whether the requester of an entry may do what it asks: etcd's rules, the same on every member.
//!
//! | request | right |
//! |---|---|
//! | Put | to write the key; to read it too for `prev_kv`; to write every key of the lease that it names |
//! | DeleteRange | to write the range; to read it too for `prev_kv` |
//! | Txn | to read every range of a compare; then as for each operation of both branches, nested ones included |
//! | LeaseRevoke | to write every key of the lease |
//! | changes of users and roles | root |
//! | anything else | checked before it was proposed, or no right is needed |

use super::{
    Applier,
    request::{Operation, RaftRequest},
};
use crate::{
    auth::{Access, Auth, Requester},
    base::refusal::Refusal,
    lease::Lessor,
    proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request},
};

impl Applier {
    /// Checks an entry while authentication is on.
    pub(super) fn check_permission(&self, request: &RaftRequest) -> Result<(), Refusal> {
        let rights = Rights { auth: &self.auth, lessor: &self.lessor, who: request.requester() };
        match &request.operation {
            Operation::Put(put) => rights.put(put),
            Operation::DeleteRange(delete) => rights.delete_range(delete),
            Operation::Txn(txn) => rights.txn(txn),
            Operation::LeaseRevoke(revoke) => rights.lease(revoke.id, Access::Write),
            Operation::Auth(request) if request.needs_root() => self.auth.check_root(rights.who),
            _ => Ok(()),
        }
    }

    /// Whether a requester may read, or write, every key of a lease.
    ///
    /// # Errors
    /// It may not.
    pub fn check_lease(&self, who: Requester<'_>, lease: i64, access: Access) -> Result<(), Refusal> {
        Rights { auth: &self.auth, lessor: &self.lessor, who }.lease(lease, access)
    }
}

/// Whether a transaction without writes may be answered.
///
/// # Errors
/// It may not.
pub fn check_reading_txn(auth: &Auth, who: Requester<'_>, request: &TxnRequest) -> Result<(), Refusal> {
    Rights { auth, lessor: &Lessor::default(), who }.txn(request)
}

struct Rights<'r> {
    auth: &'r Auth,
    lessor: &'r Lessor,
    who: Requester<'r>,
}

impl Rights<'_> {
    fn read(&self, key: &[u8], range_end: &[u8]) -> Result<(), Refusal> {
        self.auth.check(self.who, key, range_end, Access::Read)
    }

    fn put(&self, request: &PutRequest) -> Result<(), Refusal> {
        self.auth.check(self.who, &request.key, &[], Access::Write)?;
        // Whoever attaches a key to a lease could delete the others of that lease by letting it end.
        self.lease(request.lease, Access::Write)?;
        if request.prev_kv { self.read(&request.key, &[]) } else { Ok(()) }
    }

    fn delete_range(&self, request: &DeleteRangeRequest) -> Result<(), Refusal> {
        self.auth.check(self.who, &request.key, &request.range_end, Access::Write)?;
        if request.prev_kv { self.read(&request.key, &request.range_end) } else { Ok(()) }
    }

    /// Nested transactions are walked with a list: first all compares of one, then its operations in order.
    fn txn(&self, request: &TxnRequest) -> Result<(), Refusal> {
        self.compares(request)?;
        let mut waiting: Vec<&RequestOp> = operations(request).collect();
        while let Some(operation) = waiting.pop() {
            match &operation.request {
                Some(Request::RequestRange(range)) => self.read(&range.key, &range.range_end)?,
                Some(Request::RequestPut(put)) => self.put(put)?,
                Some(Request::RequestDeleteRange(delete)) => self.delete_range(delete)?,
                Some(Request::RequestTxn(inner)) => {
                    self.compares(inner)?;
                    waiting.extend(operations(inner));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn compares(&self, request: &TxnRequest) -> Result<(), Refusal> {
        request.compare.iter().try_for_each(|compare| self.read(&compare.key, &compare.range_end))
    }

    /// A lease that does not exist has no keys.
    fn lease(&self, id: i64, access: Access) -> Result<(), Refusal> {
        if id == 0 || self.auth.check_root(self.who).is_ok() {
            return Ok(());
        }
        self.lessor.keys(id).try_for_each(|key| self.auth.check(self.who, key, &[], access))
    }
}

/// The operations of both branches, in such an order that `pop` finds the first one first.
fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.failure.iter().rev().chain(request.success.iter().rev())
}
