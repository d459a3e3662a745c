//! A cluster in memory: machines, their disks, and a network that loses, doubles and reorders, all driven by one seed.
//!
//! The oracle is the sequence of committed entries. Every entry that a member commits must agree with it, a read must
//! reach at least its end at the time of the request, and a term has one leader.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash as _, Hasher as _};

use bytes::Bytes;
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::base::log_entry::{ConfState, EntryKind, HardState, LogEntry};
use crate::consensus::{Append, Config, Consensus, Effect, Effects, Initial, Input, Refusal, SnapshotMark};
use crate::proto::raftpb::{self, ConfChangeType};

/// The applied state of a member. The values follow from the oracle, so the index suffices.
#[derive(Clone, Debug, Default)]
struct View {
    applied: u64,
    conf_state: ConfState,
    removed: BTreeSet<u64>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    start: SnapshotMark,
    entries: Vec<LogEntry>,
    view: View,
}

pub(super) struct Member {
    machine: Option<Consensus>,
    disk: Disk,
    view: View,
    to_apply: VecDeque<LogEntry>,
    appends: VecDeque<Append>,
    /// State that came with the newest snapshot message, by index.
    received: BTreeMap<u64, View>,
    waiting: Vec<(u64, Packet)>,
    reads: BTreeMap<u64, u64>,
    /// How fast its clock runs: ticks per tick of the world.
    pace: u32,
}

#[derive(Clone, Debug)]
struct Packet {
    message: raftpb::Message,
    state: Option<View>,
}

/// Rates of faults, in percent or per mille of the events.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    pub loss_percent: u32,
    pub crash_per_mille: u32,
    pub partition_per_mille: u32,
    pub membership_per_mille: u32,
    pub compact_per_mille: u32,
}

pub(super) struct Cluster {
    random: StdRng,
    faults: Faults,
    pub members: BTreeMap<u64, Member>,
    network: Vec<Packet>,
    cut: BTreeSet<(u64, u64)>,
    pub oracle: Vec<LogEntry>,
    leaders: BTreeMap<u64, u64>,
    next_id: u64,
    next_value: u64,
    trace: DefaultHasher,
    pub counts: Counts,
}

/// Counts of a run, so that a test without effect is noticed.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub elections: u64,
    pub reads: u64,
    pub snapshots: u64,
    pub conf_changes: u64,
    pub restarts: u64,
    pub dropped: u64,
}

