//! A whole run: safety, progress, calm, and what must hold at the end.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;

use super::{World, state::Event};
use crate::{
    apply::request::Kind as RequestKind,
    mvcc::{self, RangeOptions},
    proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, alarm_request::AlarmAction},
    replica::Input,
    sim::{checkers::linearizable::check_linearizable, member::REQUEST_TIMEOUT_MS, story::Kind},
};

/// How long a quorum may take to serve when the faults have stopped, and all members to agree.
const PROGRESS_US: u64 = 40_000_000;
const SETTLING_US: u64 = 60_000_000;
/// Every lease is gone after its time, an election or two, a retry of its revocation, and all of that on a slow clock.
const LEASES_US: u64 = (6_000 + 4_000 + 2 * REQUEST_TIMEOUT_MS) * 1000;
/// A change of the members is decided after so long.
const CHANGE_US: u64 = 20_000_000;
/// How often the operator repeats what has not been answered.
const RETRY_US: u64 = 1_000_000;

impl World {
    pub(super) fn run_phases(&mut self) -> Result<(), String> {
        while self.counts.events < self.options.events {
            self.event()?;
        }
        self.progress()?;
        self.calm();
        self.until("no agreement", SETTLING_US, Self::is_settled)?;
        self.until("leases are left", LEASES_US, Self::has_no_leases)?;
        self.until("watchers lack events", SETTLING_US, |world| world.watchers_have_all())?;
        self.until("no agreement at the end", SETTLING_US, Self::is_settled)?;
        self.check_end()
    }

