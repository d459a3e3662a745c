//! The same traffic against ringd and etcd, answer by answer.
//!
//! ```text
//!   Traffic(seed) ── operation ──┬── ringd ── reply ──┐
//!                                └── etcd ─── reply ──┴── verdict
//! ```
//!
//! Equal must be: HTTP status, content type, gRPC code and message, and the bytes of the response message. Not compared:
//!
//! 1. `cluster_id`, `member_id` and `raft_term` of the header: they follow from the start, not from the traffic.
//! 2. Keys that a sort leaves equal: their order is unspecified in etcd (its sort is not stable), and so is which of them
//!    a limit cuts off. The values sorted by must agree, and what a limit cannot have cut.
//! 3. Where RangeStream cuts its pieces: flow control. Put together they must agree.
//!
//! Meanwhile ringd is stopped and killed, and the reference is not, so a restart must change no answer.

use std::{
    collections::BTreeMap,
    env,
    fmt::{Debug, Write},
    fs,
    path::Path,
    process::Command,
};

use bytes::Bytes;
use prost::Message;
use ringd::{
    os::mapping::Mapping,
    pagefile::{PageFile, Violation},
    proto::{
        etcdserverpb::{
            CompactionResponse, DeleteRangeResponse, PutResponse, RangeRequest, RangeResponse, RangeStreamResponse,
            RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, request_op::Request, response_op::Response,
        },
        mvccpb::KeyValue,
    },
};

use crate::{
    harness::{
        self,
        grpc::{Connection, Reply},
        masked::{decoded, masked},
        reference::{self, Release},
        server::{self, Program, Server},
    },
    traffic::{Operation, Traffic},
};

const OPERATIONS: usize = 4000;
/// Seeds that run by default.
const SEEDS: [u64; 2] = [1, 2];
/// Each attempt to shorten a trace costs two starts.
const SHRINK_ATTEMPTS: usize = 40;

/// Thousands of operations on each seed, with restarts of ringd between them.
pub fn kv_traffic_agrees() {
    let operations = harness::setting("RINGD_DIFFERENTIAL_OPERATIONS", OPERATIONS);
    for default in SEEDS {
        let seed = harness::seed("differential::kv_traffic_agrees", default);
        if let Err(difference) = harness::run(drive(seed, operations)) {
            let trace = harness::run(shrink(difference.trace));
            panic!(
                "RINGD_SEED={seed}, operation {}:\n{}\n{}\nshortest trace found:\n{}",
                difference.position,
                trace.last().expect("a difference has an operation"),
                difference.what,
                listing(&trace),
            );
        }
        if env::var_os("RINGD_SEED").is_some() {
            return;
        }
    }
}

