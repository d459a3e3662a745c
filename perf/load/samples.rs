//! Measurements: latencies and their quantiles, the memory of the server, the time of a command.

use std::{
    ffi::OsString,
    fmt, fs,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use crate::AnyError;

/// Latencies in microseconds, and how many calls were refused.
#[derive(Default)]
pub struct Samples {
    microseconds: Vec<u32>,
    refused: u64,
}

impl Samples {
    pub fn add(&mut self, latency: Duration) {
        self.microseconds.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    pub fn count(&self) -> usize {
        self.microseconds.len()
    }

    pub fn sort(&mut self) {
        self.microseconds.sort_unstable();
    }

    /// Of sorted samples; 0 if there are none.
    fn quantile(&self, part: f64) -> u32 {
        let position = (self.count() as f64 * part).ceil() as usize;
        self.microseconds.get(position.max(1) - 1).or(self.microseconds.last()).copied().unwrap_or(0)
    }
}

/// `p50 p99 p99.9 longest refused`, of sorted samples.
impl fmt::Display for Samples {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, longest] = [0.5, 0.99, 0.999, 1.0].map(|part| self.quantile(part));
        write!(formatter, "{p50} {p99} {p999} {longest} {}", self.refused)
    }
}

/// Samples the anonymous memory of a process.
pub struct Memory {
    process: Option<u32>,
    next: Instant,
    pub begin_mb: u64,
    pub peak_mb: u64,
}

impl Memory {
    const INTERVAL: Duration = Duration::from_millis(20);

    /// Of no process: 0.
    pub fn of(process: Option<u32>) -> Result<Memory, AnyError> {
        let now_mb = process.map(anonymous_mb).transpose()?.unwrap_or(0);
        Ok(Memory { process, next: Instant::now(), begin_mb: now_mb, peak_mb: now_mb })
    }

    pub fn look(&mut self, now: Instant) -> Result<(), AnyError> {
        if let Some(process) = self.process
            && now >= self.next
        {
            self.next = now + Self::INTERVAL;
            self.peak_mb = self.peak_mb.max(anonymous_mb(process)?);
        }
        Ok(())
    }

    /// The time of the next sample.
    pub fn next(&self) -> Instant {
        match self.process {
            Some(_) => self.next,
            None => Instant::now() + Self::INTERVAL,
        }
    }
}

fn anonymous_mb(process: u32) -> Result<u64, AnyError> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon in /proc")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kilobytes / 1024)
}

/// How long a load lasts: a time, or as long as a command runs.
pub enum Span {
    Until(Instant),
    Running { child: Child, begin: Instant, end: Option<(Duration, ExitStatus)> },
}

impl Span {
    /// Time between two checks of a command.
    const INTERVAL: Duration = Duration::from_millis(2);

    pub fn begin(seconds: f64, command: &[OsString]) -> Result<Span, AnyError> {
        let begin = Instant::now();
        let Some((program, arguments)) = command.split_first() else {
            return Ok(Span::Until(begin + Duration::from_secs_f64(seconds)));
        };
        let child = Command::new(program).args(arguments).spawn()?;
        Ok(Span::Running { child, begin, end: None })
    }

    pub fn over(&mut self, now: Instant) -> Result<bool, AnyError> {
        match self {
            Span::Until(end) => Ok(now >= *end),
            Span::Running { end: Some(_), .. } => Ok(true),
            Span::Running { child, begin, end } => {
                *end = child.try_wait()?.map(|status| (begin.elapsed(), status));
                Ok(end.is_some())
            }
        }
    }

    /// The time of the next check.
    pub fn next(&self, now: Instant) -> Instant {
        match self {
            Span::Until(end) => *end,
            Span::Running { .. } => now + Self::INTERVAL,
        }
    }

    /// Seconds that the command took; 0 without one.
    pub fn seconds(&self) -> f64 {
        match self {
            Span::Running { end: Some((took, _)), .. } => took.as_secs_f64(),
            _ => 0.0,
        }
    }

    /// Whether the command failed. Then the figures are of little use, so it is printed with them.
    pub fn failed(&self) -> bool {
        matches!(self, Span::Running { end: Some((_, status)), .. } if !status.success())
    }

    /// An error if the command failed, or has not ended when the load has.
    pub fn finish(self) -> Result<(), AnyError> {
        match self {
            Span::Running { mut child, end: None, .. } => {
                child.wait()?;
                Err("the load was over before the command".into())
            }
            Span::Running { end: Some((_, status)), .. } if !status.success() => {
                Err(format!("the command ended with {status}").into())
            }
            _ => Ok(()),
        }
    }
}
