//! Scripts about clusters of machines: every message and every decision is text.
//!
//! A member's disk is instant: its appends are durable, and committed entries are applied, before the next message is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use prost::Message as _;

use super::{Append, Config, Consensus, Effect, Effects, Initial, Input, SnapshotMark};
use crate::base::log_entry::{ConfState, EntryKind, HardState, LogEntry};
use crate::base::script_tests;
use crate::proto::raftpb::{self, ConfChangeType, MessageType};

/// The most messages between two commands; more are an endless loop.
const MESSAGES_MAX: usize = 10_000;

#[derive(goldenscript::Command)]
enum Command {
    /// Starts a cluster. Example: members 1 2 3 pre_vote=false
    Members {
        ids: Vec<u64>,
        #[arg(key)]
        pre_vote: Option<bool>,
    },
    /// Lets time pass on one member. Example: tick 1 times=10
    Tick {
        id: u64,
        #[arg(key)]
        times: Option<usize>,
    },
    /// Starts an election.
    Campaign(u64),
    /// Proposes values on a member, in one turn. Example: propose 1 a b
    Propose { id: u64, values: Vec<String> },
    /// Asks a member for a read index.
    Read { id: u64, context: u64 },
    /// Proposes a change: add, learner or remove. Example: change 1 learner 4
    Change { id: u64, kind: String, node: u64 },
    /// Transfers leadership.
    Transfer { id: u64, to: u64 },
    /// A leader stops leading.
    StepDown(u64),
    /// Drops the log of a member in memory up to an index.
    Compact { id: u64, index: u64 },
    /// Delivers messages and shows them, until there are none or for some rounds. Example: deliver rounds=1
    Deliver {
        #[arg(key)]
        rounds: Option<usize>,
    },
    /// Delivers messages until there are none, without showing them.
    Settle,
    /// Loses the messages under way, all or those to one member. Example: lose to=3
    Lose {
        #[arg(key)]
        to: Option<u64>,
    },
    /// Cuts these members off from the others.
    Isolate(Vec<u64>),
    /// Ends every cut.
    Heal,
    /// Shows all members.
    Status,
}

/// The applied state of a member.
#[derive(Clone, Default)]
struct State {
    applied: u64,
    term: u64,
    conf_state: ConfState,
    values: Vec<String>,
}

struct Member {
    machine: Consensus,
    state: State,
    /// States that came with snapshots, by index.
    received: BTreeMap<u64, State>,
}

struct Packet {
    message: raftpb::Message,
    state: Option<State>,
}

#[derive(Default)]
struct Cluster {
    members: BTreeMap<u64, Member>,
    pre_vote: bool,
    network: Vec<Packet>,
    island: BTreeSet<u64>,
    output: String,
}

impl goldenscript::Runner for Cluster {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Members { ids, pre_vote } => self.found(ids, pre_vote.unwrap_or(true)),
            Command::Tick { id, times } => (0..times.unwrap_or(1)).for_each(|_| self.step(*id, Input::Tick)),
            Command::Campaign(id) => self.step(*id, Input::Campaign),
            Command::Propose { id, values } => {
                let proposals = (1..).zip(values);
                self.step_all(*id, proposals.map(|(id, value)| Input::Propose { id, data: value.clone().into() }));
            }
            Command::Read { id, context } => self.step(*id, Input::ReadIndex { context: *context }),
            Command::Change { id, kind, node } => {
                let change = change_of(kind, *node)?;
                self.step(*id, Input::ProposeConfChange { id: 1, change });
            }
            Command::Transfer { id, to } => self.step(*id, Input::TransferLeader { to: *to }),
            Command::StepDown(id) => self.step(*id, Input::StepDown),
            Command::Compact { id, index } => self.step(*id, Input::Compact { index: *index }),
            Command::Deliver { rounds } => self.deliver(rounds.unwrap_or(usize::MAX), true),
            Command::Settle => self.deliver(usize::MAX, false),
            Command::Lose { to } => {
                self.network.retain(|packet| to.is_some_and(|to| packet.message.to() != to));
            }
            Command::Isolate(ids) => self.island.extend(ids),
            Command::Heal => self.island.clear(),
            Command::Status => self.show(),
        }
        Ok(std::mem::take(&mut self.output))
    }
}

