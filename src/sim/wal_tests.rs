//! The log on a disk that loses power: many lives of one log, each ended at some moment, each replay compared with a naive
//! model. `RINGD_SEEDS` raises the number of runs, `RINGD_SEED` repeats one.

use std::{env, thread};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    disk::{Disk, DiskError},
    log_files::{DIRECTORY, HostError},
    wal_host::{Accepted, WalHost},
};
use crate::{
    base::log_entry::{ConfState, EntryKind, HardState, LogEntry},
    wal::{Config, Contents, Metadata, ReplayError, SnapshotMarker},
};

const METADATA: Metadata = Metadata { cluster_id: 0xc1, member_id: 0x3e };
const LIVES: u32 = 4;
const SEEDS_DEFAULT: u64 = 20_000;

/// The content of a log, as a model.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    hard_state: HardState,
    marker: Option<SnapshotMarker>,
    entries: Vec<LogEntry>,
    last_index: u64,
}

#[derive(Clone, Debug, Default)]
struct Effect {
    restart: bool,
    marker: Option<SnapshotMarker>,
    entries: Vec<LogEntry>,
    hard_state: Option<HardState>,
}

impl State {
    fn apply(&mut self, effect: &Effect) {
        if let Some(marker) = &effect.marker {
            self.marker = Some(marker.clone());
            if effect.restart {
                self.entries.clear();
                self.last_index = marker.index;
            }
        }
        if let Some(first) = effect.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(&effect.entries);
            self.last_index = effect.entries[effect.entries.len() - 1].index;
        }
        self.hard_state = effect.hard_state.unwrap_or(self.hard_state);
    }
}

/// All issued batches, and the last acknowledged one.
#[derive(Debug, Default)]
struct Model {
    /// After all batches up to `base_sequence`.
    base: State,
    base_sequence: u64,
    issued: Vec<Effect>,
    /// After everything issued.
    current: State,
    durable: u64,
    released: u64,
    /// A log existed: its first segment was reported ready, or seen.
    exists: bool,
}

impl Model {
    fn accept(&mut self, accepted: &Accepted, whole: Effect) {
        let mut entries = whole.entries.into_iter().peekable();
        for (sequence, last_index) in &accepted.batches {
            assert_eq!(*sequence, self.base_sequence + self.issued.len() as u64 + 1);
            let mut effect = Effect::default();
            while let Some(entry) = entries.next_if(|entry| entry.index <= *last_index) {
                effect.entries.push(entry);
            }
            if *sequence == accepted.sequence {
                effect.restart = whole.restart;
                effect.marker.clone_from(&whole.marker);
                effect.hard_state = whole.hard_state;
            }
            self.current.apply(&effect);
            self.issued.push(effect);
            assert_eq!(self.current.last_index, *last_index);
        }
        assert!(entries.next().is_none());
    }

    /// A replay ended after batch `sequence` with these contents: nothing acknowledged is missing, nothing is invented.
    fn check(&mut self, sequence: u64, contents: Contents, keep_after: u64) {
        let issued = self.base_sequence + self.issued.len() as u64;
        assert!(
            (self.durable..=issued).contains(&sequence),
            "batch {sequence} is the last, acknowledged {}, issued {issued}",
            self.durable
        );
        for effect in self.issued.drain(..).take((sequence - self.base_sequence) as usize) {
            self.base.apply(&effect);
        }
        self.base_sequence = sequence;
        self.durable = sequence;
        let marker = contents.snapshot.map(|marker| SnapshotMarker { restarts_log: false, ..marker });
        let found = State {
            hard_state: contents.hard_state,
            marker,
            entries: contents.entries,
            last_index: contents.last_index,
        };
        let mut expected = self.base.clone();
        expected.entries.retain(|entry| entry.index > keep_after);
        assert!(found == expected, "found {found:?}\nexpected {expected:?}");
        assert_eq!(contents.metadata, METADATA);
        self.current = self.base.clone();
        self.exists = true;
    }

