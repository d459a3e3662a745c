//! `ringbench compare`: servers beside each other on this machine, and one page about it.
//!
//! ```text
//!   cluster (starts one server's members, one server at a time)
//!      └▶ measure: the same loads on each, in rounds A B, B A, ...  ─▶ findings (medians, spread, verdict)  ─▶ page (HTML) ◀─ plot (SVG)
//! ```
//!
//! In every round each server begins with an empty directory and the same keys, and gets each load twice: in a closed loop (how much it
//! can do), and in an open loop at the same offered rates for all servers (how long a request takes at that rate). The rates come from
//! a first look at all servers, which does not count. Only one server runs at a time.

mod cluster;
mod findings;
mod measure;
mod page;
mod plot;
mod subject;

use std::{fs, time::Duration};

pub use self::subject::Comparison;
use self::{
    findings::Findings,
    measure::{Measurement, Setting, Work},
    subject::Subject,
};
use super::AnyError;

/// Compares, writes the page, and returns the verdict.
///
/// # Errors
/// A server does not start, ends, or does not answer; the page cannot be written.
pub fn compare(comparison: &Comparison) -> Result<String, AnyError> {
    let subjects = comparison.servers.iter().map(|text| Subject::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if subjects.len() < 2 {
        return Err("a comparison needs at least two --server".into());
    }
    for (at, subject) in subjects.iter().enumerate() {
        if subjects[..at].iter().any(|other| other.name == subject.name) {
            return Err(format!("two servers are called {}", subject.name).into());
        }
    }
    if !(0.05..=3600.0).contains(&comparison.seconds) {
        return Err("--seconds is from 0.05 to 3600".into());
    }
    // What cannot be written at the end is better known before.
    fs::write(&comparison.out, "").map_err(|error| format!("{}: {error}", comparison.out.display()))?;
    let setting = Setting {
        members: usize::from(comparison.members),
        connections: usize::from(comparison.conns),
        clients: comparison.clients as usize,
        keys: comparison.key_space_size,
        value_size: comparison.val_size,
        duration: Duration::from_secs_f64(comparison.seconds),
        directory: comparison.directory.join(format!("ringbench-{}", std::process::id())),
    };
    let measured = measure_all(comparison, &setting, &subjects);
    // A failure may have come before there was one.
    let _removed = fs::remove_dir_all(&setting.directory);
    let findings = Findings::new(&subjects, &measured?);
    fs::write(&comparison.out, page::html(comparison, &subjects, &findings))
        .map_err(|error| format!("{}: {error}", comparison.out.display()))?;
    Ok(findings.verdict())
}

fn measure_all(comparison: &Comparison, setting: &Setting, subjects: &[Subject]) -> Result<Vec<Measurement>, AnyError> {
    let tell = |text: &str| {
        if !comparison.quiet {
            eprintln!("{text}");
        }
    };
    let mut peaks = [0.0_f64; Work::ALL.len()];
    for subject in subjects {
        for look in measure::round(setting, subject, 0, &[const { Vec::new() }; Work::ALL.len()], &tell)? {
            let peak = &mut peaks[look.work as usize];
            *peak = peak.max(look.per_second);
        }
    }
    let rates = peaks.map(|peak| ladder(peak, usize::from(comparison.rates)));
    let mut measured = Vec::new();
    for round in 1..=usize::from(comparison.rounds) {
        for turn in 0..subjects.len() {
            // Whoever was last is first in the next round: a drift of the machine affects all alike.
            let at = if round % 2 == 1 { turn } else { subjects.len() - 1 - turn };
            measured.extend(measure::round(setting, &subjects[at], round, &rates, &tell)?);
        }
    }
    Ok(measured)
}

/// Offered rates up to the best peak: half of them below a quarter of it, where the slower servers are.
fn ladder(peak: f64, count: usize) -> Vec<f64> {
    let lowest = (peak / 40.0).max(10.0);
    let step = (peak.max(lowest) / lowest).powf(1.0 / (count - 1) as f64);
    (0..count).map(|at| two_digits(lowest * step.powi(i32::try_from(at).unwrap_or(i32::MAX)))).collect()
}

/// A round number near this one.
fn two_digits(number: f64) -> f64 {
    let unit = 10_f64.powf(number.log10().floor() - 1.0);
    (number / unit).round() * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_to_the_peak() {
        let rates = ladder(123_456.0, 6);
        assert_eq!((rates.len(), rates[0], rates[5]), (6, 3100.0, 120_000.0));
        assert!(rates.windows(2).all(|pair| pair[0] < pair[1]), "{rates:?}");
        assert_eq!(ladder(0.0, 2), [10.0, 10.0]);
    }
}