    /// Runs until a condition holds.
    fn until(
        &mut self,
        what: &str,
        within_us: u64,
        holds: impl Fn(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let end_us = self.now_us + within_us;
        while !holds(self)? {
            if self.now_us > end_us {
                return Err(format!("{what} {} s after the last fault: {}", within_us / 1_000_000, self.states()));
            }
            let next_us = self.now_us + 20_000;
            while self.now_us < next_us {
                self.event()?;
            }
        }
        Ok(())
    }

    // Progress.

    /// A quorum without faults serves within bounded time, while the others are frozen.
    fn progress(&mut self) -> Result<(), String> {
        let core = self.choose_core();
        let all: Vec<u64> = self.machines.keys().copied().collect();
        self.is_calm = true;
        self.network.calm(&core, &all);
        self.make_room();
        self.note(Kind::Fault, format!("members {core:?} work without faults; the others are frozen"));
        for id in all {
            let machine = self.machine(id);
            machine.member.disk.fail_writes(0);
            machine.member.disk.fail_syncs(0);
            if core.contains(&id) {
                machine.stalled_until_us = 0;
                self.pause_until(id, self.now_us);
                self.wake_disk(id);
                self.at(0, Event::Boot { member: id });
            } else {
                self.pause_until(id, u64::MAX);
            }
        }
        for id in &core {
            self.probe(*id, &core)?;
        }
        self.thaw();
        Ok(())
    }

    fn thaw(&mut self) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            if self.machines[&id].paused_until_us > self.now_us {
                self.pause_until(id, self.now_us);
            }
        }
    }

    /// A random quorum of every configuration that is in use, as small as possible.
    fn choose_core(&mut self) -> Vec<u64> {
        let mut core: Vec<u64> =
            self.machines.iter().filter(|(_, machine)| !machine.is_gone).map(|(id, _)| *id).collect();
        core.shuffle(&mut self.chance.schedule);
        if self.changed_us.is_some_and(|changed_us| changed_us + CHANGE_US > self.now_us) {
            // A change of the members may still be on its way, and nobody knows yet who is needed.
            core.sort_unstable();
            return core;
        }
        for id in core.clone() {
            let without: Vec<u64> = core.iter().copied().filter(|other| *other != id).collect();
            if self.is_quorum_everywhere(&without) {
                core = without;
            }
        }
        core.sort_unstable();
        core
    }

    /// A put through this member is answered in time, or refused for the state that it meets.
    fn probe(&mut self, member: u64, core: &[u64]) -> Result<(), String> {
        let end_us = self.now_us + PROGRESS_US;
        let floor = self.journal.newest();
        while self.now_us < end_us {
            let id = self.id();
            let put = PutRequest { key: "probe".into(), value: id.to_string().into(), ..PutRequest::default() };
            let runs = self.machines[&member].member.is_running();
            if self.machines[&member].is_gone {
                return Ok(());
            }
            if !self.is_quorum_everywhere(core) {
                // A change of the members that was decided before takes effect now, and makes others necessary.
                self.network.calm(&self.machines.keys().copied().collect::<Vec<_>>(), &[]);
                self.thaw();
            }
            if runs {
                let epoch = self.machines[&member].member.epoch;
                let request = Self::proposal(id, RequestKind::Put, &put);
                self.step(member, epoch, Input::Request { core: 0, request })?;
                self.turn_soon(member);
            }
            let retry_us = self.now_us + RETRY_US;
            while self.now_us < retry_us {
                self.event()?;
                let view = self.machines[&member].member.view();
                if view.is_some_and(|view| view.kv.revision() > floor) {
                    return Ok(());
                }
            }
            // The alarm is about the size of the database, and no reason not to serve.
            self.clear_alarms(member)?;
        }
        Err(format!(
            "member {member} serves nothing {} s after the last fault: {}",
            PROGRESS_US / 1_000_000,
            self.states()
        ))
    }

    fn clear_alarms(&mut self, member: u64) -> Result<(), String> {
        let Some(view) = self.machines[&member].member.view() else { return Ok(()) };
        let epoch = self.machines[&member].member.epoch;
        for alarm in view.alarms.members().collect::<Vec<_>>() {
            let action = AlarmAction::Deactivate.into();
            let request = AlarmRequest { action, member_id: alarm.member_id, alarm: AlarmType::Nospace.into() };
            let id = self.id();
            let request = Self::proposal(id, RequestKind::Alarm, &request);
            self.step(member, epoch, Input::Request { core: 0, request })?;
        }
        Ok(())
    }

    // Calm.

    /// All faults stop, and clients begin nothing new.
    fn calm(&mut self) {
        self.is_quiet = true;
        let all: Vec<u64> = self.machines.keys().copied().collect();
        self.network.calm(&all, &all);
        self.note(Kind::Fault, "all faults stop".to_owned());
        for id in all {
            self.machine(id).stalled_until_us = 0;
            self.wake_disk(id);
            self.at(0, Event::Boot { member: id });
        }
    }

    /// The machines that must agree: all members, without those that are damaged and were not replaced.
    fn members(&self) -> Vec<u64> {
        let ids = self
            .membership
            .1
            .as_ref()
            .map_or(Vec::new(), |membership| membership.members().map(|member| member.id).collect());
        ids.into_iter().filter(|id| self.machines.get(id).is_none_or(|machine| !machine.is_gone)).collect()
    }

    fn is_settled(&mut self) -> Result<bool, String> {
        let ids = self.members();
        let views: Option<Vec<_>> =
            ids.iter().map(|id| self.machines.get(id).and_then(|machine| machine.member.view())).collect();
        let Some(views) = views.filter(|views| !views.is_empty()) else { return Ok(false) };
        let first = &views[0];
        Ok(first.raft.leader != 0
            && ids.contains(&first.raft.leader)
            && first.kv.revision() >= self.journal.newest()
            && views.iter().all(|view| view.applied == first.applied && view.raft.leader == first.raft.leader)
            && self.has_nothing_waiting(&ids))
    }

    /// Queues are empty when nobody asks for anything.
    fn has_nothing_waiting(&self, ids: &[u64]) -> bool {
        ids.iter().filter_map(|id| self.machines[id].member.replica()).all(|replica| {
            let backlog = replica.backlog();
            backlog.proposals == 0 && !backlog.reads && backlog.transfers == 0 && backlog.settling == 0
        })
    }

    /// Nobody renews any lease, so all end. A NOSPACE alarm does not keep them.
    fn has_no_leases(&mut self) -> Result<bool, String> {
        let ids = self.members();
        let left =
            ids.iter().map(|id| self.machines[id].member.replica().map_or(1, |replica| replica.backlog().leases));
        Ok(left.sum::<usize>() == 0)
    }

    fn states(&self) -> String {
        let state = |(id, machine): (&u64, &super::Machine)| match machine.member.view() {
            Some(view) => format!(
                "{id}: leader {} term {} applied {} committed {}{}",
                view.raft.leader,
                view.raft.term,
                view.applied,
                view.raft.committed,
                machine.member.replica().map_or(String::new(), |replica| format!(" {:?}", replica.backlog()))
            ),
            None => format!("{id}: down{}", if machine.is_gone { " for good" } else { "" }),
        };
        self.machines.iter().map(state).collect::<Vec<_>>().join("; ")
    }

    // The end.

    /// Who is a learner is the same in the membership and in consensus.
    fn check_voters(&self) -> Result<(), String> {
        for id in self.members() {
            let member = &self.machines[&id].member;
            let (view, replica) = member.view().zip(member.replica()).expect("settled members run");
            let of = |is_learner| view.membership.members().filter(move |member| member.is_learner == is_learner);
            let ids = |is_learner| of(is_learner).map(|member| member.id).collect::<BTreeSet<u64>>();
            let conf_state = replica.consensus().conf_state();
            let has = |list: &[u64]| list.iter().copied().collect::<BTreeSet<u64>>();
            if has(&conf_state.voters) != ids(false) || has(&conf_state.learners) != ids(true) {
                return Err(format!("member {id} has the members {:?} and consensus {conf_state:?}", view.membership));
            }
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), String> {
        check_linearizable(&self.registers)?;
        self.check_voters()?;
        let newest = self.journal.newest();
        for id in self.members() {
            let view = self.machines[&id].member.view().expect("settled members run");
            self.agreement.check_hash(&self.journal, id, &view, 0)?;
            let everything = RangeOptions { key: vec![0].into(), range_end: vec![0].into(), ..RangeOptions::default() };
            let found =
                mvcc::collect(&view.kv, &everything).map_err(|error| format!("member {id} cannot read: {error}"))?;
            let wanted = self.journal.range(&vec![0].into(), &vec![0].into(), newest);
            if !wanted.into_iter().eq(&found.kvs) {
                return Err(format!("member {id} ends with other keys than the journal has at revision {newest}"));
            }
            let replica = self.machines[&id].member.replica().expect("settled members run");
            if replica.posture().appends > 1 || replica.consensus().last_index() < view.applied {
                return Err(format!("member {id} is never done with its log: {:?}", replica.posture()));
            }
        }
        Ok(())
    }
}
