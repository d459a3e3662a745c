//! Several members in one thread: a network, a clock, clients, faults, and checks. One seed decides everything.
//!
//! ```text
//!   queue by virtual time ─▶ event ─▶ member.step ─▶ effects ─▶ events (messages, timers, answers)
//!                              │                        └─▶ checks (views, changes, answers)
//!                              └─▶ faults: lost, doubled and late messages, cuts of one or both ways, crashes, power cuts
//! ```
//!
//! Conditions, checked at every event:
//!
//! 1. A revision has the same changes on every member, on every start, whenever it is announced; no member skips one, unless it has
//!    received a whole state.
//! 2. An acknowledged put has a revision above everything that any client had seen when the put began (real-time order).
//! 3. A linearizable read shows a state at least as new as everything that any client had seen when the read began, and in it the
//!    newest value at that revision.
//! 4. Views of a start never go backwards.
//!
//! At the end all faults stop, and within a bounded time every member has the same history, the same hash of it, and every
//! acknowledged put.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use bytes::Bytes;
use prost::Message as _;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::member::{Knobs, Member, Stop};
use crate::{
    apply::{
        View,
        request::{self, Kind},
    },
    auth::Requester,
    mvcc::{Change, HashReader},
    proto::{
        etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, PutResponse},
        mvccpb::KeyValue,
        raftpb,
    },
    replica::{Answer, Chore, Effect, Effects, Input, ReadMode, Request, Timer},
};

const KEYS: u64 = 8;
/// How long all members may take to agree when the faults have stopped, in microseconds of virtual time.
const SETTLING_US: u64 = 60_000_000;

/// Rates that a run draws; each may be zero.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub lost_per_mille: u32,
    pub doubled_per_mille: u32,
    pub delay_us_max: u64,
    pub crash_per_mille: u32,
    pub power_per_mille: u32,
    pub cut_per_mille: u32,
    pub disk_us_max: u64,
}

/// Counts of a run, so that a test without effect is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub events: u64,
    pub puts: u64,
    pub reads: u64,
    pub refused: u64,
    pub crashes: u64,
    pub snapshots: u64,
    pub elections: u64,
    pub virtual_ms: u64,
}

/// A world at work.
pub struct World {
    random: SmallRng,
    faults: Faults,
    now_us: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    founders: Vec<u64>,
    members: BTreeMap<u64, Member>,
    /// Directed.
    cut: BTreeSet<(u64, u64)>,
    clients: Vec<Client>,
    next_id: u64,
    is_calm: bool,
    /// What each revision changed, as the first member announced it.
    history: BTreeMap<i64, Vec<(Bytes, Bytes)>>,
    /// The newest revision that each member has announced since its start or its last received state.
    announced: BTreeMap<u64, i64>,
    viewed: BTreeMap<u64, i64>,
    /// The newest revision that any client has seen.
    seen: i64,
    acknowledged: BTreeMap<i64, (Bytes, Bytes)>,
    story: Vec<String>,
    pub counts: Counts,
}

enum Event {
    Deliver { from: u64, to: u64, message: Box<raftpb::Message>, image: Option<Vec<u8>> },
    SnapshotSent { member: u64, epoch: u64, to: u64, arrived: bool },
    Turn { member: u64, epoch: u64 },
    Timer { member: u64, epoch: u64, timer: Timer },
    Work { member: u64, epoch: u64 },
    Boot { member: u64 },
    Client { client: usize },
    Fault,
}

/// One request at a time.
#[derive(Default)]
struct Client {
    pending: Option<Pending>,
}

struct Pending {
    member: u64,
    epoch: u64,
    id: u64,
    /// The newest revision that any client had seen when it began.
    floor: i64,
    operation: Operation,
}

enum Operation {
    Put { key: Bytes, value: Bytes },
    Read { key: Bytes },
    Other,
}

/// A violated condition.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}: {what}\n{story}")]
pub struct Violation {
    pub seed: u64,
    pub what: String,
    pub story: String,
}

