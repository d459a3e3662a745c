//! Known bugs of etcd and of Raft implementations, as worlds that must pass.
//!
//! The first table holds worlds whose faults and clients are those that the bug needs; the tests after it are stories, step by step.
//! Sources: `tests/robustness/README.md` of etcd, and the issues and pull requests that the names give. Not here: etcd #14571 (the
//! simulated core has no authentication) and the old members that a forced new cluster keeps (`tests/integration/lone_start`).

use bytes::Bytes;

use super::{
    World,
    state::{Client, Op, Task},
};
use crate::{
    apply::request::Kind as RequestKind,
    base::planted::{self, Bug},
    cluster::change::Change,
    mvcc::HashReader,
    proto::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, request_op::Request as Part,
    },
    replica::{ReadMode, Request},
    sim::{
        checkers::watch::Watched,
        member::{Start, cluster_member},
        network::{Cut, Rates},
        options::{Faults, Knobs, Load, Options},
    },
};

// Worlds that the bugs need.

/// Name, first seed, and what differs from a quiet world with writers.
type Row = (&'static str, fn(&mut Options));

const SEEDS_EACH: u64 = 4;

const ROWS: [Row; 21] = [
    ("etcd #13766: a crash under load, revisions differ", |options| {
        (options.faults.kill, options.faults.power) = (40, 40);
        options.load.writers = 3;
    }),
    ("etcd #14685: a crash during a defragmentation", |options| {
        (options.faults.kill, options.faults.power, options.load.operator) = (60, 60, true);
    }),
    ("etcd #17780: a crash during a compaction, the revision goes back", |options| {
        (options.faults.power, options.load.operator, options.knobs.compaction_batch) = (60, true, 1);
    }),
    ("etcd #14370: one member acknowledges before its disk", |options| {
        (options.size, options.faults.power, options.faults.disk_us_max) = (1, 100, 60_000);
    }),
    ("etcd #15220: progress before the events", |options| {
        (options.load.watchers, options.load.pace_us) = (3, 5_000);
    }),
    ("etcd #17247: a transaction's events twice", |options| {
        (options.load.watchers, options.load.writers) = (2, 3);
    }),
    ("etcd #17529: events lost while a stream starves", |options| {
        (options.load.watchers, options.load.writers, options.load.value_bytes_max) = (3, 3, 60_000);
        options.knobs.segment_bytes = 4 << 20;
    }),
    ("etcd #15271, #20221: watching at a member that was cut off", |options| {
        (options.load.watchers, options.faults.cut, options.knobs.catchup_entries) = (3, 150, 0);
    }),
    ("etcd #18055, #20271, raft-rs #417: states that follow each other quickly", |options| {
        (options.faults.cut, options.knobs.catchup_entries, options.faults.power) = (200, 0, 30);
        (options.network.lost, options.faults.disk_us_max) = (50, 20_000);
    }),
    ("etcd #20418: pauses, and reads that are asked for again", |options| {
        (options.faults.pause, options.load.registers, options.knobs.read_mode) = (60, 3, ReadMode::Index);
    }),
    ("tikv #6340, etcd #9239: reads right after a transfer", |options| {
        (options.load.operator, options.load.registers, options.knobs.read_mode) = (true, 3, ReadMode::Index);
    }),
    ("tikv #1593, #4680: leases for reads, transfers and pauses", |options| {
        (options.load.operator, options.load.registers, options.knobs.read_mode) = (true, 3, ReadMode::Lease);
        (options.faults.pause, options.faults.drift_ppm) = (30, 45_000);
    }),
    ("etcd #8243, #8334: pre-votes with lower terms and longer logs", |options| {
        (options.faults.cut, options.faults.kill, options.knobs.pre_vote) = (150, 40, true);
    }),
    ("openraft #1796: pre-votes and a change of members", |options| {
        (options.faults.cut, options.load.members, options.knobs.pre_vote) = (100, true, true);
    }),
    ("raft errata 2015: changes of members under changing leaders", |options| {
        (options.faults.cut, options.load.members, options.load.operator) = (100, true, true);
        options.load.pace_us = 5_000;
    }),
    ("tikv #8381, etcd #10106, raft #300: votes and commits that are not durable", |options| {
        (options.faults.power, options.faults.cut, options.faults.disk_us_max) = (100, 100, 60_000);
    }),
    ("CCF #5325, raft #149, tikv #7353: reordered rejections and heartbeats", |options| {
        options.network = Rates { lost: 100, doubled: 100, delay_us_max: 150_000, ..Rates::default() };
        options.faults.kill = 20;
    }),
    ("tikv #10225, #9859: states that are owed, and their terms", |options| {
        (options.knobs.catchup_entries, options.faults.kill, options.faults.cut) = (0, 40, 100);
    }),
    ("etcd #15247, #12528: an old leader revokes leases after a stall", |options| {
        (options.load.leases, options.faults.pause, options.faults.stall) = (3, 60, 60);
    }),
    ("etcd #12359: a change of two members is committed, and its leader dies", |options| {
        (options.size, options.load.members, options.faults.kill) = (2, true, 60);
        options.load.pace_us = 5_000;
    }),
    ("a partial partition without pre-votes", |options| {
        (options.knobs.pre_vote, options.faults.cut, options.size) = (false, 200, 5);
    }),
];

/// Members without faults, and one writer.
fn quiet(seed: u64) -> Options {
    Options {
        network: Rates { delay_us_max: 2_000, ..Rates::default() },
        faults: Faults { disk_us_max: 500, restart_us_max: 2_000_000, ..Faults::default() },
        knobs: Knobs::default(),
        load: Load { registers: 1, writers: 1, pace_us: 20_000, value_bytes_max: 100, ..Load::default() },
        ..Options::draw(seed, 3, 4_000)
    }
}

#[test]
fn worlds_of_known_bugs_pass() {
    for (number, (name, adjust)) in ROWS.iter().enumerate() {
        for seed in 0..SEEDS_EACH {
            let mut options = quiet(1_000 * number as u64 + seed);
            adjust(&mut options);
            if let Err(violation) = World::run(&options) {
                panic!("{name}, seed {}: {violation}\n{}", options.seed, violation.story);
            }
        }
    }
}

// Stories.

/// A world in which only the test acts, with a leader.
fn stage(size: u64, knobs: Knobs) -> World {
    stage_of(7, size, knobs)
}

fn stage_of(seed: u64, size: u64, knobs: Knobs) -> World {
    let mut options = quiet(seed);
    (options.size, options.knobs, options.events) = (size, knobs, 0);
    options.load = Load { pace_us: 10_000, ..Load::default() };
    let mut world = World::new(options);
    world.is_quiet = true;
    world.clients.push(Client { task: Task::Writer, waits_for: None, gives_up_us: 0 });
    world.pass(4_000);
    assert!(world.leader() > 0);
    world
}

impl World {
    fn pass(&mut self, ms: u64) {
        self.try_pass(ms).unwrap();
    }

    fn try_pass(&mut self, ms: u64) -> Result<(), String> {
        let end_us = self.now_us + ms * 1000;
        while self.now_us < end_us {
            self.event()?;
        }
        Ok(())
    }

    fn leader(&self) -> u64 {
        let (member, _) = self.all_running()[0];
        self.leader_of(member).expect("there is a leader")
    }

    fn follower(&self) -> u64 {
        let leader = self.leader();
        *self.machines.keys().find(|id| **id != leader).expect("there are several")
    }

    /// Asks, and returns the number of the request.
    fn request(&mut self, member: u64, op: Op, request: impl FnOnce(u64) -> Request) -> u64 {
        self.ask(0, member, op, request).unwrap();
        self.clients[0].waits_for.take().expect("just asked")
    }

    fn store(&mut self, member: u64, key: &str, value: &str) -> u64 {
        let put = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
        let request =
            TxnRequest { success: vec![super::kv::part(Part::RequestPut(put.clone()))], ..TxnRequest::default() };
        let op = Op::Write { request, is_txn: false, register: None };
        self.request(member, op, |id| Self::proposal(id, RequestKind::Put, &put))
    }

    fn erase(&mut self, member: u64, key: &str) -> u64 {
        let delete = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        let parts = vec![super::kv::part(Part::RequestDeleteRange(delete.clone()))];
        let op = Op::Write {
            request: TxnRequest { success: parts, ..TxnRequest::default() },
            is_txn: false,
            register: None,
        };
        self.request(member, op, |id| Self::proposal(id, RequestKind::DeleteRange, &delete))
    }

    fn load(&mut self, member: u64, key: &str) -> u64 {
        let range = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        self.request(member, Op::Read { range, register: None }, |context| Request::ReadIndex { context })
    }

    /// Twenty changes, and time for the page file to have them.
    fn store_some(&mut self, member: u64) {
        for number in 0..20 {
            let id = self.store(member, "k", &number.to_string());
            self.wait(id);
        }
        self.pass(500);
    }

    fn compact(&mut self, member: u64, revision: i64) -> u64 {
        let request = CompactionRequest { revision, physical: true };
        self.request(member, Op::Compact, |id| Self::proposal(id, RequestKind::Compaction, &request))
    }

    fn change(&mut self, member: u64, change: &Change) -> u64 {
        self.request(member, Op::Other, |id| Request::ChangeMembers { id, change: change.to_conf_change(id) })
    }

    /// Until a request is answered.
    fn wait(&mut self, id: u64) {
        let end_us = self.now_us + 10_000_000;
        while self.pending.contains_key(&id) {
            assert!(self.now_us < end_us, "request {id} is not answered: {}", self.story.tell());
            self.event().unwrap();
        }
    }

    fn revision(&self, member: u64) -> i64 {
        self.machines[&member].member.view().expect("it runs").kv.revision()
    }

    /// Adds a client that watches one key at any member.
    fn add_watcher(&mut self, key: &str, start: i64) -> usize {
        let watched = Watched {
            key: key.to_owned().into(),
            end: Bytes::new(),
            previous: false,
            no_put: false,
            no_delete: false,
            start,
            reached: None,
        };
        let mut watching = self.new_watching();
        (watching.ids, watching.watched) = (vec![None], vec![watched]);
        self.clients.push(Client { task: Task::Watcher(watching), waits_for: None, gives_up_us: 0 });
        let client = self.clients.len() - 1;
        self.at(0, super::Event::Client { client });
        client
    }

    /// The end of every story: the phases of progress and calm.
    fn conclude(mut self) {
        if let Err(what) = self.run_phases() {
            panic!("{what}\n{}", self.story.tell());
        }
    }
}

#[test]
fn etcd_14370_a_lone_member_keeps_what_it_has_acknowledged() {
    let mut world = stage(1, Knobs::default());
    for round in 0..30 {
        let id = world.store(1, "k", &format!("{round}"));
        world.wait(id);
        world.crash(1, true);
        world.pass(6_000);
        let revision = world.journal.newest();
        assert!(world.revision(1) >= revision, "round {round}");
    }
    world.conclude();
}

#[test]
fn etcd_18089_and_19179_a_deletion_at_the_compacted_revision_is_still_an_event() {
    for read_late in [false, true] {
        let mut world = stage(3, Knobs::default());
        let leader = world.leader();
        for action in [World::store(&mut world, leader, "k", "1"), World::erase(&mut world, leader, "k")] {
            world.wait(action);
        }
        let deleted = world.journal.newest();
        let early = (!read_late).then(|| world.add_watcher("k", deleted));
        let id = world.compact(leader, deleted);
        world.wait(id);
        world.pass(1_000);
        let late = world.add_watcher("k", deleted);
        world.pass(2_000);
        for client in early.into_iter().chain([late]) {
            let Task::Watcher(watching) = &world.clients[client].task else { panic!("it watches") };
            assert_eq!(watching.watched[0].reached.map(|reached| reached >= deleted), Some(true));
        }
        assert_eq!(world.counts.watch_ends, 0, "nothing was missed");
        world.conclude();
    }
}

#[test]
fn etcd_20418_a_leader_that_stood_still_confirms_no_read() {
    let mut world = stage(3, Knobs::default());
    let (leader, follower) = (world.leader(), world.follower());
    let id = world.store(leader, "k", "old");
    world.wait(id);
    // The read goes to the leader, which stands still, and is asked for again and again.
    let until_us = world.now_us + 5_000_000;
    world.pause_until(leader, until_us);
    let read = world.load(follower, "k");
    world.pass(4_000);
    let new_leader = world.leader_of(follower).expect("another leads");
    assert_ne!(new_leader, leader);
    let id = world.store(new_leader, "k", "new");
    world.wait(id);
    let late = world.load(leader, "k");
    world.pass(12_000);
    assert!(!world.pending.contains_key(&read) && !world.pending.contains_key(&late), "both have ended");
    world.conclude();
}

#[test]
fn etcd_18055_a_second_state_follows_the_first_at_once() {
    let knobs = Knobs { catchup_entries: 0, ..Knobs::default() };
    let mut world = stage(3, knobs);
    let (leader, follower) = (world.leader(), world.follower());
    for round in 0..6 {
        let all: Vec<u64> = world.machines.keys().copied().filter(|id| *id != follower).collect();
        for other in &all {
            world.network.cut((*other, follower), Cut::All);
        }
        for number in 0..20 {
            let id = world.store(leader, "k", &format!("{round}-{number}"));
            world.wait(id);
        }
        world.pass(500);
        world.network.heal();
        // Just long enough for a state to arrive, not for what follows it.
        world.pass(20 + 30 * round);
    }
    world.pass(3_000);
    assert!(world.counts.snapshots > 0);
    world.conclude();
}

/// A second state arrives while the marker of the first one is on its way to the log. The file of the first one was removed at once;
/// when the process ended before the second marker was durable, the log ended with the first marker, and the member could not start.
///
/// A follower that stores a marker says nothing, so the leader sends a second state only because of an answer to a heartbeat from
/// before the first one that comes late. Returns how many received states the follower has at its end.
fn supersede_a_state(seed: u64) -> (usize, Result<(), String>) {
    let mut world = stage_of(seed, 3, Knobs { catchup_entries: 0, ..Knobs::default() });
    let (leader, follower) = (world.leader(), world.follower());
    let others: Vec<u64> = world.machines.keys().copied().filter(|id| *id != follower).collect();
    for other in others {
        world.network.cut((other, follower), Cut::All);
    }
    world.store_some(leader);
    let id = world.store(leader, "k", "last");
    world.wait(id);
    // It is heard, and the leader's page file is slow, so a second answer leaves before the state arrives. That one is late.
    world.machine(leader).stalled_until_us = world.now_us + 400_000;
    world.network.heal();
    world.pass(150);
    world.network.clog((follower, leader), world.now_us + 1_500_000);
    world.pass(150);
    world.machine(follower).member.is_log_stalled = true;
    world.pass(200);
    world.store_some(leader);
    world.pass(1_000);
    let files = world.machines[&follower].member.disk.list().expect("the disk works");
    let received = files.iter().filter(|(name, _)| name.starts_with("member/snap/") && !name.ends_with("/db")).count();
    world.crash(follower, seed.is_multiple_of(2));
    world.machine(follower).member.is_log_stalled = false;
    (received, world.run_phases().map_err(|what| format!("{what}\n{}", world.story.tell())))
}

const SUPERSEDED: std::ops::Range<u64> = 0..16;

#[test]
fn a_state_that_is_superseded_stays_until_the_newer_marker_is_durable() {
    let mut superseded = 0;
    for seed in SUPERSEDED {
        let (received, result) = supersede_a_state(seed);
        result.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        superseded += usize::from(received == 2);
    }
    assert!(superseded > 0, "no second state has come");
}

#[test]
fn a_state_that_is_superseded_is_missed_when_it_goes_at_once() {
    planted::plant(Some(Bug::DiscardEarly));
    let missed = SUPERSEDED.filter(|seed| supersede_a_state(*seed).1.is_err()).count();
    planted::plant(None);
    assert!(missed > 0, "the story before this one shows nothing");
}

/// A transfer asks for votes in spite of the promise that a lease for reads stands on (tikv #1593). The old leader does not hear of the
/// new one, whose client has written, and is asked while its lease would still run.
fn read_after_a_transfer(seed: u64) -> Result<(), String> {
    let mut world = stage_of(seed, 3, Knobs { read_mode: ReadMode::Lease, election_ms: 500, ..Knobs::default() });
    let (old, new) = (world.leader(), world.follower());
    let id = world.store(old, "k", "old");
    world.wait(id);
    world.pass(500);
    let id = world.load(old, "k");
    world.wait(id);
    let others: Vec<u64> = world.machines.keys().copied().filter(|id| *id != old).collect();
    for other in others {
        world.network.clog((other, old), world.now_us + 3_000_000);
    }
    world.request(old, Op::Other, |id| Request::TransferLeader { id, to: new });
    world.pass(60);
    assert_eq!(world.leader_of(new), Some(new), "the transfer is done");
    let id = world.store(new, "k", "new");
    world.wait(id);
    world.load(old, "k");
    world.try_pass(50)?;
    world.run_phases()
}

#[test]
fn tikv_1593_a_transfer_ends_the_lease() {
    for seed in 0..4 {
        read_after_a_transfer(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

#[test]
fn tikv_1593_a_lease_that_a_transfer_leaves_is_noticed() {
    planted::plant(Some(Bug::KeepReadLease));
    let noticed = (0..4).filter(|seed| read_after_a_transfer(*seed).is_err()).count();
    planted::plant(None);
    assert!(noticed > 0, "the story before this one shows nothing");
}

#[test]
fn etcd_18667_a_transaction_at_a_compacted_revision_is_refused_alike_everywhere() {
    let mut world = stage(3, Knobs::default());
    let leader = world.leader();
    for number in 0..6 {
        let id = world.store(leader, "k", &number.to_string());
        world.wait(id);
    }
    let revision = world.journal.newest();
    let id = world.compact(leader, revision - 1);
    world.wait(id);
    let refused = world.counts.refused;
    let range = RangeRequest { key: "k".into(), revision: revision - 3, ..RangeRequest::default() };
    let put = PutRequest { key: "x".into(), value: "1".into(), ..PutRequest::default() };
    let parts = vec![super::kv::part(Part::RequestPut(put)), super::kv::part(Part::RequestRange(range))];
    let request = TxnRequest { success: parts, ..TxnRequest::default() };
    let op = Op::Write { request: request.clone(), is_txn: true, register: None };
    let id = world.request(leader, op, |id| World::proposal(id, RequestKind::Txn, &request));
    world.wait(id);
    assert_eq!(world.counts.refused, refused + 1);
    world.pass(1_000);
    assert_eq!(world.journal.newest(), revision, "it has changed nothing");
    world.conclude();
}

/// etcd has two hashes for a revision at which no key is alive, one before and one after the compaction at that revision
/// (`mvcc::hash_reader` has those that it showed). The checker took the second one for a difference.
#[test]
fn a_revision_without_keys_has_two_hashes() {
    let mut world = stage(1, Knobs::default());
    for value in ["1", "2"] {
        let id = world.store(1, "k", value);
        world.wait(id);
    }
    let id = world.compact(1, world.journal.newest());
    world.wait(id);
    let id = world.erase(1, "k");
    world.wait(id);
    let revision = world.journal.newest();
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let view = world.machines[&1].member.view().expect("it runs");
        let hash = HashReader::new(view.kv.clone(), revision).unwrap().finish().unwrap().hash;
        hashes.push((hash.compact_revision, hash.hash));
        world.agreement.check_hash(&world.journal, 1, &view, revision).unwrap();
        world.compact(1, revision);
        world.pass(3_000);
    }
    assert_eq!(hashes[0].0, hashes[1].0);
    assert_ne!(hashes[0].1, hashes[1].1);
    world.conclude();
}

#[test]
fn etcd_21694_a_learner_stays_one_when_it_moves() {
    let mut world = stage(3, Knobs::default());
    let leader = world.leader();
    let learner = crate::cluster::membership::Member { is_learner: true, name: String::new(), ..cluster_member(4) };
    let id = world.change(leader, &Change::Add { member: learner, votes: false });
    world.wait(id);
    world.pass(3_000);
    let id = world.change(leader, &Change::Update { id: 4, peer_urls: vec!["http://elsewhere:2380".to_owned()] });
    world.wait(id);
    world.crash(4, true);
    world.pass(5_000);
    let view = world.machines[&4].member.view().expect("it runs again");
    assert!(view.membership.local_is_learner());
    let id = world.change(leader, &Change::Promote { id: 4 });
    world.wait(id);
    world.pass(2_000);
    let view = world.machines[&4].member.view().expect("it runs");
    assert!(!view.membership.local_is_learner());
    world.conclude();
}

#[test]
fn etcd_8501_members_with_and_without_pre_votes() {
    let mut world = stage(3, Knobs::default());
    // A rolling restart with another setting.
    for id in [1, 2, 3] {
        world.crash(id, false);
        world.machine(id).member.set_knobs(Knobs { pre_vote: false, ..Knobs::default() });
        world.pass(5_000);
        let leader = world.leader();
        let put = world.store(leader, "k", &id.to_string());
        world.wait(put);
        let follower = world.follower();
        world.network.cut((leader, follower), Cut::Heartbeats);
        world.pass(4_000);
        world.network.heal();
        world.pass(4_000);
    }
    world.conclude();
}

#[test]
fn a_cut_between_two_members_lets_the_third_lead() {
    for pre_vote in [true, false] {
        let mut world = stage(3, Knobs { pre_vote, ..Knobs::default() });
        let (leader, follower) = (world.leader(), world.follower());
        world.network.cut((leader, follower), Cut::All);
        world.network.cut((follower, leader), Cut::All);
        world.pass(20_000);
        let before = world.journal.newest();
        for number in 0..20 {
            let (member, _) = world.all_running()[number % 3];
            world.store(member, "k", &number.to_string());
            world.pass(1_000);
        }
        assert!(world.journal.newest() > before + 5, "the cluster serves: {}", world.story.tell());
        world.network.heal();
        world.conclude();
    }
}

#[test]
fn machines_join_and_replace_others() {
    let mut world = stage(3, Knobs { catchup_entries: 5, ..Knobs::default() });
    for (gone, new) in [(1, 4), (2, 5), (3, 6)] {
        let at = world.all_running().last().expect("somebody runs").0;
        let id = world.change(at, &Change::Remove { id: gone });
        world.wait(id);
        world.machine(gone).is_gone = true;
        world.machine(gone).member.crash(false);
        world.pass(5_000);
        let at = world.all_running().last().expect("somebody runs").0;
        let member = crate::cluster::membership::Member { name: String::new(), ..cluster_member(new) };
        let id = world.change(at, &Change::Add { member, votes: true });
        world.wait(id);
        world.pass(5_000);
        assert_eq!(world.machines[&new].member.start(), &Start::Join);
        let put = world.store(new, "k", &new.to_string());
        world.wait(put);
    }
    world.conclude();
}

/// A member that was removed while it was cut off hears of it from any other one when the cut ends. Its watchers waited for ever when
/// nobody told it, and a learner never asks for votes, so that nobody would answer.
#[test]
fn a_member_removed_while_cut_off_is_told() {
    for votes in [true, false] {
        let mut world = stage(3, Knobs::default());
        let leader = world.leader();
        let member =
            crate::cluster::membership::Member { is_learner: !votes, name: String::new(), ..cluster_member(4) };
        let id = world.change(leader, &Change::Add { member, votes });
        world.wait(id);
        world.pass(3_000);
        for other in [1, 2, 3] {
            world.network.cut((other, 4), Cut::All);
        }
        let id = world.change(leader, &Change::Remove { id: 4 });
        world.wait(id);
        world.pass(5_000);
        assert!(!world.machines[&4].is_gone, "no answer reaches it");
        world.network.heal();
        world.pass(500);
        assert!(world.machines[&4].is_gone);
        world.conclude();
    }
}

/// A power cut at any step of the first start. A log whose first batch was missing counted as one to continue, so the member had no
/// cluster and never served.
#[test]
fn a_first_start_that_loses_its_power_founds_again() {
    for operations in 0..40 {
        let mut options = quiet(operations);
        (options.size, options.events, options.load) = (1, 0, Load { pace_us: 10_000, ..Load::default() });
        let mut world = World::new(options);
        world.machine(1).member.disk.cut_after(operations);
        if let Err(what) = world.run_phases() {
            panic!("a power cut after {operations} operations: {what}");
        }
    }
}
