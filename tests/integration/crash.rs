//! kill -9 at random moments under load: every acknowledged write must be there, and no write in part.
//!
//! ```text
//!   writer 0 ── put, delete, txn ──┐                       ┌── what is stored = the model, or
//!   writer 1 ── ...                ├── ringd ── kill, start ┤   the model after the one unacknowledged write
//!   writer n ── ...                ┘                       └── revisions never go back, history reads the same
//! ```
//!
//! Each writer owns a few keys and has one request in flight. So its keys are in the state of its model, or one step
//! further; transactions write all of them, so half a step is detected. The kill comes after a random number of
//! acknowledgements, some random microseconds later, or while the server starts.
//!
//! The page cache survives a kill. The models of WAL and page file test lost and torn writes, with a disk in memory.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringd::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, request_op::Request,
};
use tokio::task::{JoinSet, LocalSet};

use crate::{
    harness::{
        self,
        grpc::{CallError, Connection},
        server::{self, Program, Server},
    },
    traffic::prefix_end,
};

const ROUNDS: usize = 40;
const WRITERS: usize = 16;
const KEYS_PER_WRITER: usize = 4;
const ACKNOWLEDGED_PER_ROUND_MAX: usize = 300;
const VALUE_BYTES_MAX: usize = 600;
/// A state whose revision later rounds read again.
const HISTORY_LENGTH: usize = 20;

type State = BTreeMap<Bytes, Bytes>;

/// `RINGD_CRASH_ROUNDS` kills; hundreds in CI.
pub fn acknowledged_writes_survive() {
    let seed = harness::seed("crash::acknowledged_writes_survive", 1);
    let rounds = harness::setting("RINGD_CRASH_ROUNDS", ROUNDS);
    let mut random = SmallRng::seed_from_u64(seed);
    let directory = server::directory();
    let mut writers = writers(random.random());
    let (mut compacted, mut acknowledged) = (0, 0);
    for round in 0..rounds {
        let server = Server::start(Program::Ringd, directory.path());
        let kill_after = random.random_range(0..ACKNOWLEDGED_PER_ROUND_MAX);
        let pause = Duration::from_micros(random.random_range(0..3000));
        let compact = random.random_bool(0.2);
        harness::run(LocalSet::new().run_until(async {
            let connection = Rc::new(server.connect().await);
            for writer in &mut writers {
                writer.check(&connection, compacted).await.unwrap_or_else(|what| panic!("round {round}: {what}"));
            }
            if compact {
                compacted = compact_history(&connection, &writers, compacted).await;
            }
            (writers, acknowledged) = load(server, connection, std::mem::take(&mut writers), kill_after, pause).await;
        }));
        if random.random_bool(0.15) {
            Server::kill_while_starting(Program::Ringd, directory.path(), random.random_range(0..30));
        }
        assert!(acknowledged >= kill_after, "round {round}: only {acknowledged} writes were acknowledged");
    }
}

/// The writers of each test.
pub fn writers(seed: u64) -> Vec<Writer> {
    let mut random = SmallRng::seed_from_u64(seed);
    (0..WRITERS).map(|number| Writer::new(number, random.random())).collect()
}

/// Runs all writers until so many writes are acknowledged, then kills the server under them.
pub async fn load(
    server: Server,
    connection: Rc<Connection>,
    writers: Vec<Writer>,
    kill_after: usize,
    pause: Duration,
) -> (Vec<Writer>, usize) {
    let acknowledged = Rc::new(Cell::new(0));
    let enough = Rc::new(tokio::sync::Notify::new());
    let mut tasks = JoinSet::new();
    for mut writer in writers {
        let (connection, acknowledged, enough) = (Rc::clone(&connection), Rc::clone(&acknowledged), Rc::clone(&enough));
        tasks.spawn_local(async move {
            while writer.step(&connection).await {
                acknowledged.set(acknowledged.get() + 1);
                if acknowledged.get() >= kill_after {
                    enough.notify_one();
                }
            }
            enough.notify_one();
            writer
        });
    }
    if kill_after > 0 {
        enough.notified().await;
    }
    tokio::time::sleep(pause).await;
    server.kill();
    let mut writers = tasks.join_all().await;
    writers.sort_by_key(|writer| writer.number);
    (writers, acknowledged.get())
}