impl World {
    /// A cluster of `size` members.
    #[must_use]
    pub fn new(size: u64, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut any = |rate: u32| if random.random() { random.random_range(0..=rate) } else { 0 };
        let faults = Faults {
            lost_per_mille: any(200),
            doubled_per_mille: any(100),
            delay_us_max: [2_000, 20_000, 150_000][any(2) as usize],
            crash_per_mille: any(300),
            power_per_mille: any(300),
            cut_per_mille: any(400),
            disk_us_max: [500, 5_000, 100_000][any(2) as usize],
        };
        let knobs = Knobs {
            catchup_entries: [0, 5, 50, 5000][random.random_range(0..4)],
            commit_changes_max: [1, 50, 10_000][random.random_range(0..3)],
            compaction_batch: [1, 10, 1000][random.random_range(0..3)],
            pre_vote: random.random_range(0..4) > 0,
            read_mode: [ReadMode::Index, ReadMode::Lease, ReadMode::Log][random.random_range(0..3)],
        };
        let founders: Vec<u64> = (1..=size).collect();
        let members = founders.iter().map(|id| (*id, Member::new(*id, random.random(), knobs))).collect();
        let mut world = Self {
            random,
            faults,
            now_us: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            founders: founders.clone(),
            members,
            cut: BTreeSet::new(),
            clients: (0..6).map(|_| Client::default()).collect(),
            next_id: 1,
            is_calm: false,
            history: BTreeMap::new(),
            announced: BTreeMap::new(),
            viewed: BTreeMap::new(),
            seen: 1,
            acknowledged: BTreeMap::new(),
            story: vec![format!("{size} members, {faults:?}, {knobs:?}")],
            counts: Counts::default(),
        };
        founders.iter().for_each(|id| world.at(0, Event::Boot { member: *id }));
        (0..world.clients.len()).for_each(|client| world.at(1000, Event::Client { client }));
        world.at(10_000, Event::Fault);
        world
    }

    /// Runs `events` events with faults, then until all members agree.
    ///
    /// # Errors
    /// A condition is violated.
    pub fn run(seed: u64, size: u64, events: u64) -> Result<Counts, Violation> {
        let mut world = Self::new(size, seed);
        let ran = world.run_all(events);
        world.counts.virtual_ms = world.now_us / 1000;
        ran.map(|()| world.counts).map_err(|what| Violation { seed, what, story: world.tell() })
    }

    fn run_all(&mut self, events: u64) -> Result<(), String> {
        for _ in 0..events {
            self.event()?;
        }
        self.calm();
        let end_us = self.now_us + SETTLING_US;
        while !self.is_settled() {
            if self.now_us > end_us {
                return Err(format!(
                    "no agreement {} s after the last fault: {}",
                    SETTLING_US / 1_000_000,
                    self.states()
                ));
            }
            self.event()?;
        }
        self.check_end()
    }

    /// The end of a run, newest lines last.
    fn tell(&self) -> String {
        let mut text = self.story[0].clone();
        for line in &self.story[1..][self.story.len().saturating_sub(41)..] {
            let _ = write!(text, "\n{line}");
        }
        text
    }

    fn note(&mut self, line: String) {
        let line = format!("{:>10} us  {line}", self.now_us);
        self.story.push(line);
    }

