//! What the measurements of all rounds say: medians, their spread, and the verdict in words.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    measure::{Measurement, QUANTILES, Work},
    subject::Subject,
};

/// ringbench has one core; beyond this part of it the server may not have been what limits.
const CLIENT_BUSY: f64 = 0.9;
/// Figures of a machine that servers and load share vary by so much anyway.
const ALIKE: f64 = 0.02;

/// The middle of all rounds, and the least and the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.sort_by(f64::total_cmp);
        let (Some(least), Some(greatest)) = (numbers.first(), numbers.last()) else { return Self::default() };
        let median = f64::midpoint(numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
        Self { median, least: *least, greatest: *greatest }
    }

    fn json(self) -> Value {
        json!({"median": self.median, "least": self.least, "greatest": self.greatest})
    }
}

/// One load on one server, over all rounds.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) server: usize,
    pub(super) work: Work,
    pub(super) offered: Option<f64>,
    pub(super) per_second: Spread,
    pub(super) p50_us: Spread,
    pub(super) p99_us: Spread,
    pub(super) cpu_us: Spread,
    pub(super) written: Spread,
    pub(super) client_cores: f64,
    pub(super) refused: u64,
    /// Medians of the quantiles in [`QUANTILES`].
    pub(super) curve_us: Vec<f64>,
    /// In most of the rounds.
    pub(super) keeps_up: bool,
}

impl Finding {
    fn of(server: usize, of_all: &[&Measurement]) -> Self {
        let first = of_all[0];
        let spread = |of: fn(&Measurement) -> f64| Spread::of(of_all.iter().map(|one| of(one)));
        let curve = |at: usize| Spread::of(of_all.iter().map(|one| one.latencies_us[at])).median;
        Self {
            server,
            work: first.work,
            offered: first.offered,
            per_second: spread(|one| one.per_second),
            p50_us: spread(|one| one.at(0.5)),
            p99_us: spread(|one| one.at(0.99)),
            cpu_us: spread(|one| one.server_cpu_us),
            written: spread(|one| one.written),
            client_cores: spread(|one| one.client_cores).median,
            refused: of_all.iter().map(|one| one.refused).sum(),
            curve_us: (0..QUANTILES.len()).map(curve).collect(),
            keeps_up: 2 * of_all.iter().filter(|one| one.keeps_up).count() > of_all.len(),
        }
    }
}

/// Everything that was found.
pub(super) struct Findings {
    pub(super) names: Vec<String>,
    pub(super) all: Vec<Finding>,
    measured: Vec<Measurement>,
}

impl Findings {
    pub(super) fn new(subjects: &[Subject], measured: &[Measurement]) -> Self {
        let names: Vec<String> = subjects.iter().map(|subject| subject.name.clone()).collect();
        let mut all: Vec<Finding> = Vec::new();
        for (server, name) in names.iter().enumerate() {
            for one in measured.iter().filter(|one| one.server == *name) {
                let is_same = |other: &Measurement| {
                    other.server == *name && other.work == one.work && other.offered == one.offered
                };
                let is_known = all
                    .iter()
                    .any(|known| known.server == server && known.work == one.work && known.offered == one.offered);
                if !is_known {
                    all.push(Finding::of(server, &measured.iter().filter(|other| is_same(other)).collect::<Vec<_>>()));
                }
            }
        }
        Self { names, all, measured: measured.to_vec() }
    }

    /// What the closed loop found.
    pub(super) fn peak(&self, server: usize, work: Work) -> Option<&Finding> {
        self.all.iter().find(|one| one.server == server && one.work == work && one.offered.is_none())
    }

    /// What was found at each offered rate, from the lowest on.
    pub(super) fn ladder(&self, server: usize, work: Work) -> impl Iterator<Item = &Finding> {
        self.all.iter().filter(move |one| one.server == server && one.work == work && one.offered.is_some())
    }

    /// The highest rate up to which the server keeps up with each: the knee of its curve.
    pub(super) fn knee(&self, server: usize, work: Work) -> Option<f64> {
        self.ladder(server, work).take_while(|one| one.keeps_up).last()?.offered
    }

    /// The highest rate that all servers keep up with.
    pub(super) fn common_rate(&self, work: Work) -> Option<f64> {
        let knees: Option<Vec<f64>> = (0..self.names.len()).map(|server| self.knee(server, work)).collect();
        knees?.into_iter().min_by(f64::total_cmp)
    }

    /// One sentence for each work and server, beside the first.
    pub(super) fn verdict(&self) -> String {
        let mut text = String::new();
        for work in Work::ALL {
            for server in 1..self.names.len() {
                let (Some(first), Some(other)) = (self.peak(0, work), self.peak(server, work)) else { continue };
                let (first_name, other_name) = (&self.names[0], &self.names[server]);
                let _ = write!(text, "{}: {first_name} serves ", work.name());
                text += &compared(first.per_second, other.per_second, "as many requests a second as");
                let _ = write!(text, " {other_name}, with ");
                text += &compared(first.cpu_us, other.cpu_us, "as much CPU for each");
                text += ".\n";
            }
        }
        text + &self.cautions()
    }

