//! What clients did and saw, and whether one machine that does one thing at a time could have shown it to them.
//!
//! ```text
//!   client 0   |--put 1--|        |--read: 2--|
//!   client 1        |--swap 1 for 2--|    |--put 3-------- (nobody knows)
//! ```
//!
//! Values are unique, so a read tells which write it saw. Checked in two ways that know nothing of each other:
//!
//! 1. `linearizable`: per key, a search for an order of all operations that each outcome fits, after Wing and Gong, with Lowe's memory
//!    of what has been tried ("Testing for linearizability", 2017).
//! 2. [`Log::check`]: all events of a watch from the first revision are the order; every outcome names its revision, must be what the
//!    log says about it, and operations that follow each other in time must do so in revisions. This also judges serializable reads.
//!
//! A write whose outcome nobody knows either happened, then at the latest when somebody saw its value, or leaves no trace: a value
//! that was never seen can be left out of any order, because a swap that fails tells the value that it met.

use std::collections::BTreeMap;

use ahash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// No value: the key is not there.
pub const NOTHING: u64 = 0;

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Revisions that a connection tells never go back.
    pub connection: u64,
    pub key: String,
    /// When it was called and when it returned, as numbers in the order of all calls and returns.
    pub called: u64,
    pub returned: u64,
    pub action: Action,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Put(u64),
    /// Puts `new` if the value is `old`; reads it otherwise.
    Swap {
        old: u64,
        new: u64,
    },
    Read,
    /// A read of what one member has.
    Serializable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out or not, or will be.
    Unknown,
    /// The value was written, at this revision.
    Wrote { revision: u64 },
    /// This value was read (for a swap: met instead of the old one), when the store was at this revision.
    Saw { value: u64, revision: u64 },
}

impl Operation {
    /// The value that it writes if it happens.
    fn writes(&self) -> Option<u64> {
        match self.action {
            Action::Put(value) | Action::Swap { new: value, .. } => Some(value),
            Action::Read | Action::Serializable => None,
        }
    }

    /// The value that it has shown to be there.
    fn shows(&self) -> Option<u64> {
        match (self.outcome, self.action) {
            (Outcome::Saw { value, .. }, _) | (Outcome::Wrote { .. }, Action::Swap { old: value, .. }) => Some(value),
            _ => None,
        }
    }
}

/// Fails with the key for which no order fits. Serializable reads are left out.
pub fn check_linearizable(history: &[Operation]) -> Result<(), String> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in keys {
        if !linearizable(&settled(&operations)) {
            return Err(format!("no order fits what was seen of {key:?}"));
        }
    }
    Ok(())
}

/// An operation whose effect is known, between two points of time.
struct Settled {
    called: u64,
    returned: u64,
    effect: Effect,
}

#[derive(Clone, Copy)]
enum Effect {
    Write(u64),
    Swap { old: u64, new: u64 },
    Read(u64),
}

impl Effect {
    /// The value after it, if it can be after this one.
    fn after(self, value: u64) -> Option<u64> {
        match self {
            Effect::Write(new) => Some(new),
            Effect::Swap { old, new } => (old == value).then_some(new),
            Effect::Read(seen) => (seen == value).then_some(value),
        }
    }
}

/// When each value was known to have been there, by the return of the first operation that showed it. A swap that nobody knows the
/// outcome of, but whose value was seen, has met the value that it replaces.
fn first_shown(operations: &[&Operation]) -> HashMap<u64, u64> {
    let mut first: HashMap<u64, u64> = HashMap::new();
    let mut open: Vec<(u64, u64)> =
        operations.iter().filter_map(|operation| Some((operation.shows()?, operation.returned))).collect();
    let unknown: HashMap<u64, (u64, u64)> = operations
        .iter()
        .filter(|operation| operation.outcome == Outcome::Unknown)
        .filter_map(|operation| match operation.action {
            Action::Swap { old, new } => Some((new, (old, operation.called))),
            _ => None,
        })
        .collect();
    while let Some((value, shown)) = open.pop() {
        let known = first.entry(value).or_insert(u64::MAX);
        if shown < *known {
            *known = shown;
            open.extend(unknown.get(&value).map(|&(old, called)| (old, shown.max(called))));
        }
    }
    first
}

