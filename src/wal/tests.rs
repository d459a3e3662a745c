//! The log on files that always work, and damage to every part of them. Power cuts are in `sim::wal_tests`.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{batch::HEADER_BYTES, little_endian::u32_at, *};
use crate::base::{
    checksum::crc32,
    limits::BLOCK_BYTES,
    log_entry::{ConfState, EntryKind, HardState, LogEntry},
};

const METADATA: Metadata = Metadata { cluster_id: 1, member_id: 2 };

fn config() -> Config {
    Config {
        segment_bytes: 8 * BLOCK_BYTES as u64,
        first_segment_bytes: 4 * BLOCK_BYTES as u64,
        batch_bytes_max: 6_000,
        salt: 0xabcd,
    }
}

fn entry(index: u64, length: usize) -> LogEntry {
    LogEntry { index, term: 1, kind: EntryKind::Normal, data: Bytes::from(vec![index as u8 | 1; length]) }
}

fn entries(indexes: std::ops::RangeInclusive<u64>, length: usize) -> Vec<LogEntry> {
    indexes.map(|index| entry(index, length)).collect()
}

fn state(commit: u64) -> HardState {
    HardState { term: 1, vote: 2, commit }
}

fn marker(index: u64, restarts_log: bool) -> SnapshotMarker {
    SnapshotMarker { index, term: 1, conf_state: ConfState { voters: vec![2], ..ConfState::default() }, restarts_log }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug)]
struct Place {
    sequence: u64,
    segment: SegmentId,
    offset: usize,
    /// Header and records.
    length: usize,
    extent: usize,
}

/// A log whose writes and actions are carried out at once. The test decides when writes complete.
struct Log {
    wal: Wal,
    files: BTreeMap<SegmentId, Vec<u8>>,
    spares: BTreeMap<SegmentId, Vec<u8>>,
    places: Vec<Place>,
}

impl Log {
    fn create(config: Config) -> Self {
        let (wal, actions) = Wal::create(config, METADATA);
        let mut log = Self { wal, files: BTreeMap::new(), spares: BTreeMap::new(), places: Vec::new() };
        log.act(actions);
        log
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare(prepare) => {
                    let old = prepare.spare.map(|spare| self.spares.remove(&spare).expect("a spare"));
                    let mut file = old.unwrap_or_else(|| vec![0; prepare.size_bytes as usize]);
                    assert_eq!(file.len() as u64, prepare.size_bytes);
                    file[..BLOCK_BYTES].copy_from_slice(&prepare.header);
                    self.files.insert(prepare.segment, file);
                    self.wal.on_prepared(prepare.segment);
                    assert!(self.wal.is_ready(prepare.segment));
                }
                Action::Retire { segment, fate } => {
                    let file = self.files.remove(&segment).expect("part of the log");
                    if fate == Fate::Spare {
                        self.spares.insert(segment, file);
                    }
                }
                Action::Discard { spare } => {
                    self.spares.remove(&spare).expect("a spare");
                }
            }
        }
    }

    fn write(&mut self, write: &Write) {
        assert_eq!(write.bytes.as_ptr().addr() % BLOCK_BYTES, 0);
        assert!(write.bytes.len().is_multiple_of(BLOCK_BYTES));
        let file = self.files.get_mut(&write.segment).expect("a ready segment");
        let at = write.offset as usize;
        file[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }

    /// Writes without completing; returns the last batch.
    fn issue(&mut self, append: Append) -> u64 {
        self.act(append.actions);
        for batch in &append.writes {
            self.write(&batch.write);
            let bytes = &batch.write.bytes;
            self.places.push(Place {
                sequence: batch.sequence,
                segment: batch.write.segment,
                offset: batch.write.offset as usize,
                length: HEADER_BYTES + u32_at(bytes, 64) as usize,
                extent: bytes.len(),
            });
        }
        append.sequence
    }

    fn complete(&mut self) {
        for sequence in self.wal.durable() + 1..=self.wal.sequence() {
            self.wal.on_written(sequence);
        }
    }

    fn append(&mut self, hard_state: Option<HardState>, entries: &[LogEntry]) {
        let append = self.wal.append(hard_state, entries).expect("fits");
        self.issue(append);
        self.complete();
    }

    fn mark(&mut self, marker: SnapshotMarker) {
        let append = self.wal.save_snapshot_marker(marker, None).expect("fits");
        self.issue(append);
        self.complete();
    }

    fn confirm(&mut self) {
        let append = self.wal.confirm().expect("something to confirm");
        self.issue(append);
        self.complete();
    }

    fn release(&mut self, index: u64) {
        let actions = self.wal.release(index);
        self.act(actions);
    }

    fn recover(&self) -> Result<Recovered, ReplayError> {
        recover(&self.files, 0)
    }

    fn contents(&self) -> Contents {
        self.recover().expect("a good log").contents
    }

    /// The log again, as after a restart.
    fn reopen(mut self) -> (Self, Contents) {
        let recovered = self.recover().expect("a good log");
        for write in &recovered.repair.writes {
            self.write(write);
        }
        let (wal, actions) = recovered.repair.done();
        self.wal = wal;
        self.places.clear();
        self.act(actions);
        (self, recovered.contents)
    }

    /// A log of several segments whose last batch with content is confirmed.
    fn confirmed() -> Self {
        let mut log = Self::create(config());
        log.append(Some(state(0)), &entries(1..=3, 100));
        log.append(None, &entries(4..=12, 900));
        log.append(Some(state(9)), &entries(13..=14, 300));
        log.mark(marker(5, false));
        log.append(Some(state(12)), &entries(13..=24, 1000));
        log.append(None, &entries(25..=26, 1));
        log.confirm();
        assert!(log.files.len() > 3);
        log
    }
}

