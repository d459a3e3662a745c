//! Steps before and after every call that reaches a handler.
//!
//! | step | before the handler | after it |
//! |---|---|---|
//! | size, deadline | refused before the handler sees the call (`call`, `frame`) | - |
//! | tracing | a span begins, if the call is sampled (`spans`) | it ends |
//! | metrics | started, messages received | messages sent, handled by code |
//! | request log | - | `request stats` at debug level |
//! | slow-request log | - | the same line as a warning, for unary calls slower than the limit |
//! | handler's own | - | [`Handler::handled`] |
//!
//! As in grpc-go's chain, calls to unknown methods, oversized or undecodable messages never get here.
//!
//! Counting costs a few unlocked stores: every core has its own [`CallCounters`], which only that core writes, and every core may
//! read for `/metrics`.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    answer::Reply,
    call::Call,
    call::CallReport,
    handler::Handler,
    method::{MethodId, MethodTable},
    spans::{CallSpan, ServerAddress},
    status::{Code, Status},
};
use crate::spans::Tracer;

/// The steps, with their state.
pub(super) struct Interceptors {
    pub counters: Arc<CallCounters>,
    /// `--warning-unary-request-duration`.
    pub slow: Duration,
    pub tracer: Option<Rc<Tracer>>,
}

impl Interceptors {
    /// When the head of a call is there. `server` is this end of its connection.
    pub(super) fn trace(&self, call: Call, path: &str, server: Option<&ServerAddress>) -> Call {
        match &self.tracer {
            None => call,
            Some(tracer) => call.with_span(|head| CallSpan::begin(tracer, path, head, server)),
        }
    }

    /// A call ends that the handler never saw.
    pub(super) fn refused(&self, call: &Call, status: &Status) {
        if let Some(span) = &call.span {
            span.end(status);
        }
    }

    /// Before the handler.
    pub(super) fn started(&self, method: MethodId) {
        self.counters.started(method);
    }

    /// After a unary call.
    pub(super) fn finished_unary<H: Handler>(
        &self,
        handler: &H,
        report: &CallReport<'_>,
        request: &Bytes,
        reply: &Reply,
    ) {
        self.counters.finished(report);
        let slow = report.duration() > self.slow;
        if slow || tracing::enabled!(tracing::Level::DEBUG) {
            log_request(handler, report, request, reply, slow);
        }
        handler.handled(report);
        if let Some(span) = report.span {
            span.end(reply.as_ref().err().unwrap_or(&Status::OK));
        }
    }

    /// After a streaming call.
    pub(super) fn finished_stream<H: Handler>(&self, handler: &H, report: &CallReport<'_>, status: &Status) {
        self.counters.finished(report);
        tracing::debug!(
            method = report.path,
            remote = %report.peer,
            code = report.code.name(),
            received = report.received.messages,
            sent = report.sent.messages,
            took = ?report.duration(),
            "stream ended"
        );
        handler.handled(report);
        if let Some(span) = report.span {
            span.end(status);
        }
    }
}

/// etcd's `request stats` line.
fn log_request<H: Handler>(handler: &H, report: &CallReport<'_>, request: &Bytes, reply: &Reply, slow: bool) {
    let description = handler.describe(report.method, request, reply);
    let started = SystemTime::now().checked_sub(report.duration()).unwrap_or(SystemTime::UNIX_EPOCH);
    let start_ms = started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                "start time" = start_ms,
                "time spent" = ?report.duration(),
                remote = %report.peer,
                "response type" = report.path,
                "request count" = description.request_count,
                "request size" = report.received.bytes,
                "response count" = description.response_count,
                "response size" = report.sent.bytes,
                "request content" = description.request_content,
                "request stats"
            )
        };
    }
    if slow {
        line!(warn);
    } else {
        line!(debug);
    }
}

/// Call counts of one core. Only that core writes.
pub struct CallCounters {
    methods: Box<[MethodCounters]>,
}

#[derive(Default)]
struct MethodCounters {
    started: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    handled: [AtomicU64; Code::ALL.len()],
}

/// Counts of one method at one moment, in the order of the method table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodCounts {
    pub started: u64,
    pub messages_received: u64,
    pub messages_sent: u64,
    /// By code number.
    pub handled: [u64; Code::ALL.len()],
}

impl CallCounters {
    pub fn new(table: &MethodTable) -> CallCounters {
        CallCounters { methods: table.methods().iter().map(|_| MethodCounters::default()).collect() }
    }

    /// A copy in which each number is exact at some moment during the call.
    pub fn snapshot(&self) -> Vec<MethodCounts> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.methods
            .iter()
            .map(|counters| MethodCounts {
                started: read(&counters.started),
                messages_received: read(&counters.received),
                messages_sent: read(&counters.sent),
                handled: std::array::from_fn(|code| read(&counters.handled[code])),
            })
            .collect()
    }

    fn started(&self, method: MethodId) {
        bump(&self.methods[usize::from(method.0)].started, 1);
    }

    fn finished(&self, report: &CallReport<'_>) {
        let counters = &self.methods[usize::from(report.method.0)];
        bump(&counters.received, report.received.messages);
        bump(&counters.sent, report.sent.messages);
        bump(&counters.handled[report.code as usize], 1);
    }
}

/// There is one writer, so a load and a store suffice.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Mutex, PoisonError},
    };

    use std::time::Instant;

    use super::*;
    use crate::os::net::Peer;
    use crate::rpc::{Body, Description, Inbound, Method, MethodKind, Outbound, Responder, Traffic};

    struct Describing;

    impl Handler for Describing {
        fn unary(&self, _: &Call, _: Bytes, _: Responder) -> Option<Reply> {
            None
        }

        fn streaming(&self, _: Call, _: Inbound, _: Outbound) {}

        fn describe(&self, _: MethodId, request: &Bytes, _: &Reply) -> Description {
            Description { request_count: 1, response_count: 2, request_content: format!("{request:?}") }
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Finishes one call of this duration and returns the log lines.
    fn log_of(took: Duration) -> String {
        let table = MethodTable::new(&[Method { service: "etcdserverpb.KV", name: "Put", kind: MethodKind::Unary }]);
        let counters = Arc::new(CallCounters::new(&table));
        let interceptors = Interceptors { counters, slow: Duration::from_millis(300), tracer: None };
        let (method, started) = (MethodId(0), Instant::now());
        let report = CallReport {
            method,
            path: table.path(method),
            peer: Peer::Tcp("10.0.0.7:4321".parse().unwrap()),
            code: Code::Ok,
            started,
            finished: started + took,
            received: Traffic::one(3),
            sent: Traffic::one(5),
            span: None,
        };
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let reply = Ok(Body::Message(Bytes::from_static(b"reply")));
            interceptors.started(method);
            interceptors.finished_unary(&Describing, &report, &Bytes::from_static(b"key"), &reply);
        });
        let counts = interceptors.counters.snapshot()[0];
        assert_eq!((counts.started, counts.handled[0], counts.messages_received, counts.messages_sent), (1, 1, 1, 1));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_slow_requests_are_logged_with_their_source() {
        assert_eq!(log_of(Duration::from_millis(299)), "");
        let line = log_of(Duration::from_millis(301));
        for part in ["WARN", "request stats", "remote=10.0.0.7:4321", "/etcdserverpb.KV/Put", "301ms", r#"b\"key\""#] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
