//! Questions about leases, which the replica answers without an entry of the log.
//!
//! Questions go to the replica instead of a published view, because each renewal changes the answers: 10,000 renewals
//! in a second would need as many views. The replica never waits for a question: if it cannot be answered yet, the answer
//! has the reason, and the services ask again.

use bytes::Bytes;

use crate::{
    apply::Applier,
    auth::{Access, Requester},
    base::{limits, refusal::Refusal},
    lease::{Lessor, Renewal, TimeToLive},
};

/// The field of a LeaseTimeToLiveResponse that has the keys; its last one.
const KEYS_FIELD: u32 = 5;

/// A question or a request of a front that needs no entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseQuestion {
    /// Renews these in order, up to the first that must wait.
    Renew {
        ids: Vec<i64>,
    },
    TimeToLive {
        id: i64,
        with_keys: bool,
    },
    /// Some leases after this id, or the first ones; with an asker that is not root only if it may read all their keys.
    List {
        behind: Option<i64>,
        asker: Option<Asker>,
    },
    /// Whether somebody may read, or write, every key of a lease.
    Check {
        id: i64,
        asker: Asker,
        access: Access,
    },
}

/// A requester on its way between cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub user: String,
    pub revision: u64,
}

impl From<Requester<'_>> for Asker {
    fn from(who: Requester<'_>) -> Self {
        Self { user: who.user.to_owned(), revision: who.revision }
    }
}

impl Asker {
    fn requester(&self) -> Requester<'_> {
        Requester { user: &self.user, revision: self.revision }
    }
}

/// The engine's answer to the question of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// TTLs of the renewed leases, and why the next one was not renewed.
    Renewed { ttls: Vec<i64>, stopped: Option<Renewal> },
    /// `None`: no such lease. `keys` are encoded as the response's field.
    TimeToLive(Option<(TimeToLive, Bytes)>),
    /// Deadline and id, in the order of ids; the last slice is short.
    Listed(Vec<(u64, i64)>),
    /// Of a check; or the refusal of a list.
    Checked(Result<(), Refusal>),
    /// This member does not lead, or not yet.
    NotPrimary,
}

impl LeaseQuestion {
    /// Whether the answer depends on the keys of a lease.
    #[must_use]
    pub fn wants_keys(&self) -> bool {
        match self {
            Self::TimeToLive { with_keys, .. } => *with_keys,
            Self::List { asker, .. } => asker.is_some(),
            Self::Check { .. } => true,
            Self::Renew { .. } => false,
        }
    }
}

/// Answers the questions of a front's turn.
pub fn answer(applier: &mut Applier, questions: Vec<(u64, LeaseQuestion)>) -> Vec<(u64, LeaseAnswer)> {
    questions.into_iter().map(|(number, question)| (number, answer_one(applier, question))).collect()
}

fn answer_one(applier: &mut Applier, question: LeaseQuestion) -> LeaseAnswer {
    match question {
        LeaseQuestion::Check { id, asker, access } => {
            LeaseAnswer::Checked(applier.check_lease(asker.requester(), id, access))
        }
        LeaseQuestion::List { behind, asker } => {
            let listed = applier.lessor().list(behind, limits::LEASES_PER_SLICE);
            let who = asker.as_ref().map(Asker::requester);
            let may_read = |(_, id): &(u64, i64)| who.map_or(Ok(()), |who| applier.check_lease(who, *id, Access::Read));
            match listed.iter().try_for_each(may_read) {
                Ok(()) => LeaseAnswer::Listed(listed),
                refused => LeaseAnswer::Checked(refused),
            }
        }
        question => answer_from(applier.lessor(), question),
    }
}

fn answer_from(lessor: &mut Lessor, question: LeaseQuestion) -> LeaseAnswer {
    match question {
        LeaseQuestion::Renew { ids } => renew(lessor, &ids),
        LeaseQuestion::List { .. } | LeaseQuestion::Check { .. } => unreachable!("answered with the users"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Terms;

    #[test]
    fn renewals_stop_at_the_first_that_has_to_wait() {
        let mut lessor = Lessor::new(Terms::default());
        let ask = |lessor: &mut Lessor, ids: &[i64]| answer_from(lessor, LeaseQuestion::Renew { ids: ids.to_vec() });
        let renewed = |ttls: &[i64], stopped| LeaseAnswer::Renewed { ttls: ttls.to_vec(), stopped };
        assert_eq!(ask(&mut lessor, &[1]), renewed(&[], Some(Renewal::NotPrimary)));
        lessor.promote();
        lessor.grant(1, 10).expect("granted");
        lessor.grant(2, 20).expect("granted");
        assert_eq!(ask(&mut lessor, &[1, 2, 1]), renewed(&[10, 20, 10], None));
        assert_eq!(ask(&mut lessor, &[2, 9, 1]), renewed(&[20], Some(Renewal::Unknown)));
        lessor.on_time(10_000);
        lessor.on_tick();
        lessor.on_confirmed(10_000);
        assert_eq!(ask(&mut lessor, &[2, 1, 2]), renewed(&[20], Some(Renewal::Expired)));
        assert_eq!(lessor.take_tally().renewed, 5);
    }

    #[test]
    fn what_is_left_of_a_lease_is_known_to_its_leader_only() {
        let mut lessor = Lessor::new(Terms::default());
        let ask = |lessor: &mut Lessor, id| answer_from(lessor, LeaseQuestion::TimeToLive { id, with_keys: true });
        lessor.grant(1, 10).expect("granted");
        assert_eq!([ask(&mut lessor, 1), ask(&mut lessor, 2)], [LeaseAnswer::NotPrimary, LeaseAnswer::NotPrimary]);
        lessor.promote();
        let found = Some((TimeToLive { remaining_s: 10, granted_s: 10 }, Bytes::new()));
        assert_eq!(ask(&mut lessor, 1), LeaseAnswer::TimeToLive(found));
        assert_eq!(ask(&mut lessor, 2), LeaseAnswer::TimeToLive(None));
    }
}