fn recover(files: &BTreeMap<SegmentId, Vec<u8>>, keep_after: u64) -> Result<Recovered, ReplayError> {
    let list = files.iter().map(|(id, file)| SegmentFile { id: *id, size_bytes: file.len() as u64 });
    let mut replay = Replay::new(list.collect(), keep_after)?;
    while let Some(read) = replay.next_read() {
        let at = read.offset as usize;
        replay.feed(&files[&read.segment][at..at + read.length])?;
    }
    replay.finish(config(), &[])
}

fn summary(contents: &Contents) -> (HardState, Option<u64>, &[LogEntry], u64) {
    (contents.hard_state, contents.snapshot.as_ref().map(|marker| marker.index), &contents.entries, contents.last_index)
}

#[test]
fn a_new_log_is_empty_and_can_be_appended_to() {
    let (mut log, contents) = Log::create(config()).reopen();
    assert_eq!(contents.metadata, METADATA);
    assert_eq!(summary(&contents), (HardState::default(), None, &[][..], 0));
    assert_eq!(contents.cut, None);
    log.append(None, &entries(1..=1, 10));
    assert_eq!(log.contents().entries, entries(1..=1, 10));
}

#[test]
fn appends_come_back_whole_through_splits_and_restarts() {
    let mut log = Log::create(config());
    log.append(Some(state(1)), &entries(1..=40, 700));
    log.mark(marker(20, false));
    let (mut log, contents) = log.reopen();
    let expected = entries(1..=40, 700);
    assert_eq!(summary(&contents), (state(1), Some(20), &expected[..], 40));
    assert_eq!(contents.cut, None);

    log.append(Some(state(30)), &entries(31..=33, 5));
    let (log, contents) = log.reopen();
    let expected: Vec<_> = entries(1..=30, 700).into_iter().chain(entries(31..=33, 5)).collect();
    assert_eq!(summary(&contents), (state(30), Some(20), &expected[..], 33));

    let kept = recover(&log.files, 31).expect("a good log").contents;
    assert_eq!(summary(&kept), (state(30), Some(20), &expected[31..], 33));
}