/// Leaves out what has no trace, and settles unknown writes that somebody saw.
fn settled(operations: &[&Operation]) -> Vec<Settled> {
    let operations: Vec<&Operation> =
        operations.iter().copied().filter(|operation| operation.action != Action::Serializable).collect();
    let first_shown = first_shown(&operations);
    let settle = |operation: &&Operation| {
        let write = |action| match action {
            Action::Swap { old, new } => Effect::Swap { old, new },
            Action::Put(value) => Effect::Write(value),
            Action::Read | Action::Serializable => unreachable!("reads write nothing"),
        };
        let (returned, effect) = match operation.outcome {
            Outcome::Saw { value, .. } => (operation.returned, Effect::Read(value)),
            Outcome::Wrote { .. } => (operation.returned, write(operation.action)),
            Outcome::Unknown => {
                let shown = *first_shown.get(&operation.writes()?)?;
                (shown.max(operation.called), write(operation.action))
            }
        };
        Some(Settled { called: operation.called, returned, effect })
    };
    operations.iter().filter_map(settle).collect()
}

/// Calls and returns in the order of time, as a list from which operations are taken and put back.
struct Timeline {
    events: Vec<Event>,
}

struct Event {
    operation: usize,
    /// Where its operation returns; none for a return.
    returns_at: Option<usize>,
    previous: usize,
    next: usize,
}

/// The list is a ring: its beginning is its end.
const ENDS: usize = 0;

impl Timeline {
    fn new(operations: &[Settled]) -> Timeline {
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            order.push((operation.called, false, number));
            order.push((operation.returned, true, number));
        }
        order.sort_unstable();
        let mut events = vec![Event { operation: usize::MAX, returns_at: None, previous: order.len(), next: 1 }];
        let mut called_at = vec![ENDS; operations.len()];
        for (at, &(_, returns, operation)) in (1..).zip(&order) {
            match returns {
                false => called_at[operation] = at,
                true => events[called_at[operation]].returns_at = Some(at),
            }
            events.push(Event { operation, returns_at: None, previous: at - 1, next: (at + 1) % (order.len() + 1) });
        }
        Timeline { events }
    }

    fn first(&self) -> usize {
        self.events[ENDS].next
    }

    /// Takes out the operation that is called here.
    fn take(&mut self, at: usize) {
        let returns_at = self.events[at].returns_at.expect("a call");
        for at in [at, returns_at] {
            let Event { previous, next, .. } = self.events[at];
            self.events[previous].next = next;
            self.events[next].previous = previous;
        }
    }

    /// Undoes the last [`Timeline::take`] that is not undone yet.
    fn put_back(&mut self, at: usize) {
        let returns_at = self.events[at].returns_at.expect("a call");
        for at in [returns_at, at] {
            let Event { previous, next, .. } = self.events[at];
            self.events[previous].next = at;
            self.events[next].previous = at;
        }
    }
}

/// Is there an order in which each operation happens between its call and its return, and sees what it saw?
fn linearizable(operations: &[Settled]) -> bool {
    if operations.is_empty() {
        return true;
    }
    let mut timeline = Timeline::new(operations);
    let mut value = NOTHING;
    let mut done = vec![0_u64; operations.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, u64)> = HashSet::new();
    let mut path: Vec<(usize, u64)> = Vec::new();
    let mut at = timeline.first();
    while timeline.first() != ENDS {
        let operation = timeline.events[at].operation;
        if timeline.events[at].returns_at.is_none() {
            // It has to have happened by now, and nothing that was called could go before it: the last choice was wrong.
            let Some((taken, before)) = path.pop() else { return false };
            value = before;
            let undone = timeline.events[taken].operation;
            done[undone / 64] &= !(1 << (undone % 64));
            timeline.put_back(taken);
            at = timeline.events[taken].next;
            continue;
        }
        if let Some(after) = operations[operation].effect.after(value) {
            done[operation / 64] |= 1 << (operation % 64);
            if tried.insert((done.clone(), after)) {
                path.push((at, value));
                value = after;
                timeline.take(at);
                at = timeline.first();
                continue;
            }
            done[operation / 64] &= !(1 << (operation % 64));
        }
        at = timeline.events[at].next;
    }
    true
}