/// After the same traffic both databases hold the same, read by etcd's own tools; and ours reads etcd's.
pub fn files_agree() {
    let seed = harness::seed("differential::files_agree", 7);
    let directories = [server::directory(), server::directory()];
    let hashes = [(Program::Ringd, &directories[0]), (Program::Etcd, &directories[1])].map(|(program, directory)| {
        let server = Server::start(program, directory.path());
        harness::run(async {
            let connection = server.connect().await;
            let mut traffic = Traffic::new(seed);
            for _ in 0..500 {
                let operation = traffic.next();
                let reply = connection.call(operation.path(), operation.encoded()).await;
                observe(&mut traffic, &operation, &reply);
            }
        });
        server.stop();
        let file = directory.path().join("member/snap/db");
        tool("bbolt", &["check", file.to_str().expect("UTF-8")]);
        assert_eq!(violations(&file), [], "our check of the file of {program:?}");
        let status = tool("etcdutl", &["snapshot", "status", "--write-out=json", file.to_str().expect("UTF-8")]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let hash = tool("etcdutl", &["hashkv", "--write-out=json", file.to_str().expect("UTF-8")]);
        (hash, status["revision"].clone(), status["version"].clone())
    });
    assert_eq!(hashes[0], hashes[1], "hash, revision and version of ringd's file and of etcd's");
}

/// The violations that ringd's checker finds in a page file that no process has open.
pub fn violations(file: &Path) -> Vec<Violation> {
    let length = fs::metadata(file).expect("it is there").len();
    let mapping = Mapping::reserve(file, usize::try_from(length).expect("small")).expect("it can be mapped");
    PageFile::open(mapping.page_map(), length).expect("it opens").check()
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let path = reference::tool(name);
    let output = Command::new(path).args(arguments).output().expect("it starts");
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {}{}", printed(&output.stdout), printed(&output.stderr));
    printed(&output.stdout)
}

struct Difference {
    /// The number of the operation, from 0.
    position: usize,
    what: String,
    /// All operations up to the one with the difference.
    trace: Vec<Operation>,
}

async fn drive(seed: u64, operations: usize) -> Result<(), Difference> {
    let mut pair = Pair::start().await;
    let mut traffic = Traffic::new(seed);
    let mut trace = Vec::with_capacity(operations);
    let mut codes: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    for position in 0..operations {
        if position == operations / 2 {
            pair.restart(Server::restart).await;
        }
        if position == operations * 3 / 4 {
            pair.restart(Server::crash).await;
        }
        let operation = traffic.next();
        trace.push(operation.clone());
        match pair.compare(&operation).await {
            Ok(reply) => {
                *codes.entry(reply.code).or_default() += 1;
                observe(&mut traffic, &operation, &reply);
            }
            Err(what) => return Err(Difference { position, what, trace }),
        }
    }
    let counts: Vec<String> = codes
        .iter()
        .map(|(code, count)| match code {
            Some(code) => format!("{count} x {code}"),
            None => format!("{count} left out"),
        })
        .collect();
    eprintln!("seed {seed}: equal answers by gRPC code: {}", counts.join(", "));
    Ok(())
}

fn observe(traffic: &mut Traffic, operation: &Operation, reply: &Reply) {
    if reply.code == Some(0) {
        let revision = reply.messages.last().map_or(0, |message| header_revision(operation, message));
        traffic.observe(operation, revision);
    }
}

/// Both servers, with a connection each.
struct Pair {
    ringd: Option<Server>,
    connections: [Connection; 2],
    release: Release,
    // Last, so that the servers end before their directories go.
    _etcd: Server,
    _directories: [tempfile::TempDir; 2],
}

impl Pair {
    async fn start() -> Pair {
        let directories = [server::directory(), server::directory()];
        let ringd = Server::start(Program::Ringd, directories[0].path());
        let etcd = Server::start(Program::Etcd, directories[1].path());
        Pair {
            connections: [ringd.connect().await, etcd.connect().await],
            release: reference::etcd().expect("asked before").1,
            ringd: Some(ringd),
            _etcd: etcd,
            _directories: directories,
        }
    }

    async fn restart(&mut self, how: impl FnOnce(Server) -> Server) {
        let ringd = how(self.ringd.take().expect("always there between calls"));
        self.connections[0] = ringd.connect().await;
        self.ringd = Some(ringd);
    }

    /// The reference's reply, or what differs.
    async fn compare(&self, operation: &Operation) -> Result<Reply, String> {
        if self.release == Release::V3_4 && lacking_in_3_4(operation) {
            return Ok(Reply::default());
        }
        let (path, request) = (operation.path(), operation.encoded());
        let (ringd, etcd) =
            tokio::join!(self.connections[0].call(path, request.clone()), self.connections[1].call(path, request),);
        let refused = |reply: &Reply| reply.code.is_some_and(|code| code != 0);
        if self.release == Release::V3_4 && refused(&ringd) && refused(&etcd) {
            return Ok(etcd);
        }
        match difference(operation, &ringd, &etcd) {
            None => Ok(etcd),
            Some(what) => Err(what),
        }
    }
}

/// Is this beyond 3.4? See [`reference::LACKING_IN_3_4`].
fn lacking_in_3_4(operation: &Operation) -> bool {
    match operation {
        Operation::RangeStream(_) => true,
        Operation::Range(request) => range_lacking_in_3_4(request),
        Operation::Txn(request) => txn_lacking_in_3_4(request),
        Operation::Put(_) | Operation::DeleteRange(_) | Operation::Compact(_) => false,
    }
}

fn range_lacking_in_3_4(request: &RangeRequest) -> bool {
    request.keys_only || !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target)
}

