//! Clusters of whole replicas from seeds. `RINGD_SIM_SEEDS=first..last` runs others, and `RINGD_SIM_EVENTS` longer ones.

use super::world::{Counts, World};

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RINGD_SIM_SEEDS") else { return default };
    let (first, last) = text.split_once("..").expect("RINGD_SIM_SEEDS=first..last");
    first.parse().expect("a number")..last.parse().expect("a number")
}

fn events() -> u64 {
    std::env::var("RINGD_SIM_EVENTS").map_or(20_000, |text| text.parse().expect("a number"))
}

fn run(size: u64, default: std::ops::Range<u64>) -> Counts {
    let mut sum = Counts::default();
    for seed in seeds(default) {
        let counts = World::run(seed, size, events()).unwrap_or_else(|violation| panic!("{violation}"));
        sum.events += counts.events;
        sum.puts += counts.puts;
        sum.reads += counts.reads;
        sum.refused += counts.refused;
        sum.crashes += counts.crashes;
        sum.snapshots += counts.snapshots;
        sum.elections += counts.elections;
        sum.virtual_ms += counts.virtual_ms;
    }
    println!("{size} members: {sum:?}");
    sum
}

#[test]
fn three_replicas_lose_nothing_and_agree() {
    let counts = run(3, 0..20);
    assert!(counts.puts > 500 && counts.reads > 500, "{counts:?}");
    assert!(counts.crashes > 20 && counts.snapshots > 0 && counts.elections > 20, "{counts:?}");
}

#[test]
fn one_replica_survives_power_cuts() {
    let counts = run(1, 1000..1010);
    assert!(counts.puts > 500 && counts.crashes > 10, "{counts:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let of = |seed| format!("{:?}", World::run(seed, 3, 5000).unwrap_or_else(|violation| panic!("{violation}")));
    assert_eq!(of(7), of(7));
}
