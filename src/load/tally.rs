//! Counted requests: a histogram of latencies for each kind, in nanoseconds, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::plan::Kind;

const DIGITS: u8 = 3;

/// Latencies of the requests that were answered, and the number of those that were refused.
#[derive(Clone)]
pub struct Tally {
    pub latencies: Histogram<u64>,
    pub refused: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { latencies: Histogram::new(DIGITS).expect("three digits are allowed"), refused: 0 }
    }
}

impl Tally {
    pub fn count(&mut self, latency: Duration, is_answered: bool) {
        match is_answered {
            true => self.latencies += u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX),
            false => self.refused += 1,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.latencies += &other.latencies;
        self.refused += other.refused;
    }

    pub fn requests(&self) -> u64 {
        self.latencies.len() + self.refused
    }

    /// In microseconds.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }

    pub fn mean_us(&self) -> f64 {
        self.latencies.mean() / 1e3
    }

    pub fn max_us(&self) -> f64 {
        self.latencies.max() as f64 / 1e3
    }
}

/// A tally for each kind.
#[derive(Clone, Default)]
pub struct Tallies([Tally; Kind::ALL.len()]);

impl Tallies {
    pub fn of(&mut self, kind: Kind) -> &mut Tally {
        &mut self.0[kind as usize]
    }

    /// The kinds that came.
    pub fn present(&self) -> impl Iterator<Item = (Kind, &Tally)> {
        Kind::ALL.into_iter().map(|kind| (kind, &self.0[kind as usize])).filter(|(_, tally)| tally.requests() > 0)
    }

    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.0.iter().for_each(|tally| total.add(tally));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_all_that_was_answered() {
        let mut tallies = Tallies::default();
        for millisecond in 1..=1000 {
            tallies.of(Kind::Put).count(Duration::from_millis(millisecond), true);
        }
        tallies.of(Kind::Txn).count(Duration::ZERO, false);
        let total = tallies.total();
        assert_eq!((total.requests(), total.refused), (1001, 1));
        for (quantile, us) in [(0.5, 500e3), (0.99, 990e3), (1.0, 1000e3)] {
            assert!(
                (total.quantile_us(quantile) / us - 1.0).abs() < 0.002,
                "{quantile}: {}",
                total.quantile_us(quantile)
            );
        }
        assert_eq!(tallies.present().map(|(kind, _)| kind).collect::<Vec<_>>(), [Kind::Put, Kind::Txn]);
    }
}
