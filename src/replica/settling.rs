//! Waits for the state: until everything that was committed at a moment is applied.
//!
//! A lease that is not there, or how far a learner has come, means something only once nothing committed is missing. As in etcd a
//! wait lasts a second at most.

use super::{Answer, CoreId, Effect, Effects, Replica, Standing, progress::Settling};
use crate::base::{limits, refusal::Refusal};

impl Replica {
    pub(super) fn on_settle(&mut self, core: CoreId, id: u64, effects: &mut Effects) {
        if self.settling.len() >= limits::SETTLING_MAX {
            let answer = Answer::Settled { id, outcome: Err(Refusal::TooManyRequests) };
            effects.push(Effect::Answer { core, answer });
            return;
        }
        let index = self.consensus.commit();
        self.settling.push(Settling { core, id, index, since_ms: self.now_ms });
    }

    /// Answers those whose entries are applied, and those who have waited for too long.
    pub(super) fn end_settling(&mut self, effects: &mut Effects) {
        if self.settling.is_empty() {
            return;
        }
        let (applied, now_ms) = (self.applier.index(), self.now_ms);
        let consensus = &self.consensus;
        let standing = || Standing {
            term: consensus.term(),
            vote: consensus.vote(),
            role: consensus.role(),
            leader: consensus.leader(),
            transferee: consensus.transferee().unwrap_or(0),
            last_index: consensus.last_index(),
            followers: consensus.followers(),
        };
        self.settling.retain(|waiter| {
            let outcome = match applied >= waiter.index {
                true => Ok(standing()),
                false if now_ms.saturating_sub(waiter.since_ms) >= limits::SETTLING_MS_MAX => {
                    Err(Refusal::TimeoutWaitAppliedIndex)
                }
                false => return true,
            };
            let answer = Answer::Settled { id: waiter.id, outcome };
            effects.push(Effect::Answer { core: waiter.core, answer });
            false
        });
    }
}
