//! The operator: compactions, defragmentations, flushes, transfers of leadership, alarms.

use rand::Rng;

use super::{World, state::Op};
use crate::{
    apply::request::Kind as RequestKind,
    proto::etcdserverpb::{AlarmRequest, AlarmType, CompactionRequest, alarm_request::AlarmAction},
    replica::{Chore, Request},
};

impl World {
    pub(super) fn operate(&mut self, client: usize) -> Result<(), String> {
        match self.chance.clients.random_range(0..16) {
            0..5 => {
                let newest = self.order.floor();
                let revision = (newest - self.chance.clients.random_range(0..20)).max(1);
                let request = CompactionRequest { revision, physical: self.chance.clients.random() };
                self.ask_any(client, Op::Compact, |id| Self::proposal(id, RequestKind::Compaction, &request))
            }
            5..7 => self.ask_any(client, Op::Chore, |id| Request::Chore { id, chore: Chore::Defragment }),
            7..9 => self.ask_any(client, Op::Chore, |id| Request::Chore { id, chore: Chore::Flush }),
            9..12 => {
                let Some((to, _)) = self.any_running() else { return Ok(()) };
                let leader = self.leader_of(to).unwrap_or(to);
                self.ask(client, leader, Op::Other, |id| Request::TransferLeader { id, to })
            }
            choice => {
                // An alarm is cleared more often than raised, so that writers get their turn.
                let action = if choice == 12 { AlarmAction::Activate } else { AlarmAction::Deactivate };
                let member_id = self.chance.clients.random_range(1..=2);
                let alarm = AlarmType::Nospace.into();
                let request = AlarmRequest { action: action.into(), member_id, alarm };
                self.ask_any(client, Op::Other, |id| Self::proposal(id, RequestKind::Alarm, &request))
            }
        }
    }

    /// The leader that a member knows, if it runs.
    pub(super) fn leader_of(&self, member: u64) -> Option<u64> {
        let leader = self.machines[&member].member.view()?.raft.leader;
        self.machines.get(&leader).filter(|machine| machine.member.is_running()).map(|_| leader)
    }
}
