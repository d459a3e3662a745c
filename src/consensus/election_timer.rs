//! When to start an election: the crate's rule with a seeded generator instead of the thread's.

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::input::Role;

/// The crate's own timeout, which is never reached, so that only this timer starts elections.
pub(super) const OUT_OF_REACH_TICKS: usize = usize::MAX / 2;

/// The state for which a timeout is drawn. The crate draws a new one when it resets its state; each change of era is such a reset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Era {
    pub term: u64,
    pub leader: u64,
    pub role: Role,
}

/// Timeouts in `[T, 2T - 1]` ticks, as etcd's.
pub(super) struct ElectionTimer {
    random: SmallRng,
    election_ticks: usize,
    timeout_ticks: usize,
    era: Option<Era>,
}

impl ElectionTimer {
    pub fn new(election_ticks: usize, seed: u64, member_id: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ member_id.rotate_left(32));
        let timeout_ticks = random.random_range(election_ticks..2 * election_ticks);
        ElectionTimer { random, election_ticks, timeout_ticks, era: None }
    }

    /// Whether `elapsed_ticks` without a message of the leader exceed the timeout. Each timeout is used once.
    pub fn expired(&mut self, elapsed_ticks: usize, era: Era) -> bool {
        if self.era != Some(era) {
            self.era = Some(era);
            self.draw();
        }
        if elapsed_ticks < self.timeout_ticks {
            return false;
        }
        self.draw();
        true
    }

    fn draw(&mut self) {
        self.timeout_ticks = self.random.random_range(self.election_ticks..2 * self.election_ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_cover_the_range_and_repeat_with_the_seed() {
        let draw_all = |seed| {
            let mut timer = ElectionTimer::new(10, seed, 7);
            (0..500u64)
                .map(|term| {
                    let era = Era { term, leader: 0, role: Role::Follower };
                    (1..).find(|ticks| timer.expired(*ticks, era))
                })
                .collect::<Vec<_>>()
        };
        let drawn = draw_all(1);
        assert_eq!(drawn, draw_all(1));
        assert_ne!(drawn, draw_all(2));
        assert_eq!(drawn.iter().min(), Some(&Some(10)));
        assert_eq!(drawn.iter().max(), Some(&Some(19)));
    }
}
