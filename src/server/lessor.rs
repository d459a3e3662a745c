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

use bytes::Bytes;
use prost::Message;

use crate::{
    apply::request::{self, Kind},
    base::{limits, refusal::Refusal},
    lease::{Lessor, Renewal, TimeToLive},
    metrics::{Name, Sheet},
    os,
    proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest},
    server::{
        engine::FrontId,
        mailbox::{Answer, Request},
        node::Node,
    },
};

/// Where revocations of expired leases come from: the outcome is counted, nobody waits for it.
pub const EXPIRY: FrontId = FrontId::MAX - 1;

/// The field of a LeaseTimeToLiveResponse that has the keys; its last one.
const KEYS_FIELD: u32 = 5;

/// What a front wants to know, or to have done without an entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseQuestion {
    /// Renews these in order, up to the first that has to wait.
    Renew {
        ids: Vec<i64>,
    },
    TimeToLive {
        id: i64,
        with_keys: bool,
    },
    /// Some leases behind this id, or the first ones.
    List {
        behind: Option<i64>,
    },
}

/// The engine's answer to the question of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// TTLs of those renewed, and why the next one was not.
    Renewed { ttls: Vec<i64>, stopped: Option<Renewal> },
    /// `None`: no such lease. `keys` are encoded as the response's field.
    TimeToLive(Option<(TimeToLive, Bytes)>),
    /// Deadline and id, in the order of ids; the last slice is short.
    Listed(Vec<(u64, i64)>),
    /// This member does not lead, or not yet.
    NotPrimary,
}

/// Answers the questions of a front's turn.
pub fn answer(lessor: &mut Lessor, questions: Vec<(u64, LeaseQuestion)>) -> Vec<(u64, LeaseAnswer)> {
    questions.into_iter().map(|(number, question)| (number, answer_one(lessor, question))).collect()
}

fn answer_one(lessor: &mut Lessor, question: LeaseQuestion) -> LeaseAnswer {
    match question {
        LeaseQuestion::Renew { ids } => renew(lessor, &ids),
        LeaseQuestion::List { behind } => LeaseAnswer::Listed(lessor.list(behind, limits::LEASES_PER_SLICE)),
        LeaseQuestion::TimeToLive { .. } if !lessor.is_primary() => LeaseAnswer::NotPrimary,
        LeaseQuestion::TimeToLive { id, with_keys } => {
            let found = lessor.time_to_live(id);
            let keys = if with_keys { lessor.encode_keys(id, KEYS_FIELD) } else { Bytes::new() };
            LeaseAnswer::TimeToLive(found.map(|found| (found, keys)))
        }
    }
}

fn renew(lessor: &mut Lessor, ids: &[i64]) -> LeaseAnswer {
    let mut ttls = Vec::with_capacity(ids.len());
    let mut stopped = None;
    for id in ids {
        match lessor.renew(*id) {
            Renewal::Renewed { ttl_s } => ttls.push(ttl_s),
            renewal => {
                stopped = Some(renewal);
                break;
            }
        }
    }
    LeaseAnswer::Renewed { ttls, stopped }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Terms;

    #[test]
    fn renewals_stop_at_the_first_that_has_to_wait() {
        let mut lessor = Lessor::new(Terms::default());
        let ask = |lessor: &mut Lessor, ids: &[i64]| {
            let answers = answer(lessor, vec![(3, LeaseQuestion::Renew { ids: ids.to_vec() })]);
            assert_eq!(answers.len(), 1);
            answers.into_iter().next().expect("one").1
        };
        let renewed = |ttls: &[i64], stopped| LeaseAnswer::Renewed { ttls: ttls.to_vec(), stopped };
        assert_eq!(ask(&mut lessor, &[1]), renewed(&[], Some(Renewal::NotPrimary)));
        lessor.promote();
        lessor.grant(1, 10).expect("granted");
        lessor.grant(2, 20).expect("granted");
        assert_eq!(ask(&mut lessor, &[1, 2, 1]), renewed(&[10, 20, 10], None));
        assert_eq!(ask(&mut lessor, &[2, 9, 1]), renewed(&[20], Some(Renewal::Unknown)));
        lessor.on_time(10_000);
        lessor.on_tick();
        assert_eq!(ask(&mut lessor, &[2, 1, 2]), renewed(&[20], Some(Renewal::Expired)));
        assert_eq!(lessor.take_tally().renewed, 5);
    }

    #[test]
    fn questions_are_answered_under_their_numbers() {
        let mut lessor = Lessor::new(Terms::default());
        let questions = || {
            let of = |id| LeaseQuestion::TimeToLive { id, with_keys: true };
            vec![(8, of(1)), (9, of(2)), (10, LeaseQuestion::List { behind: None })]
        };
        lessor.grant(1, 10).expect("granted");
        let listed = |deadline| LeaseAnswer::Listed(vec![(deadline, 1)]);
        let not_primary = LeaseAnswer::NotPrimary;
        assert_eq!(answer(&mut lessor, questions()), [(8, not_primary.clone()), (9, not_primary), (10, listed(0))]);
        lessor.promote();
        let found = Some((TimeToLive { remaining_s: 11, granted_s: 10 }, Bytes::new()));
        let answers = [(8, LeaseAnswer::TimeToLive(found)), (9, LeaseAnswer::TimeToLive(None)), (10, listed(11_000))];
        assert_eq!(answer(&mut lessor, questions()), answers);
    }
}