    /// What a reader has to know of these figures.
    fn cautions(&self) -> String {
        let mut text = String::new();
        for one in self.all.iter().filter(|one| one.offered.is_none() && one.client_cores > CLIENT_BUSY) {
            let (name, work, share) = (&self.names[one.server], one.work.name(), 100.0 * one.client_cores);
            let _ = writeln!(
                text,
                "{work}, {name}: ringbench used {share:.0} % of a core, so the server may do more than this."
            );
        }
        for one in self.all.iter().filter(|one| one.refused > 0) {
            let (name, work) = (&self.names[one.server], one.work.name());
            let _ = writeln!(text, "{work}, {name}: {} requests were refused.", one.refused);
        }
        text
    }

    /// The medians, and every measurement.
    pub(super) fn json(&self) -> Value {
        let medians = self.all.iter().map(|one| {
            json!({
                "server": self.names[one.server], "work": one.work.name(), "offered": one.offered, "keeps_up": one.keeps_up,
                "per_second": one.per_second.json(), "p50_us": one.p50_us.json(), "p99_us": one.p99_us.json(),
                "server_cpu_us": one.cpu_us.json(), "written_bytes": one.written.json(), "refused": one.refused,
                "curve_us": one.curve_us,
            })
        });
        let raw = self.measured.iter().map(|one| {
            json!({
                "server": one.server, "round": one.round, "work": one.work.name(), "offered": one.offered,
                "per_second": one.per_second, "keeps_up": one.keeps_up, "refused": one.refused, "latencies_us": one.latencies_us, "max_us": one.max_us,
                "server_cpu_us": one.server_cpu_us, "written_bytes": one.written, "client_cores": one.client_cores,
            })
        });
        json!({"quantiles": QUANTILES, "medians": medians.collect::<Vec<_>>(), "measurements": raw.collect::<Vec<_>>()})
    }
}

/// A ratio with its spread; or that there is no difference to be seen.
fn compared(first: Spread, other: Spread, what: &str) -> String {
    let ratio = first.median / other.median.max(1e-9);
    let (least, greatest) = (first.least / other.greatest.max(1e-9), first.greatest / other.least.max(1e-9));
    if (least <= 1.0 && greatest >= 1.0) || (ratio - 1.0).abs() < ALIKE {
        return format!("{what} (the difference is within the noise: {least:.2} to {greatest:.2} times)");
    }
    format!("{ratio:.2} times ({least:.2} to {greatest:.2}) {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(server: &str, round: usize, offered: Option<f64>, per_second: f64) -> Measurement {
        Measurement {
            server: server.to_owned(),
            round,
            work: Work::Put,
            offered,
            per_second,
            keeps_up: offered.is_none_or(|offered| per_second >= offered),
            refused: 0,
            latencies_us: QUANTILES.map(|quantile| 100.0 * quantile),
            max_us: 100.0,
            server_cpu_us: 1e6 / per_second,
            written: 0.0,
            client_cores: 0.5,
        }
    }

    fn findings(measured: &[Measurement]) -> Findings {
        let subject = |name: &str| Subject { name: name.to_owned(), program: name.into(), flags: Vec::new() };
        Findings::new(&[subject("a"), subject("b")], measured)
    }

    #[test]
    fn medians_and_spread_are_over_the_rounds() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0].into_iter()), Spread { median: 3.0, least: 1.0, greatest: 4.0 });
        assert_eq!(Spread::of([4.0, 2.0].into_iter()).median, 3.0);
        let found = findings(&[
            measurement("a", 1, None, 300.0),
            measurement("b", 1, None, 100.0),
            measurement("a", 2, None, 500.0),
        ]);
        assert_eq!((found.all.len(), found.peak(0, Work::Put).map(|one| one.per_second.median)), (2, Some(400.0)));
        assert!(found.peak(0, Work::Serializable).is_none());
    }

    #[test]
    fn the_knee_is_before_the_first_rate_that_is_too_high() {
        let mut measured = Vec::new();
        for (server, most) in [("a", 450.0), ("b", 250.0)] {
            for offered in [100.0, 200.0, 400.0, 800.0] {
                measured.push(measurement(server, 1, Some(offered), f64::min(offered, most)));
            }
        }
        let found = findings(&measured);
        assert_eq!((found.knee(0, Work::Put), found.knee(1, Work::Put)), (Some(400.0), Some(200.0)));
        assert_eq!((found.common_rate(Work::Put), found.common_rate(Work::Linearizable)), (Some(200.0), None));
    }

    #[test]
    fn a_verdict_tells_differences_from_noise() {
        let far = findings(&[measurement("a", 1, None, 300.0), measurement("b", 1, None, 100.0)]);
        let text = far.verdict();
        assert!(text.starts_with("put: a serves 3.00 times (3.00 to 3.00) as many requests a second as b"), "{text}");
        assert!(text.contains("with 0.33 times"), "{text}");
        let near = findings(&[
            measurement("a", 1, None, 300.0),
            measurement("b", 1, None, 250.0),
            measurement("a", 2, None, 220.0),
            measurement("b", 2, None, 260.0),
        ]);
        assert!(near.verdict().contains("within the noise"), "{}", near.verdict());
    }
}
