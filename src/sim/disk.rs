//! A disk in memory, with its faults.
//!
//! Every file has two contents: `current`, what reading shows, and `stable`, what a power cut leaves.
//!
//! ```text
//!   submit (direct, durable)  -> in flight -- complete, in any order --> current and stable
//!   write, set_length         -> current, pending ------- sync --------> stable
//!   create, rename, remove    -> names, journal ---- sync_directory ---> stable names
//! ```
//!
//! What a power cut does:
//!
//! - A write in flight is there, absent, or torn: each 512-byte sector on its own is there or not.
//! - The same holds for each pending write, but one sector never goes back from a later write to an earlier one.
//! - Of the journal of names a prefix survives (as with the ordered journals of ext4 and xfs).
//!
//! When only the process is killed, a write in flight is there or absent; if it is there, it is pending, as if in the
//! cache of the device.
//!
//! Further faults on demand: power fails at the n-th operation from now (`cut_after`), errors of writes and syncs
//! (a failed sync forgets what was pending, as Linux does), a full disk, flipped bits.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use thiserror::Error;

/// A disk writes a sector as a whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// An open file; stays valid over renames, and until a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u64);

/// A write in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A write that was in flight, and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub ticket: Ticket,
    pub result: Result<(), DiskError>,
}

/// Errors of file operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiskError {
    #[error("no space left on device")]
    NoSpace,
    #[error("input/output error")]
    Io,
    #[error("no such file")]
    NotFound,
    #[error("the power is off")]
    PowerOff,
}

/// The disk of one machine, with one flat directory.
#[derive(Clone, Debug)]
pub struct Disk {
    random: SmallRng,
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
    stable_names: BTreeMap<String, FileId>,
    journal: Vec<NameChange>,
    in_flight: Vec<InFlight>,
    next: u64,
    capacity_bytes: u64,
    power: Power,
    failing_syncs: u32,
    failing_writes: u32,
}

#[derive(Clone, Copy, Debug)]
enum Power {
    On,
    /// Fails after so many more operations.
    Fails(u64),
    Off,
}

#[derive(Clone, Debug, Default)]
struct File {
    current: Vec<u8>,
    stable: Vec<u8>,
    /// Since the last sync, oldest first.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write {
        offset: usize,
        bytes: Vec<u8>,
        /// It is in `stable` already, and kept here for the order of writes to a sector.
        is_stable: bool,
    },
    Length(usize),
}

#[derive(Clone, Debug)]
struct InFlight {
    ticket: Ticket,
    file: FileId,
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, FileId),
    Remove(String),
    Rename(String, String),
}

