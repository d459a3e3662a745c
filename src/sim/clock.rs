//! The clock of one machine: it runs faster or slower than the world's, and may jump forwards.
//!
//! A member reads it in milliseconds, and its timers run at its speed. It never goes back, as `CLOCK_BOOTTIME` does not.

/// A clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Parts per million by which it is fast (or slow, if negative).
    rate_ppm: i64,
    jumped_us: u64,
}

const MILLION: i64 = 1_000_000;

impl Clock {
    #[must_use]
    pub fn new(rate_ppm: i64) -> Self {
        Self { rate_ppm, jumped_us: 0 }
    }

    /// What it shows when the world's time is `now_us`.
    #[must_use]
    pub fn now_ms(&self, now_us: u64) -> u64 {
        (scaled(now_us, MILLION + self.rate_ppm, MILLION) + self.jumped_us) / 1000
    }

    /// After how much of the world's time a timer of `after_ms` runs out.
    #[must_use]
    pub fn wait_us(&self, after_ms: u64) -> u64 {
        scaled(after_ms * 1000, MILLION, MILLION + self.rate_ppm)
    }

    pub fn jump(&mut self, by_us: u64) {
        self.jumped_us += by_us;
    }
}

fn scaled(value: u64, by: i64, of: i64) -> u64 {
    (u128::from(value) * u128::from(by.unsigned_abs()) / u128::from(of.unsigned_abs())) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_and_its_timers_run_out_earlier() {
        let mut clock = Clock::new(50_000);
        assert_eq!((clock.now_ms(1_000_000), clock.wait_us(1050)), (1050, 1_000_000));
        clock.jump(7_000);
        assert_eq!(clock.now_ms(0), 7);
        assert_eq!(Clock::new(-50_000).now_ms(1_000_000), 950);
    }
}
