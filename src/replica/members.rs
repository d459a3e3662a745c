//! Changes of the membership and of leadership, from their request to their answer.

use super::{Answer, CoreId, Effect, Effects, Failure, Note, Replica, progress::Transfer};
use crate::{
    base::{
        log_entry::LogEntry,
        planted::{self, Bug},
        refusal::Refusal,
    },
    consensus::{ConfChangeError, Input as RaftInput},
    proto::raftpb,
};

impl Replica {
    /// Makes a committed membership change effective and answers it. A change that the state has refused names
    /// node 0, and one that consensus refuses is answered as a refusal: neither stops the member.
    pub(super) fn on_conf_change(
        &mut self,
        entry: &LogEntry,
        change: &raftpb::ConfChange,
        outcome: Result<(), Refusal>,
        effects: &mut Effects,
    ) -> Result<(), Failure> {
        let outcome = match self.consensus.apply_conf_change(entry.index, change) {
            Ok(Some(conf_state)) => {
                if !planted::has(Bug::LoseConfChange) {
                    self.applier.set_conf_state(&conf_state);
                }
                outcome
            }
            Ok(None) => outcome,
            Err(error) => {
                let reason = error.to_string();
                effects.push(Effect::Note(Note::ConfChangeRefused { index: entry.index, reason }));
                outcome.and(Err(refusal_of(&error)))
            }
        };
        self.is_removed |= self.applier.membership().is_removed(self.applier.membership().local_id);
        self.answer(change.id(), outcome.map(|()| bytes::Bytes::new()), effects);
        Ok(())
    }

    pub(super) fn on_transfer(&mut self, core: CoreId, id: u64, to: u64) {
        self.transfers.push(Transfer { core, id, to, since_ms: self.now_ms });
        self.consensus.step(RaftInput::TransferLeader { to }, &mut self.raft_effects);
    }

    /// Answers the transfers that have succeeded, or that have lasted for longer than an election timeout.
    pub(super) fn end_transfers(&mut self, effects: &mut Effects) {
        let (leader, now_ms, limit_ms) = (self.leader, self.now_ms, self.settings.election_ms);
        self.transfers.retain(|transfer| {
            let outcome = match leader == transfer.to {
                true => Ok(bytes::Bytes::new()),
                false if now_ms.saturating_sub(transfer.since_ms) >= limit_ms => Err(Refusal::TimeoutLeaderTransfer),
                false => return true,
            };
            let answer = Answer::Proposal { id: transfer.id, outcome };
            effects.push(Effect::Answer { core: transfer.core, answer });
            false
        });
    }

    /// Ends a removed member, once it no longer leads.
    pub(super) fn end_if_removed(&mut self, effects: &mut Effects) {
        if self.is_removed && !self.consensus.is_leader() {
            self.is_removed = false;
            effects.push(Effect::Removed);
        }
    }
}

fn refusal_of(error: &ConfChangeError) -> Refusal {
    match error {
        ConfChangeError::Kind(_) | ConfChangeError::Refused(_) => Refusal::ProposalDropped,
    }
}
