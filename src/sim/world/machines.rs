//! Starts and steps of members, their effects, and messages between them.

use bytes::Bytes;
use rand::Rng;

use super::{
    World,
    state::{Event, Front, Machine, StateOnItsWay},
};
use crate::{
    apply::View,
    cluster::membership::Membership,
    mvcc::Change,
    proto::raftpb::{self, MessageType},
    replica::{Effect, Input, Note, Timer},
    sim::{
        checkers::journal,
        clock::Clock,
        member::{Member, Outcome, Start, Stop},
        network::{Link, Route},
        story::Kind,
    },
};

const TURN_US_MAX: u64 = 500;
const CALM_DISK_US: u64 = 300;
/// A connection is of no kind of message, so only a cut of everything stops it.
const DIAL: MessageType = MessageType::MsgHup;
/// The disk is asked again after this when it was full or stalled.
const DISK_RETRY_US: u64 = 20_000;

impl World {
    pub(super) fn found(&mut self) {
        let founders: Vec<u64> = (1..=self.options.size).collect();
        for id in &founders {
            self.add_machine(*id, Start::Found(founders.clone()));
            self.soon(5_000, Event::Boot { member: *id });
        }
    }

    pub(super) fn add_machine(&mut self, id: u64, start: Start) {
        let drift = self.options.faults.drift_ppm;
        let rate = self.chance.schedule.random_range(-drift..=drift);
        let member = Member::new(id, self.chance.schedule.random(), self.options.knobs, start);
        let machine = Machine {
            member,
            clock: Clock::new(rate),
            paused_until_us: 0,
            held: Vec::new(),
            stalled_until_us: 0,
            is_working: false,
            is_turning: false,
            front: Front::new(&self.options.knobs),
            is_damaged: false,
            is_gone: false,
        };
        self.machines.insert(id, machine);
    }

    pub(super) fn machine(&mut self, id: u64) -> &mut Machine {
        self.machines.get_mut(&id).expect("a known machine")
    }

    /// The machine, if it is in this start of its process.
    pub(super) fn running(&mut self, id: u64, epoch: u64) -> Option<&mut Machine> {
        let machine = self.machines.get_mut(&id)?;
        (machine.member.is_running() && machine.member.epoch == epoch).then_some(machine)
    }

    /// The members that run, with the numbers of their starts.
    pub(super) fn all_running(&self) -> Vec<(u64, u64)> {
        let running = self.machines.iter().filter(|(_, machine)| machine.member.is_running());
        running.map(|(id, machine)| (*id, machine.member.epoch)).collect()
    }

    // Starts and ends.

    pub(super) fn boot(&mut self, id: u64) -> Result<(), String> {
        let seed = self.chance.schedule.random();
        let knobs = self.options.knobs;
        let machine = self.machine(id);
        if machine.member.is_running() || machine.is_gone {
            return Ok(());
        }
        let booted = machine.member.boot(seed);
        (machine.front, machine.is_working, machine.is_turning) = (Front::new(&knobs), false, false);
        self.journal.restart(id);
        self.agreement.restart(id);
        if let Some(view) = self.machines[&id].member.view() {
            let state = (view.applied, view.kv.revision());
            self.note(Kind::Member, format!("member {id} starts: entry {} and revision {}", state.0, state.1));
            self.on_view(id, &view)?;
        }
        self.on_outcome(id, booted)?;
        self.turn_soon(id);
        Ok(())
    }

    /// The process stands still until this time, which may be now.
    pub(super) fn pause_until(&mut self, id: u64, until_us: u64) {
        self.machine(id).paused_until_us = until_us;
        if until_us <= self.now_us {
            self.resume(id);
        } else if until_us < u64::MAX {
            self.at(until_us - self.now_us, Event::Resume { member: id });
        }
    }

    /// What came during a pause that has ended comes now.
    pub(super) fn resume(&mut self, id: u64) {
        let now_us = self.now_us;
        let machine = self.machine(id);
        if machine.paused_until_us <= now_us {
            for event in std::mem::take(&mut machine.held) {
                self.at(0, event);
            }
        }
    }

    pub(super) fn crash(&mut self, id: u64, is_power_cut: bool) {
        let machine = self.machine(id);
        if !machine.member.is_running() {
            return;
        }
        machine.member.crash(is_power_cut);
        self.pause_until(id, self.now_us);
        self.counts.crashes += 1;
        self.note(Kind::Fault, format!("member {id} {}", if is_power_cut { "loses its power" } else { "is killed" }));
        let after_us = if self.is_calm { 1000 } else { self.options.faults.restart_us_max };
        self.soon(after_us, Event::Boot { member: id });
    }

