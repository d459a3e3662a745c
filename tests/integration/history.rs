//! What the checkers of histories promise: good ones pass, bad ones do not.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::harness::{
    self,
    history::{Action, Log, NOTHING, Operation, Outcome, check_linearizable},
};

const OPERATIONS: u64 = 2_000;
const CLIENTS: u64 = 6;

/// Small histories after `1-2 put 1 @2`: what happened, the log, and whether the search and the log let it pass.
///
/// An operation is its call and return, what it does, and what came of it: `@3` wrote at revision 3, `1@3` saw 1 at revision 3.
const CASES: [(&str, &str, &str, bool, bool); 16] = [
    ("a write is read", "3-4 read 1@2", "2:1", true, true),
    ("an acknowledged write is lost", "3-4 read 0@2", "2:1", false, false),
    ("a read is stale", "3-4 read 0@1", "2:1", false, false),
    ("a serializable read is stale", "3-4 serializable 0@1", "2:1", true, true),
    ("a serializable read is wrong", "3-4 serializable 0@2", "2:1", true, false),
    ("a value comes from nowhere", "3-4 read 7@3", "2:1 3:7", false, false),
    ("a later write is older", "3-4 put 2 @3, 5-6 put 3 @3", "2:1 3:3", true, false),
    ("two swaps win", "3-6 swap 1 2 @3, 4-5 swap 1 3 @4", "2:1 3:2 4:3", false, false),
    ("one swap meets the other", "3-6 swap 1 2 @3, 4-5 swap 1 3 2@3", "2:1 3:2", true, true),
    ("an unknown swap is seen", "3-? swap 1 2, 4-5 read 2@3", "2:1 3:2", true, true),
    ("an unknown swap is seen, and then not", "3-? swap 1 2, 4-5 read 2@3, 6-7 read 1@2", "2:1 3:2", false, false),
    ("an unknown swap has no trace", "3-? swap 1 2, 4-5 read 1@2", "2:1", true, true),
    ("an unknown swap after another", "3-? swap 1 2, 4-? swap 2 3, 5-6 read 3@4", "2:1 3:2 4:3", true, true),
    ("an unknown write comes late", "3-? put 2, 4-5 read 1@2, 6-7 read 2@3", "2:1 3:2", true, true),
    ("an unknown write is carried out twice", "3-? put 2, 4-5 put 3 @4", "2:1 3:2 4:3 5:2", true, false),
    // The log does not look at when an unknown write was called; the search does.
    ("an unknown write is seen before its call", "3-4 read 2@3, 5-? put 2", "2:1 3:2", false, true),
];

fn operation(text: &str) -> Operation {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    let (called, returned) = words[0].split_once('-').unwrap();
    let (action, rest) = match words[1] {
        "put" => (Action::Put(number(words[2])), &words[3..]),
        "swap" => (Action::Swap { old: number(words[2]), new: number(words[3]) }, &words[4..]),
        "read" => (Action::Read, &words[2..]),
        _ => (Action::Serializable, &words[2..]),
    };
    let outcome = match rest.first().map(|told| told.split_once('@').unwrap()) {
        None => Outcome::Unknown,
        Some(("", revision)) => Outcome::Wrote { revision: number(revision) },
        Some((value, revision)) => Outcome::Saw { value: number(value), revision: number(revision) },
    };
    let called = number(called);
    let returned = if returned == "?" { u64::MAX } else { number(returned) };
    Operation { connection: called, key: "k".to_owned(), called, returned, action, outcome }
}

fn history(text: &str) -> Vec<Operation> {
    ["1-2 put 1 @2"].into_iter().chain(text.split(", ")).map(operation).collect()
}

fn log(text: &str) -> Log {
    let pair = |pair: &str| {
        let (revision, value) = pair.split_once(':').unwrap();
        (revision.parse().unwrap(), value.parse().unwrap())
    };
    Log { keys: BTreeMap::from([("k".to_owned(), text.split(' ').map(pair).collect())]) }
}

/// Each checker passes what is good and finds what is not.
pub fn checkers_bite() {
    for (name, text, log, order, told) in CASES {
        let (history, log) = (history(text), self::log(log));
        assert_eq!(check_linearizable(&history).is_ok(), order, "{name}: {:?}", check_linearizable(&history));
        assert_eq!(log.check(&history).is_ok(), told, "{name}: {:?}", log.check(&history));
    }
    let mut backwards = history("3-4 serializable 1@2, 5-6 serializable 0@1");
    assert!(log("2:1").check(&backwards).is_ok());
    backwards.iter_mut().for_each(|operation| operation.connection = 9);
    assert!(log("2:1").check(&backwards).is_err(), "a connection goes back");
}

/// Histories of a machine that does one thing at a time pass, and each with one read changed to another value fails.
pub fn checkers_judge_a_machine() {
    let mut random = SmallRng::seed_from_u64(harness::seed("history::checkers_judge_a_machine", 1));
    for round in 0..20 {
        let (mut history, log) = made_up(&mut random);
        check_linearizable(&history).unwrap_or_else(|what| panic!("round {round}: {what}"));
        log.check(&history).unwrap_or_else(|what| panic!("round {round}: {what}"));
        let reads = |operation: &&mut Operation| operation.action == Action::Read && operation.called > OPERATIONS;
        let Some(read) = history.iter_mut().find(|operation| reads(operation)) else { continue };
        if let Outcome::Saw { value, .. } = &mut read.outcome {
            // A value of long ago, or of nobody.
            *value = if *value == 1 { 2 } else { 1 };
        }
        assert!(check_linearizable(&history).is_err(), "round {round}");
        assert!(log.check(&history).is_err(), "round {round}");
    }
}

/// Clients in turns of random length; each operation takes effect somewhere in its time.
fn made_up(random: &mut SmallRng) -> (Vec<Operation>, Log) {
    let mut history: Vec<Operation> = Vec::new();
    let mut values = BTreeMap::new();
    let (mut clock, mut revision, mut value) = (0, 1, NOTHING);
    for number in 1..=OPERATIONS {
        clock += 1;
        let action = match random.random_range(0..4) {
            0 => Action::Put(number),
            1 => Action::Swap { old: value, new: number },
            _ => Action::Read,
        };
        let outcome = match action {
            Action::Put(new) | Action::Swap { new, .. } => {
                revision += 1;
                value = new;
                values.insert(revision, new);
                Outcome::Wrote { revision }
            }
            Action::Read | Action::Serializable => Outcome::Saw { value, revision },
        };
        let unknown = random.random_bool(0.02) && action != Action::Read;
        // It takes effect at a time of its own, and spreads over some of those of the others.
        let called = (clock * 100_u64).saturating_sub(random.random_range(0..CLIENTS * 50)).max(1);
        let returned = clock * 100 + random.random_range(1..CLIENTS * 50);
        let outcome = if unknown { Outcome::Unknown } else { outcome };
        let returned = if unknown { u64::MAX } else { returned };
        history.push(Operation { connection: number, key: "k".to_owned(), called, returned, action, outcome });
    }
    (history, Log { keys: BTreeMap::from([("k".to_owned(), values)]) })
}