    /// The first index that may still be replaced.
    fn floor(&self) -> u64 {
        self.released.max(self.current.marker.as_ref().map_or(0, |marker| marker.index))
    }
}

/// Counts over all runs, so that a test without effect is noticed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    replays: u64,
    cuts: u64,
    kept_beyond_acknowledged: u64,
    recycled: u64,
    segments_max: u64,
}

struct Run {
    random: SmallRng,
    disk: Disk,
    model: Model,
    pool: Bytes,
    seen: Seen,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut pool = vec![0; 64 * 1024];
        random.fill(&mut pool[20_000..50_000]);
        Self {
            disk: Disk::new(seed ^ 0xd15c),
            random,
            model: Model::default(),
            pool: Bytes::from(pool),
            seen: Seen::default(),
        }
    }

    fn config(&mut self) -> Config {
        let segment_bytes = 4096 * self.random.random_range(5..24);
        let first = 4096 * self.random.random_range(2..=5);
        Config {
            segment_bytes,
            first_segment_bytes: first,
            batch_bytes_max: [3_000, 10_000, 1 << 20][self.random.random_range(0..3)],
            salt: self.random.random(),
        }
    }

    /// Several lives of one log.
    fn lives(&mut self) -> Result<(), HostError> {
        let config = self.config();
        for _ in 0..LIVES {
            match self.random.random_range(0..4) {
                0 => {}
                1 => self.disk.cut_after(self.random.random_range(0..20)),
                _ => self.disk.cut_after(self.random.random_range(0..200)),
            }
            let config = if self.random.random_bool(0.2) { self.config() } else { config };
            match self.life(config) {
                Ok(()) | Err(HostError::Disk(DiskError::PowerOff)) => {}
                Err(error) => return Err(error),
            }
            if self.random.random_bool(0.3) {
                self.disk.kill();
            } else {
                self.disk.power_cut();
            }
        }
        self.open(config).map(drop)
    }

    fn life(&mut self, config: Config) -> Result<(), HostError> {
        let mut host = self.open(config)?;
        let name = format!("{DIRECTORY}{:016x}", 1);
        for _ in 0..self.random.random_range(0..120) {
            self.act(&mut host)?;
            self.model.durable = host.wal().durable();
            let first = self.disk.list()?.iter().any(|(listed, _)| listed.starts_with(&name));
            self.seen.recycled += u64::from(!first && self.model.exists);
            self.seen.segments_max = self.seen.segments_max.max(self.disk.list()?.len() as u64);
        }
        Ok(())
    }

    fn open(&mut self, config: Config) -> Result<WalHost, HostError> {
        let top = self.model.base.last_index.max(self.model.released);
        let keep_after = self.random.random_range(self.model.released..=top);
        match WalHost::open(&mut self.disk, config, keep_after) {
            Ok((host, contents)) => {
                self.seen.replays += 1;
                self.seen.cuts += u64::from(contents.cut.is_some());
                let sequence = host.wal().sequence();
                self.seen.kept_beyond_acknowledged += u64::from(sequence > self.model.durable);
                self.model.check(sequence, contents, keep_after);
                Ok(host)
            }
            Err(HostError::Replay(ReplayError::Empty)) => {
                assert_eq!((self.model.durable, self.model.exists), (0, false));
                self.model = Model::default();
                WalHost::create(&mut self.disk, config, METADATA)
            }
            Err(error) => Err(error),
        }
    }

    fn act(&mut self, host: &mut WalHost) -> Result<(), HostError> {
        match self.random.random_range(0..100) {
            0..40 => self.append(host),
            40..44 => self.mark(host),
            44..74 => host.complete(&mut self.disk).map(drop),
            74..86 => host.work(&mut self.disk).map(drop),
            86..94 => {
                self.release(host);
                Ok(())
            }
            _ => {
                if let Some(accepted) = host.confirm() {
                    self.model.accept(&accepted, Effect::default());
                }
                host.write(&mut self.disk)
            }
        }
    }

    fn append(&mut self, host: &mut WalHost) -> Result<(), HostError> {
        let last = self.model.current.last_index;
        let mut first = last + 1;
        if self.random.random_bool(0.1) && self.model.floor() < last {
            first = self.random.random_range(self.model.floor() + 1..=last);
        }
        let count = match self.random.random_range(0..10) {
            0 => 0,
            1..8 => self.random.random_range(1..4),
            _ => self.random.random_range(1..30),
        };
        let entries: Vec<LogEntry> = (first..first + count).map(|index| self.entry(index)).collect();
        let hard_state = (count == 0 || self.random.random_bool(0.5)).then(|| self.hard_state());
        let accepted = host.append(hard_state, &entries)?;
        let whole = Effect { entries, hard_state, ..Effect::default() };
        self.model.accept(&accepted, whole);
        host.write(&mut self.disk)
    }

    fn entry(&mut self, index: u64) -> LogEntry {
        let length = match self.random.random_range(0..40) {
            0 => self.random.random_range(0..9_000),
            1..8 => 0,
            _ => self.random.random_range(1..700),
        };
        let start = self.random.random_range(0..self.pool.len() - length);
        LogEntry {
            index,
            term: self.random.random_range(1..4),
            kind: EntryKind::Normal,
            data: self.pool.slice(start..start + length),
        }
    }

    fn hard_state(&mut self) -> HardState {
        HardState {
            term: self.random.random_range(1..4),
            vote: self.random.random_range(0..4),
            commit: self.random.random_range(0..100),
        }
    }

    fn mark(&mut self, host: &mut WalHost) -> Result<(), HostError> {
        let (floor, last) = (self.model.floor(), self.model.current.last_index);
        let restarts_log = self.random.random_bool(0.3);
        let index = match restarts_log {
            true => floor + self.random.random_range(1..50),
            false if floor < last => self.random.random_range(floor + 1..=last),
            false => return Ok(()),
        };
        let marker = SnapshotMarker {
            index,
            term: self.random.random_range(1..4),
            conf_state: ConfState {
                voters: (0..self.random.random_range(0..5)).collect(),
                auto_leave: self.random.random(),
                ..ConfState::default()
            },
            restarts_log,
        };
        let hard_state = self.random.random::<bool>().then(|| self.hard_state());
        let accepted = host.save_snapshot_marker(marker.clone(), hard_state)?;
        let whole = Effect {
            restart: restarts_log,
            marker: Some(SnapshotMarker { restarts_log: false, ..marker }),
            hard_state,
            ..Effect::default()
        };
        self.model.accept(&accepted, whole);
        host.write(&mut self.disk)
    }

    /// Released entries were acknowledged, and no append on its way replaces them.
    fn release(&mut self, host: &mut WalHost) {
        let durable = (self.model.durable - self.model.base_sequence) as usize;
        let mut state = self.model.base.clone();
        let mut limit = u64::MAX;
        for (place, effect) in self.model.issued.iter().enumerate() {
            if place < durable {
                state.apply(effect);
            } else if let Some(first) = effect.entries.first() {
                limit = limit.min(first.index - 1);
            } else if effect.restart {
                limit = limit.min(effect.marker.as_ref().map_or(0, |marker| marker.index - 1));
            }
        }
        let limit = limit.min(state.last_index);
        if limit > self.model.released {
            self.model.released = self.random.random_range(self.model.released..=limit);
            host.release(self.model.released);
        }
    }
}

