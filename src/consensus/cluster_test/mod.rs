//! Clusters of one, three and five machines under a seeded world of losses, crashes, partitions and new members.
//!
//! The simulator (`sim`) runs the same machines under whole replicas. This world stays beside it for what a network with times does not
//! have:
//!
//! | here | in `sim` |
//! |---|---|
//! | no time: any message under way may be the next one, however old it is | messages arrive within the run's longest delay, or at the end of a clog |
//! | a clock that stands still, or is four times as fast | clocks that drift by some per cent, and jump |
//! | any change of the members, without the rules of `cluster` | changes that an operator can make |
//! | each entry is compared, each effect is part of the trace | states after entries, hashes of revisions |
//! | messages are refused only for an unknown sender | refusals are not counted |

mod harness;

use harness::{Cluster, Counts, Faults};

const CALM: Faults = Faults {
    loss_percent: 0,
    crash_per_mille: 0,
    partition_per_mille: 0,
    membership_per_mille: 0,
    compact_per_mille: 5,
};

const ROUGH: Faults = Faults {
    loss_percent: 10,
    crash_per_mille: 4,
    partition_per_mille: 4,
    membership_per_mille: 0,
    compact_per_mille: 10,
};

/// Runs `seeds` worlds and adds up what happened in them. A failure names its seed; `CONSENSUS_SEEDS=17..18` runs
/// that one again, and a longer range looks further than the default.
fn explore(size: u64, seeds: std::ops::Range<u64>, events: usize, faults: Faults) -> Counts {
    let mut total = Counts::default();
    for seed in chosen_seeds().unwrap_or(seeds) {
        let run = std::panic::catch_unwind(|| {
            let mut cluster = Cluster::new(size, seed, faults);
            cluster.run(events);
            cluster.heal();
            cluster.converge();
            cluster.counts
        });
        let counts = run.unwrap_or_else(|cause| {
            eprintln!("failed with {size} members and seed {seed}");
            std::panic::resume_unwind(cause)
        });
        total.elections += counts.elections;
        total.reads += counts.reads;
        total.snapshots += counts.snapshots;
        total.conf_changes += counts.conf_changes;
        total.restarts += counts.restarts;
        total.dropped += counts.dropped;
    }
    println!("{size} members: {total:?}");
    total
}

fn chosen_seeds() -> Option<std::ops::Range<u64>> {
    let chosen = std::env::var("CONSENSUS_SEEDS").ok()?;
    let (from, to) = chosen.split_once("..").expect("from..to");
    let number = |text: &str| text.parse().expect("a number");
    Some(number(from)..number(to))
}

/// A run over the default seeds must include each kind of event that it tests.
fn saw_enough(did: bool) {
    assert!(did || chosen_seeds().is_some(), "too little happened");
}

#[test]
fn calm_clusters_agree() {
    for size in [1, 3, 5] {
        let counts = explore(size, 0..50, 2000, CALM);
        saw_enough(counts.reads > 50);
    }
}

#[test]
fn one_member_survives_crashes() {
    let counts = explore(1, 0..500, 1000, ROUGH);
    saw_enough(counts.restarts > 200 && counts.reads > 500);
}

#[test]
fn three_members_survive_faults() {
    let counts = explore(3, 0..600, 1500, ROUGH);
    saw_enough(counts.restarts > 200 && counts.reads > 500);
    saw_enough(counts.elections > 600 && counts.snapshots > 50);
}

#[test]
fn five_members_survive_faults() {
    let counts = explore(5, 0..300, 2500, ROUGH);
    saw_enough(counts.restarts > 200 && counts.reads > 300 && counts.snapshots > 50);
}

#[test]
fn leaders_cut_off_answer_no_stale_reads() {
    let faults = Faults { partition_per_mille: 5, ..CALM };
    let counts = explore(3, 0..400, 3000, faults);
    saw_enough(counts.elections > 600 && counts.reads > 4000);
}

#[test]
fn membership_changes_under_faults() {
    let faults = Faults { membership_per_mille: 8, ..ROUGH };
    for size in [1, 2, 3] {
        let counts = explore(size, 0..300, 2000, faults);
        saw_enough(counts.conf_changes > 1000 && counts.snapshots > 20);
    }
}

#[test]
fn membership_changes_in_calm() {
    let faults = Faults { membership_per_mille: 20, ..CALM };
    explore(3, 0..200, 2000, faults);
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let trace = |seed| {
        let mut cluster = Cluster::new(3, seed, ROUGH);
        cluster.run(3000);
        (cluster.trace(), cluster.oracle.len())
    };
    for seed in 0..10 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(1), trace(2));
}
