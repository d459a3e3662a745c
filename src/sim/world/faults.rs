//! What is broken, and when. Each tenth of a second every kind of fault comes with the rate that the run has drawn for it.

use rand::{Rng, seq::IndexedRandom};

use super::{World, state::Event};
use crate::{
    proto::raftpb::MessageType,
    sim::{
        member::REQUEST_TIMEOUT_MS,
        network::{Cut, Link},
        story::Kind,
    },
};

/// Time between two looks.
const LOOK_US: u64 = 100_000;
/// A member with work in flight is ten times as likely to be hit as an idle one.
const BUSY_FACTOR: u32 = 10;
/// Everything that is bounded is answered after the request timeout, on a slow clock, and some ticks.
const ANSWER_US_MAX: u64 = (REQUEST_TIMEOUT_MS + 1500) * 1000;
/// How long a pause, a stall or a clog lasts at most that comes with a rare message, and how late a crash comes.
const AMBUSH_US_MAX: u64 = 3_000_000;
const CRASH_US_MAX: [u64; 3] = [1_000, 10_000, 100_000];
/// Room that a full disk has.
const LITTLE_ROOM_BYTES: u64 = 8 << 10;

/// A fault that comes with a rare message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ambush {
    Kill,
    Power,
    Stall,
    Pause,
    /// The link to the other one.
    Clog,
    /// All links away from it.
    Cut,
}

fn is_rare(kind: MessageType) -> bool {
    use MessageType::{MsgSnap, MsgTimeoutNow, MsgVote, MsgVoteResp};
    matches!(kind, MsgSnap | MsgTimeoutNow | MsgVote | MsgVoteResp)
}

impl World {
    pub(super) fn on_fault(&mut self) -> Result<(), String> {
        self.at(LOOK_US, Event::Fault);
        self.count_state();
        self.check_answers()?;
        self.check_hashes()?;
        self.dial();
        if self.is_calm {
            return Ok(());
        }
        let faults = self.options.faults;
        self.crash_some(faults.kill, false);
        self.crash_some(faults.power, true);
        if self.hits(faults.cut) {
            self.cut_or_mend();
        }
        if self.hits(faults.clog) {
            self.clog();
        }
        if self.hits(faults.pause) {
            self.pause();
        }
        if self.hits(faults.jump) {
            self.jump();
        }
        if self.hits(faults.stall) {
            self.stall();
        }
        if self.hits(faults.disk_error) {
            self.fail_disk();
        }
        if self.hits(faults.disk_full) {
            self.fill_disk();
        }
        if self.hits(faults.flip) {
            self.flip();
        }
        Ok(())
    }

    /// Whether a fault of this rate comes now. Its chance is drawn even if it is left out, so that the others stay as they are.
    fn hits(&mut self, per_mille: u32) -> bool {
        if self.chance.faults.random_range(0..1000) >= per_mille {
            return false;
        }
        self.injected += 1;
        let is_left_out = self.options.skipped.contains(&self.injected);
        self.counts.faults += u64::from(!is_left_out);
        !is_left_out
    }

    /// The number of the fault that is injected now, for the story.
    fn mark(&self) -> u64 {
        self.injected
    }

    fn any_machine(&mut self) -> Option<u64> {
        let alive: Vec<u64> = self.machines.iter().filter(|(_, machine)| !machine.is_gone).map(|(id, _)| *id).collect();
        alive.choose(&mut self.chance.faults).copied()
    }

    fn any_link(&mut self) -> Option<Link> {
        let (from, to) = (self.any_machine()?, self.any_machine()?);
        (from != to).then_some((from, to))
    }

    /// Ends a process, or takes a machine's power, now or at one of the next steps or effects.
    fn crash_some(&mut self, per_mille: u32, is_power_cut: bool) {
        let Some(id) = self.any_machine() else { return };
        let is_busy = self.machines[&id].member.work() > 0;
        let rate = if is_busy { per_mille } else { per_mille.div_ceil(BUSY_FACTOR) };
        let within = self.chance.faults.random_range(0..40);
        if !self.hits(if per_mille == 0 { 0 } else { rate }) {
            return;
        }
        let number = self.mark();
        let member = &mut self.machine(id).member;
        match within {
            _ if !member.is_running() => {}
            0..10 => self.crash(id, is_power_cut),
            _ if is_power_cut => {
                member.disk.cut_after(within - 10);
                self.note(Kind::Fault, format!("!{number} member {id} loses power in {} disk operations", within - 10));
            }
            _ => {
                member.ends_after = Some(within - 10);
                self.note(Kind::Fault, format!("!{number} member {id} ends after {} effects", within - 10));
            }
        }
    }