    fn at(&mut self, after_us: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now_us + after_us, self.sequence), event);
    }

    fn soon(&mut self, max_us: u64, event: Event) {
        let after_us = self.random.random_range(0..=max_us);
        self.at(after_us, event);
    }

    fn event(&mut self) -> Result<(), String> {
        let ((now_us, _), event) = self.queue.pop_first().expect("clients and timers never end");
        self.now_us = now_us;
        self.counts.events += 1;
        match event {
            Event::Boot { member } => self.boot(member),
            Event::Turn { member, epoch } => self.step(member, epoch, Input::Turn),
            Event::Timer { member, epoch, timer } => {
                self.step(member, epoch, Input::Timer(timer))?;
                self.step(member, epoch, Input::Turn)
            }
            Event::Work { member, epoch } => self.work(member, epoch),
            Event::Deliver { from, to, message, image } => self.deliver(from, to, *message, image),
            Event::SnapshotSent { member, epoch, to, arrived } => {
                self.step(member, epoch, Input::SnapshotSent { to, arrived })?;
                self.step(member, epoch, Input::Turn)
            }
            Event::Client { client } => self.client(client),
            Event::Fault => self.fault(),
        }
    }

    // Members.

    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    fn boot(&mut self, id: u64) -> Result<(), String> {
        let seed = self.random.random();
        let founders = self.founders.clone();
        let member = self.members.get_mut(&id).expect("a known member");
        if member.is_running() {
            return Ok(());
        }
        let booted = member.boot(seed, &founders);
        let view = member.view();
        self.note(format!("member {id} starts at {:?}", view.map(|view| (view.applied, view.kv.revision()))));
        self.announced.remove(&id);
        self.viewed.remove(&id);
        self.on_effects(id, booted)?;
        let epoch = self.members[&id].epoch;
        self.soon(1000, Event::Turn { member: id, epoch });
        Ok(())
    }

    fn step(&mut self, id: u64, epoch: u64, input: Input) -> Result<(), String> {
        let now_ms = self.now_ms();
        let member = self.members.get_mut(&id).expect("a known member");
        if member.epoch != epoch || !member.is_running() {
            return Ok(());
        }
        let stepped = member.step(now_ms, input);
        self.on_effects(id, stepped)
    }

    fn work(&mut self, id: u64, epoch: u64) -> Result<(), String> {
        let (now_ms, choice) = (self.now_ms(), self.random.random::<u32>() as usize);
        let member = self.members.get_mut(&id).expect("a known member");
        if member.epoch != epoch || !member.is_running() {
            return Ok(());
        }
        let worked = member.do_work(now_ms, choice);
        self.on_effects(id, worked)?;
        self.soon(1000, Event::Turn { member: id, epoch });
        Ok(())
    }

    fn on_effects(&mut self, id: u64, outcome: Result<Effects, Stop>) -> Result<(), String> {
        match outcome {
            Ok(effects) => {
                for effect in effects {
                    self.carry_out(id, effect)?;
                }
            }
            Err(Stop::Power) => return self.crash(id, true),
            Err(Stop::Failure(what)) => return Err(format!("member {id} gives up: {what}")),
        }
        let member = &self.members[&id];
        let epoch = member.epoch;
        for _ in 0..member.work() {
            let max_us = if self.is_calm { 500 } else { self.faults.disk_us_max };
            self.soon(max_us, Event::Work { member: id, epoch });
        }
        Ok(())
    }

    fn carry_out(&mut self, id: u64, effect: Effect) -> Result<(), String> {
        let epoch = self.members[&id].epoch;
        match effect {
            Effect::Publish(view) => self.check_view(id, &view)?,
            Effect::Announce(changes) => self.check_changes(id, &changes)?,
            Effect::HistoryReplaced => {
                self.counts.snapshots += 1;
                self.announced.remove(&id);
                self.note(format!("member {id} has a received state"));
            }
            Effect::Answer { core, answer } => self.on_answer(id, core, answer)?,
            Effect::Send(message) => self.send(id, message, None),
            Effect::SendSnapshot { message, image, .. } => {
                let mut bytes = Vec::new();
                image.copy_image(0, image.size_bytes() as usize, &mut bytes);
                self.send(id, message, Some(bytes));
            }
            Effect::SetTimer { timer, after_ms } => {
                // Clocks of members run a little differently.
                let after_us = after_ms * (990 + 20 * (id % 3) / 2);
                self.at(after_us, Event::Timer { member: id, epoch, timer });
            }
            Effect::Again => self.soon(200, Event::Turn { member: id, epoch }),
            Effect::Note(crate::replica::Note::LeaderElected { leader, term, .. }) => {
                self.counts.elections += 1;
                self.note(format!("member {id} follows {leader} in term {term}"));
            }
            Effect::Tokens(_) | Effect::Note(_) | Effect::Count(_) | Effect::Stopped => {}
            Effect::Removed => return Err(format!("member {id} was removed by nobody")),
            Effect::WriteLog(_)
            | Effect::LogTask(_)
            | Effect::CommitPages(_)
            | Effect::CutPages { .. }
            | Effect::InstallSnapshot { .. }
            | Effect::DiscardSnapshot { .. } => unreachable!("the member's disk has taken them"),
        }
        Ok(())
    }

    // Network.

    fn send(&mut self, from: u64, message: raftpb::Message, image: Option<Vec<u8>>) {
        let to = message.to();
        let is_lost = self.cut.contains(&(from, to)) || self.hits(self.faults.lost_per_mille);
        if is_lost {
            self.on_lost(from, to, image.is_some());
            return;
        }
        let max_us = if self.is_calm { 2_000 } else { self.faults.delay_us_max };
        if image.is_none() && self.hits(self.faults.doubled_per_mille) {
            let message = Box::new(message.clone());
            self.soon(2 * max_us, Event::Deliver { from, to, message, image: None });
        }
        let message = Box::new(message);
        self.soon(max_us, Event::Deliver { from, to, message, image });
    }

    fn on_lost(&mut self, from: u64, to: u64, is_state: bool) {
        let epoch = self.members[&from].epoch;
        if is_state {
            self.soon(5_000, Event::SnapshotSent { member: from, epoch, to, arrived: false });
        }
    }

    fn deliver(&mut self, from: u64, to: u64, message: raftpb::Message, image: Option<Vec<u8>>) -> Result<(), String> {
        let now_ms = self.now_ms();
        let Some(member) = self.members.get_mut(&to) else { return Ok(()) };
        let (is_running, epoch) = (member.is_running(), member.epoch);
        if let Some(image) = &image {
            let sender_epoch = self.members[&from].epoch;
            let arrived = is_running;
            self.soon(2_000, Event::SnapshotSent { member: from, epoch: sender_epoch, to, arrived });
            let member = self.members.get_mut(&to).expect("looked at above");
            let received = member.receive_state(now_ms, message, image);
            self.on_effects(to, received)?;
        } else if is_running {
            self.step(to, epoch, Input::Message(message))?;
        }
        self.soon(500, Event::Turn { member: to, epoch });
        Ok(())
    }

    // Faults.

    fn hits(&mut self, per_mille: u32) -> bool {
        !self.is_calm && self.random.random_range(0..1000) < per_mille
    }

    fn any_member(&mut self) -> u64 {
        self.founders[self.random.random_range(0..self.founders.len())]
    }

    fn fault(&mut self) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        self.at(100_000, Event::Fault);
        let id = self.any_member();
        if self.hits(self.faults.crash_per_mille) {
            self.crash(id, false)?;
        }
        let id = self.any_member();
        if self.hits(self.faults.power_per_mille) && self.members[&id].is_running() {
            let operations = self.random.random_range(0..40);
            self.members.get_mut(&id).expect("a known member").disk.cut_after(operations);
        }
        if self.hits(self.faults.cut_per_mille) {
            if self.cut.is_empty() {
                self.cut_off();
            } else {
                self.cut.clear();
                self.note("the network is whole".to_owned());
            }
        }
        Ok(())
    }

    fn crash(&mut self, id: u64, is_power_cut: bool) -> Result<(), String> {
        let member = self.members.get_mut(&id).expect("a known member");
        if !member.is_running() {
            return Ok(());
        }
        member.crash(is_power_cut);
        self.counts.crashes += 1;
        self.note(format!("member {id} {}", if is_power_cut { "loses its power" } else { "is killed" }));
        for client in &mut self.clients {
            client.pending = client.pending.take().filter(|pending| pending.member != id);
        }
        let after_us = if self.is_calm { 1000 } else { 2_000_000 };
        self.soon(after_us, Event::Boot { member: id });
        Ok(())
    }

    /// One member is cut off, in one or both directions, or one link is.
    fn cut_off(&mut self) {
        let id = self.any_member();
        let (incoming, outgoing) = [(true, true), (true, false), (false, true)][self.random.random_range(0..3)];
        let others: Vec<u64> = self.founders.iter().copied().filter(|other| *other != id).collect();
        let only = self.random.random_range(0..2) == 0;
        for other in others.into_iter().take(if only { 1 } else { usize::MAX }) {
            if incoming {
                self.cut.insert((other, id));
            }
            if outgoing {
                self.cut.insert((id, other));
            }
        }
        let cut: Vec<String> = self.cut.iter().map(|(from, to)| format!("{from}-{to}")).collect();
        self.note(format!("cut: {}", cut.join(" ")));
    }

    /// All faults stop, and clients with them.
    fn calm(&mut self) {
        self.is_calm = true;
        self.cut.clear();
        self.note("all faults stop".to_owned());
        let down: Vec<u64> = self.founders.iter().copied().filter(|id| !self.members[id].is_running()).collect();
        down.into_iter().for_each(|id| self.at(0, Event::Boot { member: id }));
    }

    // Clients.

    fn client(&mut self, client: usize) -> Result<(), String> {
        self.soon(20_000, Event::Client { client });
        if self.is_calm || self.clients[client].pending.is_some() {
            return Ok(());
        }
        let id = self.any_member();
        let member = &self.members[&id];
        if !member.is_running() {
            return Ok(());
        }
        let epoch = member.epoch;
        self.next_id += 1;
        let number = self.next_id;
        let key = Bytes::from(format!("key{}", self.random.random_range(0..KEYS)));
        let (operation, request) = self.any_request(number, key);
        let pending = Pending { member: id, epoch, id: number, floor: self.seen, operation };
        self.clients[client].pending = Some(pending);
        let core = u16::try_from(client).expect("few clients");
        self.step(id, epoch, Input::Request { core, request })?;
        self.soon(500, Event::Turn { member: id, epoch });
        Ok(())
    }

    fn any_request(&mut self, id: u64, key: Bytes) -> (Operation, Request) {
        let propose = |kind, message: Vec<u8>| Request::Propose {
            id,
            data: request::wrap(id, kind, &message, Requester::NOBODY),
        };
        match self.random.random_range(0..20) {
            0..8 => {
                let value = Bytes::from(format!("value{id}-{}", "x".repeat(self.random.random_range(0..400))));
                let put = PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() };
                (Operation::Put { key, value }, propose(Kind::Put, put.encode_to_vec()))
            }
            8..16 => (Operation::Read { key }, Request::ReadIndex { context: id }),
            16 => {
                let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
                (Operation::Other, propose(Kind::DeleteRange, delete.encode_to_vec()))
            }
            17 => {
                let revision = (self.seen - 5).max(1);
                let compaction = CompactionRequest { revision, physical: self.random.random() };
                (Operation::Other, propose(Kind::Compaction, compaction.encode_to_vec()))
            }
            18 => {
                let chore = if self.random.random() { Chore::Flush } else { Chore::Defragment };
                (Operation::Other, Request::Chore { id, chore })
            }
            _ => {
                let to = self.any_member();
                (Operation::Other, Request::TransferLeader { id, to })
            }
        }
    }

    fn on_answer(&mut self, member: u64, core: u16, answer: Answer) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(usize::from(core)) else { return Ok(()) };
        let number = match &answer {
            Answer::Proposal { id, .. } | Answer::ChoreDone { id } => *id,
            Answer::ReadConfirmed { context } | Answer::ReadFailed { context, .. } => *context,
            Answer::Changes(_) | Answer::ChangesLost | Answer::Leases { .. } | Answer::Settled { .. } => return Ok(()),
        };
        let epoch = self.members[&member].epoch;
        let is_its = |pending: &Pending| pending.id == number && pending.member == member && pending.epoch == epoch;
        if !client.pending.as_ref().is_some_and(is_its) {
            return Ok(());
        }
        let pending = client.pending.take().expect("looked at above");
        match (pending.operation, answer) {
            (Operation::Put { key, value }, Answer::Proposal { outcome: Ok(response), .. }) => {
                let response = PutResponse::decode(response).map_err(|error| error.to_string())?;
                let revision = response.header.map_or(0, |header| header.revision);
                if revision <= pending.floor {
                    return Err(format!(
                        "put {number} at member {member} has revision {revision}, but {} was seen before it began",
                        pending.floor
                    ));
                }
                self.acknowledged.insert(revision, (key, value));
                self.seen = self.seen.max(revision);
                self.counts.puts += 1;
            }
            (Operation::Read { key }, Answer::ReadConfirmed { .. }) => self.check_read(member, &key, pending.floor)?,
            (_, Answer::Proposal { outcome: Err(_), .. } | Answer::ReadFailed { .. }) => self.counts.refused += 1,
            _ => {}
        }
        Ok(())
    }

    // What must hold.

    fn check_read(&mut self, member: u64, key: &[u8], floor: i64) -> Result<(), String> {
        let view = self.members[&member].view().expect("it has just answered");
        let revision = view.kv.revision();
        if revision < floor {
            return Err(format!(
                "a read at member {member} shows revision {revision}, but {floor} was seen before it began"
            ));
        }
        let record = view.kv.get(key, 0).map_err(|error| format!("{error:?}"))?;
        let found = match record {
            Some(record) => {
                let record = KeyValue::decode(record).map_err(|error| error.to_string())?;
                Some((record.mod_revision, record.value))
            }
            None => None,
        };
        // Newest change of the key up to that revision; a deletion's record has no mod revision of a put.
        let newest = self.history.range(..=revision).rev().find_map(|(revision, changes)| {
            changes.iter().rev().find(|(changed, _)| *changed == key).map(|(_, record)| (*revision, record.clone()))
        });
        if let (Some((at, value)), Some((newest, _))) = (&found, &newest)
            && at != newest
        {
            return Err(format!("a read of {key:?} at {revision} finds {value:?} of {at}, but it changed at {newest}"));
        }
        self.seen = self.seen.max(revision);
        self.counts.reads += 1;
        Ok(())
    }

    fn check_view(&mut self, id: u64, view: &View) -> Result<(), String> {
        let revision = view.kv.revision();
        let before = self.viewed.insert(id, revision).unwrap_or(0);
        if revision < before {
            return Err(format!("member {id} publishes revision {revision} after {before}"));
        }
        Ok(())
    }

    fn check_changes(&mut self, id: u64, changes: &[Change]) -> Result<(), String> {
        let mut of_revision: BTreeMap<i64, Vec<(Bytes, Bytes)>> = BTreeMap::new();
        for change in changes {
            let list = of_revision.entry(change.revision.main).or_default();
            list.push((change.key.clone(), change.record.clone()));
        }
        for (revision, changes) in of_revision {
            if let Some(before) = self.announced.insert(id, revision)
                && revision != before + 1
            {
                return Err(format!("member {id} announces revision {revision} after {before}"));
            }
            let known = self.history.entry(revision).or_insert_with(|| changes.clone());
            if *known != changes {
                return Err(format!("revision {revision} is {changes:?} at member {id}, but {known:?} elsewhere"));
            }
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let views: Option<Vec<_>> = self.members.values().map(Member::view).collect();
        let Some(views) = views else { return false };
        let first = &views[0];
        let newest = self.history.keys().next_back().copied().unwrap_or(1);
        first.raft.leader != 0
            && first.kv.revision() >= newest
            && views.iter().all(|view| view.applied == first.applied && view.raft.leader == first.raft.leader)
    }

    fn states(&self) -> String {
        let state = |member: &Member| match member.view() {
            Some(view) => format!(
                "{}: leader {} term {} applied {} committed {}",
                member.id, view.raft.leader, view.raft.term, view.applied, view.raft.committed
            ),
            None => format!("{}: down", member.id),
        };
        self.members.values().map(state).collect::<Vec<_>>().join("; ")
    }

    fn check_end(&self) -> Result<(), String> {
        let mut hashes = BTreeSet::new();
        for member in self.members.values() {
            let view = member.view().expect("settled members run");
            let reader = HashReader::new(view.kv.clone(), 0).map_err(|error| error.to_string())?;
            let hash = reader.finish().map_err(|error| format!("{error:?}"))?.hash;
            hashes.insert((hash.revision, hash.hash, hash.compact_revision));
        }
        if hashes.len() != 1 {
            return Err(format!("members have different histories: {hashes:?}"));
        }
        for (revision, (key, value)) in &self.acknowledged {
            let changes = self.history.get(revision);
            let stored = changes.and_then(|changes| changes.iter().find(|(changed, _)| changed == key));
            let record = stored.and_then(|(_, record)| KeyValue::decode(record.clone()).ok());
            if record.as_ref().map(|record| &record.value) != Some(value) {
                return Err(format!("the acknowledged put at revision {revision} is lost: {record:?}"));
            }
        }
        Ok(())
    }
}