impl Cluster {
    pub fn new(size: u64, seed: u64, mut faults: Faults) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // Some worlds have fewer faults, because an old leader is only detected if it is cut off for long.
        faults.crash_per_mille /= random.random_range(1..=4);
        faults.partition_per_mille /= random.random_range(1..=4);
        faults.loss_percent /= random.random_range(1..=4);
        let mut cluster = Cluster {
            random,
            faults,
            members: BTreeMap::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            oracle: Vec::new(),
            leaders: BTreeMap::new(),
            next_id: size + 1,
            next_value: 1,
            trace: DefaultHasher::new(),
            counts: Counts::default(),
        };
        let founders = (1..=size).map(|id| (id, Bytes::from(format!("member {id}"))));
        let initial = Initial::of_new_cluster(founders.collect());
        for id in 1..=size {
            let disk = Disk {
                hard_state: initial.hard_state,
                entries: initial.entries.clone(),
                view: View { conf_state: initial.conf_state.clone(), ..View::default() },
                ..Disk::default()
            };
            cluster.add(id, disk);
        }
        cluster
    }

    fn add(&mut self, id: u64, disk: Disk) {
        let pace = [0, 1, 1, 1, 2, 4][self.random.random_range(0..6)];
        let member = Member {
            machine: None,
            disk,
            view: View::default(),
            to_apply: VecDeque::new(),
            appends: VecDeque::new(),
            received: BTreeMap::new(),
            waiting: Vec::new(),
            reads: BTreeMap::new(),
            pace,
        };
        self.members.insert(id, member);
        self.start(id);
    }

    fn start(&mut self, id: u64) {
        let seed = self.random.random();
        let member = self.members.get_mut(&id).expect("a known member");
        let disk = member.disk.clone();
        member.view = disk.view.clone();
        let config =
            Config { member_id: id, election_ticks: 10, heartbeat_ticks: 1, pre_vote: true, seed, log: |_, _| {} };
        let initial = Initial {
            hard_state: disk.hard_state,
            conf_state: disk.view.conf_state,
            snapshot_index: disk.start.index,
            snapshot_term: disk.start.term,
            entries: disk.entries,
            applied: disk.view.applied,
        };
        member.machine = Some(Consensus::new(&config, initial).expect("the disk is sound"));
        self.turn(id);
    }

    pub fn machine(&self, id: u64) -> Option<&Consensus> {
        self.members[&id].machine.as_ref()
    }

    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    // One random event after the other.

    pub fn run(&mut self, events: usize) {
        for _ in 0..events {
            self.event();
        }
    }

    fn event(&mut self) {
        let ids: Vec<u64> = self.members.keys().copied().collect();
        let id = ids[self.random.random_range(0..ids.len())];
        let dice = self.random.random_range(0..1000);
        let Faults {
            crash_per_mille: crash,
            partition_per_mille: partition,
            membership_per_mille: membership,
            compact_per_mille: compact,
            ..
        } = self.faults;
        let mut edge = 0;
        let mut hit = |share: u32| {
            edge += share;
            dice < edge
        };
        if hit(crash) {
            self.crash_or_start(id);
        } else if hit(partition) {
            self.cut_or_heal(&ids);
        } else if hit(membership) {
            self.propose_change(id);
        } else if hit(compact) {
            self.compact(id);
        } else if hit(3) {
            let to = ids[self.random.random_range(0..ids.len())];
            self.input(id, Input::TransferLeader { to });
        } else if hit(200) {
            for _ in 0..self.members[&id].pace {
                self.input(id, Input::Tick);
            }
        } else if hit(30) {
            self.propose(id);
        } else if hit(40) {
            self.read(id);
        } else if hit(150) {
            self.persist_one(id);
        } else if hit(80) {
            let count = self.random.random_range(1..5);
            self.apply_some(id, count);
        } else {
            self.deliver_one();
        }
    }

    fn input(&mut self, id: u64, input: Input) {
        let mut effects = Effects::new();
        let member = self.members.get_mut(&id).expect("a known member");
        let Some(machine) = &mut member.machine else {
            return;
        };
        machine.step(input, &mut effects);
        self.carry_out(id, effects);
        // Several inputs share a turn now and then.
        if self.random.random_range(0..3) > 0 {
            self.turn(id);
        }
    }

    fn turn(&mut self, id: u64) {
        let mut effects = Effects::new();
        let member = self.members.get_mut(&id).expect("a known member");
        if let Some(machine) = &mut member.machine {
            machine.turn(&mut effects);
            self.carry_out(id, effects);
        }
    }

    // Effects, checked against the oracle.

    fn carry_out(&mut self, id: u64, effects: Effects) {
        for effect in effects {
            format!("{id} {effect:?}").hash(&mut self.trace);
            match effect {
                Effect::Append(append) => self.member(id).appends.push_back(append),
                Effect::Send { after, message } => self.send(id, after, message, None),
                Effect::SendSnapshot { after, message } => self.send_snapshot(id, after, message),
                Effect::SnapshotIgnored { index } => {
                    self.member(id).received.remove(&index);
                }
                Effect::Commit { entries } => self.commit(id, entries),
                Effect::ReadReady { context, index } => self.read_ready(id, context, index),
                Effect::ReadDropped { context, .. } => {
                    let known = self.member(id).reads.remove(&context);
                    assert!(known.is_some(), "member {id}: a read is settled twice");
                }
                Effect::ProposalDropped { .. } => self.counts.dropped += 1,
                Effect::LeaderChanged { leader, term } => self.check_leader(leader, term),
                Effect::MessageRefused { from, refusal } => {
                    let is_expected = refusal == Refusal::UnknownSender;
                    assert!(is_expected, "{id} refused a message of {from}: {refusal}");
                }
            }
        }
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("a known member")
    }

    fn check_leader(&mut self, leader: u64, term: u64) {
        if leader == 0 {
            return;
        }
        if let Some(other) = self.leaders.insert(term, leader) {
            assert_eq!(other, leader, "two leaders in term {term}");
        } else {
            self.counts.elections += 1;
        }
    }

    fn commit(&mut self, id: u64, entries: Vec<LogEntry>) {
        for entry in entries {
            let position = entry.index as usize - 1;
            match self.oracle.get(position) {
                Some(known) => assert_eq!(known, &entry, "member {id} commits another entry"),
                None => {
                    assert_eq!(position, self.oracle.len(), "member {id} skips an entry");
                    self.oracle.push(entry.clone());
                }
            }
            self.member(id).to_apply.push_back(entry);
        }
    }

    fn read_ready(&mut self, id: u64, context: u64, index: u64) {
        let asked = self.member(id).reads.remove(&context);
        let asked = asked.unwrap_or_else(|| panic!("member {id}: read {context} settled twice"));
        assert!(index >= asked, "member {id}: stale read, {index} < {asked}");
        self.counts.reads += 1;
    }

    fn send(&mut self, id: u64, after: Option<u64>, message: raftpb::Message, state: Option<View>) {
        let packet = Packet { message, state };
        let member = self.member(id);
        let first = member.appends.front().map(|append| append.number);
        match (after, first) {
            (Some(after), Some(first)) if first <= after => member.waiting.push((after, packet)),
            _ => self.network.push(packet),
        }
    }

    fn send_snapshot(&mut self, id: u64, after: Option<u64>, mut message: raftpb::Message) {
        self.counts.snapshots += 1;
        let view = self.member(id).view.clone();
        let snapshot = message.snapshot.as_mut().expect("a snapshot message");
        let metadata = snapshot.metadata.as_mut().expect("with metadata");
        assert!(metadata.index() <= view.applied, "asked for the future");
        metadata.index = Some(view.applied);
        metadata.term = Some(self.oracle[view.applied as usize - 1].term);
        metadata.conf_state = Some(raftpb::ConfState {
            voters: view.conf_state.voters.clone(),
            learners: view.conf_state.learners.clone(),
            auto_leave: Some(false),
            ..raftpb::ConfState::default()
        });
        self.send(id, after, message, Some(view));
    }

    // Network.

    fn deliver_one(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let position = self.random.random_range(0..self.network.len());
        let packet = self.network.swap_remove(position);
        if self.random.random_range(0..100) < self.faults.loss_percent / 4 {
            self.network.push(packet.clone());
        }
        self.deliver(packet);
    }

    fn deliver(&mut self, packet: Packet) {
        let (from, to) = (packet.message.from(), packet.message.to());
        let is_lost = self.random.random_range(0..100) < self.faults.loss_percent;
        let arrives = !is_lost && !self.cut.contains(&(from, to)) && self.is_up(to);
        let is_snapshot = packet.state.is_some();
        if arrives {
            // As on a real wire.
            let bytes = packet.message.encode_to_vec();
            let message = raftpb::Message::decode(&bytes[..]).expect("what was encoded");
            if let Some(view) = packet.state {
                self.member(to).received.insert(view.applied, view);
            }
            self.input(to, Input::Message(message));
        } else if self.is_up(from) && self.random.random_range(0..2) == 0 {
            self.input(from, Input::ReportUnreachable { to });
        }
        if is_snapshot && self.is_up(from) {
            self.input(from, Input::ReportSnapshot { to, arrived: arrives });
        }
    }

    fn is_up(&self, id: u64) -> bool {
        let member = self.members.get(&id);
        member.is_some_and(|member| member.machine.is_some())
    }

    fn cut_or_heal(&mut self, ids: &[u64]) {
        if self.random.random_range(0..2) == 0 {
            self.cut.clear();
            return;
        }
        let island: BTreeSet<u64> = ids.iter().copied().filter(|_| self.random.random_range(0..2) == 0).collect();
        for from in ids {
            for to in ids {
                if island.contains(from) != island.contains(to) {
                    self.cut.insert((*from, *to));
                }
            }
        }
    }

    // Disk.

    fn persist_one(&mut self, id: u64) {
        let member = self.member(id);
        if member.machine.is_none() {
            return;
        }
        let Some(append) = member.appends.pop_front() else {
            return;
        };
        let number = append.number;
        member.write(append);
        let waiting = std::mem::take(&mut member.waiting);
        let (sent, waiting) = waiting.into_iter().partition(|(after, _)| *after <= number);
        member.waiting = waiting;
        let sent: Vec<(u64, Packet)> = sent;
        self.network.extend(sent.into_iter().map(|(_, packet)| packet));
        self.input(id, Input::Persisted { append: number });
    }

    fn crash_or_start(&mut self, id: u64) {
        if self.member(id).machine.is_none() {
            self.start(id);
            self.counts.restarts += 1;
            return;
        }
        let count = self.member(id).appends.len();
        let kept = self.random.random_range(0..=count);
        let torn = self.random.random_range(0..5);
        let member = self.member(id);
        member.machine = None;
        let mut appends = std::mem::take(&mut member.appends);
        for append in appends.drain(..kept) {
            member.write(append);
        }
        // A write torn in the middle leaves some entries and no hard state.
        if let Some(mut append) = appends.pop_front().filter(|append| append.snapshot.is_none()) {
            append.entries.truncate(torn);
            append.hard_state = None;
            member.write(append);
        }
        member.to_apply.clear();
        member.received.clear();
        member.waiting.clear();
        member.reads.clear();
    }

    fn compact(&mut self, id: u64) {
        let behind = self.random.random_range(0..10);
        let member = self.member(id);
        // The page file commits, and the WAL drops what that covers.
        member.disk.view = member.view.clone();
        let index = member.view.applied.saturating_sub(behind);
        member.disk.forget(index);
        self.input(id, Input::Compact { index });
    }

    // The application.

    fn apply_some(&mut self, id: u64, count: usize) {
        for _ in 0..count {
            let member = self.member(id);
            if member.machine.is_none() {
                return;
            }
            let Some(entry) = member.to_apply.pop_front() else {
                return;
            };
            assert_eq!(entry.index, member.view.applied + 1, "applied in order");
            if entry.kind == EntryKind::ConfChange && !self.apply_change(id, &entry) {
                self.member(id).to_apply.clear();
                return;
            }
            self.member(id).view.applied = entry.index;
            self.input(id, Input::Applied { index: entry.index });
        }
    }

    /// False if a snapshot is about to replace the state.
    fn apply_change(&mut self, id: u64, entry: &LogEntry) -> bool {
        let mut change = raftpb::ConfChange::decode(entry.data.clone()).expect("ours");
        assert!(change.context().starts_with(b"member"), "bytes untouched");
        let member = self.member(id);
        let node = change.node_id();
        let is_removal = change.r#type() == ConfChangeType::ConfChangeRemoveNode;
        let voters = &member.view.conf_state.voters;
        // If one of two voters is removed and lost before the other knows, no quorum is left.
        let is_last = is_removal && voters.contains(&node) && voters.len() <= 2;
        let is_demotion = change.r#type() == ConfChangeType::ConfChangeAddLearnerNode && voters.contains(&node);
        if is_last || is_demotion || member.view.removed.contains(&node) {
            change.node_id = Some(0);
        }
        let machine = member.machine.as_mut().expect("it is up");
        let conf_state = machine.apply_conf_change(entry.index, &change);
        let Some(conf_state) = conf_state.expect("a sensible change") else {
            return false;
        };
        member.view.conf_state = conf_state;
        if is_removal && change.node_id() != 0 {
            member.view.removed.insert(node);
        }
        self.counts.conf_changes += 1;
        if !is_removal && change.node_id() != 0 && !self.members.contains_key(&node) {
            self.add(node, Disk::default());
        }
        true
    }

    fn propose(&mut self, id: u64) {
        for _ in 0..self.random.random_range(1..4) {
            let value = self.next_value;
            self.next_value += 1;
            let data = Bytes::from(format!("value {value}"));
            self.input(id, Input::Propose { id: value, data });
        }
    }

    fn read(&mut self, id: u64) {
        let context = self.next_value;
        self.next_value += 1;
        let committed = self.oracle.len() as u64;
        let member = self.member(id);
        if member.machine.is_some() {
            member.reads.insert(context, committed);
            self.input(id, Input::ReadIndex { context });
        }
    }

    fn propose_change(&mut self, id: u64) {
        let members: Vec<u64> = self.members.keys().copied().collect();
        let kind = match self.random.random_range(0..5) {
            0 => ConfChangeType::ConfChangeRemoveNode,
            1 => ConfChangeType::ConfChangeUpdateNode,
            2 => ConfChangeType::ConfChangeAddLearnerNode,
            _ => ConfChangeType::ConfChangeAddNode,
        };
        let is_new = self.random.random_range(0..3) == 0 && members.len() < 8;
        let node = match is_new {
            true => self.next_id,
            false => members[self.random.random_range(0..members.len())],
        };
        self.next_id += u64::from(is_new);
        let change = raftpb::ConfChange {
            id: Some(7),
            r#type: Some(kind as i32),
            node_id: Some(node),
            context: Some(Bytes::from(format!("member {node}"))),
        };
        let value = self.next_value;
        self.next_value += 1;
        self.input(id, Input::ProposeConfChange { id: value, change });
    }

    // The end: all faults stop, and all members must agree.

    pub fn heal(&mut self) {
        self.faults = Faults {
            loss_percent: 0,
            crash_per_mille: 0,
            partition_per_mille: 0,
            membership_per_mille: 0,
            compact_per_mille: 0,
        };
        self.cut.clear();
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in ids {
            if self.member(id).machine.is_none() {
                self.start(id);
            }
        }
    }

    /// One tick of a healthy world.
    pub fn round(&mut self) {
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in &ids {
            self.input(*id, Input::Tick);
        }
        for _ in 0..6 {
            for packet in std::mem::take(&mut self.network) {
                self.deliver(packet);
            }
            for id in &ids {
                self.turn(*id);
                while !self.member(*id).appends.is_empty() {
                    self.persist_one(*id);
                }
                self.apply_some(*id, usize::MAX);
                self.turn(*id);
            }
        }
    }

    /// The leader that a quorum of its own configuration follows, if there is one.
    pub fn leader(&self) -> Option<u64> {
        let leads = |id: &&u64| self.machine(**id).is_some_and(Consensus::is_leader);
        let newest = self.members.keys().filter(leads);
        newest.max_by_key(|id| self.machine(**id).map(Consensus::term)).copied()
    }

    /// Runs until a new entry and a new read have passed everywhere.
    pub fn converge(&mut self) {
        let mut marker = None;
        for _ in 0..400 {
            self.round();
            let Some(leader) = self.leader() else {
                continue;
            };
            if marker.is_none_or(|value| !self.is_committed(value)) {
                marker = Some(self.next_value);
                self.propose(leader);
                continue;
            }
            if self.lagging(leader).is_empty() {
                self.check_read(leader);
                return;
            }
        }
        let leader = self.leader();
        let lagging = leader.map(|leader| self.lagging(leader));
        panic!("no agreement: leader {leader:?}, behind {lagging:?}");
    }

    fn is_committed(&self, value: u64) -> bool {
        let data = format!("value {value}");
        self.oracle.iter().rev().any(|entry| entry.data == data)
    }

    /// Members of the leader's configuration that have not applied everything.
    fn lagging(&self, leader: u64) -> Vec<(u64, u64, u64)> {
        let conf_state = &self.members[&leader].view.conf_state;
        let ids = conf_state.voters.iter().chain(&conf_state.learners);
        let total = self.oracle.len() as u64;
        ids.map(|id| (*id, self.members[id].view.applied, total))
            .filter(|(_, applied, total)| applied < total)
            .collect()
    }

    fn check_read(&mut self, leader: u64) {
        let conf_state = self.members[&leader].view.conf_state.clone();
        for id in conf_state.voters.iter().chain(&conf_state.learners) {
            let before = self.counts.reads;
            for _ in 0..200 {
                self.read(*id);
                self.round();
                if self.counts.reads > before {
                    break;
                }
            }
            assert!(self.counts.reads > before, "member {id} answers no read");
        }
    }
}

impl Member {
    fn write(&mut self, append: Append) {
        if let Some(mark) = append.snapshot {
            let view = self.received.remove(&mark.index);
            self.view = view.expect("the state came with the snapshot");
            assert_eq!(self.view.conf_state, mark.conf_state);
            self.disk.view = self.view.clone();
            self.disk.start = mark;
            self.disk.entries.clear();
            self.to_apply.clear();
        }
        self.disk.append(append.entries);
        if let Some(hard_state) = append.hard_state {
            self.disk.hard_state = hard_state;
        }
    }
}

impl Disk {
    fn append(&mut self, entries: Vec<LogEntry>) {
        let Some(first) = entries.first() else { return };
        let kept = first.index.checked_sub(self.start.index + 1);
        let kept = kept.expect("entries after the start of the log") as usize;
        assert!(kept <= self.entries.len(), "a gap in the log on disk");
        self.entries.truncate(kept);
        self.entries.extend(entries);
    }

    fn forget(&mut self, index: u64) {
        let Some(count) = index.checked_sub(self.start.index).filter(|n| *n > 0) else {
            return;
        };
        let last = self.entries.drain(..count as usize).next_back();
        self.start.term = last.expect("at least one").term;
        self.start.index = index;
    }
}