/// All that was ever written, as a watch from the first revision tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// By key, then by revision: the value from then on.
    pub keys: BTreeMap<String, BTreeMap<u64, u64>>,
}

impl Log {
    /// The value at a revision.
    fn at(&self, key: &str, revision: u64) -> u64 {
        let values = self.keys.get(key).and_then(|values| values.range(..=revision).next_back());
        values.map_or(NOTHING, |(_, &value)| value)
    }

    /// Fails with the first outcome that the log contradicts.
    pub fn check(&self, history: &[Operation]) -> Result<(), String> {
        self.check_outcomes(history)?;
        self.check_origins(history)?;
        check_order_in_time(history)?;
        check_connections(history)
    }

    fn check_outcomes(&self, history: &[Operation]) -> Result<(), String> {
        for operation in history {
            let Operation { key, .. } = operation;
            let good = match (operation.outcome, operation.action) {
                (Outcome::Unknown, _) => true,
                (Outcome::Saw { value, revision }, _) => self.at(key, revision) == value,
                (Outcome::Wrote { revision }, action) => {
                    let before = matches!(action, Action::Swap { old, .. } if self.at(key, revision - 1) != old);
                    let written = self.keys.get(key).and_then(|values| values.get(&revision));
                    !before && written == operation.writes().as_ref()
                }
            };
            if !good {
                return Err(format!("the log does not agree with {operation:?}"));
            }
        }
        Ok(())
    }

    /// Every value in the log was put there by an operation, and no value twice.
    fn check_origins(&self, history: &[Operation]) -> Result<(), String> {
        let mut written: HashSet<(&str, u64)> =
            history.iter().filter_map(|operation| Some((&*operation.key, operation.writes()?))).collect();
        for (key, values) in &self.keys {
            for (revision, &value) in values {
                if !written.remove(&(&**key, value)) {
                    return Err(format!("{key:?} at {revision}: nobody wrote {value}, or it was written twice"));
                }
            }
        }
        Ok(())
    }
}

/// What is called after another operation has returned must not see or make an older state.
fn check_order_in_time(history: &[Operation]) -> Result<(), String> {
    let mut calls: Vec<(u64, &Operation, u64, bool)> = Vec::new();
    let mut returns: Vec<(u64, u64)> = Vec::new();
    for operation in history.iter().filter(|operation| operation.action != Action::Serializable) {
        match operation.outcome {
            Outcome::Unknown => continue,
            Outcome::Wrote { revision } => calls.push((operation.called, operation, revision, true)),
            Outcome::Saw { revision, .. } => calls.push((operation.called, operation, revision, false)),
        }
        let (.., revision, _) = *calls.last().expect("just pushed");
        returns.push((operation.returned, revision));
    }
    calls.sort_unstable_by_key(|call| call.0);
    returns.sort_unstable();
    let mut returns = returns.into_iter().peekable();
    let mut newest = 0;
    for (called, operation, revision, writes) in calls {
        while let Some((_, returned)) = returns.next_if(|&(at, _)| at < called) {
            newest = returned.max(newest);
        }
        if revision < newest || writes && revision == newest {
            return Err(format!("revision {newest} had returned before the call of {operation:?}"));
        }
    }
    Ok(())
}

/// The revisions that one connection tells never go back, whatever it was asked.
fn check_connections(history: &[Operation]) -> Result<(), String> {
    let mut told: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        told.entry(operation.connection).or_default().push(operation);
    }
    for operations in told.values_mut() {
        operations.sort_unstable_by_key(|operation| operation.called);
        let mut newest = 0;
        for operation in operations {
            if let Outcome::Wrote { revision } | Outcome::Saw { revision, .. } = operation.outcome {
                if revision < newest {
                    return Err(format!("revision {newest} was told before {operation:?} on its connection"));
                }
                newest = revision;
            }
        }
    }
    Ok(())
}
