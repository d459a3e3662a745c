//! The proof that the simulator bites: deliberate bugs, each of which it finds.
//!
//! `RINGD_SIM_MUTATIONS=seconds` searches for each bug for so many seconds of CPU time, and prints a table: the bug, the seeds that were
//! run, their CPU time, the run that finds it, and what it violates. `RINGD_SIM_BUG` is a part of the names of those to search for,
//! `RINGD_SIM_EVENTS` the length of a run.

use super::{
    options::Options,
    world::World,
    world_tests::{cpu_seconds, events},
};
use crate::base::planted::{self, Bug};

/// A run that finds each bug.
const FOUND: [(Bug, &str); 21] = [
    (Bug::AcknowledgeBeforeDurable, "18,3,5053"),
    (Bug::SendBeforeDurable, "19,3,4612"),
    (Bug::SkipReadQuorum, "17,3,2085"),
    (Bug::ReadOlderView, "6,3,3848"),
    (Bug::ApplyTwice, "1,3,6000"),
    (Bug::ReusePage, "61,3,5695"),
    (Bug::LoseConfChange, "3,3,6000"),
    (Bug::WatchTwice, "61,3,6000"),
    (Bug::WatchSkip, "0,3,6000"),
    (Bug::WatchCompacted, "59,3,6000"),
    (Bug::ExpireAsFollower, "17,3,6000"),
    (Bug::KeepLeaseKey, "5,3,5296"),
    (Bug::DropLastRecord, "3,3,2400"),
    (Bug::VoteTwice, "71,3,1155"),
    (Bug::ForgetAlarm, "26,3,2729"),
    (Bug::MislabelSnapshot, "65,3,5578"),
    (Bug::CompactTooMuch, "2,3,2006"),
    (Bug::ReadBeforeTermCommit, "31,3,856"),
    (Bug::ForgetOwedState, "7,3,6000"),
    (Bug::LoseLearner, "131,3,6000"),
    (Bug::ProgressEarly, "25,3,5587"),
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
            let options = Options::draw(seed, 3, events());
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