/// Compacts to a revision in some writer's history, so that a part of the history stays.
async fn compact_history(connection: &Connection, writers: &[Writer], compacted: i64) -> i64 {
    let Some(&(revision, _)) = writers[0].history.last().filter(|(revision, _)| *revision > compacted) else {
        return compacted;
    };
    let request = CompactionRequest { revision, physical: false };
    let _: CompactionResponse =
        connection.unary("/etcdserverpb.KV/Compact", &request).await.unwrap_or_else(|error| panic!("compact: {error}"));
    revision
}

/// One client with keys of its own, and their expected state.
pub struct Writer {
    number: usize,
    random: SmallRng,
    /// The state after the acknowledged writes.
    state: State,
    /// The state after the write in flight at the kill.
    unacknowledged: Option<State>,
    /// The revision of the last acknowledged write.
    revision: i64,
    /// Revisions at which `state` was this.
    history: Vec<(i64, State)>,
}

impl Writer {
    fn new(number: usize, seed: u64) -> Writer {
        Writer {
            number,
            random: SmallRng::seed_from_u64(seed),
            state: State::new(),
            unacknowledged: None,
            revision: 0,
            history: Vec::new(),
        }
    }

    /// One write. False when the server has ended.
    async fn step(&mut self, connection: &Connection) -> bool {
        let (request, after) = self.write();
        self.unacknowledged = Some(after.clone());
        match connection.unary::<_, TxnResponse>("/etcdserverpb.KV/Txn", &request).await {
            Ok(response) => {
                let revision = response.header.expect("answers have headers").revision;
                assert!(revision >= self.revision, "revision {revision} after {}", self.revision);
                self.revision = revision;
                self.state = after;
                self.unacknowledged = None;
                if self.random.random_bool(0.1) {
                    self.history.push((revision, self.state.clone()));
                    let skipped = self.history.len().saturating_sub(HISTORY_LENGTH);
                    self.history.drain(..skipped);
                }
                true
            }
            Err(CallError::Lost(_)) => false,
            Err(CallError::Refused(refusal)) if refusal.code == 14 => false,
            Err(error) => panic!("writer {}: {error}", self.number),
        }
    }

    /// A write and the state it leads to. Every one changes several keys, most of them all.
    fn write(&mut self) -> (TxnRequest, State) {
        let mut state = self.state.clone();
        let mut success = Vec::new();
        for number in 0..KEYS_PER_WRITER {
            let key = self.key(number);
            let request = match self.random.random_range(0..10) {
                0 => continue,
                1 => {
                    state.remove(&key);
                    Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() })
                }
                _ => {
                    let value = self.value();
                    state.insert(key.clone(), value.clone());
                    Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })
                }
            };
            success.push(RequestOp { request: Some(request) });
        }
        (TxnRequest { success, ..TxnRequest::default() }, state)
    }

    /// Compares the stored state with the model. The write in flight may be there or not.
    pub async fn check(&mut self, connection: &Connection, compacted: i64) -> Result<(), String> {
        let (revision, stored) = self.read(connection, 0).await?;
        if revision < self.revision {
            return Err(format!("revision {revision} after {} was acknowledged", self.revision));
        }
        if stored != self.state {
            if Some(&stored) != self.unacknowledged.as_ref() {
                return Err(format!("stored {stored:?}\nmodel {:?}\nor {:?}", self.state, self.unacknowledged));
            }
            self.state = stored;
        }
        self.unacknowledged = None;
        self.history.retain(|(revision, _)| *revision >= compacted);
        for (revision, state) in &self.history {
            let (_, stored) = self.read(connection, *revision).await?;
            if stored != *state {
                return Err(format!("at revision {revision} stored {stored:?}\nmodel {state:?}"));
            }
        }
        Ok(())
    }

    async fn read(&self, connection: &Connection, revision: i64) -> Result<(i64, State), String> {
        let key = self.prefix();
        let range_end = prefix_end(&key);
        let request = RangeRequest { key, range_end, revision, ..RangeRequest::default() };
        let response: RangeResponse = connection
            .unary("/etcdserverpb.KV/Range", &request)
            .await
            .map_err(|error| format!("writer {} at revision {revision}: {error}", self.number))?;
        let state = response.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
        Ok((response.header.expect("answers have headers").revision, state))
    }

    fn prefix(&self) -> Bytes {
        format!("writer/{:02}/", self.number).into()
    }

    fn key(&self, number: usize) -> Bytes {
        format!("writer/{:02}/{number}", self.number).into()
    }

    fn value(&mut self) -> Bytes {
        let length = self.random.random_range(0..VALUE_BYTES_MAX);
        (0..length).map(|_| self.random.random::<u8>()).collect()
    }
}
