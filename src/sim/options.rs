//! What a run draws before it begins (swarm testing): each kind of fault is off in half of the runs and has a rate of its own in the
//! others; so are the kinds of clients, and the settings of the members.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::network::Rates;
use crate::{base::limits::WATCH_QUEUE_BYTES_MAX, replica::ReadMode};

/// Everything that decides a run.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub size: u64,
    /// Events with faults.
    pub events: u64,
    pub network: Rates,
    pub faults: Faults,
    pub knobs: Knobs,
    pub load: Load,
    /// Kinds of faults and clients that are off, by name.
    pub without: Vec<String>,
    /// Injected faults that are left out, by their number in the run.
    pub skipped: Vec<u64>,
}

/// Rates per tenth of a second, in per mille.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The process ends.
    pub kill: u32,
    /// The machine loses its power, in the middle of a disk operation or between two effects.
    pub power: u32,
    /// Links are cut, or cuts end.
    pub cut: u32,
    pub clog: u32,
    /// The process stands still for up to some election timeouts.
    pub pause: u32,
    /// The clock jumps forwards.
    pub jump: u32,
    /// How fast or slow clocks are at most.
    pub drift_ppm: i64,
    /// The disk does nothing for seconds.
    pub stall: u32,
    /// A write or a sync fails.
    pub disk_error: u32,
    /// The disk is full for a while.
    pub disk_full: u32,
    /// A bit of an old part of a log flips.
    pub flip: u32,
    pub disk_us_max: u64,
    /// A rare message (a vote, a transfer, a whole state) meets one of the faults above that are on. Per message, not per time.
    pub ambush: u32,
    /// How long it takes at most until a process that has ended is started again.
    pub restart_us_max: u64,
}

/// Settings of the members.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    pub catchup_entries: u64,
    pub commit_changes_max: usize,
    pub compaction_batch: usize,
    pub pre_vote: bool,
    pub read_mode: ReadMode,
    pub election_ms: u64,
    /// Negative: none.
    pub quota_bytes: i64,
    /// The log's segments, each larger than the largest request, and its batches.
    pub segment_bytes: u64,
    pub batch_bytes_max: usize,
    /// Bytes of events that may wait for a client that watches.
    pub watch_queue_bytes: usize,
    /// What the page file can grow to. Every start clears as much memory.
    pub image_bytes: usize,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            catchup_entries: 100,
            commit_changes_max: 100,
            compaction_batch: 100,
            pre_vote: true,
            read_mode: ReadMode::Index,
            election_ms: 1000,
            quota_bytes: -1,
            segment_bytes: 64 << 10,
            batch_bytes_max: 8 << 10,
            watch_queue_bytes: WATCH_QUEUE_BYTES_MAX,
            image_bytes: 16 << 20,
        }
    }
}

/// How many clients of each kind there are, and how often each acts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub registers: usize,
    pub writers: usize,
    pub watchers: usize,
    pub leases: usize,
    pub locks: usize,
    /// Keep views, and copy page files.
    pub readers: usize,
    /// Compactions, defragmentations, flushes, transfers, alarms.
    pub operator: bool,
    /// Changes of the members.
    pub members: bool,
    pub pace_us: u64,
    pub value_bytes_max: usize,
}

