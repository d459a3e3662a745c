//! A leader whose disk takes no writes of the log.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;

use super::{
    member::{Member, Outcome, Start},
    options::Knobs,
};
use crate::{
    apply::request::{self, Kind},
    auth::Requester,
    proto::{
        etcdserverpb::PutRequest,
        raftpb::{self, MessageType},
    },
    replica::{Effect, Effects, Input, Note, Request, Timer},
};

const FOUNDERS: [u64; 3] = [1, 2, 3];
const STEP_MS: u64 = 10;
/// Longer than two election timeouts of 1 s and the randomized one after them.
const LONG_MS: u64 = 6_000;
const PUT: u64 = 77;

/// Three members, with disks and a network that take no time.
struct Trio {
    members: BTreeMap<u64, Member>,
    now_ms: u64,
    messages: VecDeque<raftpb::Message>,
    timers: Vec<(u64, u64, Timer)>,
    /// Messages of this kind get lost.
    lost: Option<MessageType>,
    is_quiet: bool,
    /// Who noted that its log is stalled, and whom it made its successor.
    stalls: Vec<(u64, u64)>,
}

impl Trio {
    /// Led by one of them.
    fn start() -> (Trio, u64) {
        let knobs = Knobs::default();
        let mut trio = Trio {
            members: FOUNDERS.map(|id| (id, Member::new(id, id, knobs, Start::Found(FOUNDERS.to_vec())))).into(),
            now_ms: 0,
            messages: VecDeque::new(),
            timers: Vec::new(),
            lost: None,
            is_quiet: true,
            stalls: Vec::new(),
        };
        for id in FOUNDERS {
            let effects = of(trio.member(id).boot(id));
            trio.carry_out(id, effects);
        }
        trio.pass(LONG_MS);
        let leader = trio.leader_of(1);
        assert!(leader != 0 && FOUNDERS.iter().all(|&id| trio.leader_of(id) == leader));
        (trio, leader)
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("a founder")
    }

    fn leader_of(&self, id: u64) -> u64 {
        self.members[&id].view().expect("it runs").raft.leader
    }

    fn revision_of(&self, id: u64) -> i64 {
        self.members[&id].view().expect("it runs").kv.revision()
    }

    fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.now_ms += STEP_MS;
            let now_ms = self.now_ms;
            let (due, later) = std::mem::take(&mut self.timers).into_iter().partition(|(at_ms, ..)| *at_ms <= now_ms);
            self.timers = later;
            let due: Vec<(u64, u64, Timer)> = due;
            due.into_iter().for_each(|(_, id, timer)| self.step(id, Input::Timer(timer)));
            self.settle();
        }
    }

    /// Until no message is under way and no disk has work.
    fn settle(&mut self) {
        const ROUNDS_MAX: usize = 1000;
        for _ in 0..ROUNDS_MAX {
            self.is_quiet = true;
            for id in FOUNDERS {
                self.step(id, Input::Turn);
                while self.members[&id].work() > 0 {
                    let now_ms = self.now_ms;
                    let effects = of(self.member(id).do_work(now_ms, 0));
                    self.carry_out(id, effects);
                    self.is_quiet = false;
                }
            }
            for message in std::mem::take(&mut self.messages) {
                self.is_quiet = false;
                self.step(message.to(), Input::Message(message));
            }
            if self.is_quiet {
                return;
            }
        }
        panic!("no end of messages and turns");
    }

    fn step(&mut self, id: u64, input: Input) {
        let now_ms = self.now_ms;
        let effects = of(self.member(id).step(now_ms, input));
        self.carry_out(id, effects);
    }

    fn carry_out(&mut self, id: u64, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Send(message) if Some(message.r#type()) == self.lost => {}
                Effect::Send(message) => self.messages.push_back(message),
                Effect::SetTimer { timer, after_ms } => self.timers.push((self.now_ms + after_ms, id, timer)),
                Effect::Again => self.is_quiet = false,
                Effect::Note(Note::LogStalled { local, to, .. }) => self.stalls.push((local, to)),
                _ => {}
            }
        }
    }

    /// At this member; nobody waits for the answer.
    fn put(&mut self, at: u64, id: u64) {
        let put = PutRequest { key: "k".into(), ..PutRequest::default() };
        let data = request::wrap(id, Kind::Put, &put.encode_to_vec(), Requester::NOBODY);
        self.step(at, Input::Request { core: 0, request: Request::Propose { id, data } });
    }
}

/// The effects of a member whose disk is sound.
fn of(outcome: Outcome) -> Effects {
    assert!(outcome.stop.is_none(), "{:?}", outcome.stop);
    outcome.effects
}

#[test]
fn leadership_goes_to_a_member_whose_disk_works() {
    let (mut trio, old) = Trio::start();
    trio.member(old).is_log_stalled = true;
    let before = trio.revision_of(old);
    trio.put(old, PUT);
    trio.pass(LONG_MS);
    let new = trio.leader_of(old);
    assert_ne!(new, old);
    assert_eq!(trio.stalls, [(old, new)], "it is noted once");
    assert_eq!(trio.revision_of(old), before, "nothing is applied that is not durable");
    assert_eq!(trio.revision_of(new), before + 1);
    trio.put(new, PUT + 1);
    trio.pass(STEP_MS);
    assert_eq!(trio.revision_of(new), before + 2, "the others go on");

    trio.member(old).is_log_stalled = false;
    trio.pass(LONG_MS);
    assert!(FOUNDERS.iter().all(|&id| trio.revision_of(id) == before + 2));
    trio.step(new, Input::Request { core: 0, request: Request::TransferLeader { id: PUT + 2, to: old } });
    trio.pass(LONG_MS);
    assert!(FOUNDERS.iter().all(|&id| trio.leader_of(id) == old), "it may lead again");
    assert_eq!(trio.stalls.len(), 1);
}

#[test]
fn a_leader_whose_offer_gets_lost_falls_silent() {
    let (mut trio, old) = Trio::start();
    trio.lost = Some(MessageType::MsgTimeoutNow);
    trio.member(old).is_log_stalled = true;
    trio.put(old, PUT);
    trio.pass(LONG_MS);
    assert_ne!(trio.leader_of(old), old);
    assert!(FOUNDERS.iter().all(|&id| trio.leader_of(id) == trio.leader_of(old)));
    assert_eq!(trio.stalls.len(), 1, "it is noted once");
}

#[test]
fn without_a_quorum_of_others_it_leads_on() {
    let (mut trio, old) = Trio::start();
    let other = FOUNDERS.into_iter().find(|&id| id != old).expect("there are three");
    trio.member(other).crash(false);
    trio.pass(LONG_MS);
    trio.member(old).is_log_stalled = true;
    trio.put(old, PUT);
    trio.pass(LONG_MS);
    assert_eq!(trio.leader_of(old), old);
    assert_eq!(trio.stalls, []);
}
