//! Leases between the engine, which has them, and those who ask and wait.
//!
//! ```text
//!   fronts ── LeaseQuestion, all of a turn in one message ──▶ engine: answer() ──▶ LeaseAnswer ──▶ fronts
//!   expiry task, twice a second ── take_expired ──▶ LeaseRevoke, LeaseCheckpoint as proposals of the member itself
//! ```
//!
//! Questions go to the engine instead of a published view, because each renewal changes what is to be answered: 10,000 of them
//! in a second would be as many views. The engine never waits for anything on behalf of a question: what cannot be answered yet
//! says why, and the front asks again.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use prost::Message;

use crate::{
    apply::request::{self, Kind},
    base::{limits, refusal::Refusal},
    drive::Node,
    metrics::{Name, Sheet},
    os,
    proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest},
    replica::{Answer, CoreId, Request},
};

/// Where revocations of expired leases come from: the outcome is counted, nobody waits for it.
pub const EXPIRY: CoreId = CoreId::MAX - 1;

/// Revokes what has run out.
pub struct Expiry {
    next_id: Cell<u64>,
    id_step: Cell<u64>,
    /// Lease by proposal, oldest first: bounded, because an outcome may never come.
    waiting: RefCell<BTreeMap<u64, i64>>,
}

impl Default for Expiry {
    fn default() -> Self {
        Self { next_id: Cell::new(0), id_step: Cell::new(1), waiting: RefCell::default() }
    }
}

impl Expiry {
    /// Looks for expired leases until the process ends. `first_id` and `id_step` give its proposals ids that nobody else uses.
    pub async fn run(node: Rc<Node>, first_id: u64, id_step: u64) {
        node.expiry.next_id.set(first_id);
        node.expiry.id_step.set(id_step);
        loop {
            os::sleep(Duration::from_millis(limits::LEASE_SCAN_MS)).await;
            let (expired, outdated) = node.with_lessor(|lessor| {
                let expired = lessor.take_expired(limits::LEASE_REVOKES_PER_SCAN);
                (expired, lessor.take_outdated(limits::LEASE_CHECKPOINTS_PER_ENTRY_MAX))
            });
            for id in expired {
                let proposal = node.expiry.propose(&node, Kind::LeaseRevoke, &LeaseRevokeRequest { id });
                node.expiry.remember(proposal, id);
            }
            if !outdated.is_empty() {
                let clear = |id| LeaseCheckpoint { id, remaining_ttl: 0 };
                let checkpoints = outdated.into_iter().map(clear).collect();
                node.expiry.propose(&node, Kind::LeaseCheckpoint, &LeaseCheckpointRequest { checkpoints });
            }
        }
    }

    fn propose(&self, node: &Node, kind: Kind, message: &impl Message) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(self.id_step.get()));
        node.submit(EXPIRY, Request::Propose { id, data: request::wrap(id, kind, &message.encode_to_vec()) });
        id
    }

    fn remember(&self, proposal: u64, lease: i64) {
        let waiting = &mut *self.waiting.borrow_mut();
        waiting.insert(proposal, lease);
        while waiting.len() > limits::LEASE_REVOKES_WAITING_MAX {
            waiting.pop_first();
        }
    }

    /// A proposal is over.
    pub fn on_answer(&self, answer: &Answer, sheet: &Sheet) {
        let Answer::Proposal { id, outcome } = answer else { return };
        let lease = self.waiting.borrow_mut().remove(id);
        match (lease, outcome) {
            (Some(_), Ok(_)) => sheet.add(Name::ServerLeaseExpiredTotal, 1),
            (Some(lease), Err(error)) => warn(lease, *error),
            (None, _) => {}
        }
    }
}

fn warn(lease: i64, error: Refusal) {
    tracing::warn!(lease_id = format!("{lease:016x}"), %error, "failed to revoke lease");
}