#[test]
fn a_snapshot_of_the_leader_restarts_the_log() {
    let mut log = Log::create(config());
    log.append(None, &entries(1..=9, 10));
    log.mark(marker(4, true));
    assert_eq!(log.wal.last_index(), 4);
    log.append(None, &entries(5..=6, 20));
    log.mark(marker(100, true));
    log.append(None, &entries(101..=130, 900));
    let contents = log.contents();
    let expected = entries(101..=130, 900);
    assert_eq!(summary(&contents), (HardState::default(), Some(100), &expected[..], 130));
}

#[test]
fn an_entry_larger_than_a_slice_comes_back() {
    let mut large = config();
    large.segment_bytes = 8 << 20;
    let mut log = Log::create(large);
    let all = [entry(1, 10), entry(2, 5 << 20), entry(3, 2 << 20), entry(4, 1)];
    log.append(Some(state(2)), &all);
    assert_eq!(log.contents().entries, all);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut log = Log::create(config());
    let limit = match log.wal.append(None, &[entry(1, 1 << 20)]) {
        Err(AppendError::TooLarge { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    assert_eq!(log.wal.sequence(), 0);
    let largest = entry(1, limit - 24);
    log.append(Some(state(1)), std::slice::from_ref(&largest));
    log.mark(marker(1, false));
    let mut wide = marker(1, false);
    wide.conf_state.voters = (0..5000).collect();
    assert!(log.wal.save_snapshot_marker(wide, None).is_err());
    assert_eq!(log.contents().entries, [largest]);
}

#[test]
#[should_panic(expected = "leaves a gap")]
fn a_gap_is_a_bug() {
    let _ = Log::create(config()).wal.append(None, &entries(2..=2, 1));
}

#[test]
fn durable_is_a_contiguous_prefix() {
    let mut log = Log::create(config());
    for index in 1..=4 {
        let append = log.wal.append(None, &entries(index..=index, 1)).expect("fits");
        assert_eq!(log.issue(append), index);
    }
    assert_eq!(log.wal.on_written(3), 0);
    assert_eq!(log.wal.on_written(1), 1);
    assert!(log.wal.confirm().is_none(), "something is in flight");
    assert_eq!(log.wal.on_written(2), 3);
    assert_eq!(log.wal.on_written(4), 4);
    log.confirm();
    assert!(log.wal.confirm().is_none(), "said already");
}

#[test]
fn writes_wait_for_their_segment() {
    let (mut wal, mut actions) = Wal::create(config(), METADATA);
    let append = wal.append(None, &entries(1..=40, 700)).expect("fits");
    assert!(append.writes.iter().all(|batch| !wal.is_ready(batch.write.segment)));
    actions.extend(append.actions);
    for action in actions {
        let Action::Prepare(prepare) = action else {
            panic!("{action:?}");
        };
        wal.on_prepared(prepare.segment);
    }
    assert!(append.writes.iter().all(|batch| wal.is_ready(batch.write.segment)));
}

#[test]
fn segments_are_released_in_order_once_the_next_head_is_durable() {
    let mut log = Log::create(config());
    log.append(None, &entries(1..=20, 1000));
    let append = log.wal.append(None, &entries(21..=30, 1000)).expect("fits");
    let last = log.issue(append);
    let before = log.files.len();
    let heads_durable = log.wal.release(u64::MAX).len();
    assert!(heads_durable > 0 && heads_durable < before - 2);
    for sequence in log.wal.durable() + 1..=last {
        log.wal.on_written(sequence);
    }
    assert!(!log.wal.release(u64::MAX).is_empty());
    assert!(log.wal.release(u64::MAX).is_empty());

    let mut log = Log::create(config());
    log.append(Some(state(9)), &entries(1..=40, 1000));
    log.mark(marker(33, false));
    log.release(2);
    assert_eq!(log.files.keys().next().map(|id| id.sequence), Some(1));
    log.release(33);
    let contents = log.contents();
    let first = contents.entries[0].index;
    assert!(first > 10 && first <= 34, "{first}");
    assert_eq!((contents.hard_state, contents.last_index), (state(9), 40));
    assert!(!log.spares.is_empty());
    for index in 41..100 {
        log.append(None, &entries(index..=index, 1000));
        log.release(index - 5);
    }
    assert!(log.files.len() <= 4 && log.spares.len() <= 2);
    let (_, contents) = log.reopen();
    assert_eq!((contents.last_index, contents.cut), (99, None));
}

/// A segment that could not be made on a full disk is made of one that was released meanwhile.
#[test]
fn a_preparation_without_room_takes_what_is_released() {
    let mut log = Log::create(config());
    let mut append = log.wal.append(Some(state(1)), &entries(1..=60, 1000)).expect("fits");
    let Some(Action::Prepare(mut held)) = append.actions.pop() else { panic!("one segment is ahead") };
    log.issue(append);
    log.complete();
    assert!(!log.wal.reuse(&mut held), "nothing is released");
    log.release(60);
    assert!(log.wal.reuse(&mut held));
    assert!(held.spare.is_some_and(|spare| log.spares.contains_key(&spare)));
    assert!(!log.wal.reuse(&mut held), "it has one");
    log.act(vec![Action::Prepare(held)]);
    log.append(Some(state(60)), &entries(61..=100, 1000));
    let (_, contents) = log.reopen();
    assert_eq!((contents.hard_state, contents.last_index), (state(60), 100));
}

#[test]
fn every_byte_of_a_confirmed_batch_counts_and_padding_does_not() {
    let log = Log::confirmed();
    let good = log.contents();
    let mut files = log.files.clone();
    for place in &log.places[..log.places.len() - 1] {
        for at in place.offset..place.offset + place.extent {
            if at > place.offset + 200 && at % 13 != 0 && at + 13 < place.offset + place.length {
                continue;
            }
            files.get_mut(&place.segment).expect("there")[at] ^= 1 << (at % 8);
            let result = recover(&files, 0);
            files.get_mut(&place.segment).expect("there")[at] ^= 1 << (at % 8);
            if at >= place.offset + place.length {
                let contents = result.expect("padding").contents;
                assert_eq!(summary(&contents), summary(&good));
                continue;
            }
            let error = result.expect_err("acknowledged");
            let ReplayError::Corrupt { segment, offset, expected, .. } = error else {
                panic!("{place:?} byte {at}: {error}");
            };
            assert_eq!(expected, place.sequence);
            let is_magic_of_head = place.offset == BLOCK_BYTES && at < BLOCK_BYTES + 4;
            let is_there = (segment, offset as usize) == (place.segment, place.offset);
            assert!(is_there || is_magic_of_head, "{error}");
        }
    }
}

#[test]
fn a_damaged_last_batch_is_a_torn_tail_and_never_comes_back() {
    let log = Log::confirmed();
    let place = log.places[log.places.len() - 1];
    for at in place.offset..place.offset + place.length {
        let mut damaged = Log { files: log.files.clone(), ..Log::create(config()) };
        damaged.files.get_mut(&place.segment).expect("there")[at] ^= 1;
        let (mut damaged, contents) = damaged.reopen();
        let magic = at < place.offset + 4;
        let cut = contents.cut.map(|cut| (cut.segment, cut.offset as usize, cut.sequence));
        let expected = (place.segment, place.offset, place.sequence);
        assert_eq!(cut, if magic { None } else { Some(expected) });
        damaged.append(None, &entries(27..=27, 5));
        assert_eq!(damaged.wal.sequence(), place.sequence);
        let (_, contents) = damaged.reopen();
        assert_eq!((contents.last_index, contents.cut), (27, None));
    }
}

#[test]
fn a_lost_tail_over_several_segments_is_cut_and_its_segments_are_used_again() {
    let mut log = Log::create(config());
    log.append(Some(state(1)), &entries(1..=2, 10));
    let append = log.wal.append(None, &entries(3..=60, 900)).expect("fits");
    let first = append.sequence - append.writes.len() as u64;
    log.issue(append);
    let lost = log.places[first as usize];
    assert_eq!(lost.sequence, first + 1);
    log.files.get_mut(&lost.segment).expect("there")[lost.offset..][..512].fill(0);
    let segments = log.files.len();
    let (mut log, contents) = log.reopen();
    assert_eq!(contents.last_index, 2);
    assert!(contents.cut.is_some());
    assert_eq!(log.files.len(), segments);
    log.append(None, &entries(3..=20, 900));
    assert_eq!(log.files.len(), segments, "what was there is used");
    let (_, contents) = log.reopen();
    assert_eq!((contents.last_index, contents.cut), (20, None));
}

#[test]
fn batches_of_another_life_are_no_batches() {
    let mut log = Log::create(config());
    log.append(None, &entries(1..=1, 10));
    let mut other = Log::create(Config { salt: 1, ..config() });
    other.append(None, &entries(1..=1, 10));
    other.append(None, &entries(2..=2, 10));
    let (to, from) = (log.places[0], other.places[1]);
    let stale = other.files[&from.segment][from.offset..][..from.extent].to_vec();
    let file = log.files.get_mut(&to.segment).expect("there");
    file[to.offset + to.extent..][..stale.len()].copy_from_slice(&stale);
    let contents = log.contents();
    assert_eq!((contents.last_index, contents.cut), (1, None));
}

#[test]
fn damage_to_the_head_of_a_released_log_is_corruption() {
    let mut log = Log::create(config());
    log.append(None, &entries(1..=40, 1000));
    log.release(40);
    // Only the current segment and the prepared one are left. Damage to the only batch is recognised, because it is the head.
    let current = *log.files.keys().next().expect("there");
    let file = log.files.get_mut(&current).expect("there");
    file[BLOCK_BYTES + 80] ^= 1;
    assert!(matches!(
        log.recover().map(|_| ()),
        Err(ReplayError::CorruptHead { segment, offset: 4096, .. }) if segment == current
    ));
}

#[test]
fn every_fault_of_a_segment_header_has_its_error() {
    let log = Log::confirmed();
    let second = *log.files.keys().nth(1).expect("there");
    let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = log.files.clone();
        change(files.get_mut(&second).expect("there"));
        recover(&files, 0).map(|_| ()).expect_err("a spoiled header")
    };
    let reseal = |file: &mut Vec<u8>| {
        let checksum = crc32(0, &file[12..512]);
        file[8..12].copy_from_slice(&checksum.to_le_bytes());
    };
    for at in 0..512 {
        let error = spoil(&|file| file[at] ^= 1);
        match at {
            0..8 => assert_eq!(error, ReplayError::NotASegment { segment: second }),
            _ => assert!(matches!(error, ReplayError::HeaderDamaged { .. })),
        }
    }
    let resealed = |at: usize| {
        spoil(&|file| {
            file[at] ^= 2;
            reseal(file);
        })
    };
    assert_eq!(resealed(12).to_string(), format!("{second}.rwal: written by a newer ringd (format 3, known up to 1)"));
    assert!(matches!(resealed(16), ReplayError::BlockBytes { found: 4098, .. }));
    assert!(matches!(resealed(24), ReplayError::Renamed { found: 0, .. }));
    assert!(matches!(resealed(42), ReplayError::Size { .. }));
    assert!(matches!(resealed(48), ReplayError::OtherLog { .. }));
    assert!(matches!(resealed(56), ReplayError::OtherLog { .. }));
    assert!(matches!(spoil(&|file| file.truncate(9000)), ReplayError::Size { .. }));
    assert!(matches!(spoil(&|file| file.truncate(9)), ReplayError::Size { .. }));
}

#[test]
fn missing_and_double_segments_are_named() {
    let log = Log::confirmed();
    let recover_without = |place: usize| {
        let mut files = log.files.clone();
        let id = *files.keys().nth(place).expect("there");
        files.remove(&id);
        recover(&files, 0).map(|_| ())
    };
    let (expected, found) = (2, 3);
    assert_eq!(recover_without(1), Err(ReplayError::Missing { expected, found }));
    let mut files = log.files.clone();
    let (id, file) = log.files.iter().nth(1).expect("there");
    let double = SegmentId { first_index: id.first_index + 1, ..*id };
    files.insert(double, file.clone());
    let error = recover(&files, 0).map(|_| ()).expect_err("double");
    assert_eq!(error, ReplayError::Duplicate { segment: double });
    let error = recover(&BTreeMap::new(), 0).map(|_| ()).expect_err("empty");
    assert_eq!(error, ReplayError::Empty);
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let log = Log::confirmed();
    let files = log.files.iter().map(|(id, file)| SegmentFile { id: *id, size_bytes: file.len() as u64 });
    let mut replay = Replay::new(files.collect(), 0).expect("complete");
    assert!(matches!(replay.feed(&[0; 4096]), Err(ReplayError::Size { .. })));
}

/// For arbitrary damage to the files, the replay returns an error or a prefix of what was written, and never panics.
#[test]
fn any_damage_is_an_error_or_leaves_what_was_confirmed() {
    let seed = 0xda4a6e;
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let log = Log::confirmed();
    let good = log.contents();
    let ids: Vec<SegmentId> = log.files.keys().copied().collect();
    let mut errors = 0;
    for _ in 0..20_000 {
        let mut files = log.files.clone();
        for _ in 0..random.random_range(1..4) {
            let file = files.get_mut(&ids[random.random_range(0..ids.len())]).expect("there");
            let at = random.random_range(0..file.len() - 700);
            match random.random_range(0..4) {
                0 => file[at] = random.random(),
                1 => random.fill(&mut file[at..at + 700]),
                2 => file[at..at + 600].fill(0),
                _ => file.copy_within(at / 4096 * 4096..at / 4096 * 4096 + 4096, at & 0x4000),
            }
        }
        match recover(&files, 0) {
            Ok(recovered) => assert_eq!(summary(&recovered.contents), summary(&good)),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 5_000, "{errors}");
}

/// Headers with a right checksum and arbitrary fields, and records with a right checksum and invalid content.
#[test]
fn forged_batches_are_refused_without_panic_or_large_allocation() {
    let seed = 0xf04e;
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let log = Log::confirmed();
    for _ in 0..20_000 {
        let mut files = log.files.clone();
        let place = log.places[random.random_range(0..log.places.len())];
        let batch = &mut files.get_mut(&place.segment).expect("there")[place.offset..];
        let at = random.random_range(16..HEADER_BYTES.max(place.length).min(120));
        batch[at] = if random.random() { random.random() } else { 0xff };
        if random.random() && at < 64 {
            let wide = at / 8 * 8;
            batch[wide..wide + 8].copy_from_slice(&random.random::<u64>().to_le_bytes());
        }
        let length = HEADER_BYTES + u32_at(batch, 64) as usize;
        if length <= batch.len() {
            let seed = u32_at(batch, 8);
            let chain = crc32(seed, &batch[16..length]);
            batch[12..16].copy_from_slice(&chain.to_le_bytes());
        }
        let checksum = crc32(0, &batch[8..HEADER_BYTES]);
        batch[4..8].copy_from_slice(&checksum.to_le_bytes());
        let _ = recover(&files, 0).map(|recovered| recovered.repair.done());
    }
}
