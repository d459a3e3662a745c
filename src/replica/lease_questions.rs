//! Questions about leases, which the replica answers without an entry of the log.
//!
//! Questions go to the replica instead of a published view, because each renewal changes the answers: 10,000 renewals
//! in a second would need as many views. The replica never waits for a question: if it cannot be answered yet, the answer
//! has the reason, and the services ask again.

use bytes::Bytes;

use crate::{
    base::limits,
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
    /// Some leases after this id, or the first ones.
    List {
        behind: Option<i64>,
    },
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
    /// This member does not lead, or not yet.
    NotPrimary,
}

impl LeaseQuestion {
    /// Whether the answer has the keys of a lease.
    #[must_use]
    pub fn wants_keys(&self) -> bool {
        matches!(self, Self::TimeToLive { with_keys: true, .. })
    }
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