fn txn_lacking_in_3_4(request: &TxnRequest) -> bool {
    let mut operations = request.success.iter().chain(&request.failure);
    operations.any(|operation| match &operation.request {
        Some(Request::RequestRange(request)) => range_lacking_in_3_4(request),
        Some(Request::RequestTxn(request)) => txn_lacking_in_3_4(request),
        _ => false,
    })
}

/// The difference, if there is one.
fn difference(operation: &Operation, ringd: &Reply, etcd: &Reply) -> Option<String> {
    let heads = [ringd, etcd].map(|reply| {
        let Reply { http_status, content_type, code, message, broken, .. } = reply;
        format!("{http_status} {content_type} grpc-status {code:?} {message:?} {broken:?}")
    });
    if heads[0] != heads[1] {
        return Some(format!("ringd: {}\netcd:  {}", heads[0], heads[1]));
    }
    let shown = match operation {
        Operation::Range(request) => unary(ringd, etcd, |left, right| agree_range(request, left, right)),
        Operation::RangeStream(request) => stream(request, ringd, etcd),
        Operation::Txn(request) => unary(ringd, etcd, |left, right| agree_txn(request, left, right)),
        Operation::Put(_) => unary(ringd, etcd, |_: &mut PutResponse, _| ()),
        Operation::DeleteRange(_) => unary(ringd, etcd, |_: &mut DeleteRangeResponse, _| ()),
        Operation::Compact(_) => unary(ringd, etcd, |_: &mut CompactionResponse, _| ()),
    };
    shown.map(|[ringd, etcd]| format!("ringd: {ringd}\netcd:  {etcd}"))
}

/// Compares the bytes; if they differ, once more after `agree` has made equal what is unspecified.
fn unary<M: Message + Default + Debug>(ringd: &Reply, etcd: &Reply, agree: impl Fn(&mut M, &M)) -> Option<[String; 2]> {
    let [ringd, etcd] = [ringd, etcd].map(|reply| reply.messages.iter().map(masked).collect::<Vec<_>>());
    if ringd == etcd {
        return None;
    }
    let ([ringd], [etcd]) = (&ringd[..], &etcd[..]) else {
        return Some([ringd, etcd].map(|messages| format!("{} messages", messages.len())));
    };
    let (mut left, right): (M, M) = (decoded(ringd), decoded(etcd));
    let shown = [format!("{left:?} {}", hexadecimal(ringd)), format!("{right:?} {}", hexadecimal(etcd))];
    agree(&mut left, &right);
    (left.encode_to_vec() != *etcd).then_some(shown)
}

/// Compares the pieces put together, and that only the last one has a header.
fn stream(request: &RangeRequest, ringd: &Reply, etcd: &Reply) -> Option<[String; 2]> {
    let [mut left, right] = [ringd, etcd].map(|reply| {
        let pieces: Vec<RangeResponse> = reply
            .messages
            .iter()
            .map(|message| decoded::<RangeStreamResponse>(&masked(message)).range_response.unwrap_or_default())
            .collect();
        let headers = pieces.iter().filter(|piece| piece.header.is_some()).count();
        let last = pieces.last().cloned().unwrap_or_default();
        (headers, RangeResponse { kvs: pieces.into_iter().flat_map(|piece| piece.kvs).collect(), ..last })
    });
    let shown = [format!("{left:?}"), format!("{right:?}")];
    agree_range(request, &mut left.1, &right.1);
    (left != right).then_some(shown)
}

