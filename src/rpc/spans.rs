//! The span of a call, with the names and attributes of OpenTelemetry's instrumentation for grpc-go.
//!
//! | attribute | |
//! |---|---|
//! | `rpc.method` | `service/name`, as the name of the span |
//! | `rpc.system.name` | `grpc` |
//! | `server.address`, `server.port` | where the client has connected to |
//! | `rpc.response.status_code` | in capitals |
//!
//! A code that tells of a fault of the server makes a failed span, with the message. A call that is refused before it has a method
//! has none.

use std::{borrow::Cow, cell::RefCell, rc::Rc};

use super::{
    head::Head,
    status::{Code, Status},
};
use crate::{
    os::net::Address,
    spans::{Attribute, Kind, Scope, Span, SpanContext, Tracer},
};

const SCOPE: Scope =
    Scope { name: "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", version: "0.68.0" };

/// The spans of one call that is traced. They end with it.
#[derive(Debug)]
pub struct CallSpan {
    /// `None` once it has ended.
    own: RefCell<Option<Span>>,
    /// Of the request inside it.
    inner: RefCell<Option<Span>>,
}

impl CallSpan {
    pub(super) fn begin(
        tracer: &Rc<Tracer>,
        path: &str,
        head: &Head,
        server: Option<&ServerAddress>,
    ) -> Option<Rc<CallSpan>> {
        let parent = head
            .field(b"traceparent")
            .and_then(|traceparent| SpanContext::parse(traceparent, head.field(b"tracestate")));
        let name = || path.trim_start_matches('/').to_owned();
        let mut own = tracer.begin(SCOPE, Kind::Server, name, parent)?;
        own.add([Attribute::text("rpc.method", name()), Attribute::text("rpc.system.name", "grpc")]);
        own.add(server.into_iter().flat_map(ServerAddress::attributes));
        Some(Rc::new(CallSpan { own: RefCell::new(Some(own)), inner: RefCell::default() }))
    }

    /// The request has passed its checks, and is carried out until the call ends.
    pub fn enter(&self, scope: Scope, name: &'static str, attributes: Vec<Attribute>) {
        *self.inner.borrow_mut() = self.child(scope, name, attributes);
    }

    /// A step of the call that ends by itself; `None` once the call has ended.
    pub fn child(&self, scope: Scope, name: &'static str, attributes: Vec<Attribute>) -> Option<Span> {
        self.own.borrow().as_ref()?.child(scope, name, attributes)
    }

    pub(super) fn end(&self, status: &Status) {
        drop(self.inner.take());
        let Some(mut own) = self.own.take() else { return };
        own.add([Attribute::text("rpc.response.status_code", name(status.code))]);
        let is_failure = matches!(
            status.code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        );
        if is_failure {
            own.fail(status.message.clone());
        }
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        // The client has ended the call before it had an answer.
        self.end(&Status::canceled());
    }
}

/// The codes as the protocol's specification writes them.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Canceled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// This end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: Rc<str>,
    port: Option<i64>,
}

impl ServerAddress {
    fn attributes(&self) -> impl Iterator<Item = Attribute> {
        let host: Cow<'static, str> = self.host.to_string().into();
        let port = self.port.map(|port| Attribute::integer("server.port", port));
        [Attribute::text("server.address", host)].into_iter().chain(port)
    }
}

impl From<Address> for ServerAddress {
    /// The path of a UNIX socket may look like a host with a port, and counts as one then, as in Go.
    fn from(address: Address) -> Self {
        match address {
            Address::Tcp(address) => {
                let host = address.ip().to_canonical().to_string().into();
                Self { host, port: Some(address.port().into()) }
            }
            Address::Unix(path) => {
                let path = path.to_string_lossy();
                match path.split_once(':').filter(|(_, port)| !port.contains(':')) {
                    Some((host, port)) => Self { host: host.into(), port: port.parse().ok() },
                    None => Self { host: (*path).into(), port: None },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_as_by_go() {
        let split = |address: Address| {
            let ServerAddress { host, port } = address.into();
            (host.to_string(), port)
        };
        assert_eq!(
            split(Address::Tcp("[::ffff:127.0.0.1]:2379".parse().unwrap())),
            ("127.0.0.1".to_owned(), Some(2379))
        );
        assert_eq!(split(Address::Tcp("[::1]:1".parse().unwrap())), ("::1".to_owned(), Some(1)));
        assert_eq!(split(Address::Unix("/run/etcd.sock".into())), ("/run/etcd.sock".to_owned(), None));
        assert_eq!(split(Address::Unix("localhost:7".into())), ("localhost".to_owned(), Some(7)));
        assert_eq!(split(Address::Unix("localhost:m0".into())), ("localhost".to_owned(), None));
    }
}
