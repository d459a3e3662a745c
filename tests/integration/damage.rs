//! A data directory with changed bytes: the server refuses it and names the damaged file, or serves everything acknowledged. It never
//! panics, and never loses a write silently.
//!
//! Not detectable: a flipped bit inside a value of the page file (bbolt's format has no checksum there), and
//! damage to the last batch of the log before the next one confirms it (it looks like a torn write).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ringd::{
    base::checksum::crc32,
    proto::etcdserverpb::{
        PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op::Request,
    },
    server::datadir::GUARD,
};
use tempfile::TempDir;

use crate::harness::{
    self,
    server::{self, Ended, Program, Server},
};

/// Of the log and of the page file, as their modules describe them.
const BLOCK_BYTES: usize = 4096;
const BATCH_HEADER_BYTES: usize = 72;
const PAGE_BYTES: usize = 4096;
const PAGE_HEADER_BYTES: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;

const PUTS: usize = 60;
const TRANSACTIONS: usize = 20;
const PUTS_PER_TRANSACTION: usize = 100;
const PAGES_PER_KIND: usize = 5;
const VALUE_BYTES: usize = 256;

type Model = BTreeMap<Bytes, Bytes>;

/// Segment header, batch header, records, at the beginning and in the middle of the log: refused, naming the segment.
pub fn log_regions() {
    let damaged = Damaged::log();
    let batches = batches(&damaged.sound);
    assert!(batches.len() >= PUTS, "{} batches", batches.len());
    let (first, middle) = (batches[0], batches[batches.len() / 2]);
    let name = damaged.file.file_name().unwrap().to_str().unwrap().to_owned();
    for (what, offset, length) in [
        ("magic of the segment", 0, 8),
        ("checksum of the segment's header", 8, 4),
        ("segment's header", 24, 40),
        ("first batch's header", first, BATCH_HEADER_BYTES),
        ("first batch's records", first + BATCH_HEADER_BYTES, 16),
        ("a batch's magic", middle, 4),
        ("a batch's header", middle + 8, BATCH_HEADER_BYTES - 8),
        ("a batch's records", middle + BATCH_HEADER_BYTES, 1),
        ("several batches", middle, 3 * BLOCK_BYTES),
    ] {
        let outcome = damaged.start_with(|bytes| flip(bytes, offset, length));
        let ended = outcome.err().unwrap_or_else(|| panic!("it serves with damage to the {what}"));
        refused(&ended, &[&name]);
    }
}

/// The last batch torn: it is cut off, with a log line. Everything before it is served.
pub fn log_tail() {
    let damaged = Damaged::log();
    let batches = batches(&damaged.sound);
    let last = *batches.last().unwrap();
    let server = damaged.start_with(|bytes| flip(bytes, last + BATCH_HEADER_BYTES, 8)).unwrap_or_else(|ended| {
        panic!("a torn tail is cut, not refused: {ended}");
    });
    let found = read_all(&server);
    // The lost batch may have held one put; it confirmed those before it.
    assert!(found.len() + 1 >= damaged.model.len(), "{} of {} puts are left", found.len(), damaged.model.len());
    assert!(found.iter().all(|(key, value)| damaged.model.get(key) == Some(value)), "something else was read");
    server.stop();
}

