//! What must hold on three members: each test does one thing to them under load, and then judges all that clients saw.
//!
//! `RINGD_CLUSTER` names the members of all tests: `ringd`, `etcd`, or `mixed`. The load, and what it is judged by, is in
//! [`harness::load`](crate::harness::load).

use std::{env, time::Duration};

use bytes::Bytes;
use ringd::proto::etcdserverpb::{MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse};

use crate::harness::{self, cluster::Cluster, load::Load, proxy::Rule, server::Program};

/// Writes that are acknowledged before something is done to the cluster, and after.
pub const SOME: u64 = 200;
/// Between members in one city.
pub const SLOW: Duration = Duration::from_millis(15);
/// So that a member that was away for some writes gets a snapshot.
pub const SNAPSHOTS: [&str; 4] = ["--snapshot-count", "100", "--snapshot-catchup-entries", "10"];

/// Who plays the three members of most tests.
pub fn cast() -> [Program; 3] {
    chosen().unwrap_or([Program::Ringd; 3])
}

/// Who plays them where members of both kinds have most to say to each other.
fn mixed_cast() -> [Program; 3] {
    chosen().unwrap_or(MIXED)
}

const MIXED: [Program; 3] = [Program::Ringd, Program::Etcd, Program::Ringd];

fn chosen() -> Option<[Program; 3]> {
    match env::var("RINGD_CLUSTER").as_deref() {
        Ok("ringd") => Some([Program::Ringd; 3]),
        Ok("etcd") => Some([Program::Etcd; 3]),
        Ok("mixed") => Some(MIXED),
        Ok(other) => panic!("RINGD_CLUSTER={other} is none of ringd, etcd, mixed"),
        Err(_) => None,
    }
}

fn start(test: &str) -> (Cluster, Load) {
    start_with(test, cast(), &[])
}

fn start_mixed(test: &str) -> (Cluster, Load) {
    start_with(test, mixed_cast(), &[])
}

fn start_with<const N: usize>(test: &str, programs: [Program; N], flags: &[&str]) -> (Cluster, Load) {
    let cluster = Cluster::start(&programs, flags);
    let load = Load::start(&cluster, harness::seed(test, 1));
    load.wait_for_writes(SOME);
    (cluster, load)
}

fn start_five(test: &str) -> (Cluster, Load) {
    let [a, b, c] = mixed_cast();
    start_with(test, [a, b, c, a, b], &[])
}

/// Each member takes a write, and every other one reads it.
pub fn every_member_serves() {
    let cluster = Cluster::start(&cast(), &[]);
    for writer in 0..3 {
        let value = Bytes::from(format!("{writer}"));
        let request = PutRequest { key: "k".into(), value: value.clone(), ..PutRequest::default() };
        let _: PutResponse = cluster.ask(writer, "KV/Put", &request);
        for reader in 0..3 {
            assert_eq!(cluster.read(reader, "k").kvs[0].value, value, "written to {writer}, read from {reader}");
        }
    }
    cluster.assert_hashes_agree();
}

