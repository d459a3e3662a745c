//! Metrics of the methods of a gRPC server: calls started, handled by code, messages in and out, and with
//! `--metrics extensive` the time of calls. The methods are an argument; a call counts by the index of its method.
//!
//! The gRPC server itself counts calls and messages; a scrape loads its counts. Only the time is counted here.

use std::sync::atomic::{AtomicU64, Ordering};

use super::family::{Buckets, Family, Kind};
use super::sheet::{Read, load, observe, zeros};

/// One method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcMethod {
    /// `etcdserverpb.KV`.
    pub service: &'static str,
    /// `Range`.
    pub method: &'static str,
    /// `unary`, `client_stream`, `server_stream` or `bidi_stream`.
    pub kind: &'static str,
    /// Whether its series exist before its first call.
    pub from_start: bool,
}

/// The counts of one method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcCounts {
    pub started: u64,
    pub received: u64,
    pub sent: u64,
    /// By code number.
    pub handled: [u64; CODES.len()],
}

/// gRPC codes by number, as Prometheus labels spell them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

const LABELS: &[&str] = &["grpc_method", "grpc_service", "grpc_type"];

const HANDLED: Family = Family {
    name: "grpc_server_handled_total",
    kind: Kind::Counter,
    labels: &["grpc_code", "grpc_method", "grpc_service", "grpc_type"],
    help: "Total number of RPCs completed on the server, regardless of success or failure.",
};

const HANDLING: Family = Family {
    name: "grpc_server_handling_seconds",
    kind: Kind::Histogram(Buckets::Listed(&[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])),
    labels: LABELS,
    help: "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
};

const RECEIVED: Family = Family {
    name: "grpc_server_msg_received_total",
    kind: Kind::Counter,
    labels: LABELS,
    help: "Total number of RPC stream messages received on the server.",
};

const SENT: Family = Family {
    name: "grpc_server_msg_sent_total",
    kind: Kind::Counter,
    labels: LABELS,
    help: "Total number of gRPC stream messages sent by the server.",
};

const STARTED: Family = Family {
    name: "grpc_server_started_total",
    kind: Kind::Counter,
    labels: LABELS,
    help: "Total number of RPCs started on the server.",
};

/// The method metrics of one core.
pub struct Grpc {
    methods: &'static [GrpcMethod],
    extensive: bool,
    cells: Box<[Cells]>,
}

struct Cells {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    handling: Box<[AtomicU64]>,
}

impl Grpc {
    pub fn new(methods: &'static [GrpcMethod], extensive: bool) -> Self {
        let cells = || Cells {
            started: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            handled: std::array::from_fn(|_| AtomicU64::new(0)),
            handling: zeros(HANDLING.cells()).collect(),
        };
        Self { methods, extensive, cells: methods.iter().map(|_| cells()).collect() }
    }

    /// Sets the counts of method `at`. Counts only grow, so setting them twice changes nothing.
    pub fn load(&self, at: usize, counts: &GrpcCounts) {
        let cells = &self.cells[at];
        cells.started.store(counts.started, Ordering::Relaxed);
        cells.received.store(counts.received, Ordering::Relaxed);
        cells.sent.store(counts.sent, Ordering::Relaxed);
        cells.handled.iter().zip(counts.handled).for_each(|(cell, count)| cell.store(count, Ordering::Relaxed));
    }

    /// Adds the time of a call of method `at`, if the metrics are extensive.
    pub fn took(&self, at: usize, seconds: f64) {
        if self.extensive {
            observe(&HANDLING, &self.cells[at].handling, seconds);
        }
    }

    /// Every family with its series.
    pub(super) fn read(&self) -> Vec<(&'static Family, Vec<Read>)> {
        let simple = |cell: fn(&Cells) -> &AtomicU64| {
            let one = |(method, cells): (&GrpcMethod, &Cells)| {
                let count = cell(cells).load(Ordering::Relaxed);
                method.is_shown(count).then(|| (values(method), vec![count]))
            };
            self.methods.iter().zip(&self.cells).filter_map(one).collect::<Vec<_>>()
        };
        let mut families = vec![
            (&HANDLED, self.read_handled()),
            (&RECEIVED, simple(|cells| &cells.received)),
            (&SENT, simple(|cells| &cells.sent)),
            (&STARTED, simple(|cells| &cells.started)),
        ];
        if self.extensive {
            let one = |(method, cells): (&GrpcMethod, &Cells)| {
                let shown = method.is_shown(cells.started.load(Ordering::Relaxed));
                shown.then(|| (values(method), load(&cells.handling)))
            };
            families.insert(1, (&HANDLING, self.methods.iter().zip(&self.cells).filter_map(one).collect()));
        }
        families
    }

    fn read_handled(&self) -> Vec<Read> {
        let mut series = Vec::new();
        for (method, cells) in self.methods.iter().zip(&self.cells) {
            for (code, cell) in CODES.iter().zip(&cells.handled) {
                let count = cell.load(Ordering::Relaxed);
                if method.is_shown(count) {
                    let mut labels = vec![(*code).to_owned()];
                    labels.extend(values(method));
                    series.push((labels, vec![count]));
                }
            }
        }
        series
    }
}

impl GrpcMethod {
    fn is_shown(&self, count: u64) -> bool {
        self.from_start || count > 0
    }
}

fn values(method: &GrpcMethod) -> Vec<String> {
    [method.method, method.service, method.kind].map(str::to_owned).to_vec()
}
