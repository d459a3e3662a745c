//! The proof that the simulator bites: deliberate bugs, each of which it finds.
//!
//! `RINGD_SIM_MUTATIONS=seconds` searches for each bug for so long, and prints the table of `found`.

use std::time::{Duration, Instant};

use super::{options::Options, world::World};
use crate::base::planted::{self, Bug};

/// A run that finds each bug.
const FOUND: [(Bug, &str); 0] = [];

const ALL: [Bug; 19] = [
    Bug::AcknowledgeBeforeDurable,
    Bug::SendBeforeDurable,
    Bug::SkipReadQuorum,
    Bug::ReadOlderView,
    Bug::ApplyTwice,
    Bug::ReusePage,
    Bug::LoseConfChange,
    Bug::WatchTwice,
    Bug::WatchSkip,
    Bug::WatchCompacted,
    Bug::ExpireAsFollower,
    Bug::KeepLeaseKey,
    Bug::DropLastRecord,
    Bug::VoteTwice,
    Bug::ForgetAlarm,
    Bug::ReleaseEarly,
    Bug::KeepReadLease,
    Bug::MislabelSnapshot,
    Bug::CompactTooMuch,
];

const EVENTS: u64 = 6_000;

#[test]
fn planted_bugs_are_found_again() {
    for (bug, run) in FOUND {
        planted::plant(Some(bug));
        let outcome = World::run(&Options::of_replay(run).unwrap());
        planted::plant(None);
        assert!(outcome.is_err(), "{bug:?} is not found by {run}");
    }
}

#[test]
fn search_for_planted_bugs() {
    let Ok(seconds) = std::env::var("RINGD_SIM_MUTATIONS") else { return };
    let limit = Duration::from_secs(seconds.parse().expect("seconds"));
    let only = std::env::var("RINGD_SIM_BUG").unwrap_or_default();
    for bug in ALL.into_iter().filter(|bug| format!("{bug:?}").contains(&only)) {
        let started = Instant::now();
        planted::plant(Some(bug));
        let found = (0..).take_while(|_| started.elapsed() < limit).find_map(|seed| {
            let options = Options::draw(seed, 3, EVENTS);
            World::run(&options).err().map(|violation| (seed, options, violation))
        });
        planted::plant(None);
        let took = started.elapsed().as_secs_f64();
        match found {
            Some((seed, mut options, violation)) => {
                options.events = options.events.min(violation.events + 1);
                let what: String = violation.what.chars().take(160).collect();
                println!("| {bug:?} | {} | {took:.1} s | {} | {what} |", seed + 1, options.to_replay());
            }
            None => println!("| {bug:?} | not found | {took:.1} s | | |"),
        }
    }
}