    fn cut_or_mend(&mut self) {
        let number = self.mark();
        if !self.network.is_whole() && self.chance.faults.random_range(0..3) > 0 {
            // Swizzle: the links come back one by one, in any order.
            let links = self.network.cut_links();
            match self.chance.faults.random() {
                true => self.network.heal(),
                false => links.choose(&mut self.chance.faults).into_iter().for_each(|link| self.network.mend(*link)),
            }
            let left = self.network.cut_links().len();
            self.note(Kind::Fault, format!("!{number} links are mended, {left} stay cut"));
            return;
        }
        let Some(id) = self.any_machine() else { return };
        let kind = match self.chance.faults.random_range(0..3) {
            0 => *Cut::KINDS.choose(&mut self.chance.faults).expect("there are some"),
            _ => Cut::All,
        };
        let (incoming, outgoing) = [(true, true), (true, false), (false, true)][self.chance.faults.random_range(0..3)];
        let others: Vec<u64> = self.machines.keys().copied().filter(|other| *other != id).collect();
        let count = match self.chance.faults.random() {
            true => others.len(),
            false => self.chance.faults.random_range(0..=others.len()),
        };
        let mut cut = Vec::new();
        for other in others.into_iter().take(count) {
            cut.extend(incoming.then_some((other, id)));
            cut.extend(outgoing.then_some((id, other)));
        }
        for link in &cut {
            self.network.cut(*link, kind);
        }
        let links: Vec<String> = cut.iter().map(|(from, to)| format!("{from}>{to}")).collect();
        self.note(Kind::Fault, format!("!{number} cut of {kind:?}: {}", links.join(" ")));
    }

    fn clog(&mut self) {
        let until_us = self.now_us + self.chance.faults.random_range(0..5_000_000);
        if let Some((from, to)) = self.any_link() {
            self.network.clog((from, to), until_us);
            let (number, at) = (self.mark(), until_us / 1000);
            self.note(Kind::Fault, format!("!{number} the link {from}>{to} is clogged until {at} ms"));
        }
    }

    fn pause(&mut self) {
        let for_us = self.chance.faults.random_range(0..5 * self.options.knobs.election_ms * 1000);
        let until_us = self.now_us + for_us;
        let Some(id) = self.any_machine() else { return };
        let machine = self.machine(id);
        if machine.member.is_running() && machine.paused_until_us <= until_us {
            self.pause_until(id, until_us);
            let number = self.mark();
            self.note(Kind::Fault, format!("!{number} member {id} stands still for {} ms", for_us / 1000));
        }
    }

    fn jump(&mut self) {
        let by_us = self.chance.faults.random_range(0..4_000_000);
        let Some(id) = self.any_machine() else { return };
        self.machine(id).clock.jump(by_us);
        self.jumped_us += by_us;
        let number = self.mark();
        self.note(Kind::Fault, format!("!{number} the clock of member {id} jumps by {} ms", by_us / 1000));
    }

    fn stall(&mut self) {
        let for_us = self.chance.faults.random_range(0..6_000_000);
        let Some(id) = self.any_machine() else { return };
        self.machine(id).stalled_until_us = self.now_us + for_us;
        let number = self.mark();
        self.note(Kind::Fault, format!("!{number} the disk of member {id} stalls for {} ms", for_us / 1000));
    }

    fn fail_disk(&mut self) {
        let is_write = self.chance.faults.random();
        let Some(id) = self.any_machine() else { return };
        let disk = &mut self.machine(id).member.disk;
        match is_write {
            true => disk.fail_writes(1),
            false => disk.fail_syncs(1),
        }
        let number = self.mark();
        let what = if is_write { "write" } else { "sync" };
        self.note(Kind::Fault, format!("!{number} the next {what} of member {id} fails"));
    }

    /// A disk fills up, or all have room again.
    fn fill_disk(&mut self) {
        let number = self.mark();
        let has_room = self.chance.faults.random_range(0..3) > 0;
        let Some(id) = self.any_machine() else { return };
        if has_room {
            self.make_room();
            self.note(Kind::Fault, format!("!{number} all disks have room"));
            return;
        }
        let machine = self.machine(id);
        if machine.member.is_running() {
            let used = machine.member.disk_bytes();
            machine.member.disk.set_capacity(used + LITTLE_ROOM_BYTES);
            self.note(Kind::Fault, format!("!{number} the disk of member {id} is full"));
        }
    }

    pub(super) fn make_room(&mut self) {
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        for id in ids {
            self.machine(id).member.disk.set_capacity(u64::MAX);
            self.wake_disk(id);
        }
    }

