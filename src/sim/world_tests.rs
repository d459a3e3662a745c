//! Clusters of whole replicas from seeds: a fixed share, or what `make simulate` asks for.
//!
//! | variable | meaning |
//! |---|---|
//! | `RINGD_SIM` | `make simulate`: run until a seed fails |
//! | `RINGD_SIM_SEEDS` | `first..last` |
//! | `RINGD_SIM_SIZE` | members; else one, three or five, by the seed |
//! | `RINGD_SIM_EVENTS` | events with faults of each run |
//! | `RINGD_SIM_SECONDS` | stop after so long |
//! | `RINGD_SIM_REPLAY` | one run again, as a failure prints it |

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    minimise::{minimise, told},
    options::Options,
    world::{Counts, Violation, World},
};

/// Runs that look for a smaller failure.
const TRIES_MAX: u32 = 150;
/// Progress is told after so many runs.
const TOLD_EVERY: u64 = 1000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RINGD_SIM_SEEDS") else { return 1_000_000..u64::MAX };
    let (first, last) = text.split_once("..").expect("RINGD_SIM_SEEDS=first..last");
    first.parse().expect("a number")..last.parse().expect("a number")
}

/// Events with faults of each run.
pub(super) fn events() -> u64 {
    variable("RINGD_SIM_EVENTS").unwrap_or(6_000)
}

/// CPU time of this thread: what else the machine does is not counted.
pub(super) fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has it");
    let nanoseconds: u64 =
        text.split(' ').next().and_then(|field| field.parse().ok()).expect("the first field is a number");
    nanoseconds as f64 / 1e9
}

/// CI runs more seeds than a developer's machine.
fn share(first: u64, few: u64, many: u64) -> std::ops::Range<u64> {
    let count = if std::env::var("CI").is_ok() { many } else { few };
    first..first + count
}

fn fail(options: &Options, violation: Violation) -> ! {
    let (options, violation) = minimise(options, violation, TRIES_MAX);
    panic!("{}", told(&options, &violation));
}

/// Runs seeds; prints how fast, and how many states were new. Size 0 is one, three or five, by the seed.
fn run(size: u64, seeds: std::ops::Range<u64>, limit: Option<Duration>) -> Counts {
    let (started, cpu_started) = (Instant::now(), cpu_seconds());
    let (mut sum, mut states, mut runs, mut before) = (Counts::default(), BTreeSet::new(), 0, 0);
    for seed in seeds {
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            break;
        }
        let drawn_size = if size > 0 { size } else { [3, 5, 3, 1][(seed % 4) as usize] };
        let options = Options::draw(seed, drawn_size, events());
        let report = World::run(&options).unwrap_or_else(|violation| fail(&options, violation));
        sum.add(&report.counts);
        states.extend(report.states);
        runs += 1;
        if runs % TOLD_EVERY == 0 {
            let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu_started);
            let new = states.len() - before;
            println!(
                "{size} members: {runs} runs in {seconds:.0} s, {cpu:.0} s of CPU time, {} states, {new} of them new",
                states.len()
            );
            before = states.len();
        }
    }
    let hours = (cpu_seconds() - cpu_started) / 3600.0;
    println!(
        "{size} members: {runs} runs in {:.0} s; {:.0} in an hour of CPU time, {:.0} simulated hours; {} states\n{sum:?}",
        started.elapsed().as_secs_f64(),
        runs as f64 / hours,
        sum.virtual_ms as f64 / 3_600_000.0 / hours,
        states.len()
    );
    sum
}

#[test]
fn three_replicas() {
    let counts = run(3, share(0, 60, 2_000), None);
    assert!(counts.writes > 500 && counts.reads > 500 && counts.serializable > 100, "{counts:?}");
    assert!(counts.crashes > 20 && counts.snapshots > 0 && counts.elections > 20, "{counts:?}");
    assert!(counts.watch_events > 500 && counts.watch_ends > 0 && counts.compactions > 10, "{counts:?}");
    assert!(counts.lease_renewals > 20 && counts.leases_expired > 5 && counts.locks_held > 5, "{counts:?}");
    assert!(counts.changes_of_members > 0 && counts.promotions > 0 && counts.removals > 0, "{counts:?}");
    assert!(counts.chores > 10 && counts.alarms > 0, "{counts:?}");
}

#[test]
fn five_replicas() {
    let counts = run(5, share(100_000, 10, 700), None);
    assert!(counts.writes > 0, "{counts:?}");
}

#[test]
fn one_replica() {
    let counts = run(1, share(200_000, 20, 1_000), None);
    assert!(counts.writes > 0 && counts.crashes > 0, "{counts:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..4 {
        let of = || match World::run(&Options::draw(seed, 3, 3000)) {
            Ok(report) => format!("{report:?}"),
            Err(violation) => format!("{violation:?}"),
        };
        assert_eq!(of(), of());
    }
}

#[test]
fn simulate() {
    if std::env::var("RINGD_SIM").is_ok() {
        let limit = variable("RINGD_SIM_SECONDS").map(Duration::from_secs);
        run(variable("RINGD_SIM_SIZE").unwrap_or(0), seeds(), limit);
    }
}

#[test]
fn replay() {
    let Ok(text) = std::env::var("RINGD_SIM_REPLAY") else { return };
    let options = Options::of_replay(&text).unwrap();
    match World::run(&options) {
        Ok(report) => println!("no violation: {:?}", report.counts),
        Err(violation) => panic!("{}", told(&options, &violation)),
    }
}
