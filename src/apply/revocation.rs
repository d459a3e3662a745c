//! A revocation of a lease that is applied in slices; `lease` carries it out.

use crate::mvcc::PausedTxn;

/// A revocation under way.
#[derive(Debug)]
pub(super) struct Revocation {
    /// Id of its proposal.
    pub id: u64,
    pub lease: i64,
    pub keys: u64,
    pub txn: PausedTxn,
}