impl Disk {
    /// An empty, large disk without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            stable_names: BTreeMap::new(),
            journal: Vec::new(),
            in_flight: Vec::new(),
            next: 1,
            capacity_bytes: u64::MAX,
            power: Power::On,
            failing_syncs: 0,
            failing_writes: 0,
        }
    }

    // Names.

    /// Makes an empty file, or empties the one that is there.
    ///
    /// # Errors
    /// The power is off.
    pub fn create(&mut self, name: &str) -> Result<FileId, DiskError> {
        self.operate()?;
        let file = FileId(self.number());
        self.files.insert(file, File::default());
        self.change(NameChange::Set(name.to_owned(), file));
        Ok(file)
    }

    /// # Errors
    /// There is no such file, or the power is off.
    pub fn open(&self, name: &str) -> Result<FileId, DiskError> {
        self.check_power()?;
        self.names.get(name).copied().ok_or(DiskError::NotFound)
    }

    /// Names and lengths, in order of names.
    ///
    /// # Errors
    /// The power is off.
    pub fn list(&self) -> Result<Vec<(String, u64)>, DiskError> {
        self.check_power()?;
        let entry = |(name, file): (&String, &FileId)| (name.clone(), self.files[file].current.len() as u64);
        Ok(self.names.iter().map(entry).collect())
    }

    /// Gives a file another name, replacing the file that has it.
    ///
    /// # Errors
    /// There is no such file, or the power is off.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.operate()?;
        self.open(from)?;
        self.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// # Errors
    /// There is no such file, or the power is off.
    pub fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.operate()?;
        self.open(name)?;
        self.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    /// Makes all changes of names durable.
    ///
    /// # Errors
    /// The sync fails, or the power is off.
    pub fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.operate()?;
        if take_one(&mut self.failing_syncs) {
            return Err(DiskError::Io);
        }
        for change in self.journal.drain(..) {
            change.apply(&mut self.stable_names);
        }
        self.forget_nameless();
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.journal.push(change);
    }

    // Content.

    /// # Errors
    /// The file ends before; or the power is off.
    pub fn read(&self, file: FileId, offset: u64, length: usize) -> Result<&[u8], DiskError> {
        self.check_power()?;
        let content = &self.file(file)?.current;
        let start = offset as usize;
        content.get(start..start + length).ok_or(DiskError::Io)
    }

    /// # Errors
    /// There is no such file, or the power is off.
    pub fn length(&self, file: FileId) -> Result<u64, DiskError> {
        self.check_power()?;
        Ok(self.file(file)?.current.len() as u64)
    }

    /// Writes through the cache: visible at once, durable after `sync`.
    ///
    /// # Errors
    /// No space (then nothing is written), an error on demand, or the power is off.
    pub fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.operate()?;
        let offset = offset as usize;
        self.reserve(file, offset + bytes.len())?;
        if take_one(&mut self.failing_writes) {
            return Err(DiskError::Io);
        }
        let file = self.file_mut(file)?;
        put(&mut file.current, offset, bytes);
        file.pending.push(Pending::Write { offset, bytes: bytes.to_vec(), is_stable: false });
        Ok(())
    }

    /// Cuts a file or lengthens it with zeros; durable after `sync`.
    ///
    /// # Errors
    /// No space, or the power is off.
    pub fn set_length(&mut self, file: FileId, length: u64) -> Result<(), DiskError> {
        self.operate()?;
        let length = length as usize;
        self.reserve(file, length)?;
        let file = self.file_mut(file)?;
        file.current.resize(length, 0);
        file.pending.push(Pending::Length(length));
        Ok(())
    }

    /// Makes all that was written through the cache durable.
    ///
    /// # Errors
    /// An error on demand, after which a part may be durable and the rest never will be; or the power is off.
    pub fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        self.operate()?;
        let fails = take_one(&mut self.failing_syncs);
        let file = self.files.get_mut(&file).ok_or(DiskError::NotFound)?;
        if fails {
            file.settle(&mut self.random);
            return Err(DiskError::Io);
        }
        for pending in file.pending.drain(..) {
            match pending {
                Pending::Write { offset, bytes, .. } => put(&mut file.stable, offset, &bytes),
                Pending::Length(length) => file.stable.resize(length, 0),
            }
        }
        Ok(())
    }

    /// [`Self::sync`], if something was written since the last one.
    ///
    /// # Errors
    /// As there.
    pub fn sync_what_waits(&mut self, file: FileId) -> Result<(), DiskError> {
        match self.file(file)?.pending.is_empty() {
            true => self.check_power(),
            false => self.sync(file),
        }
    }

    /// Starts a direct, durable write. It is neither visible nor durable before `complete`.
    ///
    /// # Errors
    /// No space, or the power is off.
    pub fn submit(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<Ticket, DiskError> {
        self.operate()?;
        let offset = offset as usize;
        self.reserve(file, offset + bytes.len())?;
        let ticket = Ticket(self.number());
        self.in_flight.push(InFlight { ticket, file, offset, bytes: bytes.to_vec() });
        Ok(ticket)
    }

    /// How many writes are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Completes some write in flight; `None` if there is none.
    ///
    /// # Errors
    /// The power is off.
    pub fn complete(&mut self) -> Result<Option<Completion>, DiskError> {
        self.operate()?;
        if self.in_flight.is_empty() {
            return Ok(None);
        }
        let any = self.random.random_range(0..self.in_flight.len());
        let write = self.in_flight.swap_remove(any);
        let result = if take_one(&mut self.failing_writes) {
            self.land_in_cache(write.file, write.offset, write.bytes);
            Err(DiskError::Io)
        } else if let Some(file) = self.files.get_mut(&write.file) {
            file.land(write.offset, write.bytes);
            Ok(())
        } else {
            Err(DiskError::NotFound)
        };
        Ok(Some(Completion { ticket: write.ticket, result }))
    }

    // Faults.

    /// The power goes off when `operations` more have been done.
    pub fn cut_after(&mut self, operations: u64) {
        self.power = Power::Fails(operations);
    }

    /// So many of the next syncs fail.
    pub fn fail_syncs(&mut self, count: u32) {
        self.failing_syncs = count;
    }

    /// So many of the next writes fail; a direct one fails when it completes, and may be there in part.
    pub fn fail_writes(&mut self, count: u32) {
        self.failing_writes = count;
    }

    /// The disk is full when all files together have this length.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// Flips a bit in both contents.
    ///
    /// # Errors
    /// There is no such file, or it ends before.
    pub fn flip_bit(&mut self, file: FileId, offset: u64, bit: u8) -> Result<(), DiskError> {
        let file = self.file_mut(file)?;
        for content in [&mut file.current, &mut file.stable] {
            *content.get_mut(offset as usize).ok_or(DiskError::Io)? ^= 1 << (bit % 8);
        }
        Ok(())
    }

    /// The power goes off, if it has not already, and comes back. All open files and tickets are void.
    pub fn power_cut(&mut self) {
        for file in self.files.values_mut() {
            file.settle(&mut self.random);
        }
        self.in_flight.shuffle(&mut self.random);
        for write in self.in_flight.drain(..) {
            if let Some(file) = self.files.get_mut(&write.file) {
                let fate = Fate::any(&mut self.random);
                fate.put(&mut self.random, &mut file.stable, write.offset, &write.bytes);
            }
        }
        let survive = self.random.random_range(0..=self.journal.len());
        for change in self.journal.drain(..).take(survive) {
            change.apply(&mut self.stable_names);
        }
        self.names = self.stable_names.clone();
        for file in self.files.values_mut() {
            file.current.clone_from(&file.stable);
        }
        self.forget_nameless();
        self.power = Power::On;
    }

    /// The process ends, the machine stays on: each write in flight reaches the cache or not. If the power was off for
    /// the process (`cut_after`), the process ended at that moment.
    pub fn kill(&mut self) {
        self.power = Power::On;
        self.in_flight.shuffle(&mut self.random);
        for write in std::mem::take(&mut self.in_flight) {
            if self.random.random() {
                self.land_in_cache(write.file, write.offset, write.bytes);
            }
        }
    }

    fn land_in_cache(&mut self, file: FileId, offset: usize, bytes: Vec<u8>) {
        if let Some(file) = self.files.get_mut(&file) {
            put(&mut file.current, offset, &bytes);
            file.pending.push(Pending::Write { offset, bytes, is_stable: false });
        }
    }

    // Bookkeeping.

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn check_power(&self) -> Result<(), DiskError> {
        match self.power {
            Power::Off => Err(DiskError::PowerOff),
            Power::On | Power::Fails(_) => Ok(()),
        }
    }

    fn operate(&mut self) -> Result<(), DiskError> {
        self.power = match self.power {
            Power::On => Power::On,
            Power::Fails(0) | Power::Off => Power::Off,
            Power::Fails(left) => Power::Fails(left - 1),
        };
        self.check_power()
    }

    fn file(&self, file: FileId) -> Result<&File, DiskError> {
        self.files.get(&file).ok_or(DiskError::NotFound)
    }

    fn file_mut(&mut self, file: FileId) -> Result<&mut File, DiskError> {
        self.files.get_mut(&file).ok_or(DiskError::NotFound)
    }

    fn reserve(&mut self, file: FileId, end: usize) -> Result<(), DiskError> {
        let grows = end.saturating_sub(self.file(file)?.current.len()) as u64;
        let used: u64 = self.files.values().map(|file| file.current.len() as u64).sum();
        if grows > 0 && used.saturating_add(grows) > self.capacity_bytes {
            return Err(DiskError::NoSpace);
        }
        Ok(())
    }

    fn forget_nameless(&mut self) {
        let (names, stable, in_flight) = (&self.names, &self.stable_names, &self.in_flight);
        self.files.retain(|id, _| {
            names.values().chain(stable.values()).any(|named| named == id)
                || in_flight.iter().any(|write| write.file == *id)
        });
    }
}