    /// Damages an old part of a log, unless another one is damaged already or a quorum would depend on it.
    fn flip(&mut self) {
        let (at, bit) = (self.chance.faults.random(), self.chance.faults.random());
        let Some(id) = self.any_machine() else { return };
        let voters = self.membership.1.as_ref().map_or(0, |membership| membership.members().count());
        let is_first = self.machines.values().all(|machine| !machine.is_damaged);
        if voters < 3 || !is_first || !self.may_be_lost(id) {
            return;
        }
        let machine = self.machine(id);
        if machine.member.damage_log(at, bit) {
            machine.is_damaged = true;
            let number = self.mark();
            self.note(Kind::Fault, format!("!{number} a bit of member {id}'s log flips"));
        }
    }

    /// A rare message may bring a fault to its sender when it leaves, and to its receiver when it has arrived: some bugs need one in the
    /// few milliseconds around a vote, a transfer or a whole state. Only kinds of faults come that the run has drawn.
    pub(super) fn ambush(&mut self, victim: u64, other: u64, kind: MessageType) {
        let (faults, rate) = (self.options.faults, self.options.faults.ambush);
        let is_known = [victim, other].iter().all(|id| self.machines.contains_key(id));
        if self.is_calm || rate == 0 || !is_rare(kind) || !is_known || !self.hits(rate) {
            return;
        }
        let kinds = [
            (faults.kill, Ambush::Kill),
            (faults.power, Ambush::Power),
            (faults.stall, Ambush::Stall),
            (faults.pause, Ambush::Pause),
            (faults.clog, Ambush::Clog),
            (faults.cut, Ambush::Cut),
        ];
        let on: Vec<Ambush> = kinds.into_iter().filter(|(rate, _)| *rate > 0).map(|(_, fault)| fault).collect();
        let Some(fault) = on.choose(&mut self.chance.faults).copied() else { return };
        let number = self.mark();
        self.note(Kind::Fault, format!("!{number} {kind:?} brings {fault:?} to member {victim}, the other is {other}"));
        self.strike(fault, victim, other);
    }

    fn strike(&mut self, fault: Ambush, victim: u64, other: u64) {
        let for_us = self.chance.faults.random_range(0..AMBUSH_US_MAX);
        let crash_us_max = *CRASH_US_MAX.choose(&mut self.chance.faults).expect("there are some");
        match fault {
            Ambush::Kill | Ambush::Power => {
                let after_us = self.chance.faults.random_range(0..crash_us_max);
                let (epoch, is_power_cut) = (self.machines[&victim].member.epoch, fault == Ambush::Power);
                self.at(after_us, Event::Crash { member: victim, epoch, is_power_cut });
            }
            Ambush::Stall => self.machine(victim).stalled_until_us = self.now_us + for_us,
            Ambush::Pause => {
                let until_us = self.now_us + for_us;
                if self.machines[&victim].paused_until_us <= until_us {
                    self.pause_until(victim, until_us);
                }
            }
            Ambush::Clog => self.network.clog((victim, other), self.now_us + for_us),
            Ambush::Cut => {
                for to in self.machines.keys().copied().filter(|id| *id != victim).collect::<Vec<_>>() {
                    self.network.cut((victim, to), Cut::All);
                }
            }
        }
    }

    // What is looked at with each fault.

    /// Every request ends within the request timeout, as long as its member runs without a pause.
    fn check_answers(&mut self) -> Result<(), String> {
        let now_us = self.now_us;
        let machines = &self.machines;
        self.pending.retain(|_, pending| {
            let member = &machines[&pending.member].member;
            member.is_running() && member.epoch == pending.epoch
        });
        for (id, pending) in &self.pending {
            let machine = &self.machines[&pending.member];
            let since_us = pending.called_us.max(machine.paused_until_us);
            if pending.op.is_bounded() && now_us.saturating_sub(since_us) > ANSWER_US_MAX {
                return Err(format!("request {id} at member {} was never answered", pending.member));
            }
        }
        Ok(())
    }

    fn check_hashes(&mut self) -> Result<(), String> {
        if self.chance.schedule.random_range(0..20) > 0 {
            return Ok(());
        }
        for (id, _) in self.all_running() {
            let view = self.machines[&id].member.view().expect("it runs");
            self.agreement.check_hash(&self.journal, id, &view, 0)?;
            let oldest = view.kv.compact_revision().max(1);
            let revision = self.chance.schedule.random_range(oldest..=view.kv.revision().max(oldest));
            self.agreement.check_hash(&self.journal, id, &view, revision)?;
        }
        Ok(())
    }

    /// Notes the state of all members, whoever is in which.
    fn count_state(&mut self) {
        let posture = |machine: &super::Machine| match machine.member.replica() {
            Some(replica) => format!("{:?}", replica.posture()),
            None => format!("down, {}", machine.is_gone),
        };
        let mut all: Vec<String> = self.machines.values().map(posture).collect();
        all.sort_unstable();
        let text = format!("{all:?}, {}", self.network.is_whole());
        // FNV-1a: the same in every process.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        self.states.insert(hash);
    }
}
