//! Random faults on clusters of three and five for as long as `RINGD_SOAK_MINUTES` says; every history is judged.
//!
//! An episode is one cluster with one seed, which is printed: with `RINGD_SEED` it is played again, alone. What the seed decides is
//! who plays the members, which faults come, on whom, and for how many writes. What the machine decides is everything else, so a seed
//! that failed fails again often, not always.

use std::{
    env,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

use crate::{
    cluster::{SLOW, SNAPSHOTS, cast},
    harness::{self, cluster::Cluster, load::Load, namespaces, proxy::Rule, server::Program},
};

pub const MINUTES: &str = "RINGD_SOAK_MINUTES";
const FAULTS: usize = 6;
/// While a fault lasts, and after it.
const WRITES_MAX: u64 = 300;

/// What is done to a cluster, and undone after some writes.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Stop,
    KillAll,
    Pause,
    CutOff,
    NotHeard,
    OneWay,
    Slow,
    Replace,
}

const ALL: [Fault; 9] = [
    Fault::Kill,
    Fault::Stop,
    Fault::KillAll,
    Fault::Pause,
    Fault::CutOff,
    Fault::NotHeard,
    Fault::OneWay,
    Fault::Slow,
    Fault::Replace,
];

pub fn random_faults() {
    let minutes = harness::setting(MINUTES, 1_u64);
    let start = Instant::now();
    if env::var_os("RINGD_SEED").is_some() {
        return episode(harness::seed("soak::random_faults", 0));
    }
    let mut episodes = 0_u64;
    while start.elapsed() < Duration::from_secs(60 * minutes) {
        // Other seeds each time: what a map's hashes begin with is random.
        episode(RandomState::new().hash_one(episodes));
        episodes += 1;
    }
    eprintln!("{episodes} episodes");
}

fn episode(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let members = if random.random_ratio(1, 4) { 5 } else { 3 };
    let mut programs: Vec<Program> = cast().into_iter().cycle().take(members).collect();
    if env::var_os("RINGD_CLUSTER").is_none() {
        programs.fill_with(|| if random.random() { Program::Ringd } else { Program::Etcd });
    }
    let in_namespaces = random.random() && namespaces::may_be_made();
    let start = if in_namespaces { Cluster::start_in_namespaces } else { Cluster::start };
    let mut cluster = start(&programs, &SNAPSHOTS);
    eprintln!("RINGD_SEED={seed} {programs:?}{}", if in_namespaces { " in namespaces" } else { "" });
    let load = Load::start(&cluster, random.random());
    for _ in 0..FAULTS {
        let fault = *ALL.choose(&mut random).expect("there are some");
        let victim = *cluster.running().choose(&mut random).expect("members run");
        // Half of the time it is the one that leads.
        let victim = if random.random() { cluster.leader() } else { victim };
        eprintln!("  {fault:?} member {victim}");
        let mut writes = || load.wait_for_writes(random.random_range(1..WRITES_MAX));
        writes();
        inflict(&mut cluster, fault, victim, &load, &mut writes);
        cluster.wait_until_healthy();
        writes();
    }
    load.judge(&cluster);
}

/// Does it, lets clients write, and undoes it.
fn inflict(cluster: &mut Cluster, fault: Fault, victim: usize, load: &Load, writes: &mut impl FnMut()) {
    let (id, others) = (cluster.id(victim), cluster.others(victim));
    match fault {
        Fault::Kill => {
            cluster.kill(victim);
            writes();
            cluster.restart(victim);
        }
        Fault::Stop => {
            cluster.stop(victim);
            writes();
            cluster.restart(victim);
        }
        Fault::KillAll => {
            let all = cluster.running();
            all.iter().for_each(|&at| cluster.kill(at));
            all.iter().for_each(|&at| cluster.spawn(at));
            all.iter().for_each(|&at| cluster.wait_until_ready(at));
        }
        Fault::Pause => {
            cluster.pause(victim);
            writes();
            cluster.resume(victim);
        }
        Fault::CutOff | Fault::NotHeard | Fault::OneWay if cluster.is_in_namespaces() => {
            lose_packets(cluster, fault, victim);
            writes();
            cluster.wires().heal();
        }
        Fault::CutOff | Fault::NotHeard => {
            let rule = if matches!(fault, Fault::CutOff) { Rule::Cut } else { Rule::Swallow };
            cluster.peers.isolate(id, &others, rule);
            writes();
            cluster.peers.heal();
        }
        Fault::OneWay => {
            cluster.peers.set(Some(id), Some(others[0]), Rule::Swallow);
            writes();
            cluster.peers.heal();
        }
        Fault::Slow => {
            cluster.peers.isolate(id, &others, Rule::Delay(SLOW));
            writes();
            cluster.peers.heal();
        }
        Fault::Replace => {
            let program = cluster.program(victim);
            let new = cluster.add(program, false);
            cluster.read(new, "health");
            cluster.remove(victim);
            load.members_changed(cluster);
            writes();
        }
    }
}

/// What a fault of links is where the kernel loses the packets.
fn lose_packets(cluster: &Cluster, fault: Fault, victim: usize) {
    let others: Vec<usize> = cluster.running().into_iter().filter(|&at| at != victim).collect();
    match fault {
        Fault::CutOff => cluster.wires().unplug(victim),
        Fault::OneWay => cluster.wires().cut(victim, others[0]),
        _ => cluster.wires().split(&[victim], &others),
    }
}