impl File {
    /// A durable write completes.
    fn land(&mut self, offset: usize, bytes: Vec<u8>) {
        put(&mut self.current, offset, &bytes);
        put(&mut self.stable, offset, &bytes);
        if !self.pending.is_empty() {
            self.pending.push(Pending::Write { offset, bytes, is_stable: true });
        }
    }

    /// Decides which pending changes are stable; the rest is lost.
    fn settle(&mut self, random: &mut SmallRng) {
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Write { offset, bytes, is_stable } => {
                    let fate = if is_stable { Fate::There } else { Fate::any(random) };
                    fate.put(random, &mut self.stable, offset, &bytes);
                }
                Pending::Length(length) => {
                    if random.random() {
                        self.stable.resize(length, 0);
                    }
                }
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Set(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                let file = names.remove(from).expect("the journal is in order");
                names.insert(to.clone(), file);
            }
        }
    }
}

/// The outcome of a write that was not known to be durable.
#[derive(Clone, Copy)]
enum Fate {
    There,
    Absent,
    Torn,
}

impl Fate {
    fn any(random: &mut SmallRng) -> Self {
        match random.random_range(0..3) {
            0 => Self::There,
            1 => Self::Absent,
            _ => Self::Torn,
        }
    }

    fn put(self, random: &mut SmallRng, content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
        match self {
            Self::There => put(content, offset, bytes),
            Self::Absent => {}
            Self::Torn => {
                let mut at = 0;
                while at < bytes.len() {
                    let sector_end = (offset + at + 1).next_multiple_of(SECTOR_BYTES);
                    let end = (sector_end - offset).min(bytes.len());
                    if random.random() {
                        put(content, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn take_one(count: &mut u32) -> bool {
    let any = *count > 0;
    *count = count.saturating_sub(1);
    any
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Runs `story` with many seeds; returns the different outcomes.
    fn outcomes(story: impl Fn(&mut Disk) -> String) -> BTreeSet<String> {
        (0..500).map(|seed| story(&mut Disk::new(seed))).collect()
    }

    fn content(disk: &Disk, name: &str) -> String {
        let Ok(file) = disk.open(name) else {
            return "-".to_owned();
        };
        let bytes = disk.read(file, 0, disk.length(file).expect("open") as usize).expect("open");
        bytes.chunks(SECTOR_BYTES).map(|sector| char::from(sector[0])).collect()
    }

    /// A durable file `f` of two sectors `..`.
    fn two_sectors(disk: &mut Disk) -> FileId {
        let file = disk.create("f").expect("on");
        disk.write(file, 0, &[b'.'; 2 * SECTOR_BYTES]).expect("on");
        disk.sync(file).expect("on");
        disk.sync_directory().expect("on");
        file
    }

    fn set<const N: usize>(expected: [&str; N]) -> BTreeSet<String> {
        expected.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_write_in_flight_is_there_absent_or_torn() {
        let seen = outcomes(|disk| {
            let file = two_sectors(disk);
            disk.submit(file, 0, &[b'x'; 2 * SECTOR_BYTES]).expect("on");
            disk.power_cut();
            content(disk, "f")
        });
        assert_eq!(seen, set(["..", "x.", ".x", "xx"]));
    }

    #[test]
    fn a_completed_write_is_there_and_comes_in_any_order() {
        let seen = outcomes(|disk| {
            let file = two_sectors(disk);
            disk.submit(file, 0, &[b'x'; SECTOR_BYTES]).expect("on");
            disk.submit(file, SECTOR_BYTES as u64, &[b'x'; SECTOR_BYTES]).expect("on");
            disk.complete().expect("on").expect("one").result.expect("no error");
            let visible = content(disk, "f");
            disk.power_cut();
            let left = content(disk, "f");
            let kept = visible.chars().zip(left.chars()).all(|(a, b)| a == '.' || b == 'x');
            assert!(kept, "{visible} {left}");
            visible
        });
        assert_eq!(seen, set(["x.", ".x"]));
    }

    #[test]
    fn between_syncs_any_part_survives_but_no_sector_goes_back() {
        let seen = outcomes(|disk| {
            let file = two_sectors(disk);
            disk.write(file, 0, &[b'a'; 2 * SECTOR_BYTES]).expect("on");
            disk.sync(file).expect("on");
            disk.write(file, 0, &[b'b'; SECTOR_BYTES]).expect("on");
            disk.write(file, SECTOR_BYTES as u64, &[b'b'; SECTOR_BYTES]).expect("on");
            disk.power_cut();
            content(disk, "f")
        });
        assert_eq!(seen, set(["aa", "ba", "ab", "bb"]));
        let seen = outcomes(|disk| {
            let file = two_sectors(disk);
            disk.write(file, 0, &[b'a'; SECTOR_BYTES]).expect("on");
            disk.submit(file, 0, &[b'b'; SECTOR_BYTES]).expect("on");
            disk.complete().expect("on").expect("one").result.expect("no error");
            disk.power_cut();
            content(disk, "f")
        });
        assert_eq!(seen, set(["b."]));
    }

    #[test]
    fn names_are_lost_before_the_directory_is_synced() {
        let seen = outcomes(|disk| {
            two_sectors(disk);
            disk.rename("f", "g").expect("on");
            disk.create("f").expect("on");
            disk.power_cut();
            format!("{} {}", content(disk, "f"), content(disk, "g"))
        });
        assert_eq!(seen, set([".. -", "- ..", " .."]));
        let seen = outcomes(|disk| {
            two_sectors(disk);
            disk.rename("f", "g").expect("on");
            disk.sync_directory().expect("on");
            disk.remove("g").expect("on");
            disk.power_cut();
            content(disk, "g")
        });
        assert_eq!(seen, set(["..", "-"]));
    }

    #[test]
    fn a_failed_sync_forgets() {
        let seen = outcomes(|disk| {
            let file = two_sectors(disk);
            disk.write(file, 0, &[b'x'; SECTOR_BYTES]).expect("on");
            disk.fail_syncs(1);
            assert_eq!(disk.sync(file), Err(DiskError::Io));
            assert_eq!(content(disk, "f"), "x.");
            disk.sync(file).expect("clean again, as Linux has it");
            disk.power_cut();
            content(disk, "f")
        });
        assert_eq!(seen, set(["..", "x."]));
    }

    #[test]
    fn a_kill_leaves_writes_in_the_cache_only() {
        let seen = outcomes(|disk| {
            let file = two_sectors(disk);
            disk.submit(file, 0, &[b'x'; SECTOR_BYTES]).expect("on");
            disk.kill();
            let visible = content(disk, "f");
            disk.power_cut();
            format!("{visible} {}", content(disk, "f"))
        });
        assert_eq!(seen, set([".. ..", "x. ..", "x. x."]));
    }

    #[test]
    fn full_disks_failed_writes_and_the_power_switch() {
        let mut disk = Disk::new(1);
        let file = two_sectors(&mut disk);
        disk.set_capacity(3 * SECTOR_BYTES as u64);
        disk.set_length(file, 3 * SECTOR_BYTES as u64).expect("room");
        let more = disk.write(file, 3 * SECTOR_BYTES as u64, &[1]);
        assert_eq!(more, Err(DiskError::NoSpace));
        disk.write(file, 0, &[1]).expect("no growth");

        disk.fail_writes(1);
        let ticket = disk.submit(file, 0, &[2; 8]).expect("on");
        assert_eq!(disk.complete(), Ok(Some(Completion { ticket, result: Err(DiskError::Io) })));

        disk.cut_after(1);
        disk.write(file, 0, &[3]).expect("still on");
        assert_eq!(disk.write(file, 0, &[4]), Err(DiskError::PowerOff));
        assert_eq!(disk.list(), Err(DiskError::PowerOff));
        disk.power_cut();
        assert_eq!(disk.list().map(|list| list.len()), Ok(1));

        let file = disk.open("f").expect("there");
        let before = disk.read(file, 7, 1).expect("there")[0];
        disk.flip_bit(file, 7, 3).expect("there");
        assert_eq!(disk.read(file, 7, 1), Ok(&[before ^ 8][..]));
    }

    #[test]
    fn the_same_seed_gives_the_same_disk() {
        let story = |disk: &mut Disk| {
            let file = two_sectors(disk);
            for round in 0..20 {
                disk.submit(file, 0, &[b'a' + round; 2 * SECTOR_BYTES]).expect("on");
            }
            disk.power_cut();
            content(disk, "f")
        };
        assert_eq!(story(&mut Disk::new(7)), story(&mut Disk::new(7)));
    }
}