impl Cluster {
    fn found(&mut self, ids: &[u64], pre_vote: bool) {
        self.pre_vote = pre_vote;
        let founders = ids.iter().map(|id| (*id, Bytes::from(format!("member {id}"))));
        let initial = Initial::of_new_cluster(founders.collect());
        for id in ids {
            self.start(*id, initial.clone());
        }
    }

    fn start(&mut self, id: u64, initial: Initial) {
        let config = Config {
            member_id: id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: self.pre_vote,
            seed: 7,
            log: |_, _| {},
        };
        let state = State { conf_state: initial.conf_state.clone(), ..State::default() };
        let machine = Consensus::new(&config, initial).expect("a sound start");
        self.members.insert(id, Member { machine, state, received: BTreeMap::new() });
        self.step_all(id, []);
    }

    fn step(&mut self, id: u64, input: Input) {
        self.step_all(id, [input]);
    }

    /// Inputs of one turn, and all their effects on the member itself.
    fn step_all(&mut self, id: u64, inputs: impl IntoIterator<Item = Input>) {
        let mut effects = Effects::new();
        let machine = &mut self.members.get_mut(&id).expect("a known member").machine;
        inputs.into_iter().for_each(|input| machine.step(input, &mut effects));
        machine.turn(&mut effects);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: u64, effect: Effect) {
        match effect {
            Effect::Append(append) => self.persist(id, append),
            Effect::Send { message, .. } => self.network.push(Packet { message, state: None }),
            Effect::SendSnapshot { message, .. } => self.send_snapshot(id, message),
            Effect::SnapshotIgnored { index } => self.say(id, &format!("needs no snapshot at {index}")),
            Effect::Commit { entries } => self.apply(id, &entries),
            Effect::ReadReady { context, index } => {
                self.say(id, &format!("may answer read {context} once {index} is applied"));
            }
            Effect::ReadDropped { context, reason } => self.say(id, &format!("drops read {context}: {reason:?}")),
            Effect::ProposalDropped { reason, .. } => self.say(id, &format!("drops a proposal: {reason:?}")),
            Effect::LeaderChanged { leader: 0, term } => self.say(id, &format!("knows no leader, term {term}")),
            Effect::LeaderChanged { leader, term } => self.say(id, &format!("follows {leader}, term {term}")),
            Effect::MessageRefused { from, refusal } => {
                self.say(id, &format!("refuses a message of {from}: {refusal}"));
            }
        }
    }

    fn persist(&mut self, id: u64, append: Append) {
        if let Some(SnapshotMark { index, .. }) = append.snapshot {
            let member = self.members.get_mut(&id).expect("a known member");
            member.state = member.received.remove(&index).expect("the state came with the snapshot");
            let values = member.state.values.join(" ");
            self.say(id, &format!("installs the snapshot at {index}: {values}"));
        }
        self.step(id, Input::Persisted { append: append.number });
    }

    fn apply(&mut self, id: u64, entries: &[LogEntry]) {
        for entry in entries {
            let text = match entry.kind {
                EntryKind::Normal if entry.data.is_empty() => "an empty entry".to_owned(),
                EntryKind::Normal => String::from_utf8_lossy(&entry.data).into_owned(),
                _ => match self.apply_change(id, entry) {
                    Some(text) => text,
                    None => return,
                },
            };
            self.say(id, &format!("applies {}: {text}", entry.index));
            let state = &mut self.members.get_mut(&id).expect("a known member").state;
            (state.applied, state.term) = (entry.index, entry.term);
            if entry.kind == EntryKind::Normal && !entry.data.is_empty() {
                state.values.push(text);
            }
            self.step(id, Input::Applied { index: entry.index });
        }
    }

    /// Nothing if a snapshot is about to replace the state.
    fn apply_change(&mut self, id: u64, entry: &LogEntry) -> Option<String> {
        let change = raftpb::ConfChange::decode(entry.data.clone()).expect("ours");
        let member = self.members.get_mut(&id).expect("a known member");
        let conf_state = member.machine.apply_conf_change(entry.index, &change).expect("a sensible change")?;
        member.state.conf_state = conf_state;
        let text = membership(&member.state.conf_state);
        let is_removal = change.r#type() == ConfChangeType::ConfChangeRemoveNode;
        if !is_removal && !self.members.contains_key(&change.node_id()) {
            self.start(change.node_id(), Initial { hard_state: HardState::default(), ..Initial::default() });
        }
        Some(text)
    }

