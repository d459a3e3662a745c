//! The proof that the simulator bites: deliberate bugs, each of which it finds.
//!
//! `RINGD_SIM_MUTATIONS=seconds` searches for each bug for so many seconds of CPU time, and prints a table: the bug, the seeds that were
//! run, their CPU time, the run that finds it, and what it violates. `RINGD_SIM_BUG` is a part of the names of those to search for.

use super::{options::Options, world::World, world_tests::cpu_seconds};
use crate::base::planted::{self, Bug};

/// A run that finds each bug.
const FOUND: [(Bug, &str); 15] = [
    (Bug::AcknowledgeBeforeDurable, "18,3,5402"),
    (Bug::SendBeforeDurable, "11,3,862"),
    (Bug::SkipReadQuorum, "5,3,4727"),
    (Bug::ReadOlderView, "4,3,5179"),
    (Bug::LoseConfChange, "3,3,6000"),
    (Bug::WatchTwice, "7,3,2922"),
    (Bug::WatchSkip, "0,3,6000"),
    (Bug::ExpireAsFollower, "5,3,6000"),
    (Bug::KeepLeaseKey, "2,3,6000"),
    (Bug::DropLastRecord, "3,3,2522"),
    (Bug::ForgetAlarm, "27,3,4093"),
    (Bug::MislabelSnapshot, "11,3,5007"),
    (Bug::CompactTooMuch, "2,3,2006"),
    (Bug::ForgetOwedState, "66,3,6000"),
    (Bug::LoseLearner, "4,3,6000"),
];

const ALL: [Bug; 24] = [
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
    Bug::ReadBeforeTermCommit,
    Bug::ForgetOwedState,
    Bug::LoseLearner,
    Bug::ProgressEarly,
    Bug::DiscardEarly,
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
    let limit: f64 = seconds.parse().expect("seconds");
    let only = std::env::var("RINGD_SIM_BUG").unwrap_or_default();
    for bug in ALL.into_iter().filter(|bug| format!("{bug:?}").contains(&only)) {
        let started = cpu_seconds();
        planted::plant(Some(bug));
        let found = (0..).take_while(|_| cpu_seconds() - started < limit).find_map(|seed| {
            let options = Options::draw(seed, 3, EVENTS);
            World::run(&options).err().map(|violation| (seed, options, violation))
        });
        planted::plant(None);
        let took = cpu_seconds() - started;
        match found {
            Some((seed, mut options, violation)) => {
                options.events = options.events.min(violation.events + 1);
                let what: String = violation.what.replace('\n', " ").chars().take(160).collect();
                println!("| {bug:?} | {} | {took:.1} s | {} | {what} |", seed + 1, options.to_replay());
            }
            None => println!("| {bug:?} | not found | {took:.1} s | | |"),
        }
    }
}