    /// Its log is damaged: an operator replaces the machine.
    fn lose(&mut self, id: u64, what: &str) {
        let machine = self.machine(id);
        machine.is_gone = true;
        machine.member.crash(false);
        self.note(Kind::Fault, format!("member {id} cannot start again: {what}"));
    }

    fn on_removed(&mut self, id: u64) {
        let machine = self.machine(id);
        machine.is_gone = true;
        machine.member.crash(false);
        self.note(Kind::Member, format!("member {id} was removed and ends"));
    }

    fn on_stop(&mut self, id: u64, stop: Stop) -> Result<(), String> {
        let is_damaged = self.machines[&id].is_damaged;
        match stop {
            Stop::Power => self.end(id, true),
            Stop::Killed => self.end(id, false),
            Stop::Damaged(what) | Stop::Failure(what) if is_damaged => self.lose(id, &what),
            stop => return Err(format!("member {id} gives up: {stop}")),
        }
        Ok(())
    }

    /// The process ends, or did not come to life.
    fn end(&mut self, id: u64, is_power_cut: bool) {
        if self.machines[&id].member.is_running() {
            self.crash(id, is_power_cut);
            return;
        }
        self.machine(id).member.crash(is_power_cut);
        self.note(Kind::Fault, format!("member {id} ends while it starts"));
        self.soon(500_000, Event::Boot { member: id });
    }

    // Steps.

    pub(super) fn step(&mut self, id: u64, epoch: u64, input: Input) -> Result<(), String> {
        let now_us = self.now_us;
        let Some(machine) = self.running(id, epoch) else { return Ok(()) };
        let outcome = machine.member.step(machine.clock.now_ms(now_us), input);
        self.on_outcome(id, outcome)
    }

    pub(super) fn turn_soon(&mut self, id: u64) {
        let machine = self.machine(id);
        if machine.member.is_running() && !std::mem::replace(&mut machine.is_turning, true) {
            let epoch = machine.member.epoch;
            self.soon(TURN_US_MAX, Event::Turn { member: id, epoch });
        }
    }

    pub(super) fn turn(&mut self, id: u64, epoch: u64) -> Result<(), String> {
        if let Some(machine) = self.running(id, epoch) {
            machine.is_turning = false;
            self.step(id, epoch, Input::Turn)?;
        }
        Ok(())
    }

    pub(super) fn on_timer(&mut self, id: u64, epoch: u64, timer: Timer) -> Result<(), String> {
        self.step(id, epoch, Input::Timer(timer))?;
        self.turn_soon(id);
        Ok(())
    }

    pub(super) fn work(&mut self, id: u64, epoch: u64) -> Result<(), String> {
        let (now_us, choice) = (self.now_us, self.chance.schedule.random::<u32>() as usize);
        let Some(machine) = self.running(id, epoch) else { return Ok(()) };
        machine.is_working = false;
        if machine.stalled_until_us > now_us {
            let after_us = machine.stalled_until_us - now_us;
            machine.is_working = true;
            self.at(after_us, Event::Work { member: id, epoch });
            return Ok(());
        }
        let outcome = machine.member.do_work(machine.clock.now_ms(now_us), choice);
        let has_effects = !outcome.effects.is_empty();
        self.on_outcome(id, outcome)?;
        if !has_effects {
            self.turn_soon(id);
        }
        Ok(())
    }

    pub(super) fn on_outcome(&mut self, id: u64, outcome: Outcome) -> Result<(), String> {
        for effect in outcome.effects {
            self.carry_out(id, effect)?;
        }
        if let Some(stop) = outcome.stop {
            return self.on_stop(id, stop);
        }
        let machine = &self.machines[&id];
        let epoch = machine.member.epoch;
        if machine.member.work() > 0 && !machine.is_working {
            self.machine(id).is_working = true;
            let max_us = if self.is_calm { CALM_DISK_US } else { self.options.faults.disk_us_max };
            self.soon(max_us, Event::Work { member: id, epoch });
        }
        Ok(())
    }

