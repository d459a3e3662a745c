//! What clients did and saw, and the checkers of it, which the simulator has, too.

pub use ringd::sim::checkers::linearizable::{Action, Log, NOTHING, Operation, Outcome, check_linearizable};