/// Prints the seed when a test fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failing seed: RINGD_SEED={}", self.0);
        }
    }
}

fn seeds(default: u64) -> (u64, u64) {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("RINGD_SEED") {
        Some(seed) => (seed, seed + 1),
        None => (0, number("RINGD_SEEDS").unwrap_or(default)),
    }
}

/// Runs `story` for every seed on two threads and adds up the counts.
fn each_seed(default: u64, story: fn(u64) -> Seen) -> Seen {
    let (from, to) = seeds(default);
    println!("seeds {from}..{to}");
    let half = move |odd: u64| {
        let mut sum = Seen::default();
        for seed in (from..to).filter(|seed| seed % 2 == odd) {
            let _named = Named(seed);
            let seen = story(seed);
            sum.replays += seen.replays;
            sum.cuts += seen.cuts;
            sum.kept_beyond_acknowledged += seen.kept_beyond_acknowledged;
            sum.recycled += u64::from(seen.recycled > 0);
            sum.segments_max = sum.segments_max.max(seen.segments_max);
        }
        sum
    };
    let odd = thread::spawn(move || half(1));
    let even = half(0);
    let odd = odd.join().expect("the other half holds, too");
    Seen {
        replays: even.replays + odd.replays,
        cuts: even.cuts + odd.cuts,
        kept_beyond_acknowledged: even.kept_beyond_acknowledged + odd.kept_beyond_acknowledged,
        recycled: even.recycled + odd.recycled,
        segments_max: even.segments_max.max(odd.segments_max),
    }
}