    fn carry_out(&mut self, id: u64, effect: Effect) -> Result<(), String> {
        let machine = &self.machines[&id];
        let epoch = machine.member.epoch;
        match effect {
            Effect::Publish(view) => self.on_view(id, &view)?,
            Effect::Announce(changes) => self.on_announced(id, changes)?,
            Effect::HistoryReplaced => {
                self.counts.snapshots += 1;
                self.journal.restart(id);
                self.note(Kind::Member, format!("member {id} has a received state"));
                self.machine(id).front.batches.push_back(None);
                self.soon(TURN_US_MAX, Event::Changes { member: id, epoch });
            }
            Effect::Answer { answer, .. } => self.on_answer(id, epoch, answer)?,
            Effect::Send(message) => self.send(id, message, None),
            Effect::SendSnapshot { message, image, .. } => {
                self.send(id, message, Some(StateOnItsWay::new(image, epoch)));
            }
            Effect::SetTimer { timer, after_ms } => {
                let after_us = machine.clock.wait_us(after_ms);
                self.at(after_us, Event::Timer { member: id, epoch, timer });
            }
            Effect::Again => self.turn_soon(id),
            Effect::Note(note) => self.on_note(id, &note)?,
            Effect::Tokens(_) | Effect::Count(_) | Effect::Stopped => {}
            Effect::Removed => self.on_removed(id),
            Effect::WriteLog(_)
            | Effect::LogTask(_)
            | Effect::CommitPages(_)
            | Effect::CutPages { .. }
            | Effect::InstallSnapshot { .. }
            | Effect::DiscardSnapshot { .. } => unreachable!("the member's disk has taken them"),
        }
        Ok(())
    }

    fn on_note(&mut self, id: u64, note: &Note) -> Result<(), String> {
        match note {
            Note::LeaderElected { leader, term, .. } => {
                self.counts.elections += 1;
                self.agreement.on_leader(id, *leader, *term)?;
                self.note(Kind::Member, format!("member {id} follows {leader} in term {term}"));
            }
            Note::LogStalled { to, .. } => {
                self.note(Kind::Member, format!("member {id} has a stalled log and hands over to {to}"));
            }
            Note::Compacted { .. } => self.counts.compactions += 1,
            _ => {}
        }
        Ok(())
    }

    // What members show.

    fn on_view(&mut self, id: u64, view: &View) -> Result<(), String> {
        self.agreement.on_view(id, view)?;
        if view.applied > self.membership.0 {
            let before = self.membership.1.replace(view.membership.clone());
            self.membership.0 = view.applied;
            let ids = |membership: &Membership| {
                membership.members().map(|member| (member.id, member.is_learner)).collect::<Vec<_>>()
            };
            let before = before.map(|before| ids(&before));
            let now = ids(&view.membership);
            if before.as_ref() != Some(&now) {
                for (id, is_learner) in before.into_iter().flatten() {
                    self.counts.promotions += u64::from(is_learner && now.contains(&(id, false)));
                    self.counts.removals += u64::from(view.membership.is_removed(id));
                }
                self.on_membership(&view.membership);
            }
            let has_alarm = view.alarms.members().next().is_some();
            self.counts.alarms += u64::from(!std::mem::replace(&mut self.has_alarm, has_alarm) && has_alarm);
        }
        Ok(())
    }

    fn on_announced(&mut self, id: u64, changes: Vec<Change>) -> Result<(), String> {
        let fresh = self.journal.announce(id, &changes)?;
        for revision in fresh {
            let deleted = self.journal.changes(revision).iter().filter(|(_, value)| value.is_none());
            let deleted: Vec<Bytes> = deleted.map(|(key, _)| key.clone()).collect();
            for key in deleted {
                self.leases.on_deleted(&key, revision, self.now_us, self.jumped_us)?;
                self.counts.leases_expired += u64::from(key.starts_with(b"lease/"));
            }
            let line = format!("revision {revision}: {}", journal::shown(self.journal.changes(revision)));
            self.note(Kind::Client, line);
        }
        let is_lost = self.chance.schedule.random_range(0..50) == 0;
        let machine = self.machine(id);
        let epoch = machine.member.epoch;
        machine.front.push(changes, is_lost);
        self.soon(5_000, Event::Changes { member: id, epoch });
        Ok(())
    }

    // Messages.

