//! Sends finished spans to a collector: the OpenTelemetry protocol over gRPC, without TLS, as etcd does.
//!
//! ```text
//!   spans::Queue ──▶ the exporter's thread: batches of 512 or what came in 5 s ──▶ message ──▶ client::transport ──▶ collector
//! ```
//!
//! The thread has a tokio runtime of its own, may run on any CPU, and has a lower priority than the cores that serve. A batch that the
//! collector does not take is sent again for at most ten seconds; then it is lost and counted, and a line is logged. The server does
//! not wait for any of this. The crates of OpenTelemetry are not used: they would bring tonic and tower into the server, for one
//! message and one method.

mod message;

use std::{
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use self::message::Resource;
use crate::{
    base::limits::{
        SPANS_DELAY_MS, SPANS_EXPORT_MS_MAX, SPANS_EXPORT_PAUSE_MS, SPANS_LAST_EXPORT_MS_MAX, SPANS_PER_BATCH,
    },
    client::{
        Call, Code, Error, Options,
        balance::Ring,
        transport::{decode, frame, unary},
    },
    os::offload,
    proto::otlp::ExportTraceServiceResponse,
    spans::{Finished, Queue},
};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Where spans go, and who sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`, or one of the client's other forms of an endpoint.
    pub collector: String,
    pub service_name: String,
    /// Not told if it is empty.
    pub instance_id: String,
}

/// The thread that exports.
pub struct Exporter {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl Exporter {
    /// Starts the thread. An address that nothing can be sent to is logged; then all spans are lost.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let for_thread = Arc::clone(&queue);
        let thread = offload::beside("ringd-spans", move || run(&settings, &for_thread))?;
        Ok(Self { queue, thread })
    }

    /// Where spans wait for the thread.
    #[must_use]
    pub fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Lets the thread send what waits, and end.
    pub fn close(&self) {
        self.queue.close();
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

fn run(settings: &Settings, queue: &Queue) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(export_until_stop(settings, queue)),
        Err(error) => tracing::error!(%error, "cannot export spans"),
    }
}

/// Exports until the queue is closed and empty, or for a moment after it was closed.
async fn export_until_stop(settings: &Settings, queue: &Queue) {
    let time_is_up = async {
        queue.closed().await;
        tokio::time::sleep(Duration::from_millis(SPANS_LAST_EXPORT_MS_MAX)).await;
    };
    tokio::select! {
        () = export_all(settings, queue) => {}
        () = time_is_up => {
            let collector = &settings.collector;
            tracing::warn!(collector, "the collector did not take the last spans before the server stopped");
        }
    }
}

async fn export_all(settings: &Settings, queue: &Queue) {
    let options = Options {
        endpoints: vec![settings.collector.clone()],
        dial_timeout: Duration::from_millis(SPANS_EXPORT_MS_MAX),
        request_bytes_max: usize::MAX,
        ..Options::default()
    };
    let collector = Ring::new(&options);
    let resource = message::resource(&settings.service_name, &settings.instance_id);
    loop {
        let goes_on = queue.wait(Duration::from_millis(SPANS_DELAY_MS)).await;
        let spans = queue.take();
        for batch in spans.chunks(SPANS_PER_BATCH) {
            let sent = match &collector {
                Ok(collector) => export(collector, &resource, batch).await,
                Err(error) => Err(error.clone()),
            };
            let refused = sent.unwrap_or_else(|error| {
                let (spans, collector) = (batch.len(), &settings.collector);
                tracing::warn!(%error, spans, collector, "traces export failed; the spans are lost");
                batch.len() as u64
            });
            queue.count(batch.len() as u64 - refused, refused);
        }
        if !goes_on {
            return;
        }
    }
}

/// Sends a batch, and again while that may help. Returns how many spans the collector has refused.
async fn export(collector: &Ring, resource: &Resource, batch: &[Finished]) -> Result<u64, Error> {
    let body = frame(&message::request(resource, batch), usize::MAX)?;
    let call = Call::within(Duration::from_millis(SPANS_EXPORT_MS_MAX));
    let pause = Duration::from_millis(SPANS_EXPORT_PAUSE_MS);
    loop {
        let error = match unary(collector, EXPORT, body.clone(), "", call).await {
            Ok(answer) => return Ok(refused(&decode(&answer)?, batch.len())),
            Err(error) => error,
        };
        let is_too_late = call.deadline.is_some_and(|deadline| Instant::now() + pause >= deadline);
        if !may_pass(error.code()) || is_too_late {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Which failures a collector may get over, by the protocol's specification.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Canceled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss
    )
}

fn refused(answer: &ExportTraceServiceResponse, sent: usize) -> u64 {
    let Some(partial) = &answer.partial_success else { return 0 };
    if partial.rejected_spans != 0 || !partial.error_message.is_empty() {
        let (spans, error) = (partial.rejected_spans, &partial.error_message);
        tracing::warn!(error, spans, "the collector has refused spans");
    }
    u64::try_from(partial.rejected_spans).unwrap_or(0).min(sent as u64)
}