/// A log written by a newer ringd: refused, saying so.
pub fn log_of_a_newer_version() {
    let damaged = Damaged::log();
    let outcome = damaged.start_with(|bytes| {
        bytes[12..16].copy_from_slice(&2u32.to_le_bytes());
        let checksum = crc32(0, &bytes[12..512]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    });
    refused(&outcome.err().expect("it serves a log it cannot know"), &["newer ringd", "format 2"]);
}

/// The log or the page file is missing: refused, naming the page file.
pub fn half_a_directory() {
    let damaged = Damaged::pages();
    let log = damaged.directory.path().join("member/wal");
    let aside = damaged.directory.path().join("aside");
    for half in [&log, &damaged.file] {
        fs::rename(half, &aside).unwrap();
        refused(&start(damaged.directory.path()).err().expect("half a directory"), &["snap/db"]);
        // The refused start made the log's directory again, with only the guard in it.
        if half.is_dir() {
            fs::remove_file(half.join(GUARD)).unwrap();
            fs::remove_dir(half).unwrap();
        }
        fs::rename(&aside, half).unwrap();
    }
    let server = start(damaged.directory.path()).unwrap_or_else(|ended| panic!("{ended}"));
    assert!(read_all(&server) == damaged.model, "something was lost");
}

/// Both meta pages, or the end of the file: refused, naming the file. One meta page is enough.
pub fn page_file_metas() {
    let damaged = Damaged::pages();
    let both = damaged.start_with(|bytes| flip(bytes, 0, 2 * PAGE_BYTES));
    refused(&both.err().expect("it serves without a meta page"), &["snap/db"]);
    for length in [0, PAGE_BYTES * 3 / 2, damaged.used_bytes() / 2] {
        let cut = damaged.start_with(|bytes| bytes.truncate(length));
        refused(&cut.err().unwrap_or_else(|| panic!("it serves a file cut to {length}")), &["snap/db"]);
    }
    for page in [0, 1] {
        let server = damaged.start_with(|bytes| flip(bytes, page * PAGE_BYTES, PAGE_BYTES));
        let server = server.unwrap_or_else(|ended| panic!("meta page {page}: {ended}"));
        assert!(read_all(&server) == damaged.model, "something was lost with meta page {page}");
    }
}

/// Header, element table and first key of branch and leaf pages: refused, or (the page was free) nothing is missing.
pub fn page_file_pages() {
    let damaged = Damaged::pages();
    for kind in [BRANCH, LEAF] {
        let pages: Vec<usize> = (2..damaged.used_bytes() / PAGE_BYTES)
            .filter(|page| u16_at(&damaged.sound, page * PAGE_BYTES + 8) == kind)
            .collect();
        let mut refusals = 0;
        for &page in pages.iter().step_by(pages.len().div_ceil(PAGES_PER_KIND)) {
            let offset = page * PAGE_BYTES;
            // Position of the first key, relative to its element: the branch's first field, the leaf's second.
            let position = if kind == BRANCH { 0 } else { 4 };
            let key = PAGE_HEADER_BYTES + usize::from(u16_at(&damaged.sound, offset + PAGE_HEADER_BYTES + position));
            for (what, at, length) in [("header", 0, 16), ("table", PAGE_HEADER_BYTES, 16), ("key", key, 8)] {
                let what = format!("{what} of page {page}, kind {kind}");
                match damaged.start_with(|bytes| flip(bytes, offset + at, length)) {
                    Ok(server) => assert!(read_all(&server) == damaged.model, "damage to the {what} lost something"),
                    Err(ended) => {
                        refused(&ended, &["database"]);
                        refusals += 1;
                    }
                }
            }
        }
        assert!(refusals > 0, "no damage to {} pages of kind {kind} was seen", pages.len());
    }
}

/// A sound data directory, and the original content of one of its files.
struct Damaged {
    directory: TempDir,
    file: PathBuf,
    sound: Vec<u8>,
    /// The page file as it was beside `sound`.
    database: Vec<u8>,
    model: Model,
}

impl Damaged {
    /// Killed after some puts, each of which waited for its own batch.
    fn log() -> Damaged {
        let directory = server::directory();
        let server = Server::start(Program::Ringd, directory.path());
        let mut model = Model::new();
        harness::run(async {
            let connection = server.connect().await;
            for number in 0..PUTS {
                let request = put(number);
                let _: PutResponse = connection.unary("/etcdserverpb.KV/Put", &request).await.unwrap();
                model.insert(request.key, request.value);
            }
        });
        server.kill();
        let file = segment(directory.path());
        Damaged::new(directory, file, model)
    }

    /// Stopped after enough puts for a tree with branches.
    fn pages() -> Damaged {
        let directory = server::directory();
        let server = Server::start(Program::Ringd, directory.path());
        let mut model = Model::new();
        harness::run(async {
            let connection = server.connect().await;
            for transaction in 0..TRANSACTIONS {
                let numbers = transaction * PUTS_PER_TRANSACTION..(transaction + 1) * PUTS_PER_TRANSACTION;
                let puts: Vec<PutRequest> = numbers.map(put).collect();
                model.extend(puts.iter().map(|request| (request.key.clone(), request.value.clone())));
                let operation = |request| RequestOp { request: Some(Request::RequestPut(request)) };
                let request =
                    TxnRequest { success: puts.into_iter().map(operation).collect(), ..TxnRequest::default() };
                let _: TxnResponse = connection.unary("/etcdserverpb.KV/Txn", &request).await.unwrap();
            }
        });
        server.stop();
        let file = database(directory.path());
        Damaged::new(directory, file, model)
    }

    fn new(directory: TempDir, file: PathBuf, model: Model) -> Damaged {
        let sound = fs::read(&file).unwrap();
        let database = fs::read(database(directory.path())).unwrap();
        Damaged { directory, file, sound, database, model }
    }

    /// Starts on the sound directory with one change.
    fn start_with(&self, damage: impl FnOnce(&mut Vec<u8>)) -> Result<Server, Ended> {
        fs::write(database(self.directory.path()), &self.database).unwrap();
        let mut bytes = self.sound.clone();
        damage(&mut bytes);
        fs::write(&self.file, bytes).unwrap();
        start(self.directory.path())
    }

    /// The used length of a page file: the high-water mark of its newer meta page.
    fn used_bytes(&self) -> usize {
        let marks = [0, PAGE_BYTES].map(|meta| {
            let field = |at: usize| u64::from_le_bytes(self.sound[meta + at..meta + at + 8].try_into().unwrap());
            (field(64), field(56))
        });
        let (_, pages) = marks.into_iter().max().unwrap();
        usize::try_from(pages).unwrap() * PAGE_BYTES
    }
}

fn put(number: usize) -> PutRequest {
    let value = vec![u8::try_from(number % 251).unwrap(); VALUE_BYTES].into();
    PutRequest { key: format!("k{number:06}").into(), value, ..PutRequest::default() }
}

fn read_all(server: &Server) -> Model {
    let everything = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    };
    let read: RangeResponse = harness::run(async {
        server.connect().await.unary("/etcdserverpb.KV/Range", &everything).await.expect("it serves reads")
    });
    read.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

fn start(directory: &Path) -> Result<Server, Ended> {
    Server::try_start(Program::Ringd, directory, &[])
}

fn database(directory: &Path) -> PathBuf {
    directory.join("member/snap/db")
}

/// The log's first segment.
fn segment(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory.join("member/wal")).unwrap().map(|entry| entry.unwrap().path());
    let segments = entries.filter(|path| path.extension().is_some_and(|extension| extension == "rwal"));
    segments.min().expect("a log has a segment")
}

/// Where the batches of a segment begin.
fn batches(segment: &[u8]) -> Vec<usize> {
    let mut offsets = Vec::new();
    let mut offset = BLOCK_BYTES;
    while segment.get(offset..offset + 4) == Some(b"RWB1") {
        offsets.push(offset);
        let records = u32::from_le_bytes(segment[offset + 64..offset + 68].try_into().unwrap());
        offset += (BATCH_HEADER_BYTES + usize::try_from(records).unwrap()).next_multiple_of(BLOCK_BYTES);
    }
    offsets
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn flip(bytes: &mut [u8], offset: usize, length: usize) {
    bytes[offset..offset + length].iter_mut().for_each(|byte| *byte ^= 0x5a);
}

/// The process ended by itself with exit code 1, without a panic, and logged these words.
pub fn refused(ended: &Ended, words: &[&str]) {
    let status = ended.status.unwrap_or_else(|| panic!("it goes on: {ended}"));
    assert_eq!(status.code(), Some(1), "not a refusal: {ended}");
    assert!(!ended.log.contains("panicked"), "{ended}");
    for word in words {
        assert!(ended.log.contains(word), "{word:?} is missing in: {ended}");
    }
}