impl Options {
    /// The options of a seed.
    #[must_use]
    pub fn draw(seed: u64, size: u64, events: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x0_5EED);
        let mut rate = |most: u32| if random.random() { random.random_range(1..=most) } else { 0 };
        let (lost, doubled) = (rate(200), rate(100));
        let capacity = [0, 2, 20][rate(2) as usize];
        let mut faults = Faults {
            kill: rate(60),
            power: rate(60),
            cut: rate(200),
            clog: rate(60),
            pause: rate(30),
            jump: rate(20),
            drift_ppm: i64::from(rate(45_000)),
            stall: rate(30),
            disk_error: rate(20),
            disk_full: rate(20),
            flip: rate(10),
            disk_us_max: [500, 5_000, 60_000][rate(2) as usize],
            ambush: 0,
            restart_us_max: 0,
        };
        let network = Rates {
            lost,
            doubled,
            delay_us_max: [2_000, 20_000, 150_000][rate(2) as usize],
            in_order: rate(1) > 0,
            capacity,
        };
        let knobs = Knobs {
            catchup_entries: [0, 5, 50, 5000][random.random_range(0..4)],
            commit_changes_max: [1, 50, 10_000][random.random_range(0..3)],
            compaction_batch: [1, 10, 1000][random.random_range(0..3)],
            pre_vote: random.random_range(0..4) > 0,
            read_mode: [ReadMode::Index, ReadMode::Lease, ReadMode::Log][random.random_range(0..3)],
            election_ms: [500, 1000, 1500][random.random_range(0..3)],
            quota_bytes: if random.random_range(0..12) == 0 { 256 << 10 } else { -1 },
            segment_bytes: [64 << 10, 128 << 10, 256 << 10][random.random_range(0..3)],
            batch_bytes_max: [8 << 10, 16 << 10, 32 << 10][random.random_range(0..3)],
            watch_queue_bytes: [100, 2_000, WATCH_QUEUE_BYTES_MAX][random.random_range(0..3)],
            image_bytes: if events > 20_000 { 64 << 20 } else { 2 << 20 },
        };
        let load = Load {
            registers: random.random_range(1..4),
            writers: random.random_range(0..4),
            watchers: random.random_range(0..3),
            leases: random.random_range(0..3),
            locks: if random.random() { 2 } else { 0 },
            operator: random.random(),
            members: size > 1 && random.random_range(0..3) == 0,
            pace_us: [5_000, 20_000, 100_000][random.random_range(0..3)],
            value_bytes_max: [16, 400, 3000][random.random_range(0..3)],
            readers: random.random_range(0..3),
        };
        // Drawn last, so that the other options of a seed stay as they were.
        faults.ambush = if random.random() { random.random_range(1..=400) } else { 0 };
        faults.restart_us_max = [20_000, 300_000, 2_000_000][random.random_range(0..3)];
        Self { seed, size, events, network, faults, knobs, load, without: Vec::new(), skipped: Vec::new() }
    }

    /// The names that [`Options::switch_off`] knows.
    pub const NAMES: [&str; 24] = [
        "lost",
        "doubled",
        "capacity",
        "kill",
        "power",
        "cut",
        "clog",
        "pause",
        "jump",
        "drift",
        "stall",
        "disk-error",
        "disk-full",
        "flip",
        "ambush",
        "quota",
        "writers",
        "watchers",
        "leases",
        "locks",
        "readers",
        "operator",
        "members",
        "slow-disk",
    ];

    /// The same run without one kind of fault or client. False: it was off already, or there is no such name.
    pub fn switch_off(&mut self, name: &str) -> bool {
        let (faults, load) = (&mut self.faults, &mut self.load);
        let was_on = match name {
            "lost" => std::mem::take(&mut self.network.lost) > 0,
            "doubled" => std::mem::take(&mut self.network.doubled) > 0,
            "capacity" => std::mem::take(&mut self.network.capacity) > 0,
            "kill" => std::mem::take(&mut faults.kill) > 0,
            "power" => std::mem::take(&mut faults.power) > 0,
            "cut" => std::mem::take(&mut faults.cut) > 0,
            "clog" => std::mem::take(&mut faults.clog) > 0,
            "pause" => std::mem::take(&mut faults.pause) > 0,
            "jump" => std::mem::take(&mut faults.jump) > 0,
            "drift" => std::mem::take(&mut faults.drift_ppm) > 0,
            "stall" => std::mem::take(&mut faults.stall) > 0,
            "disk-error" => std::mem::take(&mut faults.disk_error) > 0,
            "disk-full" => std::mem::take(&mut faults.disk_full) > 0,
            "flip" => std::mem::take(&mut faults.flip) > 0,
            "ambush" => std::mem::take(&mut faults.ambush) > 0,
            "quota" => std::mem::replace(&mut self.knobs.quota_bytes, -1) >= 0,
            "writers" => std::mem::take(&mut load.writers) > 0,
            "watchers" => std::mem::take(&mut load.watchers) > 0,
            "leases" => std::mem::take(&mut load.leases) > 0,
            "locks" => std::mem::take(&mut load.locks) > 0,
            "readers" => std::mem::take(&mut load.readers) > 0,
            "operator" => std::mem::take(&mut load.operator),
            "members" => std::mem::take(&mut load.members),
            "slow-disk" => std::mem::replace(&mut faults.disk_us_max, 500) > 500,
            _ => false,
        };
        if was_on {
            self.without.push(name.to_owned());
        }
        was_on
    }

    /// The variables that play this run again.
    #[must_use]
    pub fn to_replay(&self) -> String {
        let mut text = format!("{},{},{}", self.seed, self.size, self.events);
        for name in &self.without {
            text += &format!(",-{name}");
        }
        for number in &self.skipped {
            text += &format!(",!{number}");
        }
        text
    }

    /// The run of a text made by [`Options::to_replay`].
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn of_replay(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let mut number = |what: &str| {
            let part = parts.next().ok_or(format!("{what} is missing in {text:?}"))?;
            part.parse::<u64>().map_err(|error| format!("{what} in {text:?}: {error}"))
        };
        let mut options = Self::draw(number("the seed")?, number("the size")?, number("the count of events")?);
        for part in parts {
            match part.split_at_checked(1) {
                Some(("-", name)) if Self::NAMES.contains(&name) => {
                    options.switch_off(name);
                }
                Some(("!", fault)) => options.skipped.push(fault.parse().map_err(|_| format!("{part:?} in {text:?}"))?),
                _ => return Err(format!("{part:?} in {text:?} is no part of a run")),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_written_and_read() {
        let mut options = Options::draw(7, 3, 500);
        let off: Vec<&str> = Options::NAMES.into_iter().filter(|name| options.switch_off(name)).collect();
        assert!(off.len() > 3);
        options.skipped.push(4);
        let text = options.to_replay();
        let read = Options::of_replay(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{options:?}"));
        for bad in ["", "1,2", "1,2,x", "1,2,3,-nothing", "1,2,3,!x", "1,2,3,"] {
            assert!(Options::of_replay(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_fault_is_off_in_some_runs_and_on_in_others() {
        for name in Options::NAMES {
            let on = (0..200).filter(|seed| Options::draw(*seed, 3, 1).switch_off(name)).count();
            assert!((5..195).contains(&on), "{name} is on in {on} of 200");
        }
    }
}