    fn send_snapshot(&mut self, id: u64, mut message: raftpb::Message) {
        let state = self.members[&id].state.clone();
        let snapshot = message.snapshot.as_mut().expect("a snapshot message");
        snapshot.metadata = Some(raftpb::SnapshotMetadata {
            index: Some(state.applied),
            term: Some(state.term),
            conf_state: Some(raftpb::ConfState {
                voters: state.conf_state.voters.clone(),
                learners: state.conf_state.learners.clone(),
                auto_leave: Some(false),
                ..raftpb::ConfState::default()
            }),
        });
        self.network.push(Packet { message, state: Some(state) });
    }

    /// Delivers messages in rounds: those under way, then those sent meanwhile.
    fn deliver(&mut self, rounds: usize, shows: bool) {
        let mut delivered = 0;
        for _ in 0..rounds {
            let packets = std::mem::take(&mut self.network);
            if packets.is_empty() {
                return;
            }
            delivered += packets.len();
            assert!(delivered < MESSAGES_MAX, "the members never fall silent");
            for packet in packets {
                self.arrive(packet, shows);
            }
        }
    }

    fn arrive(&mut self, packet: Packet, shows: bool) {
        let (from, to) = (packet.message.from(), packet.message.to());
        let is_cut = self.island.contains(&from) != self.island.contains(&to) || !self.members.contains_key(&to);
        if shows {
            let end = if is_cut { " (lost)" } else { "" };
            let _ = writeln!(self.output, "{from} -> {to} {}{end}", describe(&packet.message));
        }
        let is_snapshot = packet.state.is_some();
        if is_cut {
            self.step(from, Input::ReportUnreachable { to });
        } else {
            if let Some(state) = packet.state {
                self.members.get_mut(&to).expect("it exists").received.insert(state.applied, state);
            }
            self.step(to, Input::Message(packet.message));
        }
        if is_snapshot {
            self.step(from, Input::ReportSnapshot { to, arrived: !is_cut });
        }
    }

    fn say(&mut self, id: u64, text: &str) {
        let _ = writeln!(self.output, "{id} {text}");
    }

    fn show(&mut self) {
        for (id, member) in &self.members {
            let machine = &member.machine;
            let _ = writeln!(
                self.output,
                "{id} {:?} term {} leader {} log {}..{} commit {} applied {} {} values {}",
                machine.role(),
                machine.term(),
                machine.leader(),
                machine.first_index(),
                machine.last_index(),
                machine.commit(),
                member.state.applied,
                membership(&machine.conf_state()),
                if member.state.values.is_empty() { "none".to_owned() } else { member.state.values.join(" ") },
            );
        }
    }
}

fn change_of(kind: &str, node: u64) -> Result<raftpb::ConfChange, Box<dyn Error>> {
    let kind = match kind {
        "add" => ConfChangeType::ConfChangeAddNode,
        "learner" => ConfChangeType::ConfChangeAddLearnerNode,
        "remove" => ConfChangeType::ConfChangeRemoveNode,
        other => return Err(format!("no such change: {other}").into()),
    };
    let context = Some(Bytes::from(format!("member {node}")));
    Ok(raftpb::ConfChange { id: Some(1), r#type: Some(kind as i32), node_id: Some(node), context })
}

fn membership(conf_state: &ConfState) -> String {
    let list = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    match conf_state.learners.as_slice() {
        [] => format!("voters {}", list(&conf_state.voters)),
        learners => format!("voters {} learners {}", list(&conf_state.voters), list(learners)),
    }
}

fn describe(message: &raftpb::Message) -> String {
    let mut text = format!("{} term {}", message.r#type().as_str_name(), message.term());
    match message.r#type() {
        MessageType::MsgApp => {
            let _ = write!(text, " after {} commit {}", message.index(), message.commit());
            if let Some((first, last)) = message.entries.first().zip(message.entries.last()) {
                let _ = write!(text, " entries {}..{}", first.index(), last.index());
            }
        }
        MessageType::MsgAppResp => {
            let _ = write!(text, " index {}", message.index());
        }
        MessageType::MsgHeartbeat => {
            let _ = write!(text, " commit {}", message.commit());
        }
        MessageType::MsgSnap => {
            let metadata = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
            let _ = write!(text, " at {}", metadata.map_or(0, raftpb::SnapshotMetadata::index));
        }
        _ => {}
    }
    if message.reject() {
        text.push_str(" rejected");
    }
    text
}

#[test]
fn scripts() {
    script_tests::run("consensus", Cluster::default);
}