/// kill -9 of the leader: nothing acknowledged is lost, and the others go on.
pub fn leader_is_killed() {
    let (mut cluster, load) = start_mixed("cluster::leader_is_killed");
    let leader = cluster.leader();
    cluster.kill(leader);
    load.wait_for_writes(SOME);
    cluster.restart(leader);
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// kill -9 of all of them at once.
pub fn all_are_killed() {
    let (mut cluster, load) = start("cluster::all_are_killed");
    let all = cluster.running();
    all.iter().for_each(|&at| cluster.kill(at));
    all.iter().for_each(|&at| cluster.spawn(at));
    all.iter().for_each(|&at| cluster.wait_until_ready(at));
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// One after the other is stopped and started, as an operator does it with a new version.
pub fn members_are_restarted() {
    let (mut cluster, load) = start_mixed("cluster::members_are_restarted");
    for at in 0..3 {
        cluster.stop(at);
        load.wait_for_writes(SOME / 4);
        cluster.restart(at);
        cluster.read(at, "health");
    }
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// The leader cannot reach anybody: the others elect one, and it does not answer as if it still led.
pub fn leader_is_cut_off() {
    leader_is_alone("cluster::leader_is_cut_off", Rule::Cut);
}

/// The same where nobody is told: what is sent gets lost.
pub fn leader_is_not_heard() {
    leader_is_alone("cluster::leader_is_not_heard", Rule::Swallow);
}

fn leader_is_alone(test: &str, rule: Rule) {
    let (cluster, load) = start(test);
    let old = cluster.leader();
    let majority: Vec<usize> = cluster.running().into_iter().filter(|&at| at != old).collect();
    cluster.peers.isolate(cluster.id(old), &cluster.others(old), rule);
    let new = cluster.leader_among(&majority);
    assert_ne!(new, old);
    let request = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    let alone = cluster.try_ask::<_, RangeResponse>(old, "KV/Range", &request);
    assert!(alone.is_err(), "a member without a quorum answers a linearizable read: {alone:?}");
    let request = RangeRequest { serializable: true, ..request };
    let _: RangeResponse = cluster.ask(old, "KV/Range", &request);
    load.wait_for_writes(SOME);
    cluster.peers.heal();
    cluster.leader();
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// A follower hears the leader, which does not hear it; then the other way round.
pub fn links_fail_one_way() {
    let (cluster, load) = start("cluster::links_fail_one_way");
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let [leader, follower] = [leader, follower].map(|at| Some(cluster.id(at)));
    for (from, to) in [(follower, leader), (leader, follower)] {
        cluster.peers.set(from, to, Rule::Swallow);
        load.wait_for_writes(SOME);
        cluster.peers.heal();
        load.wait_for_writes(SOME);
    }
    load.judge(&cluster);
}

/// Every message takes its time.
pub fn links_are_slow() {
    let (cluster, load) = start_mixed("cluster::links_are_slow");
    for at in 0..3 {
        cluster.peers.isolate(cluster.id(at), &cluster.others(at), Rule::Delay(SLOW));
    }
    load.wait_for_writes(SOME);
    cluster.peers.heal();
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// The leader is suspended for longer than an election, and then resumed.
pub fn leader_is_paused() {
    let (cluster, load) = start_mixed("cluster::leader_is_paused");
    let old = cluster.leader();
    cluster.pause(old);
    let others: Vec<usize> = cluster.running().into_iter().filter(|&at| at != old).collect();
    assert_ne!(cluster.leader_among(&others), old);
    load.wait_for_writes(SOME);
    cluster.resume(old);
    cluster.leader();
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// Two of five are killed, the leader among them, and the rest goes on. With the third gone nobody answers what needs a quorum, and it
/// takes one member to have one again.
pub fn five_go_down_to_quorum() {
    let (mut cluster, load) = start_five("cluster::five_go_down_to_quorum");
    let leader = cluster.leader();
    let [second, third] = [1, 2].map(|step| (leader + step) % 5);
    cluster.kill(leader);
    cluster.kill(second);
    load.wait_for_writes(SOME);
    cluster.kill(third);
    let left = cluster.running()[0];
    let request = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    let alone = cluster.try_ask::<_, RangeResponse>(left, "KV/Range", &request);
    assert!(alone.is_err(), "two of five answer a linearizable read: {alone:?}");
    cluster.restart(third);
    load.wait_for_writes(SOME);
    cluster.restart(leader);
    cluster.restart(second);
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// The leader and one more are cut off from the other three. Then two pairs see each other only by way of the fifth.
pub fn five_are_split() {
    let (cluster, load) = start_five("cluster::five_are_split");
    let leader = cluster.leader();
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|step| (leader + step) % 5);
    let split = |here: [usize; 2], there: &[usize]| {
        let there: Vec<u64> = there.iter().map(|&at| cluster.id(at)).collect();
        here.iter().for_each(|&at| cluster.peers.isolate(cluster.id(at), &there, Rule::Cut));
    };
    split([a, b], &[c, d, e]);
    let new = cluster.leader_among(&[c, d, e]);
    assert_ne!(new, a);
    load.wait_for_writes(SOME);
    cluster.peers.heal();
    cluster.leader();
    split([a, b], &[c, d]);
    load.wait_for_writes(SOME);
    cluster.peers.heal();
    cluster.leader();
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// A learner that is promoted, then a voter that is removed.
pub fn learner_is_promoted() {
    let (mut cluster, load) = start("cluster::learner_is_promoted");
    let new = cluster.add(cast()[0], true);
    let learner = |list: MemberListResponse, id| list.members.iter().find(|member| member.id == id).unwrap().is_learner;
    assert!(learner(cluster.list(0), cluster.id(new)));
    load.wait_for_writes(SOME);
    cluster.promote(new);
    assert!(!learner(cluster.list(0), cluster.id(new)));
    cluster.remove(0);
    load.members_changed(&cluster);
    assert_eq!(cluster.list(new).members.len(), 3);
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// A member whose disk is gone is taken out and comes back under another id.
pub fn lost_disk_is_replaced() {
    let (mut cluster, load) = start("cluster::lost_disk_is_replaced");
    let lost = (cluster.leader() + 1) % 3;
    cluster.kill(lost);
    cluster.lose_disk(lost);
    load.wait_for_writes(SOME);
    cluster.remove(lost);
    load.members_changed(&cluster);
    let new = cluster.add(cast()[lost], false);
    load.members_changed(&cluster);
    cluster.read(new, "health");
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// A member whose disk is gone is refused under its old id, whatever state of the cluster it names: it has forgotten its votes, and could
/// give them twice. (etcd refuses the one that wants to found the cluster, and lets the other in.)
pub fn emptied_member_is_refused() {
    let (mut cluster, load) = start_with("cluster::emptied_member_is_refused", MIXED, &[]);
    let emptied = 0;
    cluster.kill(emptied);
    cluster.lose_disk(emptied);
    for (state, why) in [("new", "has already been bootstrapped"), ("existing", "has forgotten its votes")] {
        cluster.set_flags(emptied, &["--initial-cluster-state", state]);
        for attempt in 1..=2 {
            let log = cluster.ends(emptied);
            let id = format!("{:x}", cluster.id(emptied));
            assert!(log.contains(why) && log.contains(&id), "attempt {attempt} with state {state}: {log}");
        }
    }
    load.wait_for_writes(SOME);
    cluster.remove(emptied);
    load.members_changed(&cluster);
    load.judge(&cluster);
}

/// A member that was away for longer than the others keep entries gets their state as a whole.
pub fn lagging_member_gets_a_snapshot() {
    let (mut cluster, load) = start_with("cluster::lagging_member_gets_a_snapshot", mixed_cast(), &SNAPSHOTS);
    for _ in 0..2 {
        let away = (cluster.leader() + 1) % 3;
        cluster.kill(away);
        load.wait_for_writes(3 * SOME);
        cluster.restart(away);
        cluster.read(away, "health");
    }
    load.wait_for_writes(SOME);
    load.judge(&cluster);
}

/// Every member is replaced by one of the other program, one after the other, and then back.
pub fn members_move_to_another_program() {
    let (mut cluster, load) = start_mixed("cluster::members_move_to_another_program");
    let mut old = cluster.running();
    for program in [Program::Ringd, Program::Etcd] {
        for at in old {
            let new = cluster.add(program, false);
            cluster.read(new, "health");
            cluster.remove(at);
            load.members_changed(&cluster);
            load.wait_for_writes(SOME / 4);
        }
        cluster.assert_hashes_agree();
        old = cluster.running();
    }
    load.judge(&cluster);
}
