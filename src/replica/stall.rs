//! A leader whose log does not become durable stops leading.
//!
//! The other members commit what it proposes, but it applies and answers nothing, and with heartbeats alone it would lead for as long
//! as its disk stalls. (Raft elects on lost heartbeats only; etcd leads on.)
//!
//! | `Stall` | becomes | when |
//! |---|---|---|
//! | `None` | `Offered` | the oldest append has waited for an election timeout, and the active others are a quorum: leadership goes to the one with the longest log |
//! | `Offered` | `SteppedDown` | it still leads an election timeout later, and the others are a quorum still |
//! | any | `None` | the oldest append has waited for less |
//!
//! Without a quorum of others nothing is gained: nobody could be elected while this member cannot store its vote.

use std::cmp::Reverse;

use super::{Effect, Effects, Follower, Note, Replica, progress::Stall};
use crate::consensus::Input as RaftInput;

impl Replica {
    /// Called once a tick.
    pub(super) fn check_stall(&mut self, effects: &mut Effects) {
        let (tick_ms, election_ms) = (self.settings.tick_ms, self.settings.election_ms);
        let election_ticks = election_ms.div_ceil(tick_ms);
        let waits_ticks = self.log.waits_ticks();
        if waits_ticks <= election_ticks {
            self.stall = Stall::None;
            return;
        }
        let Some(to) = self.successor() else { return };
        self.stall = match self.stall {
            Stall::None => {
                let local = self.settings.identity.member_id;
                effects.push(Effect::Note(Note::LogStalled { local, waits_ms: waits_ticks * tick_ms, to }));
                self.consensus.step(RaftInput::TransferLeader { to }, &mut self.raft_effects);
                Stall::Offered { ticks: 0 }
            }
            Stall::Offered { ticks } if ticks < election_ticks => Stall::Offered { ticks: ticks + 1 },
            Stall::Offered { .. } | Stall::SteppedDown => {
                self.consensus.step(RaftInput::StepDown, &mut self.raft_effects);
                Stall::SteppedDown
            }
        };
    }

    /// On a leader: the active voter with the longest log, if the other active voters are a quorum.
    fn successor(&self) -> Option<u64> {
        let local = self.settings.identity.member_id;
        let followers = self.consensus.followers();
        let voters = followers.iter().filter(|member| !member.is_learner);
        let quorum = voters.clone().count() / 2 + 1;
        let others: Vec<&Follower> = voters.filter(|member| member.is_active && member.id != local).collect();
        let best = others.iter().filter(|member| !member.needs_snapshot);
        let best = best.max_by_key(|member| (member.matched, Reverse(member.id)));
        best.filter(|_| others.len() >= quorum).map(|member| member.id)
    }
}