    pub(super) fn send(&mut self, from: u64, message: raftpb::Message, mut image: Option<StateOnItsWay>) {
        let to = message.to();
        self.ambush(from, to, message.r#type());
        let epoch = self.machines[&from].member.epoch;
        let view = self.machines[&from].member.view();
        let is_refused = view.is_some_and(|view| view.membership.is_removed(to));
        let route = match self.machines.contains_key(&to) && !is_refused {
            false => Route::Lost,
            true => self.network.route(&mut self.chance.network, self.now_us, (from, to), message.r#type()),
        };
        match route {
            Route::Lost => self.on_lost(from, epoch, to, message, image.is_some()),
            Route::Arrives(times) => {
                for at_us in times {
                    let (message, image) = (Box::new(message.clone()), image.take());
                    self.at(at_us - self.now_us, Event::Deliver { from, to, message, image });
                }
            }
        }
    }

    /// Sometimes the sender learns of a lost message.
    fn on_lost(&mut self, from: u64, epoch: u64, to: u64, message: raftpb::Message, is_state: bool) {
        let is_noticed = self.chance.network.random();
        let input = match message.r#type() {
            _ if is_state => Input::SnapshotSent { to, arrived: false },
            MessageType::MsgProp if is_noticed => Input::Unsent(message),
            _ if is_noticed => Input::PeerUnreachable { to },
            _ => return,
        };
        self.soon(5_000, Event::Step { member: from, epoch, input: Box::new(input) });
    }

    pub(super) fn deliver(
        &mut self,
        from: u64,
        to: u64,
        message: raftpb::Message,
        image: Option<StateOnItsWay>,
    ) -> Result<(), String> {
        self.network.arrived((from, to));
        let now_us = self.now_us;
        let machine = &self.machines[&to];
        let epoch = machine.member.epoch;
        let knows_removed = machine.member.view().is_some_and(|view| view.membership.is_removed(from));
        let arrives = machine.member.is_running() && !knows_removed;
        let Some(image) = image else {
            if arrives {
                self.step(to, epoch, Input::Message(message))?;
                self.turn_soon(to);
            }
            return Ok(());
        };
        // The connection ends with the sender's process.
        let from_epoch = self.machines[&from].member.epoch;
        let is_whole = self.machines[&from].member.is_running() && from_epoch == image.epoch;
        let machine = self.machine(to);
        let (arrived, outcome) = match arrives && is_whole {
            true => machine.member.receive_state(machine.clock.now_ms(now_us), message, &image.whole()),
            false => (false, Outcome::default()),
        };
        let input = Box::new(Input::SnapshotSent { to, arrived });
        self.soon(2_000, Event::Step { member: from, epoch: from_epoch, input });
        if arrives {
            self.on_outcome(to, outcome)?;
            self.turn_soon(to);
        }
        Ok(())
    }

    // Connections: a member opens those again that the others have closed, and one that was removed is told so.

    /// Removed members that do not know it dial everybody.
    pub(super) fn dial(&mut self) {
        let Some(membership) = self.membership.1.clone() else { return };
        let all: Vec<u64> = self.machines.keys().copied().collect();
        for (from, epoch) in self.all_running() {
            if !membership.is_removed(from) || self.machines[&from].paused_until_us > self.now_us {
                continue;
            }
            for to in all.iter().copied().filter(|to| *to != from) {
                self.route_dial((from, to), |to| Event::Dial { from, epoch, to });
            }
        }
    }

    fn route_dial(&mut self, link: Link, event: impl Fn(u64) -> Event) {
        if let Route::Arrives(times) = self.network.route(&mut self.chance.network, self.now_us, link, DIAL) {
            for at_us in times {
                self.at(at_us - self.now_us, event(link.1));
            }
        }
    }

    pub(super) fn on_dial(&mut self, from: u64, epoch: u64, to: u64) {
        self.network.arrived((from, to));
        let view = self.machines[&to].member.view();
        if view.is_some_and(|view| view.membership.is_removed(from)) {
            self.route_dial((to, from), |member| Event::ToldRemoved { by: to, member, epoch });
        }
    }

    pub(super) fn on_told_removed(&mut self, by: u64, member: u64, epoch: u64) {
        self.network.arrived((by, member));
        if self.running(member, epoch).is_some() {
            self.on_removed(member);
        }
    }

    /// The disk works again, or has room again.
    pub(super) fn wake_disk(&mut self, id: u64) {
        let machine = self.machine(id);
        let epoch = machine.member.epoch;
        if machine.member.work() > 0 && !std::mem::replace(&mut machine.is_working, true) {
            self.soon(DISK_RETRY_US, Event::Work { member: id, epoch });
        }
    }
}