/// Makes unspecified parts equal: the order of equal keys, and which of them the limit cut off.
fn agree_range(request: &RangeRequest, left: &mut RangeResponse, right: &RangeResponse) {
    let ranks = |kvs: &[KeyValue]| kvs.iter().map(|kv| rank(request.sort_target, kv)).collect::<Vec<_>>();
    if request.sort_target == 0 || ranks(&left.kvs) != ranks(&right.kvs) {
        return;
    }
    let groups = |kvs: &[KeyValue]| {
        let mut groups: BTreeMap<(i64, Bytes), Vec<KeyValue>> = BTreeMap::new();
        for kv in kvs {
            groups.entry(rank(request.sort_target, kv)).or_default().push(kv.clone());
        }
        if let Some(cut) = kvs.last().filter(|_| right.more) {
            groups.remove(&rank(request.sort_target, cut));
        }
        groups.values_mut().for_each(|group| group.sort_by(|one, other| one.key.cmp(&other.key)));
        groups
    };
    if groups(&left.kvs) == groups(&right.kvs) {
        left.kvs.clone_from(&right.kvs);
    }
}

/// The value that a target sorts by.
fn rank(sort_target: i32, kv: &KeyValue) -> (i64, Bytes) {
    match sort_target {
        1 => (kv.version, Bytes::new()),
        2 => (kv.create_revision, Bytes::new()),
        3 => (kv.mod_revision, Bytes::new()),
        4 => (0, kv.value.clone()),
        _ => (0, kv.key.clone()),
    }
}

fn agree_txn(request: &TxnRequest, left: &mut TxnResponse, right: &TxnResponse) {
    let branch = if right.succeeded { &request.success } else { &request.failure };
    for ((operation, left), right) in branch.iter().zip(&mut left.responses).zip(&right.responses) {
        agree_response(operation, left, right);
    }
}

fn agree_response(operation: &RequestOp, left: &mut ResponseOp, right: &ResponseOp) {
    match (&operation.request, &mut left.response, &right.response) {
        (
            Some(Request::RequestRange(request)),
            Some(Response::ResponseRange(left)),
            Some(Response::ResponseRange(right)),
        ) => agree_range(request, left, right),
        (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(left)), Some(Response::ResponseTxn(right))) => {
            agree_txn(request, left, right);
        }
        _ => (),
    }
}

/// The revision of a response.
pub fn header_revision(operation: &Operation, message: &Bytes) -> i64 {
    #[derive(Clone, PartialEq, Message)]
    struct AnyResponse {
        #[prost(message, optional, tag = "1")]
        header: Option<ResponseHeader>,
    }
    let message = match operation {
        Operation::RangeStream(_) => {
            decoded::<RangeStreamResponse>(message).range_response.unwrap_or_default().encode_to_vec().into()
        }
        _ => message.clone(),
    };
    decoded::<AnyResponse>(&message).header.map_or(0, |header| header.revision)
}

fn hexadecimal(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 200;
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    shown.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes operations as long as a difference remains. Revisions in the operations stay, so the shorter trace may show another
/// difference.
async fn shrink(mut trace: Vec<Operation>) -> Vec<Operation> {
    let mut attempts = 0;
    let mut chunk = trace.len().div_ceil(2);
    while chunk > 0 && attempts < SHRINK_ATTEMPTS {
        let mut start = 0;
        while start + 1 < trace.len() && attempts < SHRINK_ATTEMPTS {
            let end = (start + chunk).min(trace.len() - 1);
            let shorter = [&trace[..start], &trace[end..]].concat();
            attempts += 1;
            match first_difference(&shorter).await {
                Some(position) => trace = shorter[..=position].to_vec(),
                None => start = end,
            }
        }
        chunk /= 2;
    }
    trace
}

async fn first_difference(trace: &[Operation]) -> Option<usize> {
    let pair = Pair::start().await;
    for (position, operation) in trace.iter().enumerate() {
        if pair.compare(operation).await.is_err() {
            return Some(position);
        }
    }
    None
}

/// The end of a trace, one operation a line.
fn listing(trace: &[Operation]) -> String {
    const LINES_MAX: usize = 30;
    let mut text = format!("{} operations", trace.len());
    for operation in &trace[trace.len().saturating_sub(LINES_MAX)..] {
        let mut line = operation.to_string();
        line.truncate(line.char_indices().nth(1000).map_or(line.len(), |(position, _)| position));
        let _ = write!(text, "\n  {line}");
    }
    text
}
