//! Alarms of members, in bucket `alarm` and in memory, and the requests that each blocks.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use crate::{
    apply::request::Operation,
    backend::{Backend, Bucket},
    proto::etcdserverpb::{
        AlarmMember, AlarmRequest, AlarmResponse, AlarmType, PutRequest, RequestOp, TxnRequest,
        alarm_request::AlarmAction, request_op::Request,
    },
};

/// Active alarms as (type, member), in the order of lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    active: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Takes over a stored alarm.
    pub fn restore(&mut self, key: &[u8]) {
        if let Ok(stored) = AlarmMember::decode(key) {
            self.active.insert((stored.alarm, stored.member_id));
        }
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.any(AlarmType::Nospace)
    }

    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.any(AlarmType::Corrupt)
    }

    /// Active alarms.
    pub fn members(&self) -> impl Iterator<Item = AlarmMember> + '_ {
        self.active.iter().map(|(alarm, member_id)| AlarmMember { member_id: *member_id, alarm: *alarm })
    }

    fn any(&self, alarm: AlarmType) -> bool {
        self.active.iter().any(|(active, _)| *active == alarm as i32)
    }

    /// Carries out an alarm request.
    pub fn apply(&mut self, backend: &mut Backend, request: &AlarmRequest) -> AlarmResponse {
        let named = AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let key = (request.alarm, request.member_id);
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self
                .members()
                .filter(|active| request.alarm == AlarmType::None as i32 || active.alarm == request.alarm)
                .collect(),
            Ok(AlarmAction::Activate) if request.alarm == AlarmType::None as i32 => Vec::new(),
            Ok(AlarmAction::Activate) => {
                if self.active.insert(key) {
                    backend.put(Bucket::Alarm, Bytes::from(named.encode_to_vec()), Bytes::new());
                }
                vec![named]
            }
            Ok(AlarmAction::Deactivate) if self.active.remove(&key) => {
                backend.delete(Bucket::Alarm, &named.encode_to_vec());
                vec![named]
            }
            Ok(AlarmAction::Deactivate) | Err(_) => Vec::new(),
        };
        AlarmResponse { header: None, alarms }
    }
}

/// etcd's estimate of the bytes that a lease adds to the database.
pub const LEASE_COST: usize = 64;

/// etcd's estimate of the bytes that a request adds to the database. NOSPACE refuses requests with a cost above 0.
#[must_use]
pub fn cost(operation: &Operation) -> usize {
    match operation {
        Operation::Put(put) => put_cost(put),
        Operation::LeaseGrant(_) => LEASE_COST,
        Operation::Txn(txn) => txn_cost(txn),
        _ => 0,
    }
}

/// etcd's estimate of the bytes that a put adds to the database.
#[must_use]
pub fn put_cost(request: &PutRequest) -> usize {
    256 + request.key.len() + request.value.len()
}

/// The larger of the two branches' costs, nested transactions included.
#[must_use]
pub fn txn_cost(request: &TxnRequest) -> usize {
    branch_cost(&request.success).max(branch_cost(&request.failure))
}

fn branch_cost(ops: &[RequestOp]) -> usize {
    ops.iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(put)) => put_cost(put),
            Some(Request::RequestTxn(txn)) => txn_cost(txn),
            _ => 0,
        })
        .sum()
}
