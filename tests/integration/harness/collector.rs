//! A collector of OpenTelemetry spans: takes what servers export over gRPC, and keeps it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response};
use prost::Message;
use ringd::proto::otlp::{ExportTraceServiceRequest, InstrumentationScope, Resource, Span};
use tokio::net::{TcpListener, TcpStream};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const PREFIX_BYTES: usize = 5;

/// Serves as long as it is there.
pub struct Collector {
    pub port: u16,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    server: tokio::task::JoinHandle<()>,
}

/// A span with its sender and its library.
#[derive(Clone, Debug)]
pub struct Received {
    pub resource: Resource,
    pub scope: InstrumentationScope,
    pub span: Span,
}

impl Collector {
    pub async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Collector { port, requests, server }
    }

    /// What servers are told.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All spans so far, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        let requests = self.requests.lock().expect("no holder panics");
        let mut received = Vec::new();
        for of_resource in requests.iter().flat_map(|request| &request.resource_spans) {
            let resource = of_resource.resource.clone().expect("every sender names itself");
            for of_scope in &of_resource.scope_spans {
                let scope = of_scope.scope.clone().expect("every library names itself");
                let with =
                    |span: &Span| Received { resource: resource.clone(), scope: scope.clone(), span: span.clone() };
                received.extend(of_scope.spans.iter().map(with));
            }
        }
        received
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(stream: TcpStream, kept: Arc<Mutex<Vec<ExportTraceServiceRequest>>>) {
    let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            assert_eq!(request.uri().path(), EXPORT);
            let mut body = request.into_body();
            let mut bytes = Vec::new();
            while let Some(Ok(chunk)) = body.data().await {
                body.flow_control().release_capacity(chunk.len()).expect("it was received");
                bytes.extend_from_slice(&chunk);
            }
            let message = ExportTraceServiceRequest::decode(&bytes[PREFIX_BYTES..]).expect("a message of OTLP");
            kept.lock().expect("no holder panics").push(message);
            let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a valid head");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a valid header"));
            // The sender may have gone meanwhile.
            if let Ok(mut sending) = respond.send_response(head, false) {
                let _ = sending.send_data(Bytes::from_static(&[0; PREFIX_BYTES]), false);
                let _ = sending.send_trailers(trailers);
            }
        });
    }
}