#[test]
fn power_cuts_at_any_moment_lose_nothing_acknowledged_and_invent_nothing() {
    let seen = each_seed(SEEDS_DEFAULT, |seed| {
        let mut run = Run::new(seed);
        run.lives().expect("no error but those of the power");
        run.seen
    });
    println!("{seen:?}");
    if env::var("RINGD_SEED").is_err() {
        assert!(seen.cuts > 100 && seen.recycled > 100 && seen.kept_beyond_acknowledged > 100);
        assert!(seen.segments_max > 4);
    }
}

#[test]
fn a_full_disk_holds_appends_back_until_there_is_room() {
    let mut run = Run::new(1);
    let config = Config { segment_bytes: 40_960, first_segment_bytes: 8_192, batch_bytes_max: 10_000, salt: 1 };
    run.disk.set_capacity(30_000);
    let mut host = run.open(config).expect("a new log");
    assert_eq!(host.work(&mut run.disk), Ok(true));
    let append = |run: &mut Run, host: &mut WalHost, index| {
        let entries = [run.entry(index)];
        let accepted = host.append(None, &entries).expect("fits");
        let entries = entries.to_vec();
        run.model.accept(&accepted, Effect { entries, ..Effect::default() });
        host.write(&mut run.disk).expect("no file grows");
    };
    for index in 1..=9 {
        append(&mut run, &mut host, index);
    }
    let full = Err(HostError::Disk(DiskError::NoSpace));
    assert_eq!(host.work(&mut run.disk), full);
    while host.complete(&mut run.disk).expect("works") {}
    assert!(host.wal().durable() >= 1 && host.wal().durable() < 9);
    assert_eq!(host.work(&mut run.disk), full);

    run.disk.set_capacity(1 << 30);
    while host.work(&mut run.disk).expect("works") {}
    while host.complete(&mut run.disk).expect("works") {}
    assert_eq!(host.wal().durable(), host.wal().sequence());
    run.model.durable = host.wal().durable();
    run.disk.power_cut();
    run.open(config).expect("nothing was lost");
}

#[test]
fn a_failed_write_stops_the_log_and_loses_nothing_acknowledged() {
    each_seed(2_000, |seed| {
        let mut run = Run::new(seed);
        let config = run.config();
        let mut host = run.open(config).expect("a new log");
        while host.work(&mut run.disk).expect("works") {}
        for _ in 0..run.random.random_range(1..10) {
            run.append(&mut host).expect("works");
        }
        while host.wal().durable() < 2 && host.complete(&mut run.disk).expect("works") {}
        run.model.durable = host.wal().durable();
        while host.work(&mut run.disk).expect("works") {}
        run.append(&mut host).expect("works");
        run.disk.fail_writes(1);
        assert_eq!(host.complete(&mut run.disk), Err(HostError::Disk(DiskError::Io)));
        run.disk.power_cut();
        run.open(config).expect("nothing acknowledged was lost");
        run.seen
    });
}
