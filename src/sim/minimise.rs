//! A failed run made smaller: fewer events, fewer kinds of faults and clients, fewer faults. Each try is a whole run, so their number
//! is bounded; what is left still fails, in whatever way.

use super::{
    options::Options,
    world::{Violation, World},
};

/// The smallest failing run that was found.
#[must_use]
pub fn minimise(options: &Options, violation: Violation, tries_max: u32) -> (Options, Violation) {
    let mut best = Best { options: options.clone(), violation, tries: tries_max };
    best.shorten();
    for name in Options::NAMES {
        let mut fewer = best.options.clone();
        if fewer.switch_off(name) {
            best.try_run(fewer);
        }
    }
    best.drop_faults();
    (best.options, best.violation)
}

struct Best {
    options: Options,
    violation: Violation,
    tries: u32,
}

impl Best {
    /// Keeps a run, if it fails.
    fn try_run(&mut self, options: Options) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        match World::run(&options) {
            Ok(_) => false,
            Err(violation) => {
                (self.options, self.violation) = (options, violation);
                self.shorten();
                true
            }
        }
    }

    /// Nothing after the violation is needed.
    fn shorten(&mut self) {
        self.options.events = self.options.events.min(self.violation.events + 1);
    }

    /// Leaves out halves of the faults, then quarters, and so on.
    fn drop_faults(&mut self) {
        let mut chunk = self.violation.faults.div_ceil(2);
        while chunk > 0 && self.tries > 0 {
            let mut first = 1;
            while first <= self.violation.faults {
                let mut fewer = self.options.clone();
                let chosen = first..(first + chunk);
                let more: Vec<u64> = chosen.filter(|number| !fewer.skipped.contains(number)).collect();
                if !more.is_empty() {
                    fewer.skipped.extend(more);
                    self.try_run(fewer);
                }
                first += chunk;
            }
            chunk /= 2;
        }
        self.options.skipped.sort_unstable();
    }
}

/// A failed run for people: what went wrong, what led to it, and how to see it again.
#[must_use]
pub fn told(options: &Options, violation: &Violation) -> String {
    let Options { size, network, faults, knobs, load, .. } = options;
    format!(
        "{violation}\n\n{size} members, {network:?}\n{faults:?}\n{knobs:?}\n{load:?}\n\n{}\n\nAgain: make simulate REPLAY={}",
        violation.story,
        options.to_replay()
    )
}
